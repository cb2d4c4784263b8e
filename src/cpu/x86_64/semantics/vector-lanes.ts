// What AVX and AVX2 have that SSE has not: broadcasts, 128-bit lanes, permutations, masked moves, gathers (SDM volume 2).

import { constI32, type Expr, i32, select } from '../../../wasm/expr.ts';
import { i8x16, i16x8, i32x4, i64x2, v128 } from '../../../wasm/vector.ts';
import type { Emitter, Operand } from './emitter.ts';
import { instruction } from './instruction.ts';
import { checkAvx, halves, vexWith, writeHalves, zero } from './vector.ts';

const wide = (e: Emitter): boolean => e.size === 32;

// ---- Broadcasts ------------------------------------------------------------------------------------------------------------
for (const [name, line, splat] of [
  ['vpbroadcastb', '78 Vx,Wb W0', (x: Expr) => i8x16.splat(i32.wrap_i64(x))],
  ['vpbroadcastw', '79 Vx,Ww W0', (x: Expr) => i16x8.splat(i32.wrap_i64(x))],
  ['vpbroadcastd', '58 Vx,Wd W0', (x: Expr) => i32x4.splat(i32.wrap_i64(x))],
  ['vpbroadcastq', '59 Vx,Wq W0', i64x2.splat],
  ['vbroadcastss', '18 Vx,Wd W0', (x: Expr) => i32x4.splat(i32.wrap_i64(x))],
  ['vbroadcastsd', '19 Vx,Wq W0 L1', i64x2.splat],
] as const) {
  instruction(name, [`VEX 66 0F38 ${line}`], (e, d, s) => {
    checkAvx(e);
    const value = e.f.let(splat(e.read(s)));
    writeHalves(e, d, wide(e) ? [value, value] : [value]);
  });
}
instruction('vbroadcastf128', ['VEX 66 0F38 1A Vx,Mo W0 L1', 'VEX 66 0F38 5A Vx,Mo W0 L1'], (e, d, s) => {
  checkAvx(e);
  const value = e.read(s);
  writeHalves(e, d, [value, value]);
});

// ---- Halves ----------------------------------------------------------------------------------------------------------------
const immediate = (e: Emitter): Expr => e.f.let(i32.wrap_i64(e.immediate()));
const bit = (imm: Expr, place: number): Expr => i32.and(imm, constI32(1 << place));

instruction('vinsertf128', ['VEX 66 0F3A 18 Vx,Hx,Wo,Ib W0 L1', 'VEX 66 0F3A 38 Vx,Hx,Wo,Ib W0 L1'], (e, d, a, s) => {
  checkAvx(e);
  const [value] = halves(e, s) as [Expr];
  const [low, high] = halves(e, a) as [Expr, Expr];
  const upper = bit(immediate(e), 0);
  writeHalves(e, d, [select(low, value, upper), select(value, high, upper)]);
});
instruction('vextractf128', ['VEX 66 0F3A 19 Wo,Vx,Ib W0 L1', 'VEX 66 0F3A 39 Wo,Vx,Ib W0 L1'], (e, d, s) => {
  checkAvx(e);
  const [low, high] = halves(e, s) as [Expr, Expr];
  const value = e.f.let(select(high, low, bit(immediate(e), 0)));
  if (d.place === 'memory') e.write(d, value);
  else writeHalves(e, d, [value]);
});
instruction('vperm2f128', ['VEX 66 0F3A 06 Vx,Hx,Wx,Ib W0 L1', 'VEX 66 0F3A 46 Vx,Hx,Wx,Ib W0 L1'], (e, d, a, s) => {
  checkAvx(e);
  const second = halves(e, s);
  const all = [...halves(e, a), ...second] as [Expr, Expr, Expr, Expr];
  const imm = immediate(e);
  const chosen = [0, 4].map((place) => {
    const low = select(all[1], all[0], bit(imm, place));
    const high = select(all[3], all[2], bit(imm, place));
    return select(zero(), select(high, low, bit(imm, place + 1)), bit(imm, place + 3));
  });
  writeHalves(e, d, chosen);
});

// ---- Permutations ----------------------------------------------------------------------------------------------------------
/** Byte indices of dwords: each index (below 8) times 4, in all four bytes, plus 0 to 3. */
function dwordIndices(indices: Expr): Expr {
  const bytes = i8x16.swizzle(
    i32x4.shl(indices, constI32(2)),
    v128.const(Uint8Array.from({ length: 16 }, (_, i) => i & ~3)),
  );
  return i8x16.add(bytes, v128.const(Uint8Array.from({ length: 16 }, (_, i) => i & 3)));
}

