/** Test files where a KVM runs any guest: on this host if its own does; else in the lab, whose KVM does, as far as QEMU emulates it. */
import { spawnSync } from 'node:child_process';
import type { TestContext } from 'node:test';
import type { Lab } from '../../lab/build.ts';
import { commandLine, LabError, runInLab, SilentLabError } from '../../lab/run.ts';
import { withoutFullKvm } from '../hypervisor/kvm/guest.ts';

/** A lab that failed within this time has a second try, milliseconds. */
const EARLY = 120_000;
/** Milliseconds without a word from the tests in the lab: a guest stands still. On a host that is busy a test takes two minutes. */
const SILENCE = 400_000;

export interface Outcome {
  readonly status: number | null;
  /** In the Test Anything Protocol. */
  readonly output: string;
}

/** For a test's `skip`: why there can be neither, or false. */
export function withoutLab(): string | false {
  if (withoutFullKvm === false || spawnSync('qemu-system-x86_64', ['--version']).status === 0) return false;
  return `${withoutFullKvm}; no qemu-system-x86_64 for the lab`;
}

/** Runs test files with more in their environment, `limit` milliseconds at most. */
export function onFullKvm(
  t: TestContext,
  lab: Lab,
  { files, environment, limit }: { files: readonly string[]; environment: readonly string[]; limit: number },
): Promise<Outcome> {
  // Not a part of this run of tests, but one of its own.
  const tests = [process.execPath, '--test', '--test-reporter=tap', ...files];
  const command = commandLine(['env', '-u', 'NODE_TEST_CONTEXT', ...environment, ...tests]);
  if (withoutFullKvm === false) return onHost(command, limit);
  t.diagnostic(`in the lab, for ${withoutFullKvm}`);
  return inLab(t, lab, command, limit);
}

async function onHost(command: string, timeout: number): Promise<Outcome> {
  const { status, stdout } = spawnSync('sh', ['-c', command], { encoding: 'utf8', timeout });
  return { status, output: stdout };
}

/**
 * The emulated machine itself fails at times (QEMU before 8.1 loses some changes of code, which kernels make to theirs when vCPUs
 * come and go; a guest of two processors was seen to stand still in it): it has a second try, which a guest that fails has not.
 */
async function inLab(t: TestContext, lab: Lab, command: string, timeout: number): Promise<Outcome> {
  const start = performance.now();
  for (let isLast = false; ; isLast = true) {
    let output = '';
    try {
      const take = (bytes: Buffer): void => {
        output += bytes;
      };
      // One processor: under QEMU 7.2 guests with several stand still where the lab has two (ARCHITECTURE.md has what was seen).
      return { status: await runInLab(lab, command, { timeout, silence: SILENCE, output: take }), output };
    } catch (error) {
      const mayBeTheLab =
        error instanceof SilentLabError || (error instanceof LabError && performance.now() - start < EARLY);
      if (isLast || !mayBeTheLab) throw error;
      t.diagnostic(`${error.message}\n${output}`);
    }
  }
}
