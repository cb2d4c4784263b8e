// MINS*, MAXS*, CMPS*, UCOMIS*, COMIS* (SDM volume 2).

import { FLAG_CF, FLAG_PF, FLAG_ZF } from '../../layout';
import { checkDenormal, isNaNBits, isNegative, isSignalling, isZero, magnitude, operand } from './format';
import { IE, signal } from './state';

/** Ordered operands only. */
function isLess<T>(a: u64, b: u64): bool {
  if (isZero<T>(a) && isZero<T>(b)) return false;
  if (isNegative<T>(a)) return !isNegative<T>(b) || magnitude<T>(a) > magnitude<T>(b);
  return !isNegative<T>(b) && magnitude<T>(a) < magnitude<T>(b);
}

function isEqual<T>(a: u64, b: u64): bool {
  return a == b || (isZero<T>(a) && isZero<T>(b));
}

/** Signals what a comparison signals, for every NaN (`all`) or for signalling ones only; returns whether one is a NaN. */
export function unordered<T>(a: u64, b: u64, all: bool): bool {
  if (isNaNBits<T>(a) || isNaNBits<T>(b)) {
    if (all || isSignalling<T>(a) || isSignalling<T>(b)) signal(IE);
    return true;
  }
  checkDenormal<T>(a);
  checkDenormal<T>(b);
  return false;
}

/** The second operand, but for a first that is less (greater). */
export function extreme<T>(first: u64, second: u64, greatest: bool): u64 {
  const a = operand<T>(first);
  const b = operand<T>(second);
  if (unordered<T>(a, b, true)) return b;
  return (greatest ? isLess<T>(b, a) : isLess<T>(a, b)) ? a : b;
}

/** Of predicates 0 to 15, when they hold: bits 0 to 3 for less, equal, greater, unordered; a digit each. */
const HOLDS: u64 = 0xf4650b9a7ced8312;

/** Predicates 0 to 31 of VCMP*; 16 to 31 differ from 0 to 15 in which NaNs they signal for. */
export function holds<T>(first: u64, second: u64, predicate: i32): bool {
  const a = operand<T>(first);
  const b = operand<T>(second);
  const signals = (predicate & 3) == 1 || (predicate & 3) == 2;
  const apart = unordered<T>(a, b, signals != ((predicate & 16) != 0));
  const bit = apart ? 8 : isEqual<T>(a, b) ? 2 : isLess<T>(a, b) ? 1 : 4;
  return ((HOLDS >> ((<u64>(predicate & 15)) << 2)) & bit) != 0;
}

/** ZF, PF and CF of a comparison. */
function order<T>(first: u64, second: u64, all: bool): i32 {
  const a = operand<T>(first);
  const b = operand<T>(second);
  if (unordered<T>(a, b, all)) return FLAG_ZF | FLAG_PF | FLAG_CF;
  if (isEqual<T>(a, b)) return FLAG_ZF;
  return isLess<T>(a, b) ? FLAG_CF : 0;
}

export function soft_min_f32(a: u32, b: u32): u32 {
  return <u32>extreme<f32>(a, b, false);
}

export function soft_min_f64(a: u64, b: u64): u64 {
  return extreme<f64>(a, b, false);
}

export function soft_max_f32(a: u32, b: u32): u32 {
  return <u32>extreme<f32>(a, b, true);
}

export function soft_max_f64(a: u64, b: u64): u64 {
  return extreme<f64>(a, b, true);
}

export function soft_cmp_f32(a: u32, b: u32, predicate: i32): u32 {
  return holds<f32>(a, b, predicate) ? -1 : 0;
}

export function soft_cmp_f64(a: u64, b: u64, predicate: i32): u64 {
  return holds<f64>(a, b, predicate) ? -1 : 0;
}

export function soft_ucomi_f32(a: u32, b: u32): i32 {
  return order<f32>(a, b, false);
}

export function soft_ucomi_f64(a: u64, b: u64): i32 {
  return order<f64>(a, b, false);
}

export function soft_comi_f32(a: u32, b: u32): i32 {
  return order<f32>(a, b, true);
}

export function soft_comi_f64(a: u64, b: u64): i32 {
  return order<f64>(a, b, true);
}
