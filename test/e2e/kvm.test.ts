// KVM with whole guests: on this host's own KVM where it runs any guest, else in the lab, whose KVM does.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { prepareLab } from '../../lab/build.ts';
import { LabError, runInLab } from '../../lab/run.ts';
import { prepareGuest } from '../../src/guest/index.ts';
import { withoutFullKvm } from '../hypervisor/kvm/guest.ts';

/** Longest run of the lab, milliseconds. */
const LIMIT = 280_000;
/** What the machine's own thread tests and whole guests are in. */
const FILES = ['test/e2e/kvm/guests.ts', 'test/hypervisor/kvm/vcpu.test.ts'];

/** Makes the tests' output a part of ours; counts what passed. */
function report(output: string): number {
  process.stdout.write(output);
  return Number(/^# pass (\d+)\r?$/m.exec(output)?.[1] ?? 0);
}

test('whole guests on KVM', { timeout: LIMIT }, async (t) => {
  const hasQemu = spawnSync('qemu-system-x86_64', ['--version']).status === 0;
  if (withoutFullKvm !== false && !hasQemu) return t.skip(`${withoutFullKvm}; no qemu-system-x86_64 for the lab`);
  const log = (line: string): void => t.diagnostic(line);
  const guest = await prepareGuest({ progress: () => {} });
  const lab = await prepareLab(log);
  const environment = {
    VIVARIUM_TEST_CLOUD: guest.kernel,
    VIVARIUM_TEST_INITRD: guest.initrd,
    VIVARIUM_TEST_GENERIC: lab.kernel,
  };
  const args = ['--test', '--test-reporter=tap', '--test-concurrency=1', ...FILES];
  if (withoutFullKvm === false) {
    // Not this test's own process group of tests.
    const { NODE_TEST_CONTEXT: _, ...rest } = process.env;
    const env = { ...rest, ...environment };
    const { status, stdout } = spawnSync(process.execPath, args, { env, encoding: 'utf8', timeout: LIMIT });
    assert.ok(report(stdout) >= 20);
    assert.equal(status, 0);
    return;
  }
  log(`in the lab, for ${withoutFullKvm}`);
  const variables = Object.entries(environment).map(([name, value]) => `${name}='${value}'`);
  const command = [...variables, process.execPath, ...args].join(' ');
  let output = '';
  try {
    const status = await runInLab(lab, command, {
      timeout: LIMIT - 20_000,
      output: (bytes) => {
        output += bytes;
      },
    });
    assert.ok(report(output) >= 20);
    assert.equal(status, 0);
  } catch (error) {
    if (error instanceof LabError) report(output);
    throw error;
  }
});
