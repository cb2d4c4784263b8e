// How SSE and AVX arithmetic is done natively where that is exact to the last flag, and by helpers (helpers/soft/) elsewhere.
//
// WebAssembly's arithmetic is IEEE 754 with rounding to nearest, but tells no flags and does not define NaN payloads.
// So the fast way is taken when MXCSR has its usual controls (nearest, everything masked, no flush to zero), the
// inexact flag is already up (the first inexact result, by helper, raises it), all operands are ordinary, which is not denormal,
// and the result is normal, or a zero that is exact. Then no other flag comes with it, and no operand is infinite or a NaN. The least
// normal number may have been rounded up to, and is left to the helper but for sums, which are exact when they are tiny.
//
// An emitter knows of values that they are ordinary, as results of the fast way are; then nothing is asked. What it knows holds as
// long as floatsOdd() is 0: a helper that meets something denormal says so (LANES_ODD), and all goes by helpers for a while.

import { constF32, constF64, constI32, constI64, type Expr, f32, f64, i32, i64, load } from '../../../wasm/expr.ts';
import type { FunctionBuilder, Label } from '../../../wasm/function.ts';
import { f32x4, f64x2, i32x4, i64x2, v128 } from '../../../wasm/vector.ts';
import { DOUBLE_RANGES, type FloatRanges, SINGLE_RANGES } from '../float-tests.ts';
import * as L from '../layout.ts';
import type { Emitter, Operand } from './emitter.ts';
import type { HelperName } from './helper-names.ts';
import { ORDINARY_DOUBLE, ORDINARY_DOUBLES, ORDINARY_SINGLE, ORDINARY_SINGLES } from './ordinary.ts';
import { checkAligned, checkAvx, checkSse, writeHalves } from './vector.ts';

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
    readonly ne: Binary;
  };
  readonly vector: typeof f64x2 | typeof f32x4;
  /** ORDINARY_* of lane 0, and of all lanes. */
  readonly low: number;
  readonly every: number;
  toFloat(bits: Expr): Expr;
  toBits(value: Expr): Expr;
  readonly zero: Expr;
  /** Scalar is not denormal; is normal; has besides not the least exponent (some of the largest fail too). i32, not zero. */
  notDenormal(value: Expr): Expr;
  normal(value: Expr): Expr;
  ample(value: Expr): Expr;
  /** Scalar is ample while floats are usual, as usualExponents() says. */
  usuallyAmple?(value: Expr, usual: Expr): Expr;
  /** Masks of the lanes that are denormal; that are not normal; that are not ample. */
  denormalLanes(vector: Expr): Expr;
  abnormalLanes(vector: Expr): Expr;
  scantLanes(vector: Expr): Expr;
  /** Bits of a lane. */
  lane(vector: Expr, lane: number): Expr;
  withLane(vector: Expr, lane: number, bits: Expr): Expr;
  /** Masks of the lanes that are above the least normal number and finite; that are zero or normal. */
  allPlain(vector: Expr): Expr;
  normalOrZero(vector: Expr): Expr;
  isZero(vector: Expr): Expr;
  /** Whether a mask has all lanes (i32); whether it has any (not zero). */
  all(mask: Expr): Expr;
  any(mask: Expr): Expr;
}

function repeated(bytes: readonly number[]): Expr {
  return v128.const(Uint8Array.from({ length: 16 }, (_, i) => bytes[i % bytes.length] as number));
}

function masks(
  { abs, gt, lt, ge, eq }: Record<'abs' | 'gt' | 'lt' | 'ge' | 'eq', (...args: Expr[]) => Expr>,
  leasts: Expr,
  infinities: Expr,
): Pick<Format, 'allPlain' | 'normalOrZero' | 'isZero'> {
  const isZero = (x: Expr): Expr => eq(x, v128.const(new Uint8Array(16)));
  const finite = (x: Expr): Expr => lt(abs(x), infinities);
  return {
    isZero,
    allPlain: (x) => v128.and(finite(x), gt(abs(x), leasts)),
    normalOrZero: (x) => v128.or(v128.and(finite(x), ge(abs(x), leasts)), isZero(x)),
  };
}

