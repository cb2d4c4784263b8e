// How SSE and AVX arithmetic is done natively where that is exact to the last flag, and by helpers (helpers/soft/) elsewhere.
//
// WebAssembly's arithmetic is IEEE 754 with rounding to nearest, but tells no flags and does not define NaN payloads.
// So the fast way is taken when MXCSR has its usual controls (nearest, everything masked, no flush to zero), the
// inexact flag is already up (the first inexact result, by helper, raises it), no operand is denormal, and the result
// is a number that no other flag comes with: of sums any finite one (a tiny sum is exact), of the rest a normal one.

import { constF32, constF64, constI32, type Expr, f32, f64, i32, i64, load } from '../../../wasm/expr.ts';
import type { FunctionBuilder, Label } from '../../../wasm/function.ts';
import { f32x4, f64x2, i32x4, i64x2, v128 } from '../../../wasm/vector.ts';
import * as L from '../layout.ts';
import type { Emitter, Operand } from './emitter.ts';
import type { HelperName } from './helper-names.ts';
import { checkAligned, checkAvx, checkSse, writeHalves } from './vector.ts';

/** Masks, rounding, DAZ, FTZ and the inexact flag; their value when all is usual. */
const CONTROLS = 0xffe0;
const USUAL = 0x1fa0;

/** MXCSR lets arithmetic be native (i32). */
export function usualControls(): Expr {
  return i32.eq(i32.and(load('i32.load', constI32(L.MXCSR)), constI32(CONTROLS)), constI32(USUAL));
}

type Unary = (a: Expr) => Expr;
type Binary = (a: Expr, b: Expr) => Expr;

/** One of the two formats, with what depends on its width. */
export interface Format {
  readonly bytes: 4 | 8;
  readonly lanes: number;
  /** Integer type of the same width. */
  readonly int: 'i32' | 'i64';
  readonly suffix: 'f32' | 'f64';
  readonly scalar: {
    readonly abs: Unary;
    readonly lt: Binary;
    readonly gt: Binary;
    readonly ge: Binary;
    readonly eq: Binary;
  };
  readonly vector: typeof f64x2 | typeof f32x4;
  toFloat(bits: Expr): Expr;
  toBits(value: Expr): Expr;
  /** Bits of a scalar from the i64 that an operand read gives, and back. */
  fromRead(value: Expr): Expr;
  toWrite(bits: Expr): Expr;
  readonly zero: Expr;
  /** The least normal number. */
  readonly least: Expr;
  /** Scalar that is finite (i32). */
  finite(value: Expr): Expr;
  /** Bits of a lane. */
  lane(vector: Expr, lane: number): Expr;
  withLane(vector: Expr, lane: number, bits: Expr): Expr;
  /** Masks of the lanes that are finite, plain; that are zero or normal. */
  allFinite(vector: Expr): Expr;
  allPlain(vector: Expr): Expr;
  normalOrZero(vector: Expr): Expr;
  /** Whether a mask has all lanes (i32). */
  all(mask: Expr): Expr;
}

function repeated(bytes: readonly number[]): Expr {
  return v128.const(Uint8Array.from({ length: 16 }, (_, i) => bytes[i % bytes.length] as number));
}

function checks(
  scalar: Format['scalar'],
  vector: { abs: Unary; gt: Binary; lt: Binary; ge: Binary; eq: Binary },
  least: Expr,
  infinity: Expr,
  leasts: Expr,
  infinities: Expr,
): Pick<Format, 'least' | 'finite' | 'allFinite' | 'allPlain' | 'normalOrZero'> {
  const allFinite = (x: Expr): Expr => vector.lt(vector.abs(x), infinities);
  return {
    least,
    finite: (x) => scalar.lt(scalar.abs(x), infinity),
    allFinite,
    allPlain: (x) => v128.and(allFinite(x), vector.gt(vector.abs(x), leasts)),
    // NaNs fail both comparisons.
    normalOrZero: (x) => v128.or(vector.ge(vector.abs(x), leasts), vector.eq(x, v128.const(new Uint8Array(16)))),
  };
}

