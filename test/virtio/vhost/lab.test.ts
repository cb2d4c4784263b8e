// What needs the kernel's devices (queues that it serves, sockets between machines), in the lab, which has them: on a host without, if
// VIVARIUM_LAB is set.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { prepareLab } from '../../../lab/build.ts';
import { commandLine, runInLab } from '../../../lab/run.ts';
import { madeOfPackages } from '../../e2e/packages.ts';

/** Milliseconds: some minutes on a busy host. */
const LIMIT = 900_000;
const FILES = [
  ...['net', 'vsock', 'guest'].map((name) => `test/virtio/vhost/${name}.test.ts`),
  'test/9s/vsock.test.ts',
];
/** Tests in there, but for the one that wants no device. */
const COUNT = 12;

function skipped(): string | false {
  if (existsSync('/dev/vhost-net')) return 'they run on this host';
  if (process.env['VIVARIUM_LAB'] === undefined) return 'no /dev/vhost-net; with VIVARIUM_LAB=1 they run in the lab';
  return spawnSync('qemu-system-x86_64', ['--version']).status !== 0 && 'no qemu-system-x86_64 for the lab';
}

test('the tests of vhost, in the lab', { skip: skipped(), timeout: LIMIT + 60_000 }, async (t) => {
  const lab = await madeOfPackages(t, () => prepareLab((line) => t.diagnostic(line)));
  if (lab === undefined) return;
  // Not a part of this run of tests, but one of its own.
  const runner = ['env', '-u', 'NODE_TEST_CONTEXT', process.execPath, '--test', '--test-reporter=tap', ...FILES];
  let output = '';
  const take = (bytes: Buffer): void => {
    output += bytes;
  };
  const status = await runInLab(lab, commandLine(runner), { timeout: LIMIT, output: take });
  assert.equal(status, 0, output);
  assert.match(output, new RegExp(`^# pass ${COUNT}\\r?$`, 'm'));
});
