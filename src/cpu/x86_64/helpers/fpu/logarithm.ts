// F2XM1, FYL2X, FYL2XP1 (SDM volume 1, section 8.3.9).

import { denormals, invalid, nans, result_infinity, result_zero, single_nan } from './arithmetic';
import {
  a_denormal,
  a_exponent,
  a_kind,
  a_sig,
  a_sign,
  b_exponent,
  b_kind,
  b_sig,
  b_sign,
  INFINITE,
  unpack_a,
  unpack_b,
  ZERO,
} from './operand';
import { BIAS, DE, flag, result, stopped, TOP_BIT, ZE } from './round';
import {
  divide_float,
  exponential_minus_one,
  fixed,
  multiply_float,
  set_float,
  set_normalized,
  small_hyperbolic_arctangent,
  x_high,
  x_low,
  x_power,
} from './series';
import { empty, finish, pop, put, result_st, st_se, st_sig, underflow } from './stack';
import { result_inexact } from './trigonometry';
import { add, high, low, multiply, normalize, shift_right_jam, subtract } from './wide';

/** ln 2 (power -1), and 2 / ln 2 (power 1). */
const LN2_HIGH: u64 = 0xb17217f7d1cf79ab;
const LN2_LOW: u64 = 0xc9e3b39803f2f6af;
const TWO_OVER_LN2_HIGH: u64 = 0xb8aa3b295c17f0bb;
const TWO_OVER_LN2_LOW: u64 = 0xbe87fed0691d3e88;
const SQRT2: u64 = 0xb504f333f9de6484;

// ---- 2^x - 1 -----------------------------------------------------------------------------------------------------------------
function exponential(): void {
  if (single_nan()) return;
  if (a_kind == ZERO) return;
  if (a_kind == INFINITE) {
    if (a_sign) result(0x8000 | BIAS, TOP_BIT);
    return;
  }
  if (a_denormal) flag(DE);
  if (stopped()) return;
  if (a_exponent >= BIAS) {
    // 2^-1 - 1; 1 gives itself, and beyond is undefined: it stays.
    if (a_exponent == BIAS && a_sig == TOP_BIT && a_sign) result(0x8000 | (BIAS - 1), TOP_BIT);
    return;
  }
  set_float(a_exponent - BIAS, a_sig, 0);
  multiply_float(-1, LN2_HIGH, LN2_LOW);
  exponential_minus_one(a_sign != 0);
  result_inexact(a_sign);
}

/** F2XM1. */
export function fpu_exponential(): void {
  if (empty(0)) {
    if (underflow()) put(0);
  } else {
    unpack_a(st_se(0), st_sig(0));
    result_st(0);
    exponential();
    if (!stopped()) put(0);
  }
  finish();
}

// ---- y log2 x ----------------------------------------------------------------------------------------------------------------
/** x = 2 / ln 2 * atanh(n / d), from x = n and a float d. */
function logarithm_of_ratio(power: i32, h: u64, l: u64): void {
  divide_float(power, h, l);
  small_hyperbolic_arctangent();
  multiply_float(1, TWO_OVER_LN2_HIGH, TWO_OVER_LN2_LOW);
}

/** Result: b * log2 of a positive number other than one. */
function times_logarithm(exponent: i32, significand: u64): void {
  let power = exponent - BIAS;
  let below = false;
  if (significand == TOP_BIT) {
    // A power of two. The hardware does not notice that the logarithm is exact, and has it a little too large.
    const shift = <i32>clz(<u64>abs(power));
    multiply((<u64>abs(power)) << shift, b_sig);
    if (power < 0) subtract(high, low, 0, 1);
    set_normalized(b_exponent - BIAS + 64 - shift, high, low);
    result_inexact(b_sign ^ u32(power < 0));
    return;
  }
  if (significand >= SQRT2) {
    power++;
    below = true;
    set_normalized(-1, -significand, 0);
    logarithm_of_ratio(0, TOP_BIT | (significand >> 1), significand << 63);
  } else {
    const sum = significand + TOP_BIT;
    set_normalized(0, significand - TOP_BIT, 0);
    logarithm_of_ratio(1, TOP_BIT | (sum >> 1), sum << 63);
  }
  let sign = u32(below);
  if (power != 0) {
    // At a scale where the top bit is worth 2^15.
    fixed(15);
    const whole = (<u64>abs(power)) << 48;
    const down = power < 0;
    if (down == below) add(high, low, whole, 0);
    else subtract(whole, 0, high, low);
    set_normalized(15, high, low);
    sign = u32(down);
  }
  multiply_float(b_exponent - BIAS, b_sig, 0);
  result_inexact(sign ^ b_sign);
}

