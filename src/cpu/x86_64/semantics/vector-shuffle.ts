// Vectors whose bytes move between lanes: horizontal sums, packs, shuffles, blends (SDM volume 2).

import { constI32, type Expr, i32, i64, select } from '../../../wasm/expr.ts';
import { i8x16, i16x8, i32x4, i64x2, v128 } from '../../../wasm/vector.ts';
import type { Emitter } from './emitter.ts';
import { instruction } from './instruction.ts';
import {
  both,
  bothWith,
  checkAvx,
  halves,
  IDENTITY,
  mmxWith,
  sse,
  sseOnly,
  sseUnary,
  sseWith,
  type VectorBinary,
  type VectorMeaning,
  vexUnary,
  vexWith,
  writeHalves,
  zero,
} from './vector.ts';

// ---- Horizontal: even and odd lanes of both operands -----------------------------------------------------------------------
const EVEN16 = [0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29];
const ODD16 = EVEN16.map((n) => n + 2);
const EVEN32 = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27];
const ODD32 = EVEN32.map((n) => n + 4);

/** In MMX, both operands side by side make one vector whose horizontal result is in the low half. */
const joined = (a: Expr, b: Expr): Expr =>
  i8x16.shuffle([0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23], a, b);

function horizontal(name: string, opcode: string, even: number[], odd: number[], combine: VectorBinary): void {
  const operation: VectorBinary = (a, b) => combine(i8x16.shuffle(even, a, b), i8x16.shuffle(odd, a, b));
  bothWith(
    name,
    opcode,
    (_e, a, b) => operation(a, b),
    (e, a, b) => {
      const pair = e.f.let(joined(a, b));
      return operation(pair, pair);
    },
  );
}
horizontal('phaddw', '0F38 01', EVEN16, ODD16, i16x8.add);
horizontal('phaddd', '0F38 02', EVEN32, ODD32, i32x4.add);
horizontal('phaddsw', '0F38 03', EVEN16, ODD16, i16x8.add_sat_s);
horizontal('phsubw', '0F38 05', EVEN16, ODD16, i16x8.sub);
horizontal('phsubd', '0F38 06', EVEN32, ODD32, i32x4.sub);
horizontal('phsubsw', '0F38 07', EVEN16, ODD16, i16x8.sub_sat_s);

// ---- Packs and unpacks ---------------------------------------------------------------------------------------------------------
function pack(name: string, opcode: string, narrow: VectorBinary): void {
  bothWith(
    name,
    opcode,
    (_e, a, b) => narrow(a, b),
    (e, a, b) => {
      const pair = e.f.let(joined(a, b));
      return narrow(pair, pair);
    },
  );
}
pack('packsswb', '0F 63', i8x16.narrow_i16x8_s);
pack('packuswb', '0F 67', i8x16.narrow_i16x8_u);
pack('packssdw', '0F 6B', i16x8.narrow_i32x4_s);
sse('packusdw', ['66 0F38 2B Vx,Wx'], i16x8.narrow_i32x4_u);

/** Lanes of `width` bytes from `from` on, alternately of a and b. */
function interleave(width: number, from: number): number[] {
  const lanes: number[] = [];
  for (let lane = from; lanes.length < 16; lane += width) {
    for (const operand of [0, 16]) for (let i = 0; i < width; i++) lanes.push(operand + ((lane + i) & 15));
  }
  return lanes;
}

for (const [name, low, high, width] of [
  ['bw', '0F 60', '0F 68', 1],
  ['wd', '0F 61', '0F 69', 2],
  ['dq', '0F 62', '0F 6A', 4],
] as const) {
  both(`punpckl${name}`, low, (a, b) => i8x16.shuffle(interleave(width, 0), a, b));
  both(
    `punpckh${name}`,
    high,
    (a, b) => i8x16.shuffle(interleave(width, 8), a, b),
    (a, b) => i8x16.shuffle(interleave(width, 4), a, b),
  );
}
sse('punpcklqdq', ['66 0F 6C Vx,Wx'], (a, b) => i8x16.shuffle(interleave(8, 0), a, b));
sse('punpckhqdq', ['66 0F 6D Vx,Wx'], (a, b) => i8x16.shuffle(interleave(8, 8), a, b));

