// Moves between vector registers, MMX, general registers and memory (SDM volume 2).

import { constI32, type Expr, i32 } from '../../../wasm/expr.ts';
import { i8x16, i32x4, i64x2, v128 } from '../../../wasm/vector.ts';
import * as L from '../layout.ts';
import type { Emitter, Operand } from './emitter.ts';
import { instruction } from './instruction.ts';
import { checkAligned, checkMmx, checkSse, readVector, sse, sseWith, writeLow } from './vector.ts';

/** Whole registers, unaligned or aligned. */
instruction(
  'movups',
  [
    '0F 10 Vx,Wx np',
    '66 0F 10 Vx,Wx',
    '0F 11 Wx,Vx np',
    '66 0F 11 Wx,Vx',
    'F3 0F 6F Vx,Wx',
    'F3 0F 7F Wx,Vx',
    'F2 0F F0 Vx,Mx',
  ],
  (e, d, s) => {
    checkSse(e);
    e.write(d, e.read(s));
  },
);
instruction(
  'movaps',
  [
    '0F 28 Vx,Wx np',
    '66 0F 28 Vx,Wx',
    '0F 29 Wx,Vx np',
    '66 0F 29 Wx,Vx',
    '66 0F 6F Vx,Wx',
    '66 0F 7F Wx,Vx',
    '0F 2B Mx,Vx np',
    '66 0F 2B Mx,Vx',
    '66 0F E7 Mx,Vx',
    '66 0F38 2A Vx,Mx',
  ],
  (e, d, s) => {
    checkSse(e);
    checkAligned(e, d);
    checkAligned(e, s);
    e.write(d, e.read(s));
  },
);

/** Writes the low lane of a register and keeps the rest, or writes memory. */
function mergeLow(e: Emitter, d: Operand, value: Expr): void {
  // A vector register's slot: an i64 store of 4 or 8 bytes leaves the rest as it is.
  e.write(d, value);
}

// MOVSS, MOVSD: from memory the rest becomes zero, between registers it stays.
for (const [name, prefix, size] of [
  ['movss', 'F3', 'd'],
  ['movsd', 'F2', 'q'],
] as const) {
  instruction(name, [`${prefix} 0F 10 Vx,W${size}`], (e, d, s) => {
    checkSse(e);
    if (s.place === 'memory') e.write(d, readVector(e, s));
    else mergeLow(e, { ...d, size: s.size }, e.read(s));
  });
  instruction(name, [`${prefix} 0F 11 W${size},V${size}`], (e, d, s) => {
    checkSse(e);
    mergeLow(e, d, e.read(s));
  });
}

/** Upper half of a register (i64). */
const high = (e: Emitter, operand: Operand): Expr => e.f.let(i64x2.extract_lane(1, e.read({ ...operand, size: 16 })));

function setHigh(e: Emitter, d: Operand, value: Expr): void {
  e.write({ ...d, size: 16 }, i64x2.replace_lane(1, e.read({ ...d, size: 16 }), value));
}

instruction('movlps', ['0F 12 Vq,Mq np', '66 0F 12 Vq,Mq', '0F 13 Mq,Vq np', '66 0F 13 Mq,Vq'], (e, d, s) => {
  checkSse(e);
  e.write(d, e.read(s));
});
instruction('movhlps', ['0F 12 Vq,Uq np'], (e, d, s) => {
  checkSse(e);
  e.write(d, high(e, s));
});
instruction('movhps', ['0F 16 Vq,Mq np', '66 0F 16 Vq,Mq', '0F 16 Vq,Uq np'], (e, d, s) => {
  checkSse(e);
  setHigh(e, d, e.read(s));
});
instruction('movhps', ['0F 17 Mq,Vq np', '66 0F 17 Mq,Vq'], (e, d, s) => {
  checkSse(e);
  e.write(d, high(e, s));
});

// MOVD, MOVQ.
instruction('movd', ['66 0F 6E Vx,Ey'], (e, d, s) => {
  checkSse(e);
  e.write(d, readVector(e, s));
});
instruction('movd', ['66 0F 7E Ey,Vy'], (e, d, s) => {
  checkSse(e);
  e.write(d, e.read(s));
});
instruction('movd', ['0F 6E Pq,Ey np'], (e, d, s) => {
  const value = e.read(s);
  checkMmx(e);
  writeLow(e, d, value);
});
instruction('movd', ['0F 7E Ey,Py np'], (e, d, s) => {
  checkMmx(e);
  e.write(d, e.read(s));
});
instruction('movq', ['F3 0F 7E Vx,Wq'], (e, d, s) => {
  checkSse(e);
  e.write(d, readVector(e, s));
});
instruction('movq', ['66 0F D6 Wq,Vq'], (e, d, s) => {
  checkSse(e);
  // A register destination loses its upper half.
  if (d.place === 'memory') e.write(d, e.read(s));
  else e.write({ ...d, size: 16 }, readVector(e, s));
});
instruction('movq', ['0F 6F Pq,Qq np', '0F 7F Qq,Pq np', '0F E7 Mq,Pq np'], (e, d, s) => {
  const memory = s.place === 'memory' ? e.read(s) : undefined;
  checkMmx(e);
  writeLow(e, d, memory ?? e.read(s));
});
instruction('movq2dq', ['F3 0F D6 Vx,Nq'], (e, d, s) => {
  checkSse(e);
  checkMmx(e);
  e.write(d, readVector(e, s));
});
instruction('movdq2q', ['F2 0F D6 Pq,Uq'], (e, d, s) => {
  checkSse(e);
  checkMmx(e);
  writeLow(e, d, e.read(s));
});

