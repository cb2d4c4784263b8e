// What MMX and SSE meanings share: availability checks, operands as v128, and lines for both register files.

import { constI32, constI64, type Expr, i32, load } from '../../../wasm/expr.ts';
import { i64x2 } from '../../../wasm/vector.ts';
import * as L from '../layout.ts';
import type { Emitter, Operand } from './emitter.ts';
import { instruction } from './instruction.ts';

/** CR0.EM and CR0.TS; CR4.OSFXSR (SDM volume 3, section 13.1). */
const CR0_EM_TS = 0xc;
const CR4_OSFXSR = 0x200;

/** SSE is there for the guest: else #UD or #NM. */
export function checkSse(e: Emitter): void {
  const cr0 = i32.and(load('i32.load', constI32(L.CR0)), constI32(CR0_EM_TS));
  const cr4 = i32.xor(i32.and(load('i32.load', constI32(L.CR4)), constI32(CR4_OSFXSR)), constI32(CR4_OSFXSR));
  e.f.if(i32.or(cr0, cr4), () => e.status('sse_unavailable'));
}

/** MMX is there, and the x87 registers become MMX registers. */
export function checkMmx(e: Emitter): void {
  e.status('mmx_enter');
}

const isMmx = (operand: Operand): boolean => 'PQN'.includes(operand.place);

/** Reads an operand as v128: 16 bytes, or fewer zero-extended. */
export function readVector(e: Emitter, operand: Operand): Expr {
  const value = e.read(operand);
  if (value.type === 'v128') return value;
  return e.f.let(i64x2.replace_lane(0, zero(), value));
}

export function zero(): Expr {
  return i64x2.splat(constI64(0));
}

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

/** A 16-byte memory operand of SSE must be aligned: else #GP(0). */
export function checkAligned(e: Emitter, operand: Operand): void {
  if (operand.place !== 'memory' || operand.size !== 16) return;
  const linear = e.linearAddress(16, false);
  e.f.if(i32.and(i32.wrap_i64(linear), constI32(15)), () => e.status('raise_error', constI32(13), constI32(0)));
}

export type VectorBinary = (a: Expr, b: Expr) => Expr;
export type VectorMeaning = (e: Emitter, a: Expr, b: Expr) => Expr;

/** `66 0F xx Vx,Wx`, with alignment checked: destination = operation(destination, source). */
export function sseWith(name: string, lines: readonly string[], operation: VectorMeaning): void {
  instruction(name, lines, (e, d, s) => {
    checkSse(e);
    checkAligned(e, s);
    const b = readVector(e, s);
    const a = e.read(d);
    e.write(d, operation(e, a, b));
  });
}

export function sse(name: string, lines: readonly string[], operation: VectorBinary): void {
  sseWith(name, lines, (_e, a, b) => operation(a, b));
}

/** `0F xx Pq,Qq` on MMX registers, computed in the low half of a v128. */
export function mmxWith(name: string, lines: readonly string[], operation: VectorMeaning): void {
  instruction(name, lines, (e, d, s) => {
    const memory = s.place === 'memory' ? readVector(e, s) : undefined;
    checkMmx(e);
    const b = memory ?? readVector(e, s);
    const a = readVector(e, d);
    writeLow(e, d, i64x2.extract_lane(0, operation(e, a, b)));
  });
}

/** The same operation for both register files, at opcode `0F opcode` (or another map). */
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
