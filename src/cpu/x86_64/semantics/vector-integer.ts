// Packed integers of MMX, SSE2, SSSE3, SSE4.1 (SDM volume 2).

import { constI32, constI64, type Expr, i32, i64, select } from '../../../wasm/expr.ts';
import { i8x16, i16x8, i32x4, i64x2, v128 } from '../../../wasm/vector.ts';
import { asI64, type Emitter } from './emitter.ts';
import { instruction } from './instruction.ts';
import {
  both,
  bothWith,
  checkAligned,
  checkMmx,
  checkSse,
  readVector,
  sse,
  sseWith,
  type VectorBinary,
  writeLow,
  zero,
} from './vector.ts';

// ---- Lane by lane: the same for both widths ----------------------------------------------------------------------------
const LANES: readonly [name: string, opcode: string, operation: VectorBinary][] = [
  ['paddb', '0F FC', i8x16.add],
  ['paddw', '0F FD', i16x8.add],
  ['paddd', '0F FE', i32x4.add],
  ['paddq', '0F D4', i64x2.add],
  ['psubb', '0F F8', i8x16.sub],
  ['psubw', '0F F9', i16x8.sub],
  ['psubd', '0F FA', i32x4.sub],
  ['psubq', '0F FB', i64x2.sub],
  ['paddsb', '0F EC', i8x16.add_sat_s],
  ['paddsw', '0F ED', i16x8.add_sat_s],
  ['paddusb', '0F DC', i8x16.add_sat_u],
  ['paddusw', '0F DD', i16x8.add_sat_u],
  ['psubsb', '0F E8', i8x16.sub_sat_s],
  ['psubsw', '0F E9', i16x8.sub_sat_s],
  ['psubusb', '0F D8', i8x16.sub_sat_u],
  ['psubusw', '0F D9', i16x8.sub_sat_u],
  ['pcmpeqb', '0F 74', i8x16.eq],
  ['pcmpeqw', '0F 75', i16x8.eq],
  ['pcmpeqd', '0F 76', i32x4.eq],
  ['pcmpgtb', '0F 64', i8x16.gt_s],
  ['pcmpgtw', '0F 65', i16x8.gt_s],
  ['pcmpgtd', '0F 66', i32x4.gt_s],
  ['pminub', '0F DA', i8x16.min_u],
  ['pmaxub', '0F DE', i8x16.max_u],
  ['pminsw', '0F EA', i16x8.min_s],
  ['pmaxsw', '0F EE', i16x8.max_s],
  ['pavgb', '0F E0', i8x16.avgr_u],
  ['pavgw', '0F E3', i16x8.avgr_u],
  ['pand', '0F DB', v128.and],
  ['por', '0F EB', v128.or],
  ['pxor', '0F EF', v128.xor],
  ['pandn', '0F DF', (a, b) => v128.andnot(b, a)],
  ['pmullw', '0F D5', i16x8.mul],
  ['pmaddwd', '0F F5', i32x4.dot_i16x8_s],
  ['pmulhw', '0F E5', (a, b) => highWords(i32x4.extmul_low_i16x8_s(a, b), i32x4.extmul_high_i16x8_s(a, b))],
  ['pmulhuw', '0F E4', (a, b) => highWords(i32x4.extmul_low_i16x8_u(a, b), i32x4.extmul_high_i16x8_u(a, b))],
  ['pmuludq', '0F F4', (a, b) => i64x2.mul(v128.and(a, lowDwords()), v128.and(b, lowDwords()))],
  ['pabsb', '0F38 1C', (_a, b) => i8x16.abs(b)],
  ['pabsw', '0F38 1D', (_a, b) => i16x8.abs(b)],
  ['pabsd', '0F38 1E', (_a, b) => i32x4.abs(b)],
  ['psignb', '0F38 08', (a, b) => sign(a, b, i8x16.neg, i8x16.lt_s, i8x16.eq)],
  ['psignw', '0F38 09', (a, b) => sign(a, b, i16x8.neg, i16x8.lt_s, i16x8.eq)],
  ['psignd', '0F38 0A', (a, b) => sign(a, b, i32x4.neg, i32x4.lt_s, i32x4.eq)],
];
for (const [name, opcode, operation] of LANES) both(name, opcode, operation);

/** The upper word of each dword of two products, back in lane order. */
function highWords(low: Expr, high: Expr): Expr {
  return i8x16.shuffle([2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31], low, high);
}

function lowDwords(): Expr {
  return i64x2.splat(constI64(0xffffffff));
}