/** Lanes in the ranges of float-tests.ts, by a comparison each. */
function exponentTests(
  { denormal, abnormal, scant }: FloatRanges,
  { shl, add, gt_s }: Record<'shl' | 'add' | 'gt_s', Binary>,
): Pick<Format, 'denormalLanes' | 'abnormalLanes' | 'scantLanes'> {
  const vector = (address: number): Expr => load('v128.load', constI32(address));
  const lanesIn =
    ({ move, limit }: FloatRanges['denormal']): Unary =>
    (x) =>
      gt_s(vector(limit), add(shl(x, constI32(1)), vector(move)));
  return { denormalLanes: lanesIn(denormal), abnormalLanes: lanesIn(abnormal), scantLanes: lanesIn(scant) };
}

/** Of a double's exponent and 2, the bits of which one is there where it is neither the largest nor the least. */
export const USUAL_EXPONENTS = 0x7fc;

const ampleExponents = (x: Expr, bits: Expr): Expr => i32.and(i32.add(exponentOf64(x), constI32(2)), bits);
const exponentOf64 = (x: Expr): Expr => i32.wrap_i64(i64.shr_u(i64.reinterpret_f64(x), constI64(52)));
const doubled32 = (x: Expr): Expr => i32.shl(i32.reinterpret_f32(x), constI32(1));

export const DOUBLE: Format = {
  bytes: 8,
  lanes: 2,
  int: 'i64',
  suffix: 'f64',
  scalar: f64,
  vector: f64x2,
  low: ORDINARY_DOUBLE,
  every: ORDINARY_DOUBLES,
  zero: constF64(0),
  toFloat: f64.reinterpret_i64,
  toBits: i64.reinterpret_f64,
  notDenormal: (x) => {
    const doubled = i64.shl(i64.reinterpret_f64(x), constI64(1));
    return i64.ne(i64.shr_u(i64.sub(doubled, constI64(1)), constI64(53)), constI64(0));
  },
  normal: (x) => i32.and(i32.add(exponentOf64(x), constI32(1)), constI32(0x7fe)),
  ample: (x) => ampleExponents(x, constI32(USUAL_EXPONENTS)),
  usuallyAmple: ampleExponents,
  ...exponentTests(DOUBLE_RANGES, i64x2),
  lane: (vector, lane) => i64x2.extract_lane(lane, vector),
  withLane: (vector, lane, bits) => i64x2.replace_lane(lane, vector, bits),
  all: i64x2.all_true,
  any: i64x2.bitmask,
  ...masks(f64x2, repeated([0, 0, 0, 0, 0, 0, 0x10, 0]), repeated([0, 0, 0, 0, 0, 0, 0xf0, 0x7f])),
};

export const SINGLE: Format = {
  bytes: 4,
  lanes: 4,
  int: 'i32',
  suffix: 'f32',
  scalar: f32,
  vector: f32x4,
  low: ORDINARY_SINGLE,
  every: ORDINARY_SINGLES,
  zero: constF32(0),
  toFloat: f32.reinterpret_i32,
  toBits: i32.reinterpret_f32,
  notDenormal: (x) => i32.ge_u(i32.sub(doubled32(x), constI32(1)), constI32(0xffffff)),
  normal: (x) => i32.ge_u(i32.add(doubled32(x), constI32(1 << 24)), constI32(2 << 24)),
  ample: (x) => i32.ge_u(i32.add(doubled32(x), constI32(2 << 24)), constI32(4 << 24)),
  ...exponentTests(SINGLE_RANGES, i32x4),
  lane: (vector, lane) => i32x4.extract_lane(lane, vector),
  withLane: (vector, lane, bits) => i32x4.replace_lane(lane, vector, bits),
  all: i32x4.all_true,
  any: i32x4.bitmask,
  ...masks(f32x4, repeated([0, 0, 0x80, 0]), repeated([0, 0, 0x80, 0x7f])),
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
  return mustNot(i32.eqz(condition));
}

function mustNot(condition: Expr): Condition {
  return (f, otherwise) => f.brIfUnlikely(otherwise, condition);
}

/** A scalar is ordinary. */
export function isOrdinary(e: Emitter, format: Format, x: Expr): Condition {
  if (e.isKnownOrdinary(x, format.low)) return () => {};
  return must(format.notDenormal(x));
}

/** A scalar is not a NaN. */
export function isNumber({ scalar }: Format, x: Expr): Condition {
  return must(scalar.eq(x, x));
}

/** Neither of two scalars is a NaN. */
function areOrdered({ scalar }: Format, a: Expr, b: Expr): Condition {
  return must(i32.or(scalar.lt(a, b), scalar.ge(a, b)));
}