vexWith('vpermilps', 'VEX 66 0F38 0C Vx,Hx,Wx W0', (_e, a, b) =>
  i8x16.swizzle(a, dwordIndices(v128.and(b, i32x4.splat(constI32(3))))),
);
vexWith('vpermilpd', 'VEX 66 0F38 0D Vx,Hx,Wx W0', (_e, a, b) => {
  // Bit 1 of each quadword, spread.
  const upper = i64x2.shr_s(i64x2.shl(b, constI32(62)), constI32(63));
  const low = i64x2.splat(i64x2.extract_lane(0, a));
  const high = i64x2.splat(i64x2.extract_lane(1, a));
  return v128.bitselect(high, low, upper);
});

instruction('vpermd', ['VEX 66 0F38 36 Vx,Hx,Wx W0 L1', 'VEX 66 0F38 16 Vx,Hx,Wx W0 L1'], (e, d, indices, s) => {
  checkAvx(e);
  const [low, high] = halves(e, s) as [Expr, Expr];
  const results = halves(e, indices).map((own) => {
    const bytes = e.f.let(dwordIndices(v128.and(own, i32x4.splat(constI32(7)))));
    // Of each half the other's indices are out of range, and give zeros.
    const back = i8x16.sub(bytes, i8x16.splat(constI32(16)));
    return e.f.let(v128.or(i8x16.swizzle(low, bytes), i8x16.swizzle(high, back)));
  });
  writeHalves(e, d, results);
});
instruction('vpermq', ['VEX 66 0F3A 00 Vx,Wx,Ib W1 L1', 'VEX 66 0F3A 01 Vx,Wx,Ib W1 L1'], (e, d, s) => {
  checkAvx(e);
  const parts = halves(e, s).flatMap((half) => [0, 1].map((lane) => e.f.let(i64x2.extract_lane(lane, half))));
  const [q0, q1, q2, q3] = parts as [Expr, Expr, Expr, Expr];
  const imm = immediate(e);
  const pick = (place: number): Expr =>
    select(select(q3, q2, bit(imm, place)), select(q1, q0, bit(imm, place)), bit(imm, place + 1));
  writeHalves(
    e,
    d,
    [0, 4].map((place) => i64x2.replace_lane(1, i64x2.splat(pick(place)), pick(place + 2))),
  );
});

// ---- Masked moves: only the chosen elements are accessed -----------------------------------------------------------------------
for (const [name, loads, stores, w, bytes] of [
  ['vmaskmovps', '2C', '2E', 'W0', 4],
  ['vmaskmovpd', '2D', '2F', 'W0', 8],
  ['vpmaskmovd', '8C', '8E', 'W0', 4],
  ['vpmaskmovq', '8C', '8E', 'W1', 8],
] as const) {
  instruction(name, [`VEX 66 0F38 ${loads} Vx,Hx,Mx ${w}`], (e, d, mask) => {
    checkAvx(e);
    masked(e, 'avx_masked_load', d, mask, bytes, false);
  });
  instruction(name, [`VEX 66 0F38 ${stores} Mx,Hx,Vx ${w}`], (e, _d, mask, s) => {
    checkAvx(e);
    masked(e, 'avx_masked_store', s, mask, bytes, true);
  });
}

function masked(
  e: Emitter,
  helper: 'avx_masked_load' | 'avx_masked_store',
  data: Operand,
  mask: Operand,
  bytes: number,
  write: boolean,
): void {
  const linear = e.linearAddress(e.size, write);
  e.status(helper, linear, e.record(), e.slot(data), e.slot(mask), constI32(bytes), constI32(e.size));
}

// ---- Gathers ---------------------------------------------------------------------------------------------------------------
for (const [name, opcode, w, indexBytes, bytes] of [
  ['vpgatherdd', '90', 'W0', 4, 4],
  ['vpgatherdq', '90', 'W1', 4, 8],
  ['vpgatherqd', '91', 'W0', 8, 4],
  ['vpgatherqq', '91', 'W1', 8, 8],
  ['vgatherdps', '92', 'W0', 4, 4],
  ['vgatherdpd', '92', 'W1', 4, 8],
  ['vgatherqps', '93', 'W0', 8, 4],
  ['vgatherqpd', '93', 'W1', 8, 8],
] as const) {
  instruction(name, [`VEX 66 0F38 ${opcode} Vx,M,Hx ${w} vsib`], (e, d, _memory, mask) => {
    checkAvx(e);
    const count = e.size / Math.max(indexBytes, bytes);
    const sizes = indexBytes | (bytes << 8);
    e.status('avx_gather', e.record(), e.slot(d), e.slot(mask), constI32(sizes), constI32(count));
  });
}

// ---- Upper halves ----------------------------------------------------------------------------------------------------------
for (const [name, line, parts] of [
  ['vzeroupper', 'VEX 0F 77 L0 mode', [1]],
  ['vzeroall', 'VEX 0F 77 L1 mode', [0, 1]],
] as const) {
  instruction(name, [line], (e) => {
    checkAvx(e);
    for (let register = 0; register < (e.long ? 16 : 8); register++)
      for (const half of parts) e.setVector(register, half, zero());
  });
}