/** PSIGN: a, -a or 0 by the sign of b. */
function sign(a: Expr, b: Expr, negate: (x: Expr) => Expr, less: VectorBinary, equal: VectorBinary): Expr {
  const signed = v128.bitselect(negate(a), a, less(b, zero()));
  return v128.andnot(signed, equal(b, zero()));
}

// PMULHRSW: (a * b + 0x4000) >> 15, without saturation of -1 * -1.
both('pmulhrsw', '0F38 0B', (a, b) => {
  const round = (product: Expr): Expr => i32x4.shr_u(i32x4.add(product, i32x4.splat(constI32(0x4000))), constI32(15));
  const low = round(i32x4.extmul_low_i16x8_s(a, b));
  const high = round(i32x4.extmul_high_i16x8_s(a, b));
  return i8x16.shuffle([0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29], low, high);
});

// PMADDUBSW: unsigned bytes of a times signed bytes of b, pairs added with signed saturation.
bothWith('pmaddubsw', '0F38 04', (e, a, b) => {
  const x = e.f.let(a);
  const y = e.f.let(b);
  const even = i16x8.mul(
    i16x8.shr_u(i16x8.shl(x, constI32(8)), constI32(8)),
    i16x8.shr_s(i16x8.shl(y, constI32(8)), constI32(8)),
  );
  const odd = i16x8.mul(i16x8.shr_u(x, constI32(8)), i16x8.shr_s(y, constI32(8)));
  return i16x8.add_sat_s(even, odd);
});

// PSADBW: sums of absolute byte differences, a 16-bit sum in each half.
bothWith('psadbw', '0F F6', (e, a, b) => {
  const x = e.f.let(a);
  const y = e.f.let(b);
  const difference = v128.or(i8x16.sub_sat_u(x, y), i8x16.sub_sat_u(y, x));
  const dwords = e.f.let(i32x4.extadd_pairwise_i16x8_u(i16x8.extadd_pairwise_i8x16_u(difference)));
  return i64x2.add(v128.and(dwords, lowDwords()), i64x2.shr_u(dwords, constI32(32)));
});

// MPSADBW: sums of four absolute byte differences, of eight neighbouring windows of a and one dword of b.
instruction('mpsadbw', ['66 0F3A 42 Vx,Wx,Ib'], (e, d, s) => {
  checkSse(e);
  checkAligned(e, s);
  const { f } = e;
  const b = readVector(e, s);
  const imm = f.let(i32.wrap_i64(e.immediate()));
  const moved = i8x16.splat(i32.and(imm, constI32(4)));
  const windows = f.let(i8x16.swizzle(e.read(d), i8x16.add(IDENTITY, moved)));
  const chosen = i8x16.splat(i32.shl(i32.and(imm, constI32(3)), constI32(2)));
  let sum: Expr | undefined;
  for (let k = 0; k < 4; k++) {
    const x = i16x8.extend_low_i8x16_u(
      i8x16.shuffle(
        Array.from({ length: 16 }, (_, i) => Math.min(i + k, 15)),
        windows,
        windows,
      ),
    );
    const y = i16x8.extend_low_i8x16_u(i8x16.swizzle(b, i8x16.add(chosen, i8x16.splat(constI32(k)))));
    const difference = i16x8.abs(i16x8.sub(x, y));
    sum = f.let(sum ? i16x8.add(sum, difference) : difference);
  }
  e.write(d, sum as Expr);
});

// PHMINPOSUW: the least word and its place; of equal ones the first.
sseWith('phminposuw', ['66 0F38 41 Vx,Wx'], (e, _a, b) => {
  const { f } = e;
  const words = f.let(b);
  let least = f.let(i32.shl(i16x8.extract_lane_u(0, words), constI32(3)));
  for (let i = 1; i < 8; i++) {
    const other = f.let(i32.or(i32.shl(i16x8.extract_lane_u(i, words), constI32(3)), constI32(i)));
    least = f.let(select(least, other, i32.lt_u(least, other)));
  }
  const result = i32.or(i32.shr_u(least, constI32(3)), i32.shl(i32.and(least, constI32(7)), constI32(16)));
  return i32x4.replace_lane(0, zero(), result);
});

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

