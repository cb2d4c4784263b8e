// --icount: two runs of a guest are the same, to the last bit of memory, whatever was translated when, and in which of them.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { bareKernel, markerProgram } from '../../bench/lib/elf.ts';
import { defaultGuest, extendInitrd } from './kernels.ts';
import { RunningGuest } from './running-guest.ts';

const folder = mkdtempSync(join(tmpdir(), 'vivarium-icount-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** What a run told at its end. */
interface Told {
  readonly output: string;
  readonly digest: string;
  readonly counts: readonly string[];
}

/** With the regions that an earlier run had translated. */
async function run(...args: readonly string[]): Promise<{ told: Told; kept: number }> {
  const guest = RunningGuest.runWith(folder, '--icount', '--stats', ...args);
  try {
    assert.equal((await guest.end()).status, 0, guest.errors);
    const digest = /^registers and memory at the end: ([0-9a-f]{64})$/m.exec(guest.errors)?.[1];
    assert.ok(digest !== undefined, guest.errors);
    const counts = guest.errors.match(/^ {2}(instructions|interrupts|exceptions|exits: .*) +[\d,]+$/gm) ?? [];
    const kept = /^ {2}regions translated by earlier runs +([\d,]+)$/m.exec(guest.errors)?.[1];
    return { told: { output: guest.output, digest, counts }, kept: Number(kept?.replaceAll(',', '')) };
  } finally {
    await guest.kill();
  }
}

test('a boot is the same twice', async () => {
  const guest = await defaultGuest();
  const initrd = join(folder, 'initrd');
  const data = markerProgram('the first process\n');
  extendInitrd(guest, [{ type: 'file', name: 'marker', mode: 0o755, data }], initrd);
  // Without the kernel's tests of its ciphers, which are two thirds of its work.
  const args = ['-m', '128', '-p', 'quiet cryptomgr.notests rdinit=/marker', '--initrd', initrd, guest.kernel];
  const first = await run(...args);
  assert.match(first.told.output, /the first process/);
  assert.ok(first.told.counts.length > 4, `${first.told.counts}`);
  assert.equal(first.kept, 0);
  const again = await run(...args);
  assert.deepEqual(again.told, first.told);
  assert.ok(again.kept > 100, `${again.kept} regions of the first run`);
});

test('what works at its own speed is refused', async () => {
  const kernel = join(folder, 'kernel');
  writeFileSync(kernel, bareKernel([0xf4]));
  for (const [args, message] of [
    [['--cpus', '2'], /one processor/],
    [['--check-translation'], /do not go together/],
    [['--rwdisk', kernel], /no disks/],
  ] as const) {
    const guest = RunningGuest.run('--icount', ...args, kernel);
    assert.equal((await guest.end()).status, 1);
    assert.match(guest.errors, message);
  }
});
