// How SSE arithmetic is done natively where that is exact to the last flag, and by helpers (helpers/soft/) elsewhere.
//
// WebAssembly's arithmetic is IEEE 754 with rounding to nearest, but tells no flags and does not define NaN payloads.
// So the fast way is taken when MXCSR has its usual controls (nearest, everything masked, no flush to zero), the
// inexact flag is already up (the first inexact result, by helper, raises it), no operand is denormal, and the result
// is a normal number: then no other flag can change.

import { constI32, constI64, type Expr, f32, f64, i32, i64, load } from '../../../wasm/expr.ts';
import { f32x4, f64x2, i32x4, i64x2, v128 } from '../../../wasm/vector.ts';
import * as L from '../layout.ts';
import type { Emitter } from './emitter.ts';
import type { HelperName } from './helper-names.ts';

/** Masks, rounding, DAZ, FTZ and the inexact flag; their value when all is usual. */
const CONTROLS = 0xffe0;
const USUAL = 0x1fa0;

/** MXCSR lets arithmetic be native (i32). */
export function usualControls(): Expr {
  return i32.eq(i32.and(load('i32.load', constI32(L.MXCSR)), constI32(CONTROLS)), constI32(USUAL));
}

/** One of the two formats, with what depends on its width. */
export interface Format {
  readonly bytes: 4 | 8;
  readonly lanes: number;
  /** Integer type of the same width. */
  readonly int: 'i32' | 'i64';
  readonly suffix: 'f32' | 'f64';
  toFloat(bits: Expr): Expr;
  toBits(value: Expr): Expr;
  /** Bits of a scalar from the i64 that an operand read gives, and back. */
  fromRead(value: Expr): Expr;
  toWrite(bits: Expr): Expr;
  /** Not NaN, not infinite, not zero, not denormal, not the least normal number (which may have been rounded up to). */
  plain(bits: Expr): Expr;
  /** Zero or normal or infinite or NaN. */
  notDenormal(bits: Expr): Expr;
  lane(vector: Expr, lane: number): Expr;
  withLane(vector: Expr, lane: number, bits: Expr): Expr;
  /** All lanes plain, and no lane of the operands denormal (i32). */
  allPlain(result: Expr, operands: readonly Expr[]): Expr;
  /** All lanes of the operands ordered and not denormal (i32). */
  allOrdered(operands: readonly Expr[]): Expr;
}

const doubleBits = (hex: bigint): Expr => constI64(hex);

function packedChecks(
  vector: { abs: (x: Expr) => Expr; gt: Bin; lt: Bin; eq: Bin; ge: Bin },
  allTrue: (x: Expr) => Expr,
  least: Uint8Array,
  infinity: Uint8Array,
): Pick<Format, 'allPlain' | 'allOrdered'> {
  const minimum = v128.const(least);
  const normalOrZero = (x: Expr): Expr =>
    v128.or(vector.ge(vector.abs(x), minimum), vector.eq(x, v128.const(new Uint8Array(16))));
  return {
    allPlain(result, operands) {
      const size = vector.abs(result);
      const plain = v128.and(vector.gt(size, minimum), vector.lt(size, v128.const(infinity)));
      return allTrue(operands.reduce((all, x) => v128.and(all, normalOrZero(x)), plain));
    },
    allOrdered(operands) {
      // NaNs fail the comparisons of normalOrZero.
      return allTrue(operands.map(normalOrZero).reduce((a, b) => v128.and(a, b)));
    },
  };
}
type Bin = (a: Expr, b: Expr) => Expr;

function repeated(bytes: readonly number[]): Uint8Array {
  return Uint8Array.from({ length: 16 }, (_, i) => bytes[i % bytes.length] as number);
}

export const DOUBLE: Format = {
  bytes: 8,
  lanes: 2,
  int: 'i64',
  suffix: 'f64',
  toFloat: f64.reinterpret_i64,
  toBits: i64.reinterpret_f64,
  fromRead: (value) => value,
  toWrite: (bits) => bits,
  plain: (bits) =>
    i64.lt_u(
      i64.sub(i64.shl(bits, constI64(1)), doubleBits(0x0020000000000001n)),
      doubleBits(0xffe0000000000000n - 0x0020000000000001n),
    ),
  notDenormal: (bits) => i64.ge_u(i64.sub(i64.shl(bits, constI64(1)), constI64(1)), doubleBits(0x001fffffffffffffn)),
  lane: (vector, lane) => i64x2.extract_lane(lane, vector),
  withLane: (vector, lane, bits) => i64x2.replace_lane(lane, vector, bits),
  ...packedChecks(
    f64x2 as never,
    i64x2.all_true,
    repeated([0, 0, 0, 0, 0, 0, 0x10, 0]),
    repeated([0, 0, 0, 0, 0, 0, 0xf0, 0x7f]),
  ),
};

export const SINGLE: Format = {
  bytes: 4,
  lanes: 4,
  int: 'i32',
  suffix: 'f32',
  toFloat: f32.reinterpret_i32,
  toBits: i32.reinterpret_f32,
  fromRead: i32.wrap_i64,
  toWrite: i64.extend_i32_u,
  plain: (bits) =>
    i32.lt_u(i32.sub(i32.shl(bits, constI32(1)), constI32(0x01000001)), constI32(0xff000000 - 0x01000001)),
  notDenormal: (bits) => i32.ge_u(i32.sub(i32.shl(bits, constI32(1)), constI32(1)), constI32(0x00ffffff)),
  lane: (vector, lane) => i32x4.extract_lane(lane, vector),
  withLane: (vector, lane, bits) => i32x4.replace_lane(lane, vector, bits),
  ...packedChecks(f32x4 as never, i32x4.all_true, repeated([0, 0, 0x80, 0]), repeated([0, 0, 0x80, 0x7f])),
};

/** Runs soft arithmetic: collects flags, raises #XM (or #UD) when one of them is unmasked. */
export function softly(e: Emitter, work: () => void): void {
  e.run('soft_begin');
  work();
  e.status('soft_end');
}

/** A helper's name for a format. */
export function soft(name: string, format: Format): HelperName {
  return `soft_${name}_${format.suffix}` as HelperName;
}

/** A value computed natively when `fast` holds and by the helper otherwise. */
export function choose(e: Emitter, fast: Expr, result: Expr, native: () => Expr | undefined, slow: () => Expr): void {
  e.f.if(
    fast,
    () => {
      const value = native();
      if (value) e.f.set(result, value);
    },
    () => softly(e, () => e.f.set(result, slow())),
  );
}