/** Shuffles by an immediate that only the record knows: byte indices made from two bits a lane. */
function shuffleByImmediate(e: Emitter, value: Expr, laneBytes: 2 | 4, base: number, keep: Expr | undefined): Expr {
  const { f } = e;
  const imm = f.let(i32.wrap_i64(e.immediate()));
  let indices: Expr = keep ?? i8x16.splat(constI32(0));
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

const IDENTITY = v128.const(Uint8Array.from({ length: 16 }, (_, i) => i));
function shuffle(name: string, line: string, laneBytes: 2 | 4, base: number): void {
  instruction(name, [line], (e, d, s) => {
    checkSse(e);
    checkAligned(e, s);
    e.write(d, shuffleByImmediate(e, readVector(e, s), laneBytes, base, laneBytes === 2 ? IDENTITY : undefined));
  });
}
shuffle('pshufd', '66 0F 70 Vx,Wx,Ib', 4, 0);
shuffle('pshuflw', 'F2 0F 70 Vx,Wx,Ib', 2, 0);
shuffle('pshufhw', 'F3 0F 70 Vx,Wx,Ib', 2, 8);
instruction('pshufw', ['0F 70 Pq,Qq,Ib np'], (e, d, s) => {
  const memory = s.place === 'memory' ? readVector(e, s) : undefined;
  checkMmx(e);
  const value = memory ?? readVector(e, s);
  writeLow(e, d, i64x2.extract_lane(0, shuffleByImmediate(e, value, 2, 0, IDENTITY)));
});

/** PALIGNR: bytes of (a:b) from the immediate on. */
function align(e: Emitter, a: Expr, b: Expr, width: number): Expr {
  const { f } = e;
  const shift = f.let(i32.and(i32.wrap_i64(e.immediate()), constI32(0xff)));
  const lanes = v128.const(Uint8Array.from({ length: 16 }, (_, i) => i));
  const clamp = (n: Expr): Expr => select(n, constI32(0x40), i32.lt_u(n, constI32(0x40)));
  // Index i + shift: below the width it is in b, then in a. Indices of 16 and more give zero; sums stay below 128.
  const index = f.let(i8x16.add(lanes, i8x16.splat(clamp(shift))));
  const limit = i8x16.splat(constI32(width));
  const inB = i8x16.lt_u(index, limit);
  const fromB = v128.and(i8x16.swizzle(b, index), inB);
  const back = f.let(i8x16.sub(index, limit));
  const inA = i8x16.lt_u(back, limit);
  return v128.or(fromB, v128.and(i8x16.swizzle(a, back), v128.andnot(inA, inB)));
}
instruction('palignr', ['66 0F3A 0F Vx,Wx,Ib'], (e, d, s) => {
  checkSse(e);
  checkAligned(e, s);
  const b = readVector(e, s);
  e.write(d, align(e, e.read(d), b, 16));
});
instruction('palignr', ['0F3A 0F Pq,Qq,Ib np'], (e, d, s) => {
  const memory = s.place === 'memory' ? readVector(e, s) : undefined;
  checkMmx(e);
  const b = memory ?? readVector(e, s);
  writeLow(e, d, i64x2.extract_lane(0, align(e, readVector(e, d), b, 8)));
});

// ---- Shifts ------------------------------------------------------------------------------------------------------------------------
type LaneShift = (value: Expr, count: Expr) => Expr;

/** A shift by a 64-bit count: counts of the lane's width or more give zero, or for arithmetic shifts the sign. */
function shifted(e: Emitter, value: Expr, count: Expr, bits: number, shift: LaneShift, arithmetic: boolean): Expr {
  const { f } = e;
  const n = f.let(count);
  if (arithmetic) {
    const most = f.let(select(constI64(bits - 1), n, i64.gt_u(n, constI64(bits - 1))));
    return shift(value, i32.wrap_i64(most));
  }
  const fits = i64.sub(constI64(0), asI64(i64.lt_u(n, constI64(bits))));
  return v128.and(shift(value, i32.wrap_i64(n)), i64x2.splat(fits));
}

function shifts(
  name: string,
  opcode: string,
  immediateOpcode: string,
  digit: number,
  bits: number,
  shift: LaneShift,
  arithmetic = false,
): void {
  bothWith(name, opcode, (e, a, b) => shifted(e, a, i64x2.extract_lane(0, b), bits, shift, arithmetic));
  const count = (e: Emitter): Expr => i64.and(e.immediate(), constI64(0xff));
  instruction(name, [`66 ${immediateOpcode}/${digit} Ux,Ib`], (e, d) => {
    checkSse(e);
    e.write(d, shifted(e, e.read(d), count(e), bits, shift, arithmetic));
  });
  instruction(name, [`${immediateOpcode}/${digit} Nq,Ib np`], (e, d) => {
    checkMmx(e);
    writeLow(e, d, i64x2.extract_lane(0, shifted(e, readVector(e, d), count(e), bits, shift, arithmetic)));
  });
}
shifts('psrlw', '0F D1', '0F 71', 2, 16, i16x8.shr_u);
shifts('psraw', '0F E1', '0F 71', 4, 16, i16x8.shr_s, true);
shifts('psllw', '0F F1', '0F 71', 6, 16, i16x8.shl);
shifts('psrld', '0F D2', '0F 72', 2, 32, i32x4.shr_u);
shifts('psrad', '0F E2', '0F 72', 4, 32, i32x4.shr_s, true);
shifts('pslld', '0F F2', '0F 72', 6, 32, i32x4.shl);
shifts('psrlq', '0F D3', '0F 73', 2, 64, i64x2.shr_u);
shifts('psllq', '0F F3', '0F 73', 6, 64, i64x2.shl);

/** PSRLDQ and PSLLDQ: the whole register by bytes. */
function byteShift(name: string, digit: number, right: boolean): void {
  instruction(name, [`66 0F 73/${digit} Ux,Ib`], (e, d) => {
    checkSse(e);
    const count = i32.and(i32.wrap_i64(e.immediate()), constI32(0xff));
    const bytes = e.f.let(select(count, constI32(16), i32.lt_u(count, constI32(16))));
    const amount = i8x16.splat(bytes);
    const index = right ? i8x16.add(IDENTITY, amount) : i8x16.sub(IDENTITY, amount);
    e.write(d, i8x16.swizzle(e.read(d), index));
  });
}
byteShift('psrldq', 3, true);
byteShift('pslldq', 7, false);

// ---- SSE4.1, SSE4.2 ------------------------------------------------------------------------------------------------------------------
const SSE4: readonly [name: string, opcode: string, operation: VectorBinary][] = [
  ['pminsb', '38', i8x16.min_s],
  ['pminsd', '39', i32x4.min_s],
  ['pminuw', '3A', i16x8.min_u],
  ['pminud', '3B', i32x4.min_u],
  ['pmaxsb', '3C', i8x16.max_s],
  ['pmaxsd', '3D', i32x4.max_s],
  ['pmaxuw', '3E', i16x8.max_u],
  ['pmaxud', '3F', i32x4.max_u],
  ['pmulld', '40', i32x4.mul],
  ['pcmpeqq', '29', i64x2.eq],
  ['pcmpgtq', '37', i64x2.gt_s],
  ['pmuldq', '28', (a, b) => i64x2.mul(signedLow(a), signedLow(b))],
];
for (const [name, opcode, operation] of SSE4) sse(name, [`66 0F38 ${opcode} Vx,Wx`], operation);

/** The low dword of each quadword, sign-extended. */
function signedLow(x: Expr): Expr {
  return i64x2.shr_s(i64x2.shl(x, constI32(32)), constI32(32));
}

// PMOVSX and PMOVZX: memory operands are as narrow as what is read, and need no alignment.
const EXTENSIONS: readonly [
  suffix: string,
  opcode: string,
  size: 'q' | 'd' | 'w',
  signed: (x: Expr) => Expr,
  unsigned: (x: Expr) => Expr,
][] = [
  ['bw', '0', 'q', i16x8.extend_low_i8x16_s, i16x8.extend_low_i8x16_u],
  [
    'bd',
    '1',
    'd',
    (x) => i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(x)),
    (x) => i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(x)),
  ],
  [
    'bq',
    '2',
    'w',
    (x) => i64x2.extend_low_i32x4_s(i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(x))),
    (x) => i64x2.extend_low_i32x4_u(i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(x))),
  ],
  ['wd', '3', 'q', i32x4.extend_low_i16x8_s, i32x4.extend_low_i16x8_u],
  [
    'wq',
    '4',
    'd',
    (x) => i64x2.extend_low_i32x4_s(i32x4.extend_low_i16x8_s(x)),
    (x) => i64x2.extend_low_i32x4_u(i32x4.extend_low_i16x8_u(x)),
  ],
  ['dq', '5', 'q', i64x2.extend_low_i32x4_s, i64x2.extend_low_i32x4_u],
];
for (const [suffix, digit, size, signed, unsigned] of EXTENSIONS) {
  for (const [name, row, operation] of [
    [`pmovsx${suffix}`, '2', signed],
    [`pmovzx${suffix}`, '3', unsigned],
  ] as const) {
    sse(name, [`66 0F38 ${row}${digit} Vx,W${size}`], (_a, b) => operation(b));
  }
}

