// What MMX, SSE and AVX meanings share: availability checks, operands as v128, and lines for all register files.

import { constI32, type Expr, i32, load } from '../../../wasm/expr.ts';
import { i8x16, i64x2, v128 } from '../../../wasm/vector.ts';
import * as L from '../layout.ts';
import type { Emitter, Operand } from './emitter.ts';
import { instruction } from './instruction.ts';
import { shuffledOrdinary } from './ordinary.ts';

/** SSE is there for the guest: else #UD or #NM (SDM volume 3, section 13.1). */
export function checkSse(e: Emitter): void {
  e.f.ifUnlikely(e.modeBits(L.MODE_NO_SSE), () => e.check('sse_unavailable'));
}

/** AVX is. */
export function checkAvx(e: Emitter): void {
  e.f.ifUnlikely(e.modeBits(L.MODE_NO_AVX), () => e.check('avx_unavailable'));
}

/** MMX is there, and the x87 registers become MMX registers. */
export function checkMmx(e: Emitter): void {
  e.status('mmx_enter');
}

const isMmx = (operand: Operand): boolean => 'PQN'.includes(operand.place);

/** Reads an operand as v128: 16 bytes, or fewer zero-extended. */
export function readVector(e: Emitter, operand: Operand): Expr {
  const { place, size } = operand;
  if (place === 'memory' && (size === 8 || size === 4)) {
    return e.f.let(load(size === 8 ? 'v128.load64_zero' : 'v128.load32_zero', e.hostForRead(size)));
  }
  const value = e.read(operand);
  if (value.type === 'v128') return value;
  return e.f.let(i64x2.replace_lane(0, zero(), value));
}

export function zero(): Expr {
  return v128.const(new Uint8Array(16));
}

/** Bytes of two vectors; what is known of their lanes is known of the result's. */
export function shuffle(e: Emitter, bytes: readonly number[], a: Expr, b: Expr): Expr {
  const result = e.f.let(i8x16.shuffle(bytes, a, b));
  e.noteOrdinary(result, shuffledOrdinary(bytes, e.ordinary(a), e.ordinary(b)));
  return result;
}

/** Each byte its own index. */
export const IDENTITY = v128.const(Uint8Array.from({ length: 16 }, (_, i) => i));

/** Writes a v128 to a register or to memory, as many bytes as the operand has. */
export function writeVector(e: Emitter, operand: Operand, value: Expr): void {
  if (operand.size === 16) e.write(operand, value);
  else writeLow(e, operand, i64x2.extract_lane(0, value));
}

/** Writes the low bytes (an i64) of a register or to memory; an MMX register's exponent becomes all ones. */
export function writeLow(e: Emitter, operand: Operand, value: Expr): void {
  if (isMmx(operand)) {
    const slot = e.f.let(e.slot(operand));
    e.f.store('i64.store', slot, value);
    e.f.store('i32.store16', slot, constI32(0xffff), 8);
  } else {
    e.write(operand, value);
  }
}

/** A memory operand of 16 or 32 bytes must be aligned: else #GP(0). */
export function checkAligned(e: Emitter, operand: Operand): void {
  if (operand.place !== 'memory' || operand.size < 16) return;
  const linear = e.linearAddress(operand.size, false);
  e.f.ifUnlikely(i32.and(i32.wrap_i64(linear), constI32(operand.size - 1)), () => e.fault(13, 0));
}

// ---- YMM registers as halves -----------------------------------------------------------------------------------------------
/** The 16-byte halves of a vector operand: two of one with 32 bytes. What memory has less is zero. */
export function halves(e: Emitter, operand: Operand): Expr[] {
  const { place, size } = operand;
  if (place === 'memory' && size < 16) return [readVector(e, operand)];
  const indices = size === 32 ? [0, 1] : [0];
  if (place !== 'memory') return indices.map((half) => e.readHalf(operand, half));
  const host = e.hostForRead(size);
  return indices.map((half) => e.f.let(load('v128.load', host, half * 16)));
}

/** Writes a register by VEX: what `values` do not reach becomes zero. */
export function writeHalves(e: Emitter, d: Operand, values: readonly Expr[]): void {
  const all = values.map((value) => e.f.let(value));
  e.writeHalf(d, 0, all[0] as Expr);
  e.writeHalf(d, 1, all[1] ?? zero());
}

