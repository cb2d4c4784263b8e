// Packed integers of MMX, SSE2, SSSE3, SSE4.1 and, of the same lines, of AVX and AVX2 (SDM volume 2). What moves bytes
// between lanes is in vector-shuffle.ts.

import { constI32, constI64, type Expr, i32, i64, select } from '../../../wasm/expr.ts';
import { i8x16, i16x8, i32x4, i64x2, v128 } from '../../../wasm/vector.ts';
import { asI64, type Emitter } from './emitter.ts';
import { instruction } from './instruction.ts';
import {
  both,
  bothWith,
  checkAligned,
  checkAvx,
  checkMmx,
  checkSse,
  halves,
  IDENTITY,
  mmxWith,
  readVector,
  sse,
  sseOnly,
  sseUnary,
  sseWith,
  type VectorBinary,
  type VectorMeaning,
  vexWith,
  writeHalves,
  writeLow,
  xor,
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
  ['pandn', '0F DF', (a, b) => v128.andnot(b, a)],
  ['pmullw', '0F D5', i16x8.mul],
  ['pmaddwd', '0F F5', i32x4.dot_i16x8_s],
  ['pmulhw', '0F E5', (a, b) => highWords(i32x4.extmul_low_i16x8_s(a, b), i32x4.extmul_high_i16x8_s(a, b))],
  ['pmulhuw', '0F E4', (a, b) => highWords(i32x4.extmul_low_i16x8_u(a, b), i32x4.extmul_high_i16x8_u(a, b))],
  ['pmuludq', '0F F4', (a, b) => i64x2.mul(v128.and(a, lowDwords()), v128.and(b, lowDwords()))],
  ['psignb', '0F38 08', (a, b) => sign(a, b, i8x16.neg, i8x16.lt_s, i8x16.eq)],
  ['psignw', '0F38 09', (a, b) => sign(a, b, i16x8.neg, i16x8.lt_s, i16x8.eq)],
  ['psignd', '0F38 0A', (a, b) => sign(a, b, i32x4.neg, i32x4.lt_s, i32x4.eq)],
];
for (const [name, opcode, operation] of LANES) both(name, opcode, operation);
bothWith('pxor', '0F EF', xor);
for (const [name, opcode, operation] of [
  ['pabsb', '0F38 1C', i8x16.abs],
  ['pabsw', '0F38 1D', i16x8.abs],
  ['pabsd', '0F38 1E', i32x4.abs],
] as const) {
  mmxWith(name, [`${opcode} Pq,Qq np`], (_e, _a, b) => operation(b));
  sseUnary(name, `66 ${opcode} Vx,Wx`, (_e, x) => operation(x));
}

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
sseWith('mpsadbw', ['66 0F3A 42 Vx,Wx,Ib'], (e, a, b, half) => {
  const { f } = e;
  const imm = f.let(i32.shr_u(i32.wrap_i64(e.immediate()), constI32(3 * half)));
  const moved = i8x16.splat(i32.and(imm, constI32(4)));
  const windows = f.let(i8x16.swizzle(a, i8x16.add(IDENTITY, moved)));
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
  return sum as Expr;
});