// ---- Shuffles ------------------------------------------------------------------------------------------------------------------
// PSHUFB: bit 7 of an index gives zero; others use the low 4 (MMX: 3) bits.
both(
  'pshufb',
  '0F38 00',
  (a, b) => i8x16.swizzle(a, v128.and(b, i8x16.splat(constI32(0x8f)))),
  (a, b) => i8x16.swizzle(a, v128.and(b, i8x16.splat(constI32(0x87)))),
);

/** Shuffles of four lanes by an immediate: byte indices made from two bits a lane. Lanes start at byte `base`. */
function shuffleByImmediate(e: Emitter, value: Expr, laneBytes: 2 | 4, base: number): Expr {
  const { f } = e;
  const imm = f.let(i32.wrap_i64(e.immediate()));
  if (imm.isConst) {
    const lanes = Array.from({ length: 16 }, (_, i) => i);
    for (let i = 0; i < 4 * laneBytes; i++) {
      const from = ((imm.value as number) >> (Math.floor(i / laneBytes) * 2)) & 3;
      lanes[base + i] = base + from * laneBytes + (i % laneBytes);
    }
    return i8x16.shuffle(lanes, value, value);
  }
  let indices: Expr = IDENTITY;
  const step = laneBytes === 4 ? 0x03020100 : 0x0100;
  for (let lane = 0; lane < 4; lane++) {
    const from = i32.and(i32.shr_u(imm, constI32(lane * 2)), constI32(3));
    const first = i32.add(i32.mul(from, constI32(laneBytes)), constI32(base));
    const pattern = i32.add(i32.mul(first, constI32(laneBytes === 4 ? 0x01010101 : 0x0101)), constI32(step));
    indices =
      laneBytes === 4
        ? i32x4.replace_lane(lane, indices, pattern)
        : i16x8.replace_lane(base / 2 + lane, indices, pattern);
  }
  return i8x16.swizzle(value, indices);
}

for (const [name, line, laneBytes, base] of [
  ['pshufd', '66 0F 70 Vx,Wx,Ib', 4, 0],
  ['pshuflw', 'F2 0F 70 Vx,Wx,Ib', 2, 0],
  ['pshufhw', 'F3 0F 70 Vx,Wx,Ib', 2, 8],
] as const) {
  sseUnary(name, line, (e, x) => shuffleByImmediate(e, x, laneBytes, base));
}
mmxWith('pshufw', ['0F 70 Pq,Qq,Ib np'], (e, _a, b) => shuffleByImmediate(e, b, 2, 0));
vexUnary('vpermilps', 'VEX 66 0F3A 04 Vx,Wx,Ib W0', (e, x) => shuffleByImmediate(e, x, 4, 0));

/** PALIGNR: bytes of (a:b) from the immediate on. */
function align(e: Emitter, a: Expr, b: Expr, width: number): Expr {
  const { f } = e;
  const shift = f.let(i32.and(i32.wrap_i64(e.immediate()), constI32(0xff)));
  if (shift.isConst && width === 16) {
    const bytes = shift.value as number;
    const lanes = (from: number): number[] => Array.from({ length: 16 }, (_, i) => Math.min(from, 16) + i);
    return bytes < 16 ? i8x16.shuffle(lanes(bytes), b, a) : i8x16.shuffle(lanes(bytes - 16), a, zero());
  }
  const clamp = (n: Expr): Expr => select(n, constI32(0x40), i32.lt_u(n, constI32(0x40)));
  // Index i + shift: below the width it is in b, then in a. Indices of 16 and more give zero; sums stay below 128.
  const index = f.let(i8x16.add(IDENTITY, i8x16.splat(clamp(shift))));
  const limit = i8x16.splat(constI32(width));
  const inB = i8x16.lt_u(index, limit);
  const fromB = v128.and(i8x16.swizzle(b, index), inB);
  const back = f.let(i8x16.sub(index, limit));
  const inA = i8x16.lt_u(back, limit);
  return v128.or(fromB, v128.and(i8x16.swizzle(a, back), v128.andnot(inA, inB)));
}
sseWith('palignr', ['66 0F3A 0F Vx,Wx,Ib'], (e, a, b) => align(e, a, b, 16));
mmxWith('palignr', ['0F3A 0F Pq,Qq,Ib np'], (e, a, b) => align(e, a, b, 8));

