// Moves between vector registers, MMX, general registers and memory (SDM volume 2).

import { constI32, type Expr, i32 } from '../../../wasm/expr.ts';
import { i8x16, i32x4, i64x2, v128 } from '../../../wasm/vector.ts';
import * as L from '../layout.ts';
import type { Emitter, Operand } from './emitter.ts';
import { instruction } from './instruction.ts';
import {
  checkAligned,
  checkAvx,
  checkMmx,
  checkSse,
  halves,
  readVector,
  shuffle,
  sse,
  sseOnly,
  sseUnary,
  sseWith,
  vexLine,
  vexUnary,
  writeAll,
  writeHalves,
  writeLow,
  xor,
  zero,
} from './vector.ts';

/** Whole registers, of SSE and of AVX, unaligned or aligned. */
function whole(name: string, aligned: boolean, lines: readonly string[]): void {
  const check = (e: Emitter, d: Operand, s: Operand): void => {
    if (!aligned) return;
    checkAligned(e, d);
    checkAligned(e, s);
  };
  instruction(name, lines, (e, d, s) => {
    checkSse(e);
    check(e, d, s);
    e.write(d, e.read(s));
  });
  instruction(
    `v${name}`,
    lines.map((line) => vexLine(line, true)),
    (e, d, s) => {
      checkAvx(e);
      check(e, d, s);
      writeAll(e, d, halves(e, s));
    },
  );
}
whole('movups', false, [
  '0F 10 Vx,Wx np',
  '66 0F 10 Vx,Wx',
  '0F 11 Wx,Vx np',
  '66 0F 11 Wx,Vx',
  'F3 0F 6F Vx,Wx',
  'F3 0F 7F Wx,Vx',
  'F2 0F F0 Vx,Mx',
]);
whole('movaps', true, [
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
]);

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
  // In VEX the rest comes from another register.
  instruction(`v${name}`, [`VEX ${prefix} 0F 10 Vo,M${size}`], (e, d, s) => {
    checkAvx(e);
    writeHalves(e, d, [readVector(e, s)]);
  });
  instruction(`v${name}`, [`VEX ${prefix} 0F 10 Vo,Ho,Uo`, `VEX ${prefix} 0F 11 Uo,Ho,Vo`], (e, d, a, s) => {
    checkAvx(e);
    const rest = e.readHalf(a, 0);
    const low = e.read({ ...s, size: size === 'q' ? 8 : 4 });
    writeHalves(e, d, [
      size === 'q' ? i64x2.replace_lane(0, rest, low) : i32x4.replace_lane(0, rest, i32.wrap_i64(low)),
    ]);
  });
  instruction(`v${name}`, [`VEX ${prefix} 0F 11 M${size},V${size}`], (e, d, s) => {
    checkAvx(e);
    e.write(d, e.read(s));
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

// The same in VEX: the quadword that is not moved comes from another register.
for (const [name, line, low, high] of [
  ['vmovlps', '0F 12 Vo,Ho,Mq', 's0', 'a1'],
  ['vmovlps', '66 0F 12 Vo,Ho,Mq', 's0', 'a1'],
  ['vmovhlps', '0F 12 Vo,Ho,Uo', 's1', 'a1'],
  ['vmovhps', '0F 16 Vo,Ho,Mq', 'a0', 's0'],
  ['vmovhps', '66 0F 16 Vo,Ho,Mq', 'a0', 's0'],
  ['vmovlhps', '0F 16 Vo,Ho,Uo', 'a0', 's0'],
] as const) {
  instruction(name, [`VEX ${line} L0`], (e, d, a, s) => {
    checkAvx(e);
    const source = s.place === 'memory' ? readVector(e, s) : e.readHalf(s, 0);
    const first = e.readHalf(a, 0);
    const quad = (of: 'a0' | 'a1' | 's0' | 's1'): Expr =>
      i64x2.extract_lane(of[1] === '1' ? 1 : 0, of[0] === 'a' ? first : source);
    writeHalves(e, d, [i64x2.replace_lane(1, i64x2.splat(quad(low)), quad(high))]);
  });
}
instruction('vmovlps', ['VEX 0F 13 Mq,Vq L0', 'VEX 66 0F 13 Mq,Vq L0'], (e, d, s) => {
  checkAvx(e);
  e.write(d, e.read(s));
});
instruction('vmovhps', ['VEX 0F 17 Mq,Vq L0', 'VEX 66 0F 17 Mq,Vq L0'], (e, d, s) => {
  checkAvx(e);
  e.write(d, high(e, s));
});

// MOVD, MOVQ.
for (const [name, line] of [
  ['vmovd', '66 0F 6E Vo,Ey L0'],
  ['vmovq', 'F3 0F 7E Vo,Wq L0'],
] as const) {
  instruction(name, [`VEX ${line}`], (e, d, s) => {
    checkAvx(e);
    writeHalves(e, d, [readVector(e, s)]);
  });
}
instruction('vmovd', ['VEX 66 0F 7E Ey,Vy L0'], (e, d, s) => {
  checkAvx(e);
  e.write(d, e.read(s));
});
instruction('vmovq', ['VEX 66 0F D6 Wq,Vq L0'], (e, d, s) => {
  checkAvx(e);
  if (d.place === 'memory') e.write(d, e.read(s));
  else writeHalves(e, d, [readVector(e, s)]);
});
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
sseWith('unpcklps', ['0F 14 Vx,Wx np'], (e, a, b) =>
  shuffle(e, [0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23], a, b),
);
sseWith('unpckhps', ['0F 15 Vx,Wx np'], (e, a, b) =>
  shuffle(e, [8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31], a, b),
);
sseWith('unpcklpd', ['66 0F 14 Vx,Wx'], (e, a, b) =>
  shuffle(e, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23], a, b),
);
sseWith('unpckhpd', ['66 0F 15 Vx,Wx'], (e, a, b) =>
  shuffle(e, [8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31], a, b),
);
for (const [name, line, lanes] of [
  ['movsldup', 'F3 0F 12 Vx,Wx', [0, 1, 2, 3, 0, 1, 2, 3, 8, 9, 10, 11, 8, 9, 10, 11]],
  ['movshdup', 'F3 0F 16 Vx,Wx', [4, 5, 6, 7, 4, 5, 6, 7, 12, 13, 14, 15, 12, 13, 14, 15]],
] as const) {
  sseUnary(name, line, (e, x) => shuffle(e, lanes, x, x));
}
// MOVDDUP reads 8 bytes, or 32.
const duplicate = (e: Emitter, x: Expr): Expr => shuffle(e, [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7], x, x);
sseOnly('movddup', 'F2 0F 12 Vx,Wq', (e, _a, b) => duplicate(e, b));
vexUnary('vmovddup', 'VEX F2 0F 12 Vx,Wq L0', duplicate);
vexUnary('vmovddup', 'VEX F2 0F 12 Vx,Wx L1', duplicate);

/** Element `lane` of a shuffle's immediate: `bits` bits each. */
const field = (e: Emitter, lane: number, bits: number): Expr =>
  i32.and(i32.shr_u(i32.wrap_i64(e.immediate()), constI32(lane * bits)), constI32((1 << bits) - 1));

sseWith('shufps', ['0F C6 Vx,Wx,Ib np'], (e, a, b) => {
  const imm = i32.wrap_i64(e.immediate());
  if (imm.isConst) {
    const from = (i: number): number =>
      (((imm.value as number) >> ((i >> 2) * 2)) & 3) * 4 + (i & 3) + (i < 8 ? 0 : 16);
    return shuffle(
      e,
      Array.from({ length: 16 }, (_, i) => from(i)),
      a,
      b,
    );
  }
  let result: Expr = zero();
  for (let lane = 0; lane < 4; lane++) {
    const first = i32.mul(field(e, lane, 2), constI32(0x04040404));
    const index = i32x4.splat(i32.add(first, constI32(0x03020100)));
    const element = i32x4.extract_lane(0, i8x16.swizzle(lane < 2 ? a : b, index));
    result = i32x4.replace_lane(lane, result, element);
  }
  return result;
});
/** Two quadwords, chosen by two bits of the immediate from `a` and from `b`. */
function shufflePair(e: Emitter, a: Expr, b: Expr, half: number): Expr {
  const pick = (value: Expr, lane: number): Expr =>
    e.select(i64x2.extract_lane(1, value), i64x2.extract_lane(0, value), field(e, half * 2 + lane, 1));
  return i64x2.replace_lane(1, i64x2.splat(pick(a, 0)), pick(b, 1));
}
sseWith('shufpd', ['66 0F C6 Vx,Wx,Ib'], shufflePair);
vexUnary('vpermilpd', 'VEX 66 0F3A 05 Vx,Wx,Ib W0', (e, x, half) => shufflePair(e, x, x, half));

// Bitwise operations on floats.
sse('andps', ['0F 54 Vx,Wx np', '66 0F 54 Vx,Wx'], v128.and);
sse('andnps', ['0F 55 Vx,Wx np', '66 0F 55 Vx,Wx'], (a, b) => v128.andnot(b, a));
sse('orps', ['0F 56 Vx,Wx np', '66 0F 56 Vx,Wx'], v128.or);
sseWith('xorps', ['0F 57 Vx,Wx np', '66 0F 57 Vx,Wx'], xor);

// ---- MXCSR and saved state ---------------------------------------------------------------------------------------------------------
for (const [check, vex] of [
  [checkSse, ''],
  [checkAvx, 'VEX '],
] as const) {
  const [v, end] = vex ? ['v', 'L0'] : ['', 'np'];
  instruction(`${v}ldmxcsr`, [`${vex}0F AE/2 Md ${end}`], (e, s) => {
    check(e);
    const value = e.f.let(i32.wrap_i64(e.read(s)));
    e.f.if(i32.and(value, constI32(~0xffff)), () => e.fault(13, 0));
    e.setState('i32.store', L.MXCSR, value);
    e.controlsChanged();
  });
  instruction(`${v}stmxcsr`, [`${vex}0F AE/3 Md ${end}`], (e, d) => {
    check(e);
    e.write(d, e.state('i64.load32_u', L.MXCSR));
  });
}
