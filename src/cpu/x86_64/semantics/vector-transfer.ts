// Between general and vector registers, and masks (SDM volume 2).

import { constI32, constI64, type Expr, i32, i64 } from '../../../wasm/expr.ts';
import { i8x16, i32x4, i64x2, v128 } from '../../../wasm/vector.ts';
import { asI64, type Emitter, type Operand } from './emitter.ts';
import { instruction } from './instruction.ts';
import { checkAvx, checkMmx, checkSse, halves, IDENTITY, readVector, writeHalves, writeLow } from './vector.ts';
import { bytesOf } from './vector-shuffle.ts';

/** A lane that only the immediate names: the register is rotated so that it becomes the first. */
function laneByImmediate(e: Emitter, value: Expr, lanes: number, width: number): Expr {
  const lane = i32.and(i32.wrap_i64(e.immediate()), constI32(lanes - 1));
  if (lane.isConst && width === 8) return i64x2.extract_lane(lane.value as number, value);
  if (lane.isConst && width === 4) return i64.extend_i32_u(i32x4.extract_lane(lane.value as number, value));
  const first = i8x16.splat(i32.mul(lane, constI32(width)));
  return i64x2.extract_lane(0, i8x16.swizzle(value, i8x16.add(IDENTITY, first)));
}

/** The vector with the lane that the immediate names replaced. */
function withLane(e: Emitter, value: Expr, lanes: number, width: number, element: Expr): Expr {
  const lane = i32.and(i32.wrap_i64(e.immediate()), constI32(lanes - 1));
  if (lane.isConst && width === 8) return i64x2.replace_lane(lane.value as number, value, element);
  if (lane.isConst && width === 4) return i32x4.replace_lane(lane.value as number, value, i32.wrap_i64(element));
  const first = e.f.let(i8x16.splat(i32.mul(lane, constI32(width))));
  // Index of each byte within the element; others are out of range and give zero.
  const index = e.f.let(i8x16.sub(IDENTITY, first));
  const inside = i8x16.lt_u(index, i8x16.splat(constI32(width)));
  const placed = i8x16.swizzle(i64x2.splat(element), index);
  return v128.bitselect(placed, value, inside);
}

/** Insertions into a vector register; VEX has three operands. */
function insert(name: string, line: string, operation: (e: Emitter, a: Expr, s: Operand) => Expr): void {
  instruction(name, [line], (e, d, s) => {
    checkSse(e);
    e.write(d, operation(e, e.read(d), s));
  });
  instruction(`v${name}`, [`VEX ${line.replace('Vx,', 'Vo,Ho,')} L0`], (e, d, a, s) => {
    checkAvx(e);
    writeHalves(e, d, [operation(e, e.readHalf(a, 0), s)]);
  });
}

/** From vectors to elsewhere, with as many operands in VEX. */
function extract(name: string, line: string, meaning: (e: Emitter, d: Operand, s: Operand) => void): void {
  instruction(name, [line], (e, d, s) => {
    checkSse(e);
    meaning(e, d, s);
  });
  instruction(`v${name}`, [`VEX ${line.replace(/([VU])x/g, '$1o')} L0`], (e, d, s) => {
    checkAvx(e);
    meaning(e, d, s);
  });
}

for (const line of ['66 0F C4 Vx,Rd,Ib', '66 0F C4 Vx,Mw,Ib'])
  insert('pinsrw', line, (e, a, s) => withLane(e, a, 8, 2, e.read({ ...s, size: s.place === 'memory' ? 2 : 4 })));
instruction('pinsrw', ['0F C4 Pq,Rd,Ib np', '0F C4 Pq,Mw,Ib np'], (e, d, s) => {
  const element = e.read({ ...s, size: s.place === 'memory' ? 2 : 4 });
  checkMmx(e);
  writeLow(e, d, i64x2.extract_lane(0, withLane(e, readVector(e, d), 4, 2, element)));
});
for (const line of ['66 0F3A 20 Vx,Rd,Ib', '66 0F3A 20 Vx,Mb,Ib'])
  insert('pinsrb', line, (e, a, s) => withLane(e, a, 16, 1, e.read({ ...s, size: s.place === 'memory' ? 1 : 4 })));
