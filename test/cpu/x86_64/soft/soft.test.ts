import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as L from '../../../../src/cpu/x86_64/layout.ts';
import { nativeUnavailable } from '../../../native/native-target.ts';
import { Machine } from '../helpers/machine.ts';
import { double, single } from '../instructions/floating.ts';
import { Random } from '../instructions/random.ts';
import { type End, runNative, type Start } from './native.ts';

const skip = nativeUnavailable() ?? false;
const seed = Number(process.env['SEED'] ?? Date.now() % 0x7fffffff);
const CASES = 4000;

const machine = new Machine().protected();
const XM = 19;
const CR4_OSXMMEXCPT = 0x400n;
const MASKS = 0x1f80;
const MASK64 = (1n << 64n) - 1n;
const FLAGS = 0x8d5;

type Width = 32 | 64;

/** Two operands of a product or quotient just below the least normal number: whether that is tiny is a matter of rounding. */
function nearLeast(random: Random, width: Width, divide: boolean): [bigint, bigint] {
  const [bits, bias] = width === 32 ? [23n, 127] : [52n, 1023];
  const step = (): bigint => BigInt(random.below(4));
  const exponent = random.between(bias - 20, bias - 1);
  const a = (BigInt(exponent) << bits) + step() * (divide ? -1n : 1n);
  // The other is just below (above) a power of two that takes the result to 2^(1 - bias).
  const power = divide ? exponent + bias - 1 : 1 - exponent + bias;
  const b = (BigInt(power) << bits) + step() * (divide ? 1n : -1n);
  return [a | (BigInt(random.below(2)) << BigInt(width - 1)), b];
}

/** Doubles just below the least normal single. */
function nearLeastSingle(random: Random): bigint {
  return (BigInt(random.below(2)) << 63n) | (0x3810000000000000n - BigInt(random.u32() >>> random.below(4)));
}

/** An operand; or one that takes `other` to the edge of the format. */
function number(random: Random, width: Width, other?: bigint): bigint {
  if (other !== undefined && random.oneIn(3)) {
    const [bits, top] = width === 32 ? [23n, 0xff] : [52n, 0x7ff];
    const exponent = Number((other >> bits) & BigInt(top));
    const edge = random.pick([1, -1]) * random.between(-4, 2) + random.pick([0, top / 2, -top / 2, exponent]);
    const wanted = random.oneIn(2)
      ? Math.abs(Math.round(edge - exponent + top / 2))
      : Math.abs(Math.round(exponent + random.between(-60, 60)));
    const fraction = random.u64() & (random.oneIn(2) ? MASK64 : MASK64 << (bits - 4n));
    return (
      (BigInt(random.below(2)) << (BigInt(width) - 1n)) |
      (BigInt(wanted & top) << bits) |
      (fraction & ((1n << bits) - 1n))
    );
  }
  return width === 32 ? BigInt(single(random) >>> 0) : BigInt.asUintN(64, double(random));
}

/** MXCSR: usual, or any rounding mode, DAZ, FTZ; some flags up; some exceptions unmasked. */
function mxcsr(random: Random): number {
  const controls = random.oneIn(4)
    ? 0
    : (random.below(4) << 13) | (random.oneIn(3) ? 0x40 : 0) | (random.oneIn(3) ? 0x8000 : 0);
  const masks = random.oneIn(3) ? random.u32() & MASKS : MASKS;
  return controls | masks | (random.oneIn(4) ? random.u32() & 0x3f : 0);
}

interface Case {
  readonly name: string;
  readonly code: readonly number[];
  /** Width of the operands; 'integer' for a 64-bit integer in RAX. */
  readonly from: Width | 'integer';
  readonly operands: 1 | 2;
  readonly immediate?: number;
  /** What the instruction leaves, of which it is the helper's result. */
  readonly result: (end: End) => bigint;
  /** Bits of the helper's result that count. */
  readonly bits: number;
  /** Helper's value as the result is read. */
  readonly helper: string;
}

const low =
  (bits: number) =>
  (end: End): bigint =>
    BigInt.asUintN(bits, end.xmm[0]);
const rax =
  (bits: number) =>
  (end: End): bigint =>
    BigInt.asUintN(bits, end.rax);
const flags = (end: End): bigint => BigInt(end.rflags & FLAGS);

