// Half precision, F16C: binary16 has a sign, five bits of exponent (bias 15), ten of fraction (SDM volume 2, VCVTPH2PS).

import {
  checkDenormal,
  exponent,
  infinity,
  isInfinite,
  isNaNBits,
  isNegative,
  isSignalling,
  isZero,
  LEADING,
  magnitude,
  operand,
  roundAt,
  shiftRightJam,
  significand,
} from './format';
import { DOWN, IE, masked, NEAREST, OE, PE, rounding, signal, UE, UP } from './state';

const SIGN: u32 = 0x8000;
const INFINITY: u32 = 0x7c00;
const QUIET: u32 = 0x200;
const FRACTION: u32 = 0x3ff;
const FRACTION_BITS: u32 = 10;
const BIAS: i32 = 15;
/** Bits by which the formats' fractions differ. */
const EXTRA: u32 = 13;

/** Always exact; a denormal is no denormal operand here, and DAZ leaves it. */
export function soft_f16_to_f32(a: u32): u32 {
  const sign = (a & SIGN) << 16;
  const size = a & (SIGN - 1);
  if (size > INFINITY) {
    if (!(a & QUIET)) signal(IE);
    return sign | <u32>infinity<f32>() | (((size & FRACTION) | QUIET) << EXTRA);
  }
  if (size == INFINITY) return sign | <u32>infinity<f32>();
  // Scaled by a power of two, which is exact.
  const value = <f32>reinterpret<f32>(size << EXTRA) * reinterpret<f32>((<u32>(127 + 127 - BIAS)) << 23);
  return sign | reinterpret<u32>(value);
}

/** `control`: bits 0 and 1 the rounding mode, bit 2 MXCSR's instead. FTZ does not count. */
export function soft_f32_to_f16(source: u32, control: i32): u32 {
  const a = operand<f32>(source);
  const negative = isNegative<f32>(a);
  const sign: u32 = negative ? SIGN : 0;
  if (isNaNBits<f32>(a)) {
    if (isSignalling<f32>(a)) signal(IE);
    return sign | INFINITY | QUIET | ((<u32>magnitude<f32>(a) >> EXTRA) & FRACTION);
  }
  if (isInfinite<f32>(a)) return sign | INFINITY;
  if (isZero<f32>(a)) return sign;
  checkDenormal<f32>(a);
  const mode = control & 4 ? rounding() : <u32>control & 3;
  const sig = significand<f32>(a);
  const shift = <u32>LEADING - FRACTION_BITS;
  const unit = (<u64>1) << shift;
  const biased = exponent<f32>(a) + BIAS;
  const rounded = roundAt(sig, mode, negative, unit);
  const inexact = (sig & (unit - 1)) != 0;
  if (biased <= 0 && !(biased == 0 && rounded >> 63)) {
    const denormal = shiftRightJam(sig, 1 - biased);
    const lost = (denormal & (unit - 1)) != 0;
    if (!masked(UE)) signal(inexact ? UE | PE : UE);
    else if (lost) signal(UE | PE);
    return sign | <u32>(roundAt(denormal, mode, negative, unit) >> shift);
  }
  if (inexact) signal(PE);
  const bits = <u32>(((<u64>(biased - 1)) << FRACTION_BITS) + (rounded >> shift));
  if (bits < INFINITY) return sign | bits;
  signal(OE);
  if (masked(OE)) signal(PE);
  const outward = mode == NEAREST || mode == (negative ? DOWN : UP);
  return sign | (outward ? INFINITY : INFINITY - 1);
}