instruction('ptest', ['66 0F38 17 Vx,Wx'], (e, d, s) => {
  checkSse(e);
  checkAligned(e, s);
  const b = readVector(e, s);
  const a = e.read(d);
  const zf = asI64(i32.eqz(v128.any_true(v128.and(a, b))));
  const cf = asI64(i32.eqz(v128.any_true(v128.andnot(b, a))));
  e.flagsAll(i64.or(cf, i64.shl(zf, constI64(6))));
});

sseWith('pblendvb', ['66 0F38 10 Vx,Wx'], (e, a, b) => v128.bitselect(b, a, i8x16.shr_s(e.vectorZero(), constI32(7))));
sseWith('blendvps', ['66 0F38 14 Vx,Wx'], (e, a, b) => v128.bitselect(b, a, i32x4.shr_s(e.vectorZero(), constI32(31))));
sseWith('blendvpd', ['66 0F38 15 Vx,Wx'], (e, a, b) => v128.bitselect(b, a, i64x2.shr_s(e.vectorZero(), constI32(63))));

/** Blends by an immediate: a bit for each lane. */
function blend(
  name: string,
  opcode: string,
  lanes: readonly number[],
  splat: (x: Expr) => Expr,
  compare: VectorBinary,
): void {
  sseWith(name, [`66 0F3A ${opcode} Vx,Wx,Ib`], (e, a, b) => {
    const bits = e.f.let(v128.const(bytesOf(lanes)));
    const chosen = v128.and(splat(i32.wrap_i64(e.immediate())), bits);
    return v128.bitselect(b, a, compare(chosen, bits));
  });
}
function bytesOf(lanes: readonly number[]): Uint8Array {
  const width = 16 / lanes.length;
  const bytes = new Uint8Array(16);
  lanes.forEach((value, i) => {
    bytes[i * width] = value;
  });
  return bytes;
}
blend('pblendw', '0E', [1, 2, 4, 8, 16, 32, 64, 128], i16x8.splat, i16x8.eq);
blend('blendps', '0C', [1, 2, 4, 8], i32x4.splat, i32x4.eq);
blend('blendpd', '0D', [1, 2], (x) => i64x2.splat(i64.extend_i32_u(x)), i64x2.eq);