const cases: Case[] = [];
for (const width of [32, 64] as const) {
  const prefix = width === 32 ? 0xf3 : 0xf2;
  const compare = width === 32 ? [] : [0x66];
  const f = `f${width}`;
  const add = (name: string, code: readonly number[], more: Partial<Case> = {}): void => {
    cases.push({
      name: `${name} ${f}`,
      code,
      from: width,
      operands: 2,
      result: low(width),
      bits: width,
      helper: `soft_${name}_${f}`,
      ...more,
    });
  };
  for (const [name, opcode] of [
    ['add', 0x58],
    ['mul', 0x59],
    ['sub', 0x5c],
    ['min', 0x5d],
    ['div', 0x5e],
    ['max', 0x5f],
  ] as const) {
    add(name, [prefix, 0x0f, opcode, 0xc1]);
  }
  add('sqrt', [prefix, 0x0f, 0x51, 0xc1], { operands: 1 });
  for (let predicate = 0; predicate < 8; predicate++) {
    add('cmp', [prefix, 0x0f, 0xc2, 0xc1, predicate], { immediate: predicate });
  }
  add('ucomi', [...compare, 0x0f, 0x2e, 0xc1], { result: flags, bits: 32 });
  add('comi', [...compare, 0x0f, 0x2f, 0xc1], { result: flags, bits: 32 });
  for (const [opcode, truncate] of [
    [0x2c, 1],
    [0x2d, 0],
  ] as const) {
    add('to_i32', [prefix, 0x0f, opcode, 0xc1], { operands: 1, immediate: truncate, result: rax(32), bits: 32 });
    add('to_i64', [prefix, 0x48, 0x0f, opcode, 0xc1], { operands: 1, immediate: truncate, result: rax(64), bits: 64 });
  }
  for (let immediate = 0; immediate < 16; immediate++) {
    add('round', [0x66, 0x0f, 0x3a, width === 32 ? 0x0a : 0x0b, 0xc1, immediate], { operands: 1, immediate });
  }
  const helper = `soft_i64_to_${f}`;
  cases.push({
    name: `i64_to_${f}`,
    code: [prefix, 0x48, 0x0f, 0x2a, 0xc0],
    from: 'integer',
    operands: 1,
    result: low(width),
    bits: width,
    helper,
  });
  const to = width === 32 ? 64 : 32;
  const conversion = `soft_${f}_to_f${to}`;
  cases.push({
    name: conversion,
    code: [prefix, 0x0f, 0x5a, 0xc1],
    from: width,
    operands: 1,
    result: low(to),
    bits: to,
    helper: conversion,
  });
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const argument = (value: bigint, width: Width | 'integer'): number | bigint =>
  width === 32 ? Number(BigInt.asIntN(32, value)) : value;

for (const [index, item] of cases.entries()) {
  const title = item.immediate === undefined ? item.name : `${item.name}, ${item.immediate}`;
  test(`${title} is the processor's (seed ${seed})`, { skip }, () => {
    const random = new Random(seed + index);
    const starts: Start[] = [];
    for (let i = 0; i < CASES; i++) {
      const width = item.from;
      let a = width === 'integer' ? 0n : number(random, width);
      let b = width === 'integer' ? 0n : number(random, width, a);
      if (/mul|div/.test(item.name) && random.oneIn(8))
        [a, b] = nearLeast(random, width as Width, item.name.startsWith('div'));
      if (item.helper === 'soft_f64_to_f32' && random.oneIn(8)) b = nearLeastSingle(random);
      starts.push({ mxcsr: mxcsr(random), xmm: [a, 0n, b, 0n], rax: width === 'integer' ? random.operand() : 0n });
    }
    runNative(item.code, starts).forEach((end, i) => {
      const start = starts[i] as Start;
      machine.set32(L.MXCSR, start.mxcsr as number);
      machine.set64(L.CR4, CR4_OSXMMEXCPT);
      const operands =
        item.from === 'integer'
          ? [start.rax as bigint]
          : item.operands === 1
            ? [start.xmm[2]]
            : [start.xmm[0], start.xmm[2]];
      const args = operands.map((value) => argument(value, item.from));
      if (item.immediate !== undefined) args.push(item.immediate);
      machine.call('soft_begin');
      const value = BigInt.asUintN(item.bits, BigInt(machine.call(item.helper, ...args)));
      const status = machine.outcome('soft_end');
      const native = end.vector < 0 ? item.result(end) : undefined;
      const got = status === 'ok' ? value : undefined;
      const show = (v: bigint | undefined, m: number, s: string): string =>
        `${v === undefined ? s : hex(v)} mxcsr ${m.toString(16)}`;
      assert.equal(
        show(got, machine.get32(L.MXCSR), status),
        show(native, end.mxcsr, `fault #${end.vector}`),
        `${operands.map(hex).join(', ')} with mxcsr ${(start.mxcsr as number).toString(16)}`,
      );
    });
  });
}

test("flags of several elements, some unmasked, are the processor's", { skip }, () => {
  const random = new Random(seed);
  for (const [name, opcode] of [
    ['add', 0x58],
    ['mul', 0x59],
    ['div', 0x5e],
  ] as const) {
    const starts: Start[] = [];
    for (let i = 0; i < CASES; i++) {
      const [a0, a1] = [number(random, 64), number(random, 64)];
      starts.push({ mxcsr: mxcsr(random), xmm: [a0, a1, number(random, 64, a0), number(random, 64, a1)] });
    }
    runNative([0x66, 0x0f, opcode, 0xc1], starts).forEach((end, i) => {
      const { mxcsr: before, xmm } = starts[i] as Start;
      machine.set32(L.MXCSR, before as number);
      machine.call('soft_begin');
      machine.call(`soft_${name}_f64`, xmm[0], xmm[2]);
      machine.call(`soft_${name}_f64`, xmm[1], xmm[3]);
      const status = machine.outcome('soft_end');
      const what = `${name} ${xmm.map(hex).join(' ')} with mxcsr ${(before as number).toString(16)}`;
      assert.equal(status, end.vector < 0 ? 'ok' : `fault #${end.vector}`, what);
      assert.equal(machine.get32(L.MXCSR).toString(16), end.mxcsr.toString(16), what);
    });
  }
});

test('without CR4.OSXMMEXCPT an unmasked exception is #UD', () => {
  machine.set64(L.CR4, 0n);
  machine.set32(L.MXCSR, MASKS & ~0x200);
  machine.call('soft_begin');
  machine.call('soft_div_f64', 0x3ff0000000000000n, 0n);
  assert.equal(machine.outcome('soft_end'), 'fault #6');
  assert.equal(machine.get32(L.MXCSR), (MASKS & ~0x200) | 4);
  machine.set64(L.CR4, CR4_OSXMMEXCPT);
  machine.set32(L.MXCSR, MASKS & ~0x200);
  machine.call('soft_begin');
  machine.call('soft_div_f64', 0x3ff0000000000000n, 0n);
  assert.equal(machine.outcome('soft_end'), `fault #${XM}`);
});

test(`RCPSS and RSQRTSS are near enough, and right at the edges (seed ${seed})`, { skip }, () => {
  const random = new Random(seed);
  const bytes = new DataView(new ArrayBuffer(4));
  const float = (bits: number): number => {
    bytes.setUint32(0, bits);
    return bytes.getFloat32(0);
  };
  for (const [helper, opcode, exact] of [
    ['soft_rcp_f32', 0x53, (x: number) => 1 / x],
    ['soft_rsqrt_f32', 0x52, (x: number) => 1 / Math.sqrt(x)],
  ] as const) {
    const starts = Array.from(
      { length: CASES },
      (): Start => ({ mxcsr: mxcsr(random) | MASKS, xmm: [0n, 0n, number(random, 32), 0n] }),
    );
    runNative([0xf3, 0x0f, opcode, 0xc1], starts).forEach((end, i) => {
      const source = Number((starts[i] as Start).xmm[2]);
      const got = machine.call(helper, source) >>> 0;
      const native = Number(end.xmm[0]);
      const value = exact(float(source));
      const what = `${helper} of ${hex(BigInt(source))}: ${hex(BigInt(got))}, native ${hex(BigInt(native))}`;
      const special = (bits: number): boolean => (bits & 0x7f800000) === 0x7f800000 || (bits & 0x7fffffff) === 0;
      // Between these a processor may flush to zero or not (SDM volume 2, RCPSS).
      if ((source & 0x7fffffff) > 0x7e7fe800 && (source & 0x7fffffff) < 0x7e801801) return;
      if (special(got) || special(native)) assert.equal(got, native, what);
      else assert.ok(Math.abs(float(got) - value) <= Math.abs(value) * 1.5 * 2 ** -12, what);
    });
  }
});
