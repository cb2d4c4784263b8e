// Every x87 instruction with an exact result, against this machine's processor.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as N from '../../../native/layout.ts';
import { nativeUnavailable } from '../../../native/native-target.ts';
import { double, extended, single } from '../instructions/floating.ts';
import { casesOfRun, Random } from '../instructions/random.ts';
import { Bench, type Case, type Outcome } from './bench.ts';

const seed = Number(process.env['SEED'] ?? (Math.random() * 0x7fffffff) | 0);
/** What one batch holds, at most. */
const COUNT = Math.min(casesOfRun(), N.MAX_CASES);

/** Opcode bytes: a memory form has its digit, a register form the whole ModRM byte. */
const memory = (opcode: number, digit: number): number[] => [opcode, (digit << 3) | 3];
const register = (opcode: number, from: number): number[][] => Array.from({ length: 8 }, (_, i) => [opcode, from + i]);

const GROUPS: Record<string, number[][]> = {
  'arithmetic, memory': [0xd8, 0xdc, 0xda, 0xde].flatMap((opcode) =>
    [0, 1, 4, 5, 6, 7].map((digit) => memory(opcode, digit)),
  ),
  'arithmetic, registers': [0xd8, 0xdc, 0xde].flatMap((opcode) =>
    [0xc0, 0xc8, 0xe0, 0xe8, 0xf0, 0xf8].flatMap((from) => register(opcode, from)),
  ),
  'square root': [[0xd9, 0xfa]],
  'comparison, memory': [0xd8, 0xdc, 0xda, 0xde].flatMap((opcode) => [2, 3].map((digit) => memory(opcode, digit))),
  'comparison, registers': [
    ...register(0xd8, 0xd0),
    ...register(0xd8, 0xd8),
    [0xde, 0xd9],
    ...register(0xdd, 0xe0),
    ...register(0xdd, 0xe8),
    [0xda, 0xe9],
    ...register(0xdc, 0xd0),
    ...register(0xdc, 0xd8),
    ...register(0xde, 0xd0),
    [0xd9, 0xe4],
    [0xd9, 0xe5],
  ],
  'comparison to flags': [
    [0xdb, 0xe8],
    [0xdb, 0xf0],
    [0xdf, 0xe8],
    [0xdf, 0xf0],
  ].flatMap(([opcode, from]) => register(opcode as number, from as number)),
  loads: [
    [0xd9, 0],
    [0xdd, 0],
    [0xdf, 0],
    [0xdb, 0],
    [0xdf, 5],
    [0xdb, 5],
    [0xdf, 4],
  ].map(([opcode, digit]) => memory(opcode as number, digit as number)),
  constants: Array.from({ length: 7 }, (_, i) => [0xd9, 0xe8 + i]),
  'floating stores': [
    [0xd9, 2],
    [0xd9, 3],
    [0xdd, 2],
    [0xdd, 3],
    [0xdb, 7],
  ].map(([opcode, digit]) => memory(opcode as number, digit as number)),
  'integer stores': [
    [0xdf, 2],
    [0xdf, 3],
    [0xdb, 2],
    [0xdb, 3],
    [0xdf, 7],
    [0xdf, 1],
    [0xdb, 1],
    [0xdd, 1],
    [0xdf, 6],
  ].map(([opcode, digit]) => memory(opcode as number, digit as number)),
  'register transfers': [
    ...register(0xd9, 0xc0),
    ...register(0xd9, 0xc8),
    ...register(0xdd, 0xd0),
    ...register(0xdd, 0xd8),
    ...register(0xdd, 0xc0),
    ...register(0xda, 0xc0),
    ...register(0xda, 0xc8),
    ...register(0xda, 0xd0),
    ...register(0xda, 0xd8),
    ...register(0xdb, 0xc0),
    ...register(0xdb, 0xc8),
    ...register(0xdb, 0xd0),
    ...register(0xdb, 0xd8),
  ],
  'rounding and scaling': [
    [0xd9, 0xf4],
    [0xd9, 0xfc],
    [0xd9, 0xfd],
  ],
  remainders: [
    [0xd9, 0xf5],
    [0xd9, 0xf8],
  ],
  environment: [
    [0xd9, 4],
    [0xd9, 6],
    [0xdd, 4],
    [0xdd, 6],
  ].flatMap(([opcode, digit]) => [
    memory(opcode as number, digit as number),
    [0x66, ...memory(opcode as number, digit as number)],
  ]),
  'signs and stack': [[0xd9, 0xe0], [0xd9, 0xe1], [0xd9, 0xf6], [0xd9, 0xf7], [0xd9, 0xd0], ...register(0xdf, 0xc0)],
};

