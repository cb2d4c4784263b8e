// Rounding to the formats of x87, with the flags of the operation at hand (SDM volume 1, sections 4.8.4, 8.5).
//
// Exponents are biased by BIAS and may leave the range of 15 bits on their way here; a significand is high:low with
// bit 127 set, standing for 1.0 to 2.0.

import { FCW } from '../../layout';
import { high, low, shift_right_jam } from './wide';

export const BIAS: i32 = 16383;
export const EXPONENT_MAX: i32 = 0x7fff;
export const TOP_BIT: u64 = 1 << 63;
/** Added to or taken from the exponent of a result whose underflow or overflow is not masked. */
const WRAP: i32 = 24576;

export const IE: u32 = 1;
export const DE: u32 = 2;
export const ZE: u32 = 4;
export const OE: u32 = 8;
export const UE: u32 = 0x10;
export const PE: u32 = 0x20;
export const SF: u32 = 0x40;

/** FCW.RC. */
export const DOWN: u32 = 1;
export const UP: u32 = 2;
export const CHOP: u32 = 3;

/** Flags that the current operation raised. */
export let flags: u32 = 0;
/** C1 after it: a result was rounded up, or the stack overflowed. */
export let c1: u32 = 0;
/** Result: a register's two parts, or in `sig` the bits of a smaller format. */
export let sig: u64 = 0;
export let se: u32 = 0;

let inexact: bool = false;

export function clear_flags(): void {
  flags = 0;
  c1 = 0;
}

export function flag(bits: u32): void {
  flags |= bits;
}

export function set_c1(value: u32): void {
  c1 = value;
}

export function result(sign_exponent: u32, significand: u64): void {
  se = sign_exponent;
  sig = significand;
}

/** Real indefinite. */
export function result_default_nan(): void {
  se = 0xffff;
  sig = 0xc000000000000000;
}

/** The flag is raised and its exception is not masked. */
export function unmasked(bits: u32): bool {
  return (flags & ~load<u32>(FCW) & bits) != 0;
}

/** An exception found in the operands stops the operation: nothing is stored. */
export function stopped(): bool {
  return unmasked(IE | DE | ZE);
}

export function rounding(): u32 {
  return (load<u32>(FCW) >> 10) & 3;
}

/** Bits of a significand that FCW.PC leaves out. */
export function precision_drop(): u32 {
  const control = (load<u32>(FCW) >> 8) & 3;
  return control == 0 ? 40 : control == 2 ? 11 : 0;
}

/** Whether the magnitude goes up when the low `drop` bits of `hi` (0 to 63) and all of `lo` are rounded off. */
export function rounds_up(sign: u32, hi: u64, lo: u64, drop: u32): bool {
  const tail = drop ? (hi << (64 - drop)) | u64(lo != 0) : lo;
  inexact = tail != 0;
  if (!inexact) return false;
  switch (rounding()) {
    case 0:
      return tail > TOP_BIT || (tail == TOP_BIT && ((hi >> drop) & 1) != 0);
    case DOWN:
      return sign != 0;
    case UP:
      return sign == 0;
    default:
      return false;
  }
}

/** Rounds off; returns the kept bits in place, 0 for a carry out of bit 63. Sets PE and C1. */
function rounded(sign: u32, hi: u64, lo: u64, drop: u32): u64 {
  const up = rounds_up(sign, hi, lo, drop);
  if (inexact) flags |= PE;
  c1 = u32(up);
  const kept = (hi >> drop) << drop;
  return up ? kept + ((<u64>1) << drop) : kept;
}

/** Would rounding with any exponent carry into the next binade? */
function carries(sign: u32, hi: u64, lo: u64, drop: u32): bool {
  return hi >> drop == <u64>-1 >> drop && rounds_up(sign, hi, lo, drop);
}

