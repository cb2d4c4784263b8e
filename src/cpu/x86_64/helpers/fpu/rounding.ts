// FRNDINT, FSCALE, FXTRACT, FPREM, FPREM1 (SDM volume 1, section 8.3.5; volume 2).

import { FSW } from '../../layout';
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
  FINITE,
  INFINITE,
  unpack_a,
  unpack_b,
  ZERO,
} from './operand';
import { BIAS, DE, flag, result, round_extended, round_integer, set_c1, stopped, ZE } from './round';
import { empty, finish, push, put, result_st, set_conditions, st_se, st_sig, stack_overflow, underflow } from './stack';
import { high, low, normalize } from './wide';

/** Result: an integer. */
function result_integer(sign: u32, value: u64): void {
  if (value == 0) {
    result_zero(sign);
    return;
  }
  const shift = <i32>clz(value);
  result((sign << 15) | <u32>(BIAS + 63 - shift), value << shift);
}

/** FRNDINT. */
export function fpu_round(): void {
  if (empty(0)) {
    if (underflow()) put(0);
    finish();
    return;
  }
  unpack_a(st_se(0), st_sig(0));
  result_st(0);
  if (!single_nan() && a_kind == FINITE) {
    if (a_denormal) flag(DE);
    if (!stopped() && a_exponent < BIAS + 63) result_integer(a_sign, round_integer(a_sign, a_exponent, a_sig, false));
  }
  if (!stopped()) put(0);
  finish();
}

/** ST(0) * 2^ST(1), ST(1) chopped. */
function scale(): void {
  if (nans()) return;
  if (b_kind == INFINITE) {
    if (b_sign ? a_kind == INFINITE : a_kind == ZERO) {
      invalid();
      return;
    }
    if (denormals()) return;
    if (b_sign) result_zero(a_sign);
    else result_infinity(a_sign);
    return;
  }
  if (denormals()) return;
  if (a_kind == INFINITE) {
    result_infinity(a_sign);
    return;
  }
  if (a_kind == ZERO) {
    result_zero(a_sign);
    return;
  }
  let power: i32 = 0;
  if (b_kind == FINITE && b_exponent >= BIAS) {
    // Beyond 2^16 everything overflows or underflows.
    power = b_exponent > BIAS + 16 ? 0x20000 : <i32>(b_sig >> (63 - (b_exponent - BIAS)));
    if (b_sign) power = -power;
  }
  round_extended(a_sign, a_exponent + power, a_sig, 0, 0);
}

export function fpu_scale(): void {
  if (empty(0) || empty(1)) {
    if (underflow()) put(0);
  } else {
    unpack_a(st_se(0), st_sig(0));
    unpack_b(st_se(1), st_sig(1));
    scale();
    if (!stopped()) put(0);
  }
  finish();
}

/** FXTRACT: the exponent takes ST(0)'s place, the significand is pushed. */
export function fpu_extract(): void {
  if (empty(0)) {
    if (underflow()) {
      put(0);
      push();
    }
    finish();
    return;
  }
  if (!empty(7)) {
    if (stack_overflow()) {
      put(0);
      push();
    }
    finish();
    return;
  }
  unpack_a(st_se(0), st_sig(0));
  if (single_nan()) {
    if (!stopped()) {
      put(0);
      push();
    }
  } else if (a_kind == ZERO) {
    flag(ZE);
    if (!stopped()) {
      result_infinity(1);
      put(0);
      result_zero(a_sign);
      push();
    }
  } else if (a_kind == INFINITE) {
    result_infinity(0);
    put(0);
    result_infinity(a_sign);
    push();
  } else {
    if (a_denormal) flag(DE);
    if (!stopped()) {
      const power = a_exponent - BIAS;
      result_integer(u32(power < 0), <u64>(power < 0 ? -power : power));
      put(0);
      result((a_sign << 15) | <u32>BIAS, a_sig);
      push();
    }
  }
  finish();
}

// ---- Remainders ------------------------------------------------------------------------------------------------------------
const C0: u32 = 0x100;
const C2: u32 = 0x400;
const C3: u32 = 0x4000;

/** Condition bits of the last remainder; C0 and C3 stay as they were unless there is a quotient. */
let conditions: u32 = 0;

function quotient_bits(quotient: u64): void {
  const q = <u32>quotient;
  conditions = (q & 4 ? C0 : 0) | (q & 2 ? C3 : 0);
  set_c1(q & 1);
}

/** a modulo b, with the quotient chopped or, for FPREM1, to nearest. */
function remainder(nearest: bool): void {
  if (nans()) return;
  if (a_kind == INFINITE || b_kind == ZERO) {
    invalid();
    return;
  }
  if (denormals()) return;
  if (a_kind == ZERO) {
    result_zero(a_sign);
    quotient_bits(0);
    return;
  }
  const distance = a_exponent - b_exponent;
  if (b_kind == INFINITE || distance < -1) {
    round_extended(a_sign, a_exponent, a_sig, 0, 0);
    quotient_bits(0);
    return;
  }
  let sign = a_sign;
  let quotient: u64 = 0;
  let rest = a_sig;
  let exponent = b_exponent;
  if (distance >= 64) {
    // A part of the way: C2 says so. What is left is a multiple of b times a power of two.
    const steps = 32 + (distance & 31);
    exponent = a_exponent - steps;
    step(rest, steps);
    rest = step_rest;
    conditions = C2;
    set_c1(0);
  } else {
    if (distance >= 0) {
      step(rest, distance);
      quotient = step_quotient;
      rest = step_rest;
    } else {
      // a is less than b, and at least a quarter of it.
      exponent = a_exponent;
    }
    if (nearest) {
      // Twice the rest against b; both at the exponent of b, or of a which is one less.
      let over: bool;
      if (distance < 0) over = rest > b_sig;
      else over = rest > b_sig - rest || (rest == b_sig - rest && (quotient & 1) != 0);
      if (over) {
        quotient++;
        sign ^= 1;
        if (distance < 0) {
          // 2b - rest at the exponent of a.
          rest = b_sig - rest + b_sig;
        } else {
          rest = b_sig - rest;
        }
      }
    }
  }
  if (rest == 0) result_zero(a_sign);
  else {
    const shift = normalize(rest, 0);
    round_extended(sign, exponent - shift, high, low, 0);
  }
  if (!(conditions & C2)) quotient_bits(quotient);
}

let step_quotient: u64 = 0;
let step_rest: u64 = 0;
function step(significand: u64, count: i32): void {
  let rest = significand;
  let quotient: u64 = 0;
  let carry: bool = false;
  for (let i = 0; ; i++) {
    quotient <<= 1;
    if (carry || rest >= b_sig) {
      rest -= b_sig;
      quotient |= 1;
    }
    if (i == count) break;
    carry = rest >> 63 != 0;
    rest <<= 1;
  }
  step_quotient = quotient;
  step_rest = rest;
}

/** FPREM (0), FPREM1 (1). */
export function fpu_remainder(nearest: i32): void {
  conditions = load<u32>(FSW) & (C0 | C3);
  if (empty(0) || empty(1)) {
    if (underflow()) put(0);
  } else {
    unpack_a(st_se(0), st_sig(0));
    unpack_b(st_se(1), st_sig(1));
    remainder(nearest != 0);
    if (!stopped()) put(0);
  }
  set_conditions(conditions);
  finish();
}