insert('pinsrd', '66 0F3A 22 Vx,Ey,Ib', (e, a, s) => withLane(e, a, 16 / s.size, s.size, e.read(s)));

extract('pextrw', '66 0F C5 Gd,Ux,Ib', (e, d, s) =>
  e.write(d, i64.and(laneByImmediate(e, e.read(s), 8, 2), constI64(0xffff))),
);
instruction('pextrw', ['0F C5 Gd,Nq,Ib np'], (e, d, s) => {
  checkMmx(e);
  e.write(d, i64.and(laneByImmediate(e, readVector(e, s), 4, 2), constI64(0xffff)));
});
for (const [name, opcode, width] of [
  ['pextrb', '14', 1],
  ['pextrw', '15', 2],
] as const) {
  extract(name, `66 0F3A ${opcode} Ed,Vx,Ib`, (e, d, s) => {
    const element = e.f.let(i64.and(laneByImmediate(e, e.read(s), 16 / width, width), constI64(2 ** (8 * width) - 1)));
    e.write(d.place === 'memory' ? { ...d, size: width } : d, element);
  });
}
extract('pextrd', '66 0F3A 16 Ey,Vx,Ib', (e, d, s) =>
  e.write(d, e.f.let(laneByImmediate(e, e.read(s), 16 / d.size, d.size))),
);
extract('extractps', '66 0F3A 17 Ed,Vx,Ib', (e, d, s) => e.write(d, e.f.let(laneByImmediate(e, e.read(s), 4, 4))));
insert('insertps', '66 0F3A 21 Vx,Wd,Ib', (e, value, s) => {
  const { f } = e;
  const imm = f.let(i32.wrap_i64(e.immediate()));
  // From a register the immediate's top bits choose the source's element.
  let element: Expr;
  if (s.place === 'memory') {
    element = e.read(s);
  } else {
    const from = i32.and(i32.shr_u(imm, constI32(6)), constI32(3));
    const index = i8x16.add(IDENTITY, i8x16.splat(i32.mul(from, constI32(4))));
    element = i64x2.extract_lane(0, i8x16.swizzle(e.readHalf(s, 0), index));
  }
  const to = i32.and(i32.shr_u(imm, constI32(4)), constI32(3));
  const first = f.let(i8x16.splat(i32.mul(to, constI32(4))));
  const index = f.let(i8x16.sub(IDENTITY, first));
  const inserted = v128.bitselect(
    i8x16.swizzle(i64x2.splat(element), index),
    value,
    i8x16.lt_u(index, i8x16.splat(constI32(4))),
  );
  const bits = f.let(v128.const(bytesOf([1, 2, 4, 8])));
  return v128.andnot(inserted, i32x4.eq(v128.and(i32x4.splat(imm), bits), bits));
});

for (const [name, line, mask, lanes] of [
  ['pmovmskb', '66 0F D7 Gd,Ux', i8x16.bitmask, 16],
  ['movmskps', '0F 50 Gd,Ux np', i32x4.bitmask, 4],
  ['movmskpd', '66 0F 50 Gd,Ux', i64x2.bitmask, 2],
] as const) {
  instruction(name, [line], (e, d, s) => {
    checkSse(e);
    e.write(d, asI64(mask(e.read(s))));
  });
  instruction(`v${name}`, [`VEX ${line.replace(' np', '')}`], (e, d, s) => {
    checkAvx(e);
    const masks = halves(e, s).map((x, half) => i32.shl(mask(x), constI32(half * lanes)));
    e.write(d, asI64(masks.reduce((a, b) => i32.or(a, b))));
  });
}
instruction('pmovmskb', ['0F D7 Gd,Nq np'], (e, d, s) => {
  checkMmx(e);
  e.write(d, asI64(i8x16.bitmask(readVector(e, s))));
});

/** MASKMOVDQU and MASKMOVQ: bytes whose mask's top bit is set go to DS:rDI. */
extract('maskmovdqu', '66 0F F7 Vx,Ux', (e, d, s) =>
  e.status('maskmov', e.record(), e.slot(d), e.slot(s), constI32(16)),
);
instruction('maskmovq', ['0F F7 Pq,Nq np'], (e, d, s) => {
  checkMmx(e);
  e.status('maskmov', e.record(), e.slot(d), e.slot(s), constI32(8));
});