// ---- Between general and vector registers, and masks ---------------------------------------------------------------------------------
/** A lane that only the immediate names: the register is rotated so that it becomes the first. */
function laneByImmediate(e: Emitter, value: Expr, lanes: number, width: number): Expr {
  const lane = i32.and(i32.wrap_i64(e.immediate()), constI32(lanes - 1));
  const first = i8x16.splat(i32.mul(lane, constI32(width)));
  return i64x2.extract_lane(0, i8x16.swizzle(value, i8x16.add(IDENTITY, first)));
}

/** The vector with the lane that the immediate names replaced. */
function withLane(e: Emitter, value: Expr, lanes: number, width: number, element: Expr): Expr {
  const lane = i32.and(i32.wrap_i64(e.immediate()), constI32(lanes - 1));
  const first = e.f.let(i8x16.splat(i32.mul(lane, constI32(width))));
  // Index of each byte within the element; others are out of range and give zero.
  const index = e.f.let(i8x16.sub(IDENTITY, first));
  const inside = i8x16.lt_u(index, i8x16.splat(constI32(width)));
  const placed = i8x16.swizzle(i64x2.splat(element), index);
  return v128.bitselect(placed, value, inside);
}

instruction('pinsrw', ['66 0F C4 Vx,Rd,Ib', '66 0F C4 Vx,Mw,Ib'], (e, d, s) => {
  checkSse(e);
  const element = e.read({ ...s, size: s.place === 'memory' ? 2 : 4 });
  e.write(d, withLane(e, e.read(d), 8, 2, element));
});
instruction('pinsrw', ['0F C4 Pq,Rd,Ib np', '0F C4 Pq,Mw,Ib np'], (e, d, s) => {
  const element = e.read({ ...s, size: s.place === 'memory' ? 2 : 4 });
  checkMmx(e);
  writeLow(e, d, i64x2.extract_lane(0, withLane(e, readVector(e, d), 4, 2, element)));
});
instruction('pinsrb', ['66 0F3A 20 Vx,Rd,Ib', '66 0F3A 20 Vx,Mb,Ib'], (e, d, s) => {
  checkSse(e);
  const element = e.read({ ...s, size: s.place === 'memory' ? 1 : 4 });
  e.write(d, withLane(e, e.read(d), 16, 1, element));
});
instruction('pinsrd', ['66 0F3A 22 Vx,Ey,Ib'], (e, d, s) => {
  checkSse(e);
  const element = e.read(s);
  e.write(d, withLane(e, e.read(d), 16 / s.size, s.size, element));
});