export const DOUBLE: Format = {
  bytes: 8,
  lanes: 2,
  int: 'i64',
  suffix: 'f64',
  scalar: f64,
  vector: f64x2,
  zero: constF64(0),
  toFloat: f64.reinterpret_i64,
  toBits: i64.reinterpret_f64,
  fromRead: (value) => value,
  toWrite: (bits) => bits,
  lane: (vector, lane) => i64x2.extract_lane(lane, vector),
  withLane: (vector, lane, bits) => i64x2.replace_lane(lane, vector, bits),
  all: i64x2.all_true,
  ...checks(
    f64,
    f64x2,
    constF64(2 ** -1022),
    constF64(Number.POSITIVE_INFINITY),
    repeated([0, 0, 0, 0, 0, 0, 0x10, 0]),
    repeated([0, 0, 0, 0, 0, 0, 0xf0, 0x7f]),
  ),
};

export const SINGLE: Format = {
  bytes: 4,
  lanes: 4,
  int: 'i32',
  suffix: 'f32',
  scalar: f32,
  vector: f32x4,
  zero: constF32(0),
  toFloat: f32.reinterpret_i32,
  toBits: i32.reinterpret_f32,
  fromRead: i32.wrap_i64,
  toWrite: i64.extend_i32_u,
  lane: (vector, lane) => i32x4.extract_lane(lane, vector),
  withLane: (vector, lane, bits) => i32x4.replace_lane(lane, vector, bits),
  all: i32x4.all_true,
  ...checks(
    f32,
    f32x4,
    constF32(2 ** -126),
    constF32(Number.POSITIVE_INFINITY),
    repeated([0, 0, 0x80, 0]),
    repeated([0, 0, 0x80, 0x7f]),
  ),
};

/** The two formats with their prefixes and suffixes in names. */
export const FORMATS = [
  { format: SINGLE, scalarPrefix: 'F3', packedPrefix: '', letter: 'd', ss: 'ss', ps: 'ps' },
  { format: DOUBLE, scalarPrefix: 'F2', packedPrefix: '66 ', letter: 'q', ss: 'sd', ps: 'pd' },
] as const;

/** The line of a packed instruction of SSE: without a prefix there must be none. */
export function packedLine(packedPrefix: string, line: string): string {
  return packedPrefix ? `${packedPrefix}${line}` : `${line} np`;
}

/** Runs soft arithmetic: collects flags, raises #XM (or #UD) when one of them is unmasked. */
export function softly(e: Emitter, work: () => void): void {
  e.run('soft_begin');
  work();
  e.check('soft_end');
}

/** A helper's name for a format. */
export function soft(name: string, format: Format): HelperName {
  return `soft_${name}_${format.suffix}` as HelperName;
}

/** Branches to `otherwise` where something does not hold. */
export type Condition = (f: FunctionBuilder, otherwise: Label) => void;

export function must(condition: Expr): Condition {
  return (f, otherwise) => f.brIfUnlikely(otherwise, i32.eqz(condition));
}

/** A scalar is zero or normal or infinite. The second comparison is for the few that the first one leaves. */
export function ordinary(format: Format, x: Expr): Condition {
  const { scalar } = format;
  return (f, otherwise) =>
    f.ifUnlikely(i32.eqz(scalar.ge(scalar.abs(x), format.least)), () =>
      f.brIfUnlikely(otherwise, i32.eqz(scalar.eq(x, format.zero))),
    );
}

/** A scalar is above the least normal number (which may have been rounded up to), or it is zero for one of `factors`. */
export function aboveLeast(format: Format, x: Expr, factors: readonly Expr[] = []): Condition {
  const { scalar } = format;
  return (f, otherwise) =>
    f.ifUnlikely(i32.eqz(scalar.gt(scalar.abs(x), format.least)), () => {
      const zeros = factors.map((factor) => scalar.eq(factor, format.zero));
      f.brIfUnlikely(otherwise, zeros.length > 0 ? i32.eqz(zeros.reduce((a, b) => i32.or(a, b))) : constI32(1));
    });
}

