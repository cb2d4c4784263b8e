// Operands taken apart: two of them, a and b.

import { BIAS, EXPONENT_MAX, TOP_BIT } from './round';

export const ZERO: u32 = 0;
export const FINITE: u32 = 1;
export const INFINITE: u32 = 2;
export const QUIET: u32 = 3;
export const SIGNALING: u32 = 4;
/** An encoding that the 387 and its successors refuse: unnormals, pseudo-infinities, pseudo-NaNs. */
export const UNSUPPORTED: u32 = 5;

export let a_sign: u32 = 0;
/** Exponent of the normalized significand, biased by BIAS; below 1 for denormal numbers. */
export let a_exponent: i32 = 0;
/** Normalized (bit 63 set) unless the kind is ZERO; a NaN's as it was. */
export let a_sig: u64 = 0;
export let a_kind: u32 = 0;
/** Was a denormal number in its own format. */
export let a_denormal: bool = false;
export let b_sign: u32 = 0;
export let b_exponent: i32 = 0;
export let b_sig: u64 = 0;
export let b_kind: u32 = 0;
export let b_denormal: bool = false;

export function kind_of(se: u32, significand: u64): u32 {
  const exponent = se & EXPONENT_MAX;
  if (exponent == 0) return significand ? FINITE : ZERO;
  if (!(significand >> 63)) return UNSUPPORTED;
  if (exponent != EXPONENT_MAX) return FINITE;
  if (significand == TOP_BIT) return INFINITE;
  return (significand >> 62) & 1 ? QUIET : SIGNALING;
}

/** a, of an 80-bit value. */
export function unpack_a(se: u32, significand: u64): void {
  a_sign = se >> 15;
  a_exponent = se & EXPONENT_MAX;
  a_sig = significand;
  a_kind = kind_of(se, significand);
  a_denormal = a_exponent == 0 && significand != 0;
  if (a_denormal) {
    const shift = <i32>clz(significand);
    a_exponent = 1 - shift;
    a_sig = significand << shift;
  }
}

export function swap(): void {
  const sign = a_sign;
  const exponent = a_exponent;
  const significand = a_sig;
  const kind = a_kind;
  const denormal = a_denormal;
  a_sign = b_sign;
  a_exponent = b_exponent;
  a_sig = b_sig;
  a_kind = b_kind;
  a_denormal = b_denormal;
  b_sign = sign;
  b_exponent = exponent;
  b_sig = significand;
  b_kind = kind;
  b_denormal = denormal;
}

/** b, of an 80-bit value. */
export function unpack_b(se: u32, significand: u64): void {
  b_sign = se >> 15;
  b_exponent = se & EXPONENT_MAX;
  b_sig = significand;
  b_kind = kind_of(se, significand);
  b_denormal = b_exponent == 0 && significand != 0;
  if (b_denormal) {
    const shift = <i32>clz(significand);
    b_exponent = 1 - shift;
    b_sig = significand << shift;
  }
}

export function negate_b(): void {
  b_sign ^= 1;
}

/** b, of a number with `exponent_bits` and `fraction_bits`. */
function unpack_float(bits: u64, exponent_bits: u32, fraction_bits: u32): void {
  const most = (1 << exponent_bits) - 1;
  const exponent = <u32>(bits >> fraction_bits) & most;
  const fraction = bits << (64 - fraction_bits);
  b_sign = <u32>(bits >> (exponent_bits + fraction_bits)) & 1;
  b_denormal = false;
  b_exponent = <i32>exponent - (most >> 1) + BIAS;
  b_sig = (fraction >> 1) | TOP_BIT;
  if (exponent == most) {
    b_exponent = EXPONENT_MAX;
    b_kind = fraction == 0 ? INFINITE : fraction >> 63 ? QUIET : SIGNALING;
  } else if (exponent) {
    b_kind = FINITE;
  } else if (fraction == 0) {
    b_kind = ZERO;
    b_exponent = 0;
    b_sig = 0;
  } else {
    const shift = <i32>clz(fraction);
    b_kind = FINITE;
    b_denormal = true;
    b_exponent -= shift;
    b_sig = fraction << shift;
  }
}

function unpack_integer(value: i64): void {
  b_sign = u32(value < 0);
  b_denormal = false;
  if (value == 0) {
    b_kind = ZERO;
    b_exponent = 0;
    b_sig = 0;
    return;
  }
  const magnitude = value < 0 ? <u64>-value : <u64>value;
  const shift = <i32>clz(magnitude);
  b_kind = FINITE;
  b_exponent = BIAS + 63 - shift;
  b_sig = magnitude << shift;
}

/** Formats of memory operands that are passed by value. */
export const SINGLE: i32 = 0;
export const DOUBLE: i32 = 1;
export const INTEGER: i32 = 2;

/** b, of a memory operand: bits, or a sign-extended integer. */
export function unpack_memory(format: i32, bits: u64): void {
  if (format == SINGLE) unpack_float(bits, 8, 23);
  else if (format == DOUBLE) unpack_float(bits, 11, 52);
  else unpack_integer(bits);
}