function logarithm(): void {
  if (nans()) return;
  if (a_kind != ZERO && a_sign) {
    invalid();
    return;
  }
  if (a_kind == ZERO) {
    if (b_kind == ZERO) {
      invalid();
      return;
    }
    if (b_kind != INFINITE) flag(ZE);
    result_infinity(b_sign ^ 1);
    return;
  }
  const one = a_exponent == BIAS && a_sig == TOP_BIT && a_kind != INFINITE;
  if ((a_kind == INFINITE && b_kind == ZERO) || (one && b_kind == INFINITE)) {
    invalid();
    return;
  }
  if (denormals()) return;
  const negative = u32(a_kind != INFINITE && a_exponent < BIAS);
  if (a_kind == INFINITE || b_kind == INFINITE) result_infinity(b_sign ^ negative);
  else if (one || b_kind == ZERO) result_zero(b_sign ^ negative);
  else times_logarithm(a_exponent, a_sig);
}

/** y log2(x + 1): a is x, b is y. */
function logarithm_plus_one(): void {
  if (nans()) return;
  if (a_kind == INFINITE ? a_sign != 0 || b_kind == ZERO : a_sign && a_exponent >= BIAS) {
    invalid();
    return;
  }
  if (a_kind == ZERO && b_kind == INFINITE) {
    invalid();
    return;
  }
  if (denormals()) return;
  const sign = a_sign ^ b_sign;
  if (a_kind == INFINITE || b_kind == INFINITE) {
    result_infinity(sign);
    return;
  }
  if (a_kind == ZERO || b_kind == ZERO) {
    result_zero(sign);
    return;
  }
  const power = a_exponent - BIAS;
  if (power >= -1) {
    // Outside the range where results are defined: by way of the sum.
    if (power >= 0) {
      shift_right_jam(TOP_BIT, 0, <u32>min(power, 255));
      if (add(a_sig, 0, high, low)) times_logarithm(a_exponent + 1, (high >> 1) | TOP_BIT);
      else times_logarithm(a_exponent, high);
    } else {
      shift_right_jam(a_sig, 0, <u32>-power);
      if (a_sign) subtract(TOP_BIT, 0, high, low);
      else add(TOP_BIT, 0, high, low);
      const shift = a_sign ? normalize(high, low) : 0;
      if (a_sign == 0 && !(high >> 63)) times_logarithm(BIAS + 1, (high >> 1) | TOP_BIT);
      else times_logarithm(BIAS - shift, high);
    }
    return;
  }
  // 2 + x, in [1.5, 2.5].
  shift_right_jam(a_sig, 0, <u32>min(1 - power, 255));
  if (a_sign) subtract(TOP_BIT, 0, high, low);
  else add(TOP_BIT, 0, high, low);
  set_normalized(1, high, low);
  const d_power = x_power;
  const h = x_high;
  const l = x_low;
  set_float(power, a_sig, 0);
  logarithm_of_ratio(d_power, h, l);
  multiply_float(b_exponent - BIAS, b_sig, 0);
  result_inexact(sign);
}

/** FYL2X (0), FYL2XP1 (1). */
export function fpu_logarithm(plus_one: i32): void {
  let done: bool;
  if (empty(0) || empty(1)) {
    done = underflow();
  } else {
    unpack_a(st_se(0), st_sig(0));
    unpack_b(st_se(1), st_sig(1));
    if (plus_one) logarithm_plus_one();
    else logarithm();
    done = !stopped();
  }
  if (done) {
    put(1);
    pop(1);
  }
  finish();
}