/** A value computed natively when all of `fast` hold and by the helper otherwise. */
export function choose(
  e: Emitter,
  fast: readonly Condition[],
  result: Expr,
  native: () => Expr,
  slow: () => Expr,
): void {
  const { f } = e;
  f.block((done) => {
    f.block((otherwise) => {
      for (const condition of fast) condition(f, otherwise);
      f.set(result, native());
      f.br(done);
    });
    softly(e, () => f.set(result, slow()));
  });
}

// ---- Scalars ---------------------------------------------------------------------------------------------------------------
/** An operand's low element as a float. */
export function readFloat(e: Emitter, operand: Operand, format: Format): Expr {
  if (operand.place === 'memory') {
    return e.f.let(load(`${format.suffix}.load`, e.hostForRead(format.bytes)));
  }
  return e.f.let(format.vector.extract_lane(0, e.readHalf(operand, 0)));
}

/** Writes a float to a register's low element, and the rest of `rest` (a register) beside it. */
export function mergeFloat(e: Emitter, d: Operand, format: Format, value: Expr, rest: Operand, vex: boolean): void {
  const merged = e.f.let(format.vector.replace_lane(0, e.readHalf(rest, 0), value));
  if (vex) writeHalves(e, d, [merged]);
  else e.writeHalf(d, 0, merged);
}

/** A scalar operation on floats: natively where `fast` holds, else by a helper on their bits. */
export function scalarResult(
  e: Emitter,
  format: Format,
  native: Expr,
  fast: (result: Expr) => readonly Condition[],
  slow: () => Expr,
): Expr {
  const value = e.f.let(native);
  const result = e.f.local(format.suffix);
  choose(
    e,
    fast(value),
    result,
    () => value,
    () => format.toFloat(slow()),
  );
  return result;
}

// ---- Packed ----------------------------------------------------------------------------------------------------------------
/** Applies a soft helper lane by lane. */
export function lanes(format: Format, start: Expr, each: (lane: number) => Expr, count = format.lanes): Expr {
  let result = start;
  for (let lane = 0; lane < count; lane++) result = format.withLane(result, lane, each(lane));
  return result;
}

/**
 * A packed operation on the halves of its inputs: natively where `safe` (a mask of lanes) holds in all lanes, else by
 * `each`, which gives a lane's bits. Flags of all lanes come together.
 */
export function packedResult(
  e: Emitter,
  format: Format,
  inputs: readonly (readonly Expr[])[],
  native: (...inputs: Expr[]) => Expr,
  safe: (result: Expr, ...inputs: Expr[]) => Expr,
  each: (lane: number, ...inputs: Expr[]) => Expr,
  needsControls = true,
): Expr[] {
  const { f } = e;
  const byHalf = (inputs[0] as readonly Expr[]).map((_, half) => inputs.map((input) => input[half] as Expr));
  const values = byHalf.map((own) => f.let(native(...own)));
  const mask = values.map((value, half) => safe(value, ...(byHalf[half] as Expr[]))).reduce((a, b) => v128.and(a, b));
  const results = values.map(() => f.local('v128'));
  const set = (values: readonly Expr[]): void => {
    results.forEach((result, half) => {
      f.set(result, values[half] as Expr);
    });
  };
  f.block((done) => {
    f.block((otherwise) => {
      if (needsControls) f.brIfUnlikely(otherwise, i32.eqz(usualControls()));
      f.brIfUnlikely(otherwise, i32.eqz(format.all(mask)));
      set(values);
      f.br(done);
    });
    softly(e, () => set(byHalf.map((own) => lanes(format, own[0] as Expr, (lane) => each(lane, ...own)))));
  });
  return results;
}

/** Begins an instruction with vector operands: availability, and for SSE alignment. */
export function enter(e: Emitter, vex: boolean, ...sources: Operand[]): void {
  if (vex) {
    checkAvx(e);
    return;
  }
  checkSse(e);
  for (const source of sources) checkAligned(e, source);
}

/** Writes a vector result: what is above it stays in SSE, becomes zero by VEX. */
export function writeResult(e: Emitter, d: Operand, vex: boolean, values: readonly Expr[]): void {
  if (vex) writeHalves(e, d, values);
  else e.writeHalf(d, 0, values[0] as Expr);
}