instruction('pextrw', ['66 0F C5 Gd,Ux,Ib'], (e, d, s) => {
  checkSse(e);
  e.write(d, i64.and(laneByImmediate(e, e.read(s), 8, 2), constI64(0xffff)));
});
instruction('pextrw', ['0F C5 Gd,Nq,Ib np'], (e, d, s) => {
  checkMmx(e);
  e.write(d, i64.and(laneByImmediate(e, readVector(e, s), 4, 2), constI64(0xffff)));
});
for (const [name, opcode, width] of [
  ['pextrb', '14', 1],
  ['pextrw', '15', 2],
] as const) {
  instruction(name, [`66 0F3A ${opcode} Ed,Vx,Ib`], (e, d, s) => {
    checkSse(e);
    const element = e.f.let(i64.and(laneByImmediate(e, e.read(s), 16 / width, width), constI64(2 ** (8 * width) - 1)));
    e.write(d.place === 'memory' ? { ...d, size: width } : d, element);
  });
}
instruction('pextrd', ['66 0F3A 16 Ey,Vx,Ib'], (e, d, s) => {
  checkSse(e);
  e.write(d, e.f.let(laneByImmediate(e, e.read(s), 16 / d.size, d.size)));
});
instruction('extractps', ['66 0F3A 17 Ed,Vx,Ib'], (e, d, s) => {
  checkSse(e);
  e.write(d, e.f.let(laneByImmediate(e, e.read(s), 4, 4)));
});
instruction('insertps', ['66 0F3A 21 Vx,Wd,Ib'], (e, d, s) => {
  checkSse(e);
  const { f } = e;
  const imm = f.let(i32.wrap_i64(e.immediate()));
  // From a register the immediate's top bits choose the source's element.
  let element: Expr;
  if (s.place === 'memory') {
    element = e.read(s);
  } else {
    const from = i32.and(i32.shr_u(imm, constI32(6)), constI32(3));
    const index = i8x16.add(IDENTITY, i8x16.splat(i32.mul(from, constI32(4))));
    element = i64x2.extract_lane(0, i8x16.swizzle(e.read({ ...s, size: 16 }), index));
  }
  const value = e.read(d);
  const to = i32.and(i32.shr_u(imm, constI32(4)), constI32(3));
  const first = f.let(i8x16.splat(i32.mul(to, constI32(4))));
  const index = f.let(i8x16.sub(IDENTITY, first));
  const inserted = v128.bitselect(
    i8x16.swizzle(i64x2.splat(element), index),
    value,
    i8x16.lt_u(index, i8x16.splat(constI32(4))),
  );
  const bits = f.let(v128.const(bytesOf([1, 2, 4, 8])));
  e.write(d, v128.andnot(inserted, i32x4.eq(v128.and(i32x4.splat(imm), bits), bits)));
});

for (const [name, line, mask] of [
  ['pmovmskb', '66 0F D7 Gd,Ux', i8x16.bitmask],
  ['movmskps', '0F 50 Gd,Ux np', i32x4.bitmask],
  ['movmskpd', '66 0F 50 Gd,Ux', i64x2.bitmask],
] as const) {
  instruction(name, [line], (e, d, s) => {
    checkSse(e);
    e.write(d, asI64(mask(e.read(s))));
  });
}
instruction('pmovmskb', ['0F D7 Gd,Nq np'], (e, d, s) => {
  checkMmx(e);
  e.write(d, asI64(i8x16.bitmask(readVector(e, s))));
});

/** MASKMOVDQU and MASKMOVQ: bytes whose mask's top bit is set go to DS:rDI. */
instruction('maskmovdqu', ['66 0F F7 Vx,Ux'], (e, d, s) => {
  checkSse(e);
  e.status('maskmov', e.record(), e.slot(d), e.slot(s), constI32(16));
});
instruction('maskmovq', ['0F F7 Pq,Nq np'], (e, d, s) => {
  checkMmx(e);
  e.status('maskmov', e.record(), e.slot(d), e.slot(s), constI32(8));
});
