// KVM with whole guests: on this host's own KVM where it runs any guest; else in the lab, whose KVM does, as far as QEMU emulates it.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { type Lab, prepareLab } from '../../lab/build.ts';
import { commandLine, LabError, runInLab } from '../../lab/run.ts';
import { withoutFullKvm } from '../hypervisor/kvm/guest.ts';
import { defaultGuest } from './kernels.ts';
import { madeOfPackages } from './packages.ts';

/** Longest run of the guests, milliseconds: three minutes on a host with nothing else to do, a quarter of an hour on a very busy one. */
const LIMIT = 2_400_000;
/** A lab that failed within this time has a second try, milliseconds. */
const EARLY = 120_000;
const GUESTS = 'test/e2e/kvm/guests.ts';
/** What runs on any host with such a KVM by itself, and so in the lab. */
const FOR_FULL_KVM = ['test/hypervisor/kvm/vcpu.test.ts', 'test/hypervisor/bare/privileged.test.ts'];
/** Tests in GUESTS. */
const COUNT = 8;

interface Outcome {
  readonly status: number | null;
  /** In the Test Anything Protocol. */
  readonly output: string;
}

async function onHost(command: string): Promise<Outcome> {
  const { status, stdout } = spawnSync('sh', ['-c', command], { encoding: 'utf8', timeout: LIMIT });
  return { status, output: stdout };
}

/**
 * The emulated machine itself fails at times (QEMU before 8.1 loses some changes of code, which kernels make to theirs when vCPUs
 * come and go): it has a second try, which a guest that fails has not.
 */
async function inLab(lab: Lab, command: string, log: (line: string) => void): Promise<Outcome> {
  const start = performance.now();
  for (;;) {
    let output = '';
    try {
      const take = (bytes: Buffer): void => {
        output += bytes;
      };
      // One processor: under QEMU 7.2 guests with several stand still where the lab has two (ARCHITECTURE.md has what was seen).
      return { status: await runInLab(lab, command, { timeout: LIMIT, output: take }), output };
    } catch (error) {
      if (!(error instanceof LabError) || performance.now() - start > EARLY) throw error;
      log(`${error.message}\n${output}`);
    }
  }
}

test('whole guests on KVM', { timeout: EARLY + LIMIT + 60_000 }, async (t) => {
  const hasQemu = spawnSync('qemu-system-x86_64', ['--version']).status === 0;
  if (withoutFullKvm !== false && !hasQemu) return t.skip(`${withoutFullKvm}; no qemu-system-x86_64 for the lab`);
  const log = (line: string): void => t.diagnostic(line);
  const made = await madeOfPackages(t, async () => ({ guest: await defaultGuest(), lab: await prepareLab(log) }));
  if (made === undefined) return;
  const { guest, lab } = made;
  const files = withoutFullKvm === false ? [GUESTS] : [GUESTS, ...FOR_FULL_KVM];
  const command = commandLine([
    'env',
    // Not a part of this run of tests, but one of its own.
    ...['-u', 'NODE_TEST_CONTEXT'],
    `VIVARIUM_TEST_CLOUD=${guest.kernel}`,
    `VIVARIUM_TEST_INITRD=${guest.initrd}`,
    `VIVARIUM_TEST_GENERIC=${lab.kernel}`,
    ...[process.execPath, '--test', '--test-reporter=tap', ...files],
  ]);
  if (withoutFullKvm !== false) log(`in the lab, for ${withoutFullKvm}`);
  const { status, output } = withoutFullKvm === false ? await onHost(command) : await inLab(lab, command, log);
  for (const [line] of output.matchAll(/^(?:not )?ok \d+ - .*$/gm)) log(line);
  assert.equal(status, 0, output);
  const passed = Number(/^# pass (\d+)\r?$/m.exec(output)?.[1]);
  assert.ok(passed >= COUNT, output);
  assert.match(output, /^# skipped 0\r?$/m);
});