/** Result rounded to a register with `drop` bits fewer than 64. */
export function round_extended(sign: u32, exponent: i32, hi: u64, lo: u64, drop: u32): void {
  const sign_bit = sign << 15;
  if (exponent <= 0) {
    const tiny = exponent < 0 || !carries(sign, hi, lo, drop);
    if (tiny && !(load<u32>(FCW) & UE)) {
      flags |= UE;
      exponent += WRAP;
      if (exponent <= 0) {
        // FSCALE can go further than the wrapped exponent reaches.
        flags |= PE;
        c1 = 0;
        result(sign_bit, 0);
        return;
      }
    } else {
      shift_right_jam(hi, lo, <u32>(1 - exponent));
      sig = rounded(sign, high, low, drop);
      if (tiny && inexact) flags |= UE;
      se = sign_bit | u32(sig >> 63);
      return;
    }
  }
  let significand = rounded(sign, hi, lo, drop);
  if (significand == 0) {
    significand = TOP_BIT;
    exponent++;
  }
  if (exponent >= EXPONENT_MAX) {
    if (!(load<u32>(FCW) & OE)) {
      flags |= OE;
      exponent -= WRAP;
      if (exponent >= EXPONENT_MAX) {
        flags |= PE;
        c1 = 1;
        result(sign_bit | EXPONENT_MAX, TOP_BIT);
        return;
      }
    } else {
      overflow(sign, drop);
      return;
    }
  }
  se = sign_bit | <u32>exponent;
  sig = significand;
}

/** Does a result that is too large become infinite? */
function to_infinity(sign: u32): bool {
  const mode = rounding();
  return mode == 0 || mode == (sign ? DOWN : UP);
}

function overflow(sign: u32, drop: u32): void {
  flags |= OE | PE;
  if (to_infinity(sign)) {
    c1 = 1;
    result((sign << 15) | EXPONENT_MAX, TOP_BIT);
  } else {
    c1 = 0;
    result((sign << 15) | (EXPONENT_MAX - 1), (<u64>-1 >> drop) << drop);
  }
}

/**
 * Result in `sig` as a 32- or 64-bit number of `exponent_bits` and 64 - `drop` bits of significand. With an unmasked
 * overflow or underflow there is no result.
 */
export function round_float(sign: u32, exponent: i32, significand: u64, exponent_bits: i32, drop: u32): void {
  const fraction_bits = 63 - drop;
  const most = (1 << exponent_bits) - 1;
  const sign_bit = (<u64>sign) << (fraction_bits + exponent_bits);
  let biased = exponent - BIAS + (most >> 1);
  if (biased <= 0) {
    const tiny = biased < 0 || !carries(sign, significand, 0, drop);
    if (tiny && !(load<u32>(FCW) & UE)) {
      flags |= UE;
      return;
    }
    shift_right_jam(significand, 0, <u32>(1 - biased));
    const kept = rounded(sign, high, low, drop);
    if (tiny && inexact) flags |= UE;
    // A carry into bit 63 is the least normal number's exponent.
    sig = sign_bit | (kept >> drop);
    return;
  }
  let kept = rounded(sign, significand, 0, drop);
  if (kept == 0) {
    kept = TOP_BIT;
    biased++;
  }
  if (biased >= most) {
    if (!(load<u32>(FCW) & OE)) {
      // Nothing was rounded to the destination.
      flags = OE;
      c1 = 0;
      return;
    }
    flags |= OE | PE;
    c1 = u32(to_infinity(sign));
    sig = sign_bit | (((<u64>most) << fraction_bits) - u64(!c1));
    return;
  }
  sig = sign_bit | ((<u64>biased) << fraction_bits) | ((kept << 1) >> (drop + 1));
}

/** Magnitude of a number rounded to an integer, with PE and C1; exponents up to BIAS + 63. */
export function round_integer(sign: u32, exponent: i32, significand: u64, chop: bool): u64 {
  shift_right_jam(significand, 0, <u32>min(BIAS + 63 - exponent, 127));
  const whole = high;
  const up = rounds_up(sign, whole, low, 0) && !chop;
  if (inexact) flags |= PE;
  c1 = u32(up);
  return whole + u64(up);
}
