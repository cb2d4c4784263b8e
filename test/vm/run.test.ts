// Machines that cannot be run leave nothing behind.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Machine } from '../../src/vm/machine.ts';
import { runMachine } from '../../src/vm/run.ts';
import { elfImage } from '../arch/x86_64/kernel/images.ts';
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

test('a machine whose devices have run leaves no descriptor', async () => {
  const kernel = join(folder, 'loop');
  writeFileSync(kernel, elfImage(Uint8Array.of(0xeb, 0xfe)));
  const round = async (): Promise<string[]> => {
    const machine = new Machine(plainConfig(kernel, 'soft'), { fd: 1 });
    machine.load();
    machine.start();
    const running = machine.ended();
    for (const end = Date.now() + 30_000; !machineThreads().includes('vivarium_rng'); await sleep(5)) {
      assert.ok(Date.now() < end, 'the devices do not start');
    }
    machine.end({ kind: 'asked' });
    await running;
    return readdirSync('/proc/self/fd').sort();
  };
  // What the process opens once.
  await round();
  assert.deepEqual(await round(), await round());
});