/** What must not be where there is a doubt, which is rare. */
function onlyIf(doubt: Expr, bad: () => Expr): Condition {
  return (f, otherwise) => f.ifUnlikely(doubt, () => f.brIfUnlikely(otherwise, bad()));
}

/** The controls are usual, and what is known of values is right. */
function isUsual(e: Emitter): Condition {
  return mustNot(e.floatsOdd());
}

/** Does `native` when all of `fast` hold, isUsual() among them, else `slow`, which says so when something was odd. */
function attempt(e: Emitter, fast: readonly Condition[], native: () => void, slow: () => void): void {
  const { f } = e;
  f.block((done) => {
    f.block((otherwise) => {
      for (const condition of fast) condition(f, otherwise);
      native();
      f.br(done);
    });
    slow();
  });
}

/** As attempt(), with soft arithmetic: then nothing counts as ordinary. */
export function attemptOrSoftly(e: Emitter, fast: readonly Condition[], native: () => void, slow: () => void): void {
  attempt(e, [isUsual(e), ...fast], native, () => {
    softly(e, slow);
    e.setFloatsOdd();
  });
}

/** A value computed natively when all of `fast` hold and by soft arithmetic otherwise. */
export function choose(
  e: Emitter,
  fast: readonly Condition[],
  result: Expr,
  native: () => Expr,
  slow: () => Expr,
): void {
  attemptOrSoftly(
    e,
    fast,
    () => e.f.set(result, native()),
    () => e.f.set(result, slow()),
  );
}

// ---- Operations on lanes ---------------------------------------------------------------------------------------------------
/** LANES_*, and which results are right without a helper. */
export interface Operation {
  readonly code: number;
  readonly result: 'sum' | 'product' | 'quotient' | 'root' | 'choice' | 'mask';
}

export const ADD: Operation = { code: L.LANES_ADD, result: 'sum' };
export const SUB: Operation = { code: L.LANES_SUB, result: 'sum' };
export const MUL: Operation = { code: L.LANES_MUL, result: 'product' };
export const DIV: Operation = { code: L.LANES_DIV, result: 'quotient' };
export const SQRT: Operation = { code: L.LANES_SQRT, result: 'root' };
export const ADDSUB: Operation = { code: L.LANES_ADDSUB, result: 'sum' };
export const MIN: Operation = { code: L.LANES_MIN, result: 'choice' };
export const MAX: Operation = { code: L.LANES_MAX, result: 'choice' };
export const CMP: Operation = { code: L.LANES_CMP, result: 'mask' };

const AREAS = [L.FLOAT_A, L.FLOAT_B] as const;

/** Runs soft_lanes_* on what FLOAT_A and FLOAT_B hold. */
function runLanes(e: Emitter, format: Format, code: number, count: number, predicate: Expr = constI32(0)): void {
  e.lanesStatus(soft('lanes', format), constI32(code), constI32(count), predicate);
}

/** Inputs that are not the same as one before them. */
function distinct(e: Emitter, inputs: readonly Expr[]): Expr[] {
  return inputs.filter((x, i) => !inputs.slice(0, i).some((y) => e.isSameValue(x, y)));
}

/** What an operation's result must be, with ordinary operands; and isUsual(). */
function rightResult(
  e: Emitter,
  format: Format,
  { result }: Operation,
  value: Expr,
  inputs: readonly Expr[],
): Condition[] {
  const { scalar, zero } = format;
  const [a, b] = inputs as [Expr, Expr];
  const usual = e.usualExponents();
  // One test of both, which asks exactly in rare cases.
  const hold = (isRight: (x: Expr) => Expr, bad: () => Expr): Condition[] =>
    usual && format.usuallyAmple
      ? [onlyIf(i32.eqz(format.usuallyAmple(value, usual)), () => i32.or(e.floatsOdd(), bad()))]
      : [isUsual(e), onlyIf(i32.eqz(isRight(value)), bad)];
  switch (result) {
    case 'sum':
    case 'root':
      return hold(format.normal, () => scalar.ne(value, zero));
    case 'product': {
      const exact = (): Expr => i32.and(scalar.eq(value, zero), i32.or(scalar.eq(a, zero), scalar.eq(b, zero)));
      return hold(format.ample, () => i32.eqz(exact()));
    }
    case 'quotient':
      return hold(format.ample, () => i32.eqz(i32.and(scalar.eq(value, zero), scalar.eq(a, zero))));
    default:
      return [isUsual(e), areOrdered(format, a, b)];
  }
}