// Blends by the sign bits of a mask: XMM0, or in VEX a register that the immediate names.
for (const [name, opcode, vexOpcode, spread] of [
  ['pblendvb', '10', '4C', (x: Expr) => i8x16.shr_s(x, constI32(7))],
  ['blendvps', '14', '4A', (x: Expr) => i32x4.shr_s(x, constI32(31))],
  ['blendvpd', '15', '4B', (x: Expr) => i64x2.shr_s(x, constI32(63))],
] as const) {
  sseOnly(name, `66 0F38 ${opcode} Vx,Wx`, (e, a, b) => v128.bitselect(b, a, spread(e.vectorZero())));
  instruction(`v${name}`, [`VEX 66 0F3A ${vexOpcode} Vx,Hx,Wx,Lx W0`], (e, d, s1, s2, mask) => {
    checkAvx(e);
    const b = halves(e, s2);
    const a = halves(e, s1);
    const m = halves(e, mask);
    writeHalves(
      e,
      d,
      b.map((x, half) => e.f.let(v128.bitselect(x, a[half] as Expr, spread(m[half] as Expr)))),
    );
  });
}

/** Blends by an immediate: a bit for each lane. */
function blend(
  name: string,
  opcode: string,
  lanes: readonly number[],
  splat: (x: Expr) => Expr,
  compare: VectorBinary,
  define: (name: string, line: string, operation: VectorMeaning) => void,
): void {
  define(name, `${opcode} Vx,Hx,Wx,Ib`, (e, a, b, half) => {
    const imm = i32.wrap_i64(e.immediate());
    const count = lanes.length;
    // PBLENDW's eight bits serve both halves.
    const own = count === 8 ? imm : i32.shr_u(imm, constI32(half * count));
    if (own.isConst) {
      const width = 16 / count;
      const from = (i: number): number => ((own.value as number) >> Math.floor(i / width)) & 1;
      return i8x16.shuffle(
        Array.from({ length: 16 }, (_, i) => i + 16 * from(i)),
        a,
        b,
      );
    }
    const bits = e.f.let(v128.const(bytesOf(lanes)));
    return v128.bitselect(b, a, compare(v128.and(splat(own), bits), bits));
  });
}
const bothFiles = (name: string, line: string, operation: VectorMeaning): void =>
  sseWith(name, [`66 0F3A ${line.replace('Hx,', '')}`], operation);
export function bytesOf(lanes: readonly number[]): Uint8Array {
  const width = 16 / lanes.length;
  const bytes = new Uint8Array(16);
  lanes.forEach((value, i) => {
    bytes[i * width] = value;
  });
  return bytes;
}
blend('pblendw', '0E', [1, 2, 4, 8, 16, 32, 64, 128], i16x8.splat, i16x8.eq, bothFiles);
blend('blendps', '0C', [1, 2, 4, 8], i32x4.splat, i32x4.eq, bothFiles);
blend('vpblendd', '02', [1, 2, 4, 8], i32x4.splat, i32x4.eq, (name, line, operation) =>
  vexWith(name, `VEX 66 0F3A ${line} W0`, operation),
);
blend('blendpd', '0D', [1, 2], (x) => i64x2.splat(i64.extend_i32_u(x)), i64x2.eq, bothFiles);
