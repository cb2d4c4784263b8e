// Fused multiply-add (SDM volume 1, 14.5): a * b + c with one rounding, on 128 bits.

import { add, high, less, low, multiply, normalize, shift_right_jam, subtract } from '../fpu/wide';
import {
  checkDenormal,
  exponent,
  infinity,
  invalid,
  isInfinite,
  isNaNBits,
  isNegative,
  isSignalling,
  isZero,
  operand,
  quietBit,
  roundPack,
  signBit,
  significand,
} from './format';
import { DOWN, IE, rounding, signal } from './state';

/** (h:l) * 2^(exp - 126), not zero, rounded. */
function pack<T>(negative: bool, exp: i32, h: u64, l: u64): u64 {
  const up = normalize(h, l);
  return roundPack<T>(negative, exp + 1 - up, (high >> 1) | (high & 1) | u64(low != 0));
}

function fused<T>(first: u64, second: u64, third: u64, negateProduct: bool, negateSum: bool): u64 {
  const a = operand<T>(first);
  const b = operand<T>(second);
  let c = operand<T>(third);
  if (isNaNBits<T>(a) || isNaNBits<T>(b) || isNaNBits<T>(c)) {
    if (isSignalling<T>(a) || isSignalling<T>(b) || isSignalling<T>(c)) signal(IE);
    return (isNaNBits<T>(a) ? a : isNaNBits<T>(b) ? b : c) | quietBit<T>();
  }
  if (negateSum) c ^= signBit<T>();
  const negative = (isNegative<T>(a) != isNegative<T>(b)) != negateProduct;
  const opposite = negative != isNegative<T>(c);
  if (isInfinite<T>(a) || isInfinite<T>(b)) {
    if (isZero<T>(a) || isZero<T>(b) || (isInfinite<T>(c) && opposite)) return invalid<T>();
    checkDenormals<T>(a, b, c);
    return infinity<T>() | (negative ? signBit<T>() : 0);
  }
  checkDenormals<T>(a, b, c);
  if (isInfinite<T>(c)) return c;
  if (isZero<T>(a) || isZero<T>(b)) {
    if (!isZero<T>(c)) return roundPack<T>(isNegative<T>(c), exponent<T>(c), significand<T>(c));
    return opposite ? exactZero<T>() : c;
  }
  multiply(significand<T>(a), significand<T>(b));
  // Leading ones of both terms at bit 126. A product has zeros below, so nothing is lost.
  const up = normalize(high, low);
  let h = high >> 1;
  let l = (high << 63) | (low >> 1);
  let exp = exponent<T>(a) + exponent<T>(b) + 3 - up;
  if (isZero<T>(c)) return pack<T>(negative, exp, h, l);
  let ch = significand<T>(c);
  let cl: u64 = 0;
  const distance = exp - exponent<T>(c);
  if (distance >= 0) {
    shift_right_jam(ch, cl, distance);
    ch = high;
    cl = low;
  } else {
    shift_right_jam(h, l, -distance);
    h = high;
    l = low;
    exp -= distance;
  }
  if (!opposite) {
    add(h, l, ch, cl);
    return pack<T>(negative, exp, high, low);
  }
  if (h == ch && l == cl) return exactZero<T>();
  const smaller = less(h, l, ch, cl);
  if (smaller) subtract(ch, cl, h, l);
  else subtract(h, l, ch, cl);
  return pack<T>(negative != smaller, exp, high, low);
}

function checkDenormals<T>(a: u64, b: u64, c: u64): void {
  checkDenormal<T>(a);
  checkDenormal<T>(b);
  checkDenormal<T>(c);
}

function exactZero<T>(): u64 {
  return rounding() == DOWN ? signBit<T>() : 0;
}

/** Bits of `kind`: 1 negates c, 2 the product. */
export function soft_fma_f32(a: u32, b: u32, c: u32, kind: i32): u32 {
  return <u32>fused<f32>(a, b, c, (kind & 2) != 0, (kind & 1) != 0);
}

export function soft_fma_f64(a: u64, b: u64, c: u64, kind: i32): u64 {
  return fused<f64>(a, b, c, (kind & 2) != 0, (kind & 1) != 0);
}