// PHMINPOSUW: the least word and its place; of equal ones the first.
sseUnary(
  'phminposuw',
  '66 0F38 41 Vx,Wx',
  (e, words) => {
    const { f } = e;
    let least = f.let(i32.shl(i16x8.extract_lane_u(0, words), constI32(3)));
    for (let i = 1; i < 8; i++) {
      const other = f.let(i32.or(i32.shl(i16x8.extract_lane_u(i, words), constI32(3)), constI32(i)));
      least = f.let(select(least, other, i32.lt_u(least, other)));
    }
    const result = i32.or(i32.shr_u(least, constI32(3)), i32.shl(i32.and(least, constI32(7)), constI32(16)));
    return i32x4.replace_lane(0, zero(), result);
  },
  ' L0',
);

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
  const byVector: VectorMeaning = (e, a, b) => shifted(e, a, i64x2.extract_lane(0, b), bits, shift, arithmetic);
  mmxWith(name, [`${opcode} Pq,Qq np`], byVector);
  sseOnly(name, `66 ${opcode} Vx,Wx`, byVector);
  // The count is in 16 bytes, whatever the register's width.
  instruction(`v${name}`, [`VEX 66 ${opcode} Vx,Hx,Wo`], (e, d, a, s) => {
    checkAvx(e);
    const [count] = halves(e, s) as [Expr];
    writeHalves(
      e,
      d,
      halves(e, a).map((x) => e.f.let(byVector(e, x, count, 0))),
    );
  });
  const byImmediate = (e: Emitter, x: Expr): Expr =>
    shifted(e, x, i64.and(e.immediate(), constI64(0xff)), bits, shift, arithmetic);
  immediateShift(name, `66 ${immediateOpcode}/${digit}`, byImmediate);
  instruction(name, [`${immediateOpcode}/${digit} Nq,Ib np`], (e, d) => {
    checkMmx(e);
    writeLow(e, d, i64x2.extract_lane(0, byImmediate(e, readVector(e, d))));
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

/** Shifts of a register by an immediate; in VEX the destination is VEX.vvvv. */
function immediateShift(name: string, opcode: string, operation: (e: Emitter, x: Expr) => Expr): void {
  instruction(name, [`${opcode} Ux,Ib`], (e, d) => {
    checkSse(e);
    e.write(d, operation(e, e.read(d)));
  });
  instruction(`v${name}`, [`VEX ${opcode} Hx,Ux,Ib`], (e, d, s) => {
    checkAvx(e);
    writeHalves(
      e,
      d,
      halves(e, s).map((x) => e.f.let(operation(e, x))),
    );
  });
}

/** PSRLDQ and PSLLDQ: each 16 bytes by bytes. */
function byteShift(name: string, digit: number, right: boolean): void {
  immediateShift(name, `66 0F 73/${digit}`, (e, x) => {
    const count = i32.and(i32.wrap_i64(e.immediate()), constI32(0xff));
    if (count.isConst) {
      const bytes = Math.min(count.value as number, 16);
      const first = right ? bytes : 16 - bytes;
      return i8x16.shuffle(
        Array.from({ length: 16 }, (_, i) => first + i),
        right ? x : zero(),
        right ? zero() : x,
      );
    }
    const amount = i8x16.splat(e.f.let(select(count, constI32(16), i32.lt_u(count, constI32(16)))));
    return i8x16.swizzle(x, right ? i8x16.add(IDENTITY, amount) : i8x16.sub(IDENTITY, amount));
  });
}
byteShift('psrldq', 3, true);
byteShift('pslldq', 7, false);

// AVX2's shifts by a count in each lane.
for (const [name, line, shift, arithmetic] of [
  ['vpsrlvd', '45 Vx,Hx,Wx W0', i64.shr_u, false],
  ['vpsravd', '46 Vx,Hx,Wx W0', i64.shr_s, true],
  ['vpsllvd', '47 Vx,Hx,Wx W0', i64.shl, false],
] as const) {
  vexWith(name, `VEX 66 0F38 ${line}`, (e, a, b) => {
    let result = a;
    for (let lane = 0; lane < 4; lane++) {
      const dword = i32x4.extract_lane(lane, a);
      const value = arithmetic ? i64.extend_i32_s(dword) : i64.extend_i32_u(dword);
      const count = e.f.let(i64.extend_i32_u(i32x4.extract_lane(lane, b)));
      result = i32x4.replace_lane(lane, result, i32.wrap_i64(laneShifted(value, count, shift, 32, arithmetic)));
    }
    return result;
  });
}
for (const [name, line, shift] of [
  ['vpsrlvq', '45 Vx,Hx,Wx W1', i64.shr_u],
  ['vpsllvq', '47 Vx,Hx,Wx W1', i64.shl],
] as const) {
  vexWith(name, `VEX 66 0F38 ${line}`, (e, a, b) => {
    const lane = (n: number): Expr =>
      laneShifted(i64x2.extract_lane(n, a), e.f.let(i64x2.extract_lane(n, b)), shift, 64, false);
    return i64x2.replace_lane(1, i64x2.splat(lane(0)), lane(1));
  });
}

/** An element shifted by a count that may be beyond its width. */
function laneShifted(value: Expr, count: Expr, shift: VectorBinary, bits: number, arithmetic: boolean): Expr {
  const fits = i64.lt_u(count, constI64(bits));
  return arithmetic ? shift(value, select(count, constI64(63), fits)) : select(shift(value, count), constI64(0), fits);
}

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
    sseOnly(name, `66 0F38 ${row}${digit} Vx,W${size}`, (_e, _a, b) => operation(b));
    // Half as many bytes of the source as of the destination, or fewer.
    const letter = size === 'q' ? 'h' : size === 'd' ? 'f' : 'e';
    const bytes = { q: 8, d: 4, w: 2 }[size];
    instruction(`v${name}`, [`VEX 66 0F38 ${row}${digit} Vx,W${letter}`], (e, d, s) => {
      checkAvx(e);
      const source = s.place === 'memory' ? readVector(e, s) : e.readHalf(s, 0);
      const wide = e.size === 32;
      const next = i8x16.shuffle(
        Array.from({ length: 16 }, (_, i) => (i + bytes) & 15),
        source,
        source,
      );
      writeHalves(e, d, wide ? [operation(source), operation(next)] : [operation(source)]);
    });
  }
}

/** PTEST: ZF when no bit is in both, CF when all bits of the source are in the destination. */
function testBits(e: Emitter, as: readonly Expr[], bs: readonly Expr[], keep: (x: Expr) => Expr): void {
  const any = (combine: VectorBinary): Expr =>
    v128.any_true(as.map((a, half) => keep(combine(a, bs[half] as Expr))).reduce((x, y) => v128.or(x, y)));
  const zf = asI64(i32.eqz(any(v128.and)));
  const cf = asI64(i32.eqz(any((a, b) => v128.andnot(b, a))));
  e.flagsAll(i64.or(cf, i64.shl(zf, constI64(6))));
}
instruction('ptest', ['66 0F38 17 Vx,Wx'], (e, d, s) => {
  checkSse(e);
  checkAligned(e, s);
  const b = readVector(e, s);
  testBits(e, [e.read(d)], [b], (x) => x);
});
for (const [name, line, keep] of [
  ['vptest', '17 Vx,Wx', (x: Expr) => x],
  // Sign bits alone.
  ['vtestps', '0E Vx,Wx W0', (x: Expr) => i32x4.shr_u(x, constI32(31))],
  ['vtestpd', '0F Vx,Wx W0', (x: Expr) => i64x2.shr_u(x, constI32(63))],
] as const) {
  instruction(name, [`VEX 66 0F38 ${line}`], (e, d, s) => {
    checkAvx(e);
    const b = halves(e, s);
    testBits(e, halves(e, d), b, keep);
  });
}
