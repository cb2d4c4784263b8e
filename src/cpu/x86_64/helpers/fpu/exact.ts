// Sum, product and quotient of two finite numbers before they are rounded. Significands have bit 63 set, exponents are biased by BIAS.

import { BIAS, TOP_BIT } from './round';
import { add, divide, high, low, multiply, normalize, rest, shift_right_jam, subtract } from './wide';

/** The result, its significand exact_high:exact_low with bit 127 set, but 0 for the difference of equals. A one at its end stands for all that is below. */
export let exact_sign: u32 = 0;
export let exact_exponent: i32 = 0;
export let exact_high: u64 = 0;
export let exact_low: u64 = 0;

function put(sign: u32, exponent: i32, h: u64, l: u64): void {
  exact_sign = sign;
  exact_exponent = exponent;
  exact_high = h;
  exact_low = l;
}

/** a + b. */
export function exact_sum(a_sign: u32, a_exponent: i32, a: u64, b_sign: u32, b_exponent: i32, b: u64): void {
  if (a_exponent < b_exponent || (a_exponent == b_exponent && a < b)) {
    larger_first(b_sign, b_exponent, b, a_sign, a_exponent, a);
  } else {
    larger_first(a_sign, a_exponent, a, b_sign, b_exponent, b);
  }
}

function larger_first(a_sign: u32, a_exponent: i32, a: u64, b_sign: u32, b_exponent: i32, b: u64): void {
  shift_right_jam(b, 0, <u32>min(a_exponent - b_exponent, 255));
  if (a_sign == b_sign) {
    if (add(a, 0, high, low)) {
      shift_right_jam(high, low, 1);
      put(a_sign, a_exponent + 1, high | TOP_BIT, low);
    } else {
      put(a_sign, a_exponent, high, low);
    }
    return;
  }
  subtract(a, 0, high, low);
  if ((high | low) == 0) {
    put(a_sign, a_exponent, 0, 0);
    return;
  }
  const shift = normalize(high, low);
  put(a_sign, a_exponent - shift, high, low);
}

/** a * b. */
export function exact_product(sign: u32, a_exponent: i32, a: u64, b_exponent: i32, b: u64): void {
  multiply(a, b);
  const shift = normalize(high, low);
  put(sign, a_exponent + b_exponent - BIAS + 1 - shift, high, low);
}

/** a / b. */
export function exact_quotient(sign: u32, a_exponent: i32, a: u64, b_exponent: i32, b: u64): void {
  const over = u64(a >= b);
  const whole = divide(a >> over, over ? a << 63 : 0, b);
  // Below a half or above it: a quotient of 65 bits, whose last is a one, has a dividend of more than 64.
  const tail: u64 = rest == 0 ? 0 : rest >> 63 || rest << 1 > b ? TOP_BIT | 1 : 1;
  put(sign, a_exponent - b_exponent + BIAS - 1 + <i32>over, whole, tail);
}
