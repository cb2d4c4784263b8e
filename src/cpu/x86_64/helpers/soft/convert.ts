// Conversions between the formats and integers, and rounding to integral values (SDM volume 2, CVT*, ROUND*).

import {
  bias,
  checkDenormal,
  exponent,
  fractionBits,
  infinity,
  isInfinite,
  isNaNBits,
  isNegative,
  isZero,
  LEADING,
  leastNormal,
  operand,
  propagate,
  roundAt,
  roundPack,
  shiftRightJam,
  signBit,
  significand,
} from './format';
import { IE, PE, rounding, signal, TRUNCATE } from './state';

/** Bits by which the formats' fractions differ. */
const EXTRA: u64 = 29;

export function soft_f32_to_f64(source: u32): u64 {
  const a = operand<f32>(source);
  const sign: u64 = (a & signBit<f32>()) << 32;
  if (isNaNBits<f32>(a)) {
    return sign | infinity<f64>() | ((propagate<f32>(a, a) & (leastNormal<f32>() - 1)) << EXTRA);
  }
  if (isInfinite<f32>(a)) return sign | infinity<f64>();
  if (isZero<f32>(a)) return sign;
  checkDenormal<f32>(a);
  return roundPack<f64>(sign != 0, exponent<f32>(a), significand<f32>(a));
}

export function soft_f64_to_f32(source: u64): u32 {
  const a = operand<f64>(source);
  const sign = <u32>(a >> 32) & <u32>signBit<f32>();
  if (isNaNBits<f64>(a)) {
    return sign | <u32>infinity<f32>() | <u32>((propagate<f64>(a, a) & (leastNormal<f64>() - 1)) >> EXTRA);
  }
  if (isInfinite<f64>(a)) return sign | <u32>infinity<f32>();
  if (isZero<f64>(a)) return sign;
  checkDenormal<f64>(a);
  return <u32>roundPack<f32>(sign != 0, exponent<f64>(a), significand<f64>(a));
}

function fromInteger<T>(value: i64): u64 {
  if (value == 0) return 0;
  const negative = value < 0;
  const size: u64 = negative ? 0 - <u64>value : <u64>value;
  // 2^63 has its leading one too high, and is even.
  const up = <i32>clz(size) - 1;
  return roundPack<T>(negative, LEADING - up, up < 0 ? size >> 1 : size << up);
}

export function soft_i64_to_f32(value: i64): u32 {
  return <u32>fromInteger<f32>(value);
}

export function soft_i64_to_f64(value: i64): u64 {
  return fromInteger<f64>(value);
}

/** To an integer of `width` bits; what does not fit, and NaN, is the least integer, and invalid. */
function toInteger<T>(source: u64, width: i32, truncate: i32): i64 {
  const a = operand<T>(source);
  const least: i64 = (<i64>-1) << (width - 1);
  if (isZero<T>(a)) return 0;
  const negative = isNegative<T>(a);
  const exp = exponent<T>(a);
  if (isNaNBits<T>(a) || isInfinite<T>(a) || exp >= width) {
    signal(IE);
    return least;
  }
  const sig = significand<T>(a);
  if (exp == 63) {
    // Only -2^63 fits.
    if (negative && sig == (<u64>1) << LEADING) return least;
    signal(IE);
    return least;
  }
  // A fraction of at least two bits: every significand has nine zeros or more at its end, so none is lost from 2^53 on.
  let whole: u64;
  let rest: u64 = 0;
  if (exp >= 60) {
    whole = exp == 62 ? sig : sig >> (62 - exp);
  } else {
    const scaled = shiftRightJam(sig, 60 - exp);
    rest = scaled & 3;
    whole = roundAt(scaled, truncate ? TRUNCATE : rounding(), negative, 4) >> 2;
  }
  if (whole > <u64>~least + u64(negative)) {
    signal(IE);
    return least;
  }
  if (rest) signal(PE);
  return negative ? 0 - <i64>whole : <i64>whole;
}

export function soft_to_i32_f32(a: u32, truncate: i32): i64 {
  return toInteger<f32>(a, 32, truncate);
}

export function soft_to_i32_f64(a: u64, truncate: i32): i64 {
  return toInteger<f64>(a, 32, truncate);
}

export function soft_to_i64_f32(a: u32, truncate: i32): i64 {
  return toInteger<f32>(a, 64, truncate);
}

export function soft_to_i64_f64(a: u64, truncate: i32): i64 {
  return toInteger<f64>(a, 64, truncate);
}

/** The immediate of ROUND*: bits 0 and 1 the mode, bit 2 MXCSR's mode instead, bit 3 no PE. */
function integral<T>(source: u64, immediate: i32): u64 {
  const a = operand<T>(source);
  if (isNaNBits<T>(a)) return propagate<T>(a, a);
  const places = <i32>fractionBits<T>();
  if (isZero<T>(a) || isInfinite<T>(a)) return a;
  const exp = exponent<T>(a);
  if (exp >= places) return a;
  const negative = isNegative<T>(a);
  const sign = a & signBit<T>();
  const mode = immediate & 4 ? rounding() : immediate & 3;
  let result: u64;
  if (exp < 0) {
    // Between 0 and 1: two bits of fraction tell all.
    const scaled = shiftRightJam(significand<T>(a), LEADING - 2 - exp);
    const one = roundAt(scaled, mode, negative, 4) >> 2;
    result = sign | (one ? (<u64>bias<T>()) << fractionBits<T>() : 0);
  } else {
    const unit = (<u64>1) << (places - exp);
    // A carry out of the fraction is right in the exponent.
    result = sign | (roundAt(a ^ sign, mode, negative, unit) & ~(unit - 1));
  }
  if (result != a && (immediate & 8) == 0) signal(PE);
  return result;
}

export function soft_round_f32(a: u32, immediate: i32): u32 {
  return <u32>integral<f32>(a, immediate);
}

export function soft_round_f64(a: u64, immediate: i32): u64 {
  return integral<f64>(a, immediate);
}