// Shuffles of floats, duplicates and interleaves are moves.
sse('unpcklps', ['0F 14 Vx,Wx np'], (a, b) =>
  i8x16.shuffle([0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23], a, b),
);
sse('unpckhps', ['0F 15 Vx,Wx np'], (a, b) =>
  i8x16.shuffle([8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31], a, b),
);
sse('unpcklpd', ['66 0F 14 Vx,Wx'], (a, b) =>
  i8x16.shuffle([0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23], a, b),
);
sse('unpckhpd', ['66 0F 15 Vx,Wx'], (a, b) =>
  i8x16.shuffle([8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31], a, b),
);
sse('movsldup', ['F3 0F 12 Vx,Wx'], (_a, b) =>
  i8x16.shuffle([0, 1, 2, 3, 0, 1, 2, 3, 8, 9, 10, 11, 8, 9, 10, 11], b, b),
);
sse('movshdup', ['F3 0F 16 Vx,Wx'], (_a, b) =>
  i8x16.shuffle([4, 5, 6, 7, 4, 5, 6, 7, 12, 13, 14, 15, 12, 13, 14, 15], b, b),
);
sse('movddup', ['F2 0F 12 Vx,Wq'], (_a, b) => i8x16.shuffle([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7], b, b));

/** Element `lane` of a shuffle's immediate: `bits` bits each. */
const field = (e: Emitter, lane: number, bits: number): Expr =>
  i32.and(i32.shr_u(i32.wrap_i64(e.immediate()), constI32(lane * bits)), constI32((1 << bits) - 1));

sseWith('shufps', ['0F C6 Vx,Wx,Ib np'], (e, a, b) => {
  const { f } = e;
  const x = f.let(a);
  const y = f.let(b);
  let result: Expr = v128.const(new Uint8Array(16));
  for (let lane = 0; lane < 4; lane++) {
    const first = i32.mul(field(e, lane, 2), constI32(0x04040404));
    const index = i32x4.splat(i32.add(first, constI32(0x03020100)));
    const element = i32x4.extract_lane(0, i8x16.swizzle(lane < 2 ? x : y, index));
    result = i32x4.replace_lane(lane, result, element);
  }
  return result;
});
sseWith('shufpd', ['66 0F C6 Vx,Wx,Ib'], (e, a, b) => {
  const { f } = e;
  const x = f.let(a);
  const y = f.let(b);
  const pick = (value: Expr, lane: number): Expr => {
    const odd = field(e, lane, 1);
    return e.select(i64x2.extract_lane(1, value), i64x2.extract_lane(0, value), odd);
  };
  return i64x2.replace_lane(1, i64x2.splat(pick(x, 0)), pick(y, 1));
});

// Bitwise operations on floats.
sse('andps', ['0F 54 Vx,Wx np', '66 0F 54 Vx,Wx'], v128.and);
sse('andnps', ['0F 55 Vx,Wx np', '66 0F 55 Vx,Wx'], (a, b) => v128.andnot(b, a));
sse('orps', ['0F 56 Vx,Wx np', '66 0F 56 Vx,Wx'], v128.or);
sse('xorps', ['0F 57 Vx,Wx np', '66 0F 57 Vx,Wx'], v128.xor);

// ---- MXCSR and saved state ---------------------------------------------------------------------------------------------------------
instruction('ldmxcsr', ['0F AE/2 Md np'], (e, s) => {
  checkSse(e);
  const value = e.f.let(i32.wrap_i64(e.read(s)));
  e.f.if(i32.and(value, constI32(~0xffff)), () => e.status('raise_error', constI32(13), constI32(0)));
  e.setState('i32.store', L.MXCSR, value);
});
instruction('stmxcsr', ['0F AE/3 Md np'], (e, d) => {
  checkSse(e);
  e.write(d, e.state('i64.load32_u', L.MXCSR));
});
