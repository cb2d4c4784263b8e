// Numbers of 128 bits for the transcendental functions, and their power series.
//
// A float is a significand x_high:x_low with bit 127 set (1.0 to 2.0) and a power of two. Fixed-point numbers are
// Q0.128 (below one) for the argument of a series and Q1.127 (below two) for its value. Truncation errors stay below
// 2^-115, so that results are good to much less than a unit of 64 bits.

import { add, high, less, low, multiply, normalize, shift_right_jam, subtract } from './wide';

/** Result of the functions here, as a float. */
export let x_power: i32 = 0;
export let x_high: u64 = 0;
export let x_low: u64 = 0;

const ONE: u64 = 1 << 63;

export function set_float(power: i32, h: u64, l: u64): void {
  x_power = power;
  x_high = h;
  x_low = l;
}

/** x from a significand that is not normalized, and not zero. */
export function set_normalized(power: i32, h: u64, l: u64): void {
  const shift = normalize(h, l);
  set_float(power - shift, high, low);
}

/** high:low = upper half of the product of two 128-bit numbers, a few units too small. */
function multiply_high(a1: u64, a0: u64, b1: u64, b0: u64): void {
  multiply(a1, b0);
  const first = high;
  multiply(a0, b1);
  const second = high;
  multiply(a1, b1);
  const h = high;
  const l = low;
  const sum = l + first;
  const all = sum + second;
  high_low(h + u64(sum < l) + u64(all < sum), all);
}

function high_low(h: u64, l: u64): void {
  add(h, l, 0, 0);
}

/** x = x * the float given. */
export function multiply_float(power: i32, h: u64, l: u64): void {
  multiply_high(x_high, x_low, h, l);
  set_normalized(x_power + power + 1, high, low);
}

/** x = x / the float given. */
export function divide_float(power: i32, d1: u64, d0: u64): void {
  let n1 = x_high;
  let n0 = x_low;
  let q1: u64 = 0;
  let q0: u64 = 0;
  let carry: u64 = 0;
  for (let i = 0; i < 128; i++) {
    q1 = (q1 << 1) | (q0 >> 63);
    q0 <<= 1;
    if (carry || !less(n1, n0, d1, d0)) {
      subtract(n1, n0, d1, d0);
      n1 = high;
      n0 = low;
      q0 |= 1;
    }
    carry = n1 >> 63;
    n1 = (n1 << 1) | (n0 >> 63);
    n0 <<= 1;
  }
  set_normalized(x_power - power, q1, q0);
}

/** high:low = x in fixed point with its top bit worth 2^power; x is less than twice that. */
export function fixed(power: i32): void {
  shift_right_jam(x_high, x_low, <u32>min(power - x_power, 255));
}

/** high:low divided by a small number. */
function divide_small(h: u64, l: u64, divisor: u64): void {
  const q1 = h / divisor;
  const middle = ((h % divisor) << 32) | (l >> 32);
  const q0 = middle / divisor;
  const last = ((middle % divisor) << 32) | (l & 0xffffffff);
  high_low(q1, (q0 << 32) + last / divisor);
}

let z1: u64 = 0;
let z0: u64 = 0;
/** z = x * x as Q0.128; x is below one. */
function square(): void {
  multiply_high(x_high, x_low, x_high, x_low);
  shift_right_jam(high, low, <u32>min(-2 * x_power - 2, 255));
  z1 = high;
  z0 = low;
}

/** high:low = 1 - z / (k (k - 1)) (1 - z / ((k - 2) (k - 3)) ...), from k = `last` down to `first`. */
function alternating_factorials(last: u64, first: u64): void {
  let p1 = ONE;
  let p0: u64 = 0;
  for (let k = last; k >= first; k -= 2) {
    multiply_high(z1, z0, p1, p0);
    divide_small(high, low, k * (k - 1));
    subtract(ONE, 0, high, low);
    p1 = high;
    p0 = low;
  }
  high_low(p1, p0);
}

/** x = x * high:low, a Q1.127; a product with exactly one comes out as the next number below x, if `below`. */
function times(below: bool): void {
  if (high == ONE && low == 0) {
    if (!below) return;
    subtract(x_high, x_low, 0, 1);
    set_normalized(x_power, high, low);
    return;
  }
  multiply_float(0, high, low);
}

/** x = sin x, for x below one. */
export function sine(): void {
  square();
  alternating_factorials(25, 3);
  times(true);
}

/** x = cos x, for x below one. */
export function cosine(): void {
  square();
  alternating_factorials(26, 2);
  if (high == ONE && low == 0) subtract(ONE, 0, 0, 1);
  set_normalized(0, high, low);
}

/** high:low = sum of z^k / (2k + 1), signs alternating or not, with `terms` terms. */
function odd_reciprocals(terms: u64, alternate: bool): void {
  let p1: u64 = 0;
  let p0: u64 = 0;
  for (let k = terms - 1; ; k--) {
    multiply_high(z1, z0, p1, p0);
    const t1 = high;
    const t0 = low;
    divide_small(ONE, 0, 2 * k + 1);
    if (alternate) subtract(high, low, t1, t0);
    else add(high, low, t1, t0);
    p1 = high;
    p0 = low;
    if (k == 0) break;
  }
}

/** x = atan x, for x up to 1/16. */
export function small_arctangent(): void {
  square();
  odd_reciprocals(16, true);
  times(true);
}

/** x = atanh x, for x up to 1/4. */
export function small_hyperbolic_arctangent(): void {
  square();
  odd_reciprocals(32, false);
  times(false);
}

/** x = |exp(x) - 1| for a positive or negative argument of magnitude x, below one. */
export function exponential_minus_one(negative: bool): void {
  shift_right_jam(x_high, x_low, <u32>min(-x_power - 1, 255));
  z1 = high;
  z0 = low;
  let p1 = ONE;
  let p0: u64 = 0;
  for (let k: u64 = 28; k >= 2; k--) {
    multiply_high(z1, z0, p1, p0);
    divide_small(high, low, k);
    if (negative) subtract(ONE, 0, high, low);
    else add(ONE, 0, high, low);
    p1 = high;
    p0 = low;
  }
  high_low(p1, p0);
  times(negative);
}
