// The arithmetic of x87 on the operands a and b (operand.ts); results and flags in round.ts.

import { exact_exponent, exact_high, exact_low, exact_product, exact_quotient, exact_sign, exact_sum } from './exact';
import {
  a_denormal,
  a_exponent,
  a_kind,
  a_sig,
  a_sign,
  b_denormal,
  b_exponent,
  b_kind,
  b_sig,
  b_sign,
  FINITE,
  INFINITE,
  negate_b,
  QUIET,
  SIGNALING,
  swap,
  UNSUPPORTED,
  ZERO,
} from './operand';
import {
  BIAS,
  DE,
  DOWN,
  EXPONENT_MAX,
  flag,
  IE,
  precision_drop,
  result,
  result_default_nan,
  round_extended,
  rounding,
  stopped,
  TOP_BIT,
  ZE,
} from './round';
import { high, less, low, subtract } from './wide';

const QUIET_BIT: u64 = 1 << 62;

function result_nan(sign: u32, significand: u64): void {
  result((sign << 15) | EXPONENT_MAX, significand | QUIET_BIT);
}

export function result_zero(sign: u32): void {
  result(sign << 15, 0);
}

export function result_infinity(sign: u32): void {
  result((sign << 15) | EXPONENT_MAX, TOP_BIT);
}

export function invalid(): void {
  flag(IE);
  result_default_nan();
}

/** The result for a NaN or unsupported operand a alone; false for other operands. */
export function single_nan(): bool {
  if (a_kind < QUIET) return false;
  if (a_kind == UNSUPPORTED) {
    invalid();
    return true;
  }
  if (a_kind == SIGNALING) flag(IE);
  result_nan(a_sign, a_sig);
  return true;
}

/** The result for NaNs and unsupported operands among a and b (SDM volume 1, table 4-7); false if there are none. */
export function nans(): bool {
  if (a_kind < QUIET && b_kind < QUIET) return false;
  if (a_kind == UNSUPPORTED || b_kind == UNSUPPORTED) {
    invalid();
    return true;
  }
  if (a_kind == SIGNALING || b_kind == SIGNALING) flag(IE);
  let first = a_kind >= QUIET;
  if (first && b_kind >= QUIET) {
    if (a_kind != b_kind) {
      // A quiet NaN beside a signaling one is the result.
      first = a_kind == QUIET;
    } else {
      const a = a_sig | QUIET_BIT;
      const b = b_sig | QUIET_BIT;
      first = a > b || (a == b && a_sign <= b_sign);
    }
  }
  if (first) result_nan(a_sign, a_sig);
  else result_nan(b_sign, b_sig);
  return true;
}

/** Raises DE for denormal operands; true when that ends the operation. */
export function denormals(): bool {
  if (a_denormal || b_denormal) flag(DE);
  return stopped();
}

function round_exact(): void {
  round_extended(exact_sign, exact_exponent, exact_high, exact_low, precision_drop());
}

/** a + b. */
function sum(): void {
  if (nans()) return;
  if (a_kind == INFINITE || b_kind == INFINITE) {
    if (a_kind == b_kind && a_sign != b_sign) {
      invalid();
      return;
    }
    if (denormals()) return;
    result_infinity(a_kind == INFINITE ? a_sign : b_sign);
    return;
  }
  if (denormals()) return;
  const drop = precision_drop();
  if (a_kind == ZERO) {
    if (b_kind == ZERO) result_zero(a_sign == b_sign ? a_sign : u32(rounding() == DOWN));
    else round_extended(b_sign, b_exponent, b_sig, 0, drop);
    return;
  }
  if (b_kind == ZERO) {
    round_extended(a_sign, a_exponent, a_sig, 0, drop);
    return;
  }
  exact_sum(a_sign, a_exponent, a_sig, b_sign, b_exponent, b_sig);
  if ((exact_high | exact_low) == 0) result_zero(u32(rounding() == DOWN));
  else round_exact();
}

/** a - b: a NaN keeps its sign. */
function difference(): void {
  if (b_kind < QUIET) negate_b();
  sum();
}

function product(): void {
  if (nans()) return;
  const sign = a_sign ^ b_sign;
  if (a_kind == INFINITE || b_kind == INFINITE) {
    if (a_kind == ZERO || b_kind == ZERO) {
      invalid();
      return;
    }
    if (!denormals()) result_infinity(sign);
    return;
  }
  if (denormals()) return;
  if (a_kind == ZERO || b_kind == ZERO) {
    result_zero(sign);
    return;
  }
  exact_product(sign, a_exponent, a_sig, b_exponent, b_sig);
  round_exact();
}

/** a / b. */
function quotient(): void {
  if (nans()) return;
  const sign = a_sign ^ b_sign;
  if (a_kind == b_kind && a_kind != FINITE) {
    invalid();
    return;
  }
  if (b_kind == ZERO && a_kind == FINITE) {
    flag(ZE);
    result_infinity(sign);
    return;
  }
  if (denormals()) return;
  if (a_kind == INFINITE || b_kind == ZERO) {
    result_infinity(sign);
    return;
  }
  if (a_kind == ZERO || b_kind == INFINITE) {
    result_zero(sign);
    return;
  }
  exact_quotient(sign, a_exponent, a_sig, b_exponent, b_sig);
  round_exact();
}

/** Square root of a. */
export function square_root(): void {
  if (single_nan()) return;
  if (a_kind == ZERO) {
    result_zero(a_sign);
    return;
  }
  if (a_sign) {
    invalid();
    return;
  }
  if (a_denormal) flag(DE);
  if (stopped()) return;
  if (a_kind == INFINITE) {
    result_infinity(0);
    return;
  }
  const power = a_exponent - BIAS;
  // Radicand in [2^126, 2^128), so that the root has 64 bits.
  const odd = power & 1;
  let r1 = odd ? a_sig : a_sig >> 1;
  let r0: u64 = odd ? 0 : a_sig << 63;
  let root: u64 = 0;
  let n1: u64 = 0;
  let n0: u64 = 0;
  for (let i = 0; i < 64; i++) {
    n1 = (n1 << 2) | (n0 >> 62);
    n0 = (n0 << 2) | (r1 >> 62);
    r1 = (r1 << 2) | (r0 >> 62);
    r0 <<= 2;
    const t1 = root >> 62;
    const t0 = (root << 2) | 1;
    root <<= 1;
    if (!less(n1, n0, t1, t0)) {
      subtract(n1, n0, t1, t0);
      n1 = high;
      n0 = low;
      root |= 1;
    }
  }
  const tail = (n1 | n0) == 0 ? 0 : n1 != 0 || n0 > root ? TOP_BIT | 1 : 1;
  round_extended(0, (power >> 1) + BIAS, root, tail, precision_drop());
}

/** Operations by their number in ModRM.reg: 0 add, 1 multiply, 4 a - b, 5 b - a, 6 a / b, 7 b / a. */
export function operate(operation: i32): void {
  switch (operation) {
    case 0:
      sum();
      break;
    case 1:
      product();
      break;
    case 4:
      difference();
      break;
    case 5:
      swap();
      difference();
      break;
    case 6:
      quotient();
      break;
    default:
      swap();
      quotient();
  }
}
