// Machines that cannot be run leave nothing behind.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { runMachine } from '../../src/vm/run.ts';
import { plainConfig } from './plain-config.ts';

const folder = mkdtempSync(join(tmpdir(), 'vivarium-run-'));
after(() => rmSync(folder, { recursive: true }));

/** Names of this process's threads that belong to a machine. */
function machineThreads(): string[] {
  const names = readdirSync('/proc/self/task').map((id) => readFileSync(`/proc/self/task/${id}/comm`, 'latin1').trim());
  return names.filter((name) => name.startsWith('vivarium_'));
}

test('a kernel that is none is told when the threads of the machine have ended', async () => {
  const kernel = join(folder, 'empty');
  writeFileSync(kernel, '');
  const log = { notice: () => {}, detail: () => {} };
  await assert.rejects(runMachine(plainConfig(kernel, 'soft'), log), /empty: the file is empty/);
  assert.deepEqual(machineThreads(), []);
});