/** Registers, control word and memory at random. */
function fill(c: Case, random: Random): void {
  const { view } = c;
  const builder = { random, view } as never;
  const masks = random.oneIn(4) ? random.below(64) : 63;
  view.setUint16(N.CASE_FX, 0x40 | masks | (random.pick([0, 2, 3, 3, 3]) << 8) | (random.below(4) << 10), true);
  view.setUint16(N.CASE_FX + 2, (random.u32() & 0x4700) | (random.below(8) << 11) | (random.below(64) & masks), true);
  view.setUint8(
    N.CASE_FX + 4,
    random.oneIn(2) ? random.pick([0, 0x7f, 0xff, random.below(256)]) : 0xff << random.below(3),
  );
  for (let i = 0; i < 8; i++) extended(builder, N.CASE_FX + 32 + i * 16);
  const at = N.CASE_MEMORY;
  switch (random.below(5)) {
    case 0:
      view.setUint32(at, single(random), true);
      break;
    case 1:
      view.setBigUint64(at, double(random), true);
      break;
    case 2:
      view.setBigUint64(at, random.operand(), true);
      break;
    case 3:
      // Decimal digits.
      for (let i = 0; i < 9; i++) view.setUint8(at + i, random.below(10) * 16 + random.below(10));
      view.setUint8(at + 9, random.pick([0, 0x80]));
      break;
    default:
      extended(builder, at);
  }
  view.setUint32(N.CASE_RFLAGS, 0x202 | (random.u32() & 0x8d5), true);
}

/** What programs have all the time: normal numbers, the default control word. Of few bits, so that sums cancel, carry and lie half-way. */
function fillAsUsual(c: Case, random: Random): void {
  const { view } = c;
  view.setUint16(N.CASE_FX, 0x37f, true);
  view.setUint16(N.CASE_FX + 2, random.below(8) << 11, true);
  view.setUint8(N.CASE_FX + 4, 0xff);
  const exponent = 0x3fff + random.below(20);
  for (let i = 0; i < 8; i++) {
    const at = N.CASE_FX + 32 + i * 16;
    const bits = (BigInt(random.below(8)) << 60n) | BigInt(random.below(8)) | (random.oneIn(4) ? (1n << 60n) - 8n : 0n);
    view.setBigUint64(at, (1n << 63n) | random.pick([0n, 1n, bits, bits]), true);
    view.setUint16(
      at + 8,
      (random.below(2) << 15) | (exponent + random.pick([0, 0, 1, 2, 61, 62, 63, 64, 65, 66, 130])),
      true,
    );
  }
  view.setBigUint64(N.CASE_MEMORY, random.oneIn(2) ? random.operand() : double(random), true);
  view.setUint32(N.CASE_RFLAGS, 0x202, true);
}

function show(c: Outcome): string {
  return `${c.ended ? 'ended' : 'fault'} fcw ${c.control.toString(16)} fsw ${c.status.toString(16)} tags ${c.tags.toString(16)} flags ${c.flags.toString(16)} mem ${c.memory.slice(-24)} st ${c.registers.join(' ')}`;
}

const bench = nativeUnavailable() ? undefined : new Bench();

const arithmetic = Object.entries(GROUPS).filter(([name]) => name.startsWith('arithmetic'));
for (const [name, instructions, fillCase] of [
  ...Object.entries(GROUPS).map(([name, instructions]) => [name, instructions, fill] as const),
  ...arithmetic.map(([name, instructions]) => [`${name}, of usual numbers,`, instructions, fillAsUsual] as const),
]) {
  test(`${name} as the processor does it (seed ${seed})`, { skip: nativeUnavailable() ?? false }, () => {
    const random = new Random(seed);
    const inputs: string[] = [];
    const used: number[][] = [];
    for (let i = 0; i < COUNT; i++) {
      const instruction = random.pick(instructions);
      const c = (bench as Bench).prepare(i, instruction);
      fillCase(c, random);
      used.push(instruction);
      c.bytes.copyWithin(N.CASE_FX_OUT, N.CASE_FX, N.CASE_FX + 512);
      const before = c.outcome();
      inputs.push(show(before));
    }
    const wrong: string[] = [];
    (bench as Bench).run(COUNT).forEach(({ ours, native }, i) => {
      const [a, b] = [show(ours), show(native)];
      if (a !== b)
        wrong.push(
          `${Buffer.from(used[i] as number[]).toString('hex')}\n  input ${inputs[i]}\n  ours  ${a}\n  true  ${b}`,
        );
    });
    assert.equal(wrong.length, 0, `${wrong.length} of ${COUNT} differ:\n${wrong.slice(0, 3).join('\n')}`);
  });
}
