// --stats, --profile and --check-translation, as a user gives them.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { bareKernel, debugExitKernel } from '../../bench/lib/elf.ts';
import type { CpuProfile } from '../../src/vm/insight/profile.ts';
import { LONG, RunningGuest } from './running-guest.ts';

const folder = mkdtempSync(join(tmpdir(), 'vivarium-insight-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Value of a line of statistics; the last one, where it was told more than once. */
function count(text: string, name: string): number {
  const lines = [...text.matchAll(/^ {2}(\S.*?| {2}\S.*?) {2,}([\d,.]+)$/gm)];
  const found = lines.findLast((line) => line[1]?.trim() === name);
  assert.ok(found, `no line ${name} in\n${text}`);
  return Number((found[2] as string).replaceAll(',', ''));
}

test('statistics and a profile at the end', async (t) => {
  const kernel = join(folder, 'loop');
  // mov ecx, 30,000,000; loop: dec ecx; jnz loop; mov al, 21; out 0xf4, al
  writeFileSync(kernel, bareKernel([0xb9, 0x80, 0xc3, 0xc9, 0x01, 0x49, 0x75, 0xfd, 0xb0, 21, 0xe6, 0xf4, 0xf4]));
  const profile = join(folder, 'loop.cpuprofile');
  const map = join(folder, 'System.map');
  writeFileSync(map, '0000000000000000 T nothing\n');
  const run = RunningGuest.run('-m', '16', '--debug-exit', '--stats', '--profile', profile, '--symbols', map, kernel);
  t.after(() => run.kill());
  assert.equal((await run.end()).status, (21 << 1) | 1);
  assert.match(run.errors, /^processor 0:$/m);
  const instructions = count(run.errors, 'instructions');
  assert.ok(Math.abs(instructions - 60_000_003) < 10, `${instructions}`);
  assert.equal(count(run.errors, 'interpreted'), instructions);
  assert.equal(count(run.errors, 'exits: io-out'), 1);
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(profile, 'utf8')) as CpuProfile;
  assert.ok(samples.length > 10);
  assert.equal(samples.length, timeDeltas.length);
  const hits = nodes.find(({ callFrame }) => callFrame.functionName === '0x100000')?.hitCount ?? 0;
  assert.ok(hits > samples.length * 0.9, `${hits} of ${samples.length}`);
});

test('statistics on SIGUSR1, of a guest that runs and of one that is halted', async (t) => {
  // mov edx, 0x3f8; mov al, '!'; out dx, al; mov al, '\n'; out dx, al
  const say = [0xba, 0xf8, 0x03, 0, 0, 0xb0, 0x21, 0xee, 0xb0, 0x0a, 0xee];
  // jmp $; cli, hlt and jmp to them.
  for (const end of [
    [0xeb, 0xfe],
    [0xfa, 0xf4, 0xeb, 0xfc],
  ]) {
    const kernel = join(folder, 'forever');
    writeFileSync(kernel, bareKernel([...say, ...end]));
    const run = RunningGuest.run('-m', '16', '--stats', kernel);
    t.after(() => run.kill());
    await run.expect('!');
    run.child.kill('SIGUSR1');
    const deadline = Date.now() + LONG;
    while (!run.errors.includes('interrupts') && Date.now() < deadline) await sleep(50);
    assert.ok(count(run.errors, 'instructions') > 0);
    run.child.kill('SIGTERM');
    assert.equal((await run.end()).status, 143);
  }
});

test('what cannot be is refused in one line', async () => {
  const kernel = join(folder, 'kernel');
  writeFileSync(kernel, debugExitKernel(0));
  for (const [args, message] of [
    [['--symbols', kernel], /^vivarium: --symbols names the symbols of a profile: give --profile, too\n$/],
    [['--profile', join(folder, 'no/such')], /no\/such: the profile cannot be written/],
    [['--profile', join(folder, 'p'), '--symbols', kernel], /there are no symbols in it/],
  ] as const) {
    const run = RunningGuest.run(...args, kernel);
    assert.equal((await run.end()).status, 1);
    assert.match(run.errors, message);
  }
});