/** A scalar operation. The inputs are one for roots and two for the rest. */
export function scalarLane(
  e: Emitter,
  format: Format,
  operation: Operation,
  inputs: readonly Expr[],
  native: Expr,
  predicate?: Expr,
): Expr {
  const { f } = e;
  const value = f.let(native);
  const result = f.local(format.suffix);
  attempt(
    e,
    [...distinct(e, inputs).map((x) => isOrdinary(e, format, x)), ...rightResult(e, format, operation, value, inputs)],
    () => f.set(result, value),
    () => {
      storeScalars(e, format, inputs);
      runLanes(e, format, operation.code, 1, predicate);
      f.set(result, load(`${format.suffix}.load`, constI32(L.FLOAT_A)));
    },
  );
  for (const x of inputs) e.noteOrdinary(x, format.low);
  if (operation.result !== 'mask') e.noteOrdinary(result, format.low);
  return result;
}

/** Two operands, or the second one alone. */
function storeScalars(e: Emitter, format: Format, inputs: readonly Expr[]): void {
  AREAS.slice(2 - inputs.length).forEach((area, i) => {
    e.f.store(`${format.suffix}.store`, constI32(area), inputs[i] as Expr);
  });
}

/** Flags by a comparison of two scalars; `all`: signals for every NaN. */
export function compareScalars(e: Emitter, format: Format, a: Expr, b: Expr, all: boolean): void {
  const { f } = e;
  const operands = [a, b].map((x) => f.copy(x));
  attempt(
    e,
    [isUsual(e), isOrdinary(e, format, a), isOrdinary(e, format, b), areOrdered(format, a, b)],
    () => {},
    () => {
      storeScalars(e, format, [a, b]);
      runLanes(e, format, all ? L.LANES_COMI : L.LANES_UCOMI, 1);
      // As DAZ shows them.
      operands.forEach((x, i) => {
        f.set(x, load(`${format.suffix}.load`, constI32(AREAS[i] as number)));
      });
    },
  );
  for (const x of [a, b]) e.noteOrdinary(x, format.low);
  const [x, y] = operands as [Expr, Expr];
  e.flagsCompare(x, y, format.scalar);
}

/** Masks of the lanes in which a result may be wrong, and of those in which it is right. */
interface RightLanes {
  readonly doubtful: Expr;
  readonly mask: Expr;
}

/** Of plain results, without zeros. */
export function plainLanes(format: Format, value: Expr): RightLanes {
  return { doubtful: format.scantLanes(value), mask: format.allPlain(value) };
}

/** Of an operation's result. */
function rightLanes(
  format: Format,
  { result }: Operation,
  value: Expr,
  inputs: readonly Expr[],
): RightLanes | undefined {
  const { isZero } = format;
  switch (result) {
    case 'sum':
    case 'root':
      return { doubtful: format.abnormalLanes(value), mask: format.normalOrZero(value) };
    case 'product': {
      const factors = inputs.map(isZero).reduce((a, b) => v128.or(a, b));
      return {
        doubtful: format.scantLanes(value),
        mask: v128.or(format.allPlain(value), v128.and(isZero(value), factors)),
      };
    }
    case 'quotient': {
      const zeros = v128.and(isZero(value), isZero(inputs[0] as Expr));
      return { doubtful: format.scantLanes(value), mask: v128.or(format.allPlain(value), zeros) };
    }
    default:
      return undefined;
  }
}

/** Operands are ordinary, and results right: by a test that some of the right ones fail, or exactly. Without results operands are numbers. */
export function lanesHold(
  e: Emitter,
  format: Format,
  inputs: readonly (readonly Expr[])[],
  results: readonly (RightLanes | undefined)[],
): Condition {
  const unknown = distinct(e, inputs.flat()).filter((x) => !e.isKnownOrdinary(x, format.every));
  const right = results.filter((result) => result !== undefined);
  // Results that are numbers tell that operands are.
  const noNumbers = right.length > 0 ? [] : distinct(e, inputs.flat()).map((x) => format.vector.ne(x, x));
  const masks = [...right.map(({ doubtful }) => doubtful), ...unknown.map(format.denormalLanes), ...noNumbers];
  const doubt = format.any(masks.reduce((a, b) => v128.or(a, b)));
  if (right.length === 0) return mustNot(doubt);
  const exact = [...right.map(({ mask }) => mask), ...inputs.flat().map(format.normalOrZero)];
  return onlyIf(doubt, () => i32.eqz(format.all(exact.reduce((a, b) => v128.and(a, b)))));
}

