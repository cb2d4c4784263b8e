// Machines that cannot be run leave nothing behind.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { MachineConfig } from '../../src/vm/config.ts';
import { runMachine } from '../../src/vm/run.ts';

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
  const config: MachineConfig = {
    kernel,
    params: [],
    cpus: 1,
    memory: 32,
    hypervisor: 'soft',
    splitIrqchip: false,
    disks: [],
    networks: [],
    console: 'serial',
    consolePorts: [],
    virtioTransport: 'pci',
    sharedDirectories: [],
    sandbox: undefined,
    hugepages: false,
    stats: false,
    checkTranslation: false,
    icount: false,
    debugExit: false,
  };
  const log = { notice: () => {}, detail: () => {} };
  await assert.rejects(runMachine(config, log), /empty: the file is empty/);
  assert.deepEqual(machineThreads(), []);
});