/** Writes the halves to memory or to a register. */
export function writeAll(e: Emitter, d: Operand, values: readonly Expr[]): void {
  if (d.place !== 'memory') return writeHalves(e, d, values);
  const host = e.hostForWrite(d.size, false);
  values.forEach((value, half) => {
    e.f.store('v128.store', host, value, half * 16);
  });
  e.commit();
}

// ---- Lines -----------------------------------------------------------------------------------------------------------------
export type VectorBinary = (a: Expr, b: Expr) => Expr;
/** Of one half: 1 is the upper one, which takes other bits of some immediates. */
export type VectorMeaning = (e: Emitter, a: Expr, b: Expr, half: number) => Expr;

/** The VEX line beside a legacy one: three operands, or with `unary` two. */
export function vexLine(line: string, unary = false): string {
  const text = line.replace(/ np$/, '');
  return `VEX ${unary ? text : text.replace('Vx,', 'Vx,Hx,')}`;
}

/** `66 0F xx Vx,Wx`, with alignment checked: destination = operation(destination, source). */
export function sseOnly(name: string, line: string, operation: VectorMeaning): void {
  instruction(name, [line], (e, d, s) => {
    checkSse(e);
    checkAligned(e, s);
    const b = readVector(e, s);
    const a = e.read(d);
    e.write(d, operation(e, a, b, 0));
  });
}

/** `VEX 66 0F xx Vx,Hx,Wx`: destination = operation(first, second), half by half. */
export function vexWith(name: string, line: string, operation: VectorMeaning): void {
  instruction(name, [line], (e, d, s1, s2) => {
    checkAvx(e);
    const b = halves(e, s2);
    const a = halves(e, s1);
    writeHalves(
      e,
      d,
      b.map((x, half) => e.f.let(operation(e, a[half] as Expr, x, half))),
    );
  });
}

/** Of a register with itself it is zero, whatever that holds. */
export const xor: VectorMeaning = (e, a, b) => (e.isSameValue(a, b) ? zero() : v128.xor(a, b));

/** Operations on two vectors, of SSE and of AVX. */
export function sseWith(name: string, lines: readonly string[], operation: VectorMeaning): void {
  for (const line of lines) {
    sseOnly(name, line, operation);
    vexWith(`v${name}`, vexLine(line), operation);
  }
}

export function sse(name: string, lines: readonly string[], operation: VectorBinary): void {
  sseWith(name, lines, (_e, a, b) => operation(a, b));
}

/** `VEX 66 0F xx Vx,Wx`: destination = operation(source), half by half. */
export function vexUnary(name: string, line: string, operation: (e: Emitter, x: Expr, half: number) => Expr): void {
  instruction(name, [line], (e, d, s) => {
    checkAvx(e);
    writeHalves(
      e,
      d,
      halves(e, s).map((x, half) => e.f.let(operation(e, x, half))),
    );
  });
}

/** Operations on one vector, of SSE and of AVX; `vex`: word that the VEX line has more. */
export function sseUnary(
  name: string,
  line: string,
  operation: (e: Emitter, x: Expr, half: number) => Expr,
  vex = '',
): void {
  sseOnly(name, line, (e, _a, b) => operation(e, b, 0));
  vexUnary(`v${name}`, `${vexLine(line, true)}${vex}`, operation);
}

/** `0F xx Pq,Qq` on MMX registers, computed in the low half of a v128. */
export function mmxWith(name: string, lines: readonly string[], operation: VectorMeaning): void {
  instruction(name, lines, (e, d, s) => {
    const memory = s.place === 'memory' ? readVector(e, s) : undefined;
    checkMmx(e);
    const b = memory ?? readVector(e, s);
    const a = readVector(e, d);
    writeLow(e, d, i64x2.extract_lane(0, operation(e, a, b, 0)));
  });
}

/** The same operation for all register files, at opcode `0F opcode` (or another map). */
export function bothWith(
  name: string,
  opcode: string,
  operation: VectorMeaning,
  inMmx: VectorMeaning = operation,
): void {
  mmxWith(name, [`${opcode} Pq,Qq np`], inMmx);
  sseWith(name, [`66 ${opcode} Vx,Wx`], operation);
}

export function both(name: string, opcode: string, operation: VectorBinary, inMmx: VectorBinary = operation): void {
  bothWith(
    name,
    opcode,
    (_e, a, b) => operation(a, b),
    (_e, a, b) => inMmx(a, b),
  );
}