/** Not zero (i32): a vector is not as ORDINARY_* bits say, of lane 0 alone or of all lanes. */
export function isOddVector(vector: Expr, bits: number): Expr {
  const tests: Expr[] = [];
  for (const format of [DOUBLE, SINGLE]) {
    if (bits & format.every & ~format.low) tests.push(format.any(format.denormalLanes(vector)));
    else if (bits & format.low) tests.push(i32.eqz(format.notDenormal(format.vector.extract_lane(0, vector))));
  }
  return tests.reduce((a, b) => i32.or(a, b));
}

/** A packed operation on the halves of its inputs. Flags of all lanes come together. */
export function packedLanes(
  e: Emitter,
  format: Format,
  operation: Operation,
  inputs: readonly (readonly Expr[])[],
  native: (...inputs: Expr[]) => Expr,
  predicate?: Expr,
): Expr[] {
  const { f } = e;
  const values = byHalf(inputs).map((own) => f.let(native(...own)));
  const results = values.map(() => f.local('v128'));
  const right = byHalf(inputs).map((own, half) => rightLanes(format, operation, values[half] as Expr, own));
  attempt(
    e,
    [isUsual(e), lanesHold(e, format, inputs, right)],
    () => setAll(e, results, values),
    () => {
      AREAS.slice(2 - inputs.length).forEach((area, i) => {
        (inputs[i] as readonly Expr[]).forEach((x, half) => {
          f.store('v128.store', constI32(area), x, half * 16);
        });
      });
      runLanes(e, format, operation.code, results.length * format.lanes, predicate);
      const loaded = results.map((_, half) => load('v128.load', constI32(L.FLOAT_A), half * 16));
      setAll(e, results, loaded);
    },
  );
  for (const x of inputs.flat()) e.noteOrdinary(x, format.every);
  if (operation.result !== 'mask') for (const result of results) e.noteOrdinary(result, format.every);
  return results;
}

/** The inputs of each half. */
export function byHalf(inputs: readonly (readonly Expr[])[]): Expr[][] {
  return (inputs[0] as readonly Expr[]).map((_, half) => inputs.map((input) => input[half] as Expr));
}

export function setAll(e: Emitter, locals: readonly Expr[], values: readonly Expr[]): void {
  locals.forEach((local, i) => {
    e.f.set(local, values[i] as Expr);
  });
}

// ---- Scalars ---------------------------------------------------------------------------------------------------------------
/** An operand's low element as a float. */
export function readFloat(e: Emitter, operand: Operand, format: Format): Expr {
  if (operand.place === 'memory') {
    return e.f.let(load(`${format.suffix}.load`, e.hostForRead(format.bytes)));
  }
  const lane = e.lane(operand, format);
  if (lane) return lane;
  const half = e.readHalf(operand, 0);
  const value = e.f.let(format.vector.extract_lane(0, half));
  e.noteLane(value, half, format.low);
  return value;
}

/** Writes a float to a register's low element, and the rest of `rest` (a register) beside it. */
export function mergeFloat(e: Emitter, d: Operand, format: Format, value: Expr, rest: Operand, vex: boolean): void {
  const half = e.readHalf(rest, 0);
  const merged = e.f.let(format.vector.replace_lane(0, half, value));
  const upper =
    e.ordinary(half) & ~(format === DOUBLE ? ORDINARY_SINGLES | ORDINARY_DOUBLE : ORDINARY_SINGLE | ORDINARY_DOUBLE);
  e.noteOrdinary(merged, upper | (e.ordinary(value) & format.low));
  if (vex) writeHalves(e, d, [merged]);
  else e.writeHalf(d, 0, merged);
  e.keepLane(d, value);
}

// ---- Packed ----------------------------------------------------------------------------------------------------------------
/** Applies a soft helper lane by lane. */
export function lanes(format: Format, start: Expr, each: (lane: number) => Expr, count = format.lanes): Expr {
  let result = start;
  for (let lane = 0; lane < count; lane++) result = format.withLane(result, lane, each(lane));
  return result;
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
