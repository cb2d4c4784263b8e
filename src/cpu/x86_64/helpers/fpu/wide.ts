// Arithmetic on pairs of u64. A second result is left in `high` and `low`, or in `rest`.

export let high: u64 = 0;
export let low: u64 = 0;
/** Remainder of divide(). */
export let rest: u64 = 0;

const HALF: u64 = 0xffffffff;

/** high:low = a * b. */
export function multiply(a: u64, b: u64): void {
  const a1 = a >> 32;
  const a0 = a & HALF;
  const b1 = b >> 32;
  const b0 = b & HALF;
  const p00 = a0 * b0;
  const p01 = a0 * b1;
  const middle = a1 * b0 + (p00 >> 32);
  const carry = (middle & HALF) + p01;
  high = a1 * b1 + (middle >> 32) + (carry >> 32);
  low = (carry << 32) | (p00 & HALF);
}

/** Quotient of n1:n0 by `d`, whose bit 63 is set; n1 < d. The remainder is in `rest`. */
export function divide(n1: u64, n0: u64, d: u64): u64 {
  const d1 = d >> 32;
  const d0 = d & HALF;
  const next = n0 >> 32;
  let q1 = n1 / d1;
  let r = n1 - q1 * d1;
  while (q1 > HALF || q1 * d0 > ((r << 32) | next)) {
    q1--;
    r += d1;
    if (r > HALF) break;
  }
  const partial = ((n1 << 32) | next) - q1 * d;
  let q0 = partial / d1;
  r = partial - q0 * d1;
  while (q0 > HALF || q0 * d0 > ((r << 32) | (n0 & HALF))) {
    q0--;
    r += d1;
    if (r > HALF) break;
  }
  rest = ((partial << 32) | (n0 & HALF)) - q0 * d;
  return (q1 << 32) + q0;
}

/** high:low = a1:a0 shifted right; bits that fall out stay as a one in bit 0. */
export function shift_right_jam(a1: u64, a0: u64, count: u32): void {
  if (count == 0) {
    high = a1;
    low = a0;
  } else if (count < 64) {
    high = a1 >> count;
    low = (a1 << (64 - count)) | (a0 >> count) | u64(a0 << (64 - count) != 0);
  } else if (count == 64) {
    high = 0;
    low = a1 | u64(a0 != 0);
  } else if (count < 128) {
    high = 0;
    low = (a1 >> (count - 64)) | u64(((a1 << (128 - count)) | a0) != 0);
  } else {
    high = 0;
    low = u64((a1 | a0) != 0);
  }
}

/** high:low = a1:a0 shifted left until bit 127 is set; returns by how much. Not for zero. */
export function normalize(a1: u64, a0: u64): i32 {
  if (a1 == 0) {
    const count = <i32>clz(a0);
    high = a0 << count;
    low = 0;
    return 64 + count;
  }
  const count = <i32>clz(a1);
  high = count ? (a1 << count) | (a0 >> (64 - count)) : a1;
  low = a0 << count;
  return count;
}

/** high:low = a1:a0 + b1:b0; returns the carry. */
export function add(a1: u64, a0: u64, b1: u64, b0: u64): u64 {
  low = a0 + b0;
  const carry = u64(low < a0);
  const sum = a1 + b1;
  high = sum + carry;
  return u64(sum < a1) | u64(high < sum);
}

/** high:low = a1:a0 - b1:b0. */
export function subtract(a1: u64, a0: u64, b1: u64, b0: u64): void {
  low = a0 - b0;
  high = a1 - b1 - u64(a0 < b0);
}

/** a1:a0 < b1:b0. */
export function less(a1: u64, a0: u64, b1: u64, b0: u64): bool {
  return a1 < b1 || (a1 == b1 && a0 < b0);
}
