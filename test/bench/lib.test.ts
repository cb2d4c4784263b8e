import assert from 'node:assert/strict';
import { test } from 'node:test';
import { debugExitKernel, markerProgram } from '../../bench/lib/elf.ts';
import { table } from '../../bench/lib/report.ts';
import { summarize } from '../../bench/lib/statistics.ts';
import { timedRun } from '../../bench/lib/timed-run.ts';
import { parseElf } from '../../src/arch/x86_64/kernel/elf.ts';

test('medians of odd and even numbers of runs', () => {
  assert.deepEqual(summarize([3, 1, 2]), { runs: 3, median: 2, min: 1, max: 3 });
  assert.deepEqual(summarize([40, 10, 30, 9]), { runs: 4, median: 20, min: 9, max: 40 });
  assert.throws(() => summarize([]), RangeError);
});

test('a table is padded', () => {
  const rows = [
    ['what', 'where', 'ms'],
    ['boot', 'here', '1234'],
  ];
  assert.equal(table(rows), '| what | where |   ms |\n| ---- | ----- | ---: |\n| boot | here  | 1234 |');
});

test('a run is timed to its marker, which may come in pieces, and to its end', async () => {
  const script =
    "process.stdout.write('a mar'); setTimeout(() => process.stdout.write('ker\\n'), 50); setTimeout(() => process.exit(7), 150);";
  const run = await timedRun(process.execPath, ['-e', script], 'marker', 10_000);
  assert.equal(run.status, 7);
  assert.equal(run.output, 'a marker\n');
  assert.ok(run.marker !== undefined && run.marker >= 50 && run.marker < run.end, `${run.marker} ${run.end}`);
  const silent = await timedRun(process.execPath, ['-e', ''], 'marker', 10_000);
  assert.equal(silent.marker, undefined);
  const slow = await timedRun(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], 'marker', 200);
  assert.equal(slow.status, null);
});

test('the kernel that does nothing has its entry at its code', () => {
  const file = debugExitKernel(21);
  const elf = parseElf(file);
  assert.ok(elf.pvhEntry !== undefined);
  const segment = elf.segments[0]!;
  const at = elf.pvhEntry - segment.physicalAddress;
  // mov dx, 0x3f8; mov al, '!'; out dx, al; mov al, '\n'; out dx, al; mov al, 21; out 0xf4, al
  assert.equal(file.toString('hex', at, at + 14), '66baf803b021eeb00aeeb015e6f4');
});

test('the first process writes its line, which is where the program says', () => {
  const file = markerProgram('hello\n');
  const { segments, entry } = parseElf(file);
  const segment = segments[0]!;
  const at = entry - segment.physicalAddress;
  // mov esi, text comes third, after two instructions of 5 bytes.
  assert.equal(file[at + 10], 0xbe);
  const text = file.readUInt32LE(at + 11) - segment.physicalAddress;
  assert.equal(file.toString('latin1', text), 'hello\n');
  assert.equal(file.length, segment.fileSize);
});
