// x87's arithmetic where it is as usual, all at once: two normal numbers, and a normal result rounded to the nearest with all 64 bits.
// Everything else is left to arithmetic.ts.

import { FCW } from '../../layout';
import { BIAS, EXPONENT_MAX, flag, PE, result, set_c1, TOP_BIT } from './round';
import { divide, high, low, multiply, rest } from './wide';

/** FCW.PC and FCW.RC, and what they are by default: 64 bits, to the nearest. */
const CONTROLS: u32 = 0xf00;
const USUAL: u32 = 0x300;

function is_normal(exponent: u32, significand: u64): bool {
  return exponent - 1 < <u32>EXPONENT_MAX - 1 && significand >> 63 != 0;
}

/** Result: h:l, of which bit 127 is set, rounded; false, and nothing is done, where the exponent is no normal number's. */
function rounds(sign: u32, exponent: i32, h: u64, l: u64): bool {
  if (exponent < 1 || exponent >= EXPONENT_MAX - 1) return false;
  const up = l > TOP_BIT || (l == TOP_BIT && (h & 1) != 0);
  if (l) flag(PE);
  set_c1(u32(up));
  const significand = h + u64(up);
  if (significand) result((sign << 15) | <u32>exponent, significand);
  else result((sign << 15) | <u32>(exponent + 1), TOP_BIT);
  return true;
}

/** a + b, where a's magnitude is not the smaller one. */
function sum(a_sign: u32, a_exponent: i32, a: u64, b_sign: u32, b_exponent: i32, b: u64): bool {
  const distance = <u64>(a_exponent - b_exponent);
  // b as h:l at a's exponent; a one at the end stands for all that is below.
  let h = distance < 64 ? b >> distance : 0;
  let l: u64 = 1;
  if (distance == 0) l = 0;
  else if (distance < 64) l = b << (64 - distance);
  else if (distance == 64) l = b;
  else if (distance < 128) l = (b >> (distance - 64)) | u64(b << (128 - distance) != 0);
  if (a_sign == b_sign) {
    h += a;
    if (h >= a) return rounds(a_sign, a_exponent, h, l);
    // With a carry b reaches into h, and the bit that falls out of l is none of its own.
    return rounds(a_sign, a_exponent + 1, (h >> 1) | TOP_BIT, (h << 63) | (l >> 1));
  }
  h = a - h - u64(l != 0);
  l = -l;
  if (h == 0) {
    if (l == 0) {
      result(0, 0);
      return true;
    }
    const shift = clz(l);
    return rounds(a_sign, a_exponent - 64 - <i32>shift, l << shift, 0);
  }
  const shift = clz(h);
  if (shift) {
    h = (h << shift) | (l >> (64 - shift));
    l <<= shift;
  }
  return rounds(a_sign, a_exponent - <i32>shift, h, l);
}

function product(sign: u32, exponent: i32, a: u64, b: u64): bool {
  multiply(a, b);
  const h = high;
  const l = low;
  if (h >> 63) return rounds(sign, exponent + 1, h, l);
  return rounds(sign, exponent, (h << 1) | (l >> 63), l << 1);
}

function quotient(sign: u32, exponent: i32, a: u64, b: u64): bool {
  const over = u64(a >= b);
  const whole = divide(a >> over, over ? a << 63 : 0, b);
  // Below a half or above it: a quotient of 65 bits, whose last is a one, has a dividend of more than 64.
  const tail: u64 = rest == 0 ? 0 : rest >> 63 || rest << 1 > b ? TOP_BIT | 1 : 1;
  return rounds(sign, exponent - 1 + <i32>over, whole, tail);
}

/**
 * One of the operations as operate() counts them, of two registers' contents, with its flags. False where anything is unusual: nothing
 * has been done then.
 */
export function operate_usually(operation: i32, a_se: u32, a: u64, b_se: u32, b: u64): bool {
  const a_exponent = a_se & EXPONENT_MAX;
  const b_exponent = b_se & EXPONENT_MAX;
  if (!is_normal(a_exponent, a) || !is_normal(b_exponent, b) || (load<u32>(FCW) & CONTROLS) != USUAL) return false;
  const a_sign = a_se >> 15;
  const b_sign = b_se >> 15;
  switch (operation) {
    case 1:
      return product(a_sign ^ b_sign, a_exponent + b_exponent - BIAS, a, b);
    case 6:
      return quotient(a_sign ^ b_sign, a_exponent - b_exponent + BIAS, a, b);
    case 7:
      return quotient(a_sign ^ b_sign, b_exponent - a_exponent + BIAS, b, a);
  }
  const first = a_sign ^ u32(operation == 5);
  const second = b_sign ^ u32(operation == 4);
  if (a_exponent > b_exponent || (a_exponent == b_exponent && a >= b))
    return sum(first, a_exponent, a, second, b_exponent, b);
  return sum(second, b_exponent, b, first, a_exponent, a);
}
