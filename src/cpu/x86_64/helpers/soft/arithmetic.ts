// ADDS*, SUBS*, MULS*, DIVS*, SQRTS* (SDM volume 2).

import {
  checkDenormal,
  exponent,
  infinity,
  invalid,
  isInfinite,
  isNaNBits,
  isNegative,
  isZero,
  operand,
  propagate,
  roundPack,
  shiftRightJam,
  signBit,
  significand,
} from './format';
import { DOWN, rounding, signal, ZE } from './state';
import { divideJam, multiplyJam } from './wide';

export function sum<T>(first: u64, second: u64): u64 {
  return total<T>(first, second, 0);
}

export function difference<T>(first: u64, second: u64): u64 {
  return total<T>(first, second, signBit<T>());
}

/** a + b, or a - b with `flip` the sign bit. */
function total<T>(first: u64, second: u64, flip: u64): u64 {
  const a = operand<T>(first);
  let b = operand<T>(second);
  if (isNaNBits<T>(a) || isNaNBits<T>(b)) return propagate<T>(a, b);
  b ^= flip;
  const opposite = isNegative<T>(a) != isNegative<T>(b);
  if (isInfinite<T>(a)) {
    if (opposite && isInfinite<T>(b)) return invalid<T>();
    checkDenormal<T>(b);
    return a;
  }
  checkDenormal<T>(a);
  checkDenormal<T>(b);
  if (isInfinite<T>(b)) return b;
  if (isZero<T>(a)) {
    if (!isZero<T>(b)) return roundPack<T>(isNegative<T>(b), exponent<T>(b), significand<T>(b));
    if (!opposite) return a;
    return exactZero<T>();
  }
  if (isZero<T>(b)) return roundPack<T>(isNegative<T>(a), exponent<T>(a), significand<T>(a));
  let exp = exponent<T>(a);
  let big = significand<T>(a);
  let small = significand<T>(b);
  let negative = isNegative<T>(a);
  let distance = exp - exponent<T>(b);
  if (distance < 0 || (distance == 0 && big < small)) {
    distance = -distance;
    exp += distance;
    const other = big;
    big = small;
    small = other;
    negative = isNegative<T>(b);
  }
  small = shiftRightJam(small, distance);
  if (!opposite) {
    const sig = big + small;
    return sig >> 63 ? roundPack<T>(negative, exp + 1, shiftRightJam(sig, 1)) : roundPack<T>(negative, exp, sig);
  }
  const rest = big - small;
  if (rest == 0) return exactZero<T>();
  const up = <i32>clz(rest) - 1;
  return roundPack<T>(negative, exp - up, rest << up);
}

/** A difference of zero. */
function exactZero<T>(): u64 {
  return rounding() == DOWN ? signBit<T>() : 0;
}

export function product<T>(first: u64, second: u64): u64 {
  const a = operand<T>(first);
  const b = operand<T>(second);
  if (isNaNBits<T>(a) || isNaNBits<T>(b)) return propagate<T>(a, b);
  const sign = (a ^ b) & signBit<T>();
  if ((isInfinite<T>(a) && isZero<T>(b)) || (isZero<T>(a) && isInfinite<T>(b))) return invalid<T>();
  checkDenormal<T>(a);
  checkDenormal<T>(b);
  if (isInfinite<T>(a) || isInfinite<T>(b)) return sign | infinity<T>();
  if (isZero<T>(a) || isZero<T>(b)) return sign;
  const exp = exponent<T>(a) + exponent<T>(b);
  const sig = multiplyJam(significand<T>(a) << 1, significand<T>(b) << 1);
  return sig >> 63 ? roundPack<T>(sign != 0, exp + 1, shiftRightJam(sig, 1)) : roundPack<T>(sign != 0, exp, sig);
}

export function quotient<T>(first: u64, second: u64): u64 {
  const a = operand<T>(first);
  const b = operand<T>(second);
  if (isNaNBits<T>(a) || isNaNBits<T>(b)) return propagate<T>(a, b);
  const sign = (a ^ b) & signBit<T>();
  if (isInfinite<T>(a)) {
    if (isInfinite<T>(b)) return invalid<T>();
    checkDenormal<T>(b);
    return sign | infinity<T>();
  }
  if (isZero<T>(b)) {
    if (isZero<T>(a)) return invalid<T>();
    signal(ZE);
    return sign | infinity<T>();
  }
  checkDenormal<T>(a);
  checkDenormal<T>(b);
  if (isInfinite<T>(b) || isZero<T>(a)) return sign;
  const dividend = significand<T>(a);
  const exp = exponent<T>(a) - exponent<T>(b);
  // dividend * 2^62 / divisor is between 2^61 and 2^63.
  const sig = divideJam(dividend >> 2, dividend << 62, significand<T>(b));
  return sig >> 62 ? roundPack<T>(sign != 0, exp, sig) : roundPack<T>(sign != 0, exp - 1, sig << 1);
}

export function root<T>(source: u64): u64 {
  const a = operand<T>(source);
  if (isNaNBits<T>(a)) return propagate<T>(a, a);
  if (isZero<T>(a)) return a;
  if (isNegative<T>(a)) return invalid<T>();
  if (isInfinite<T>(a)) return a;
  checkDenormal<T>(a);
  const exp = exponent<T>(a);
  const radicand = significand<T>(a) << (exp & 1);
  // The root of radicand * 2^46 has 55 bits. The estimate is at most 8 off, so what it leaves fits in 64 bits.
  let sig = <u64>(sqrt<f64>(<f64>radicand) * 8388608.0);
  let rest = <i64>((radicand << 46) - sig * sig);
  while (rest < 0) {
    sig--;
    rest += <i64>(2 * sig + 1);
  }
  while (rest > <i64>(2 * sig)) {
    rest -= <i64>(2 * sig + 1);
    sig++;
  }
  return roundPack<T>(false, exp >> 1, (sig << 8) | u64(rest != 0));
}

export function soft_add_f32(a: u32, b: u32): u32 {
  return <u32>sum<f32>(a, b);
}

export function soft_add_f64(a: u64, b: u64): u64 {
  return sum<f64>(a, b);
}

export function soft_sub_f32(a: u32, b: u32): u32 {
  return <u32>difference<f32>(a, b);
}

export function soft_sub_f64(a: u64, b: u64): u64 {
  return difference<f64>(a, b);
}

export function soft_mul_f32(a: u32, b: u32): u32 {
  return <u32>product<f32>(a, b);
}

export function soft_mul_f64(a: u64, b: u64): u64 {
  return product<f64>(a, b);
}

export function soft_div_f32(a: u32, b: u32): u32 {
  return <u32>quotient<f32>(a, b);
}

export function soft_div_f64(a: u64, b: u64): u64 {
  return quotient<f64>(a, b);
}

export function soft_sqrt_f32(a: u32): u32 {
  return <u32>root<f32>(a);
}

export function soft_sqrt_f64(a: u64): u64 {
  return root<f64>(a);
}
