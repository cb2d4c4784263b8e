// The two formats, binary32 and binary64 (T is f32 or f64): their bits, always in a u64, taken apart and put together
// (IEEE 754, 3.4; SDM volume 1, 4.8).

import { DE, denormalsAreZeros, DOWN, flushToZero, IE, masked, NEAREST, OE, PE, rounding, signal, UE, UP } from './state';

/** Place of an unpacked significand's leading one. */
export const LEADING: i32 = 62;

// @ts-ignore: decorator
@inline
export function fractionBits<T>(): u64 {
  return sizeof<T>() == 4 ? 23 : 52;
}

// @ts-ignore: decorator
@inline
export function bias<T>(): i32 {
  return sizeof<T>() == 4 ? 127 : 1023;
}

// @ts-ignore: decorator
@inline
export function signBit<T>(): u64 {
  return sizeof<T>() == 4 ? 0x80000000 : 0x8000000000000000;
}

// @ts-ignore: decorator
@inline
export function infinity<T>(): u64 {
  return sizeof<T>() == 4 ? 0x7f800000 : 0x7ff0000000000000;
}

// @ts-ignore: decorator
@inline
export function leastNormal<T>(): u64 {
  return (<u64>1) << fractionBits<T>();
}

// @ts-ignore: decorator
@inline
export function quietBit<T>(): u64 {
  return (<u64>1) << (fractionBits<T>() - 1);
}

/** The QNaN of invalid operations. */
// @ts-ignore: decorator
@inline
export function indefinite<T>(): u64 {
  return signBit<T>() | infinity<T>() | quietBit<T>();
}

// @ts-ignore: decorator
@inline
export function magnitude<T>(bits: u64): u64 {
  return bits & (signBit<T>() - 1);
}

// @ts-ignore: decorator
@inline
export function isNegative<T>(bits: u64): bool {
  return (bits & signBit<T>()) != 0;
}

// @ts-ignore: decorator
@inline
export function isNaNBits<T>(bits: u64): bool {
  return magnitude<T>(bits) > infinity<T>();
}

// @ts-ignore: decorator
@inline
export function isSignalling<T>(bits: u64): bool {
  return isNaNBits<T>(bits) && (bits & quietBit<T>()) == 0;
}

// @ts-ignore: decorator
@inline
export function isInfinite<T>(bits: u64): bool {
  return magnitude<T>(bits) == infinity<T>();
}

// @ts-ignore: decorator
@inline
export function isZero<T>(bits: u64): bool {
  return magnitude<T>(bits) == 0;
}

// @ts-ignore: decorator
@inline
export function isDenormal<T>(bits: u64): bool {
  return magnitude<T>(bits) - 1 < leastNormal<T>() - 1;
}

/** An operand as DAZ shows it. */
// @ts-ignore: decorator
@inline
export function operand<T>(bits: u64): u64 {
  return denormalsAreZeros() && isDenormal<T>(bits) ? bits & signBit<T>() : bits;
}

/** Invalid operation: the indefinite value. */
export function invalid<T>(): u64 {
  signal(IE);
  return indefinite<T>();
}

/** Result of an operation with a NaN: the first of the operands that is one, quieted. */
export function propagate<T>(a: u64, b: u64): u64 {
  if (isSignalling<T>(a) || isSignalling<T>(b)) signal(IE);
  return (isNaNBits<T>(a) ? a : b) | quietBit<T>();
}

/** Signals a denormal operand. */
// @ts-ignore: decorator
@inline
export function checkDenormal<T>(bits: u64): void {
  if (isDenormal<T>(bits)) signal(DE);
}

/** Exponent (not biased) of a finite number other than zero, as if normalised: the value is 1.f * 2^exponent. */
// @ts-ignore: decorator
@inline
export function exponent<T>(bits: u64): i32 {
  const biased = <i32>(magnitude<T>(bits) >> fractionBits<T>());
  if (biased) return biased - bias<T>();
  return 64 - <i32>clz(magnitude<T>(bits)) - bias<T>() - <i32>fractionBits<T>();
}

/** Significand of a finite number other than zero, leading one at bit 62. */
// @ts-ignore: decorator
@inline
export function significand<T>(bits: u64): u64 {
  const fraction = bits & (leastNormal<T>() - 1);
  if (magnitude<T>(bits) >= leastNormal<T>()) return (fraction | leastNormal<T>()) << (LEADING - fractionBits<T>());
  return fraction << (clz(fraction) - 1);
}

/** Shifts right; ones shifted out leave their trace in bit 0. */
export function shiftRightJam(value: u64, count: u32): u64 {
  if (count == 0) return value;
  if (count > 63) return u64(value != 0);
  return (value >> count) | u64((value << (64 - count)) != 0);
}

/** What is added below a significand's last bit to round it; `unit` is that bit. */
// @ts-ignore: decorator
@inline
export function increment(mode: u32, negative: bool, unit: u64): u64 {
  if (mode == NEAREST) return unit >> 1;
  if (mode == (negative ? DOWN : UP)) return unit - 1;
  return 0;
}

/** Rounds at `unit`; the bits below it are left to be dropped. */
// @ts-ignore: decorator
@inline
export function roundAt(value: u64, mode: u32, negative: bool, unit: u64): u64 {
  const rounded = value + increment(mode, negative, unit);
  // A tie goes to the even one.
  const tie = mode == NEAREST && (value & (unit - 1)) == unit >> 1;
  return tie ? rounded & ~unit : rounded;
}

/**
 * The number nearest to sig * 2^(exp - 62) by the current rounding mode, with OE, UE and PE. `sig` has its leading
 * one at bit 62, and something of all that it lacks in bit 0.
 */
export function roundPack<T>(negative: bool, exp: i32, sig: u64): u64 {
  const mode = rounding();
  const sign: u64 = negative ? signBit<T>() : 0;
  const shift = <u64>LEADING - fractionBits<T>();
  const unit = (<u64>1) << shift;
  const biased = exp + bias<T>();
  const rounded = roundAt(sig, mode, negative, unit);
  const inexact = (sig & (unit - 1)) != 0;
  // Tininess is found after rounding, as if exponents had no bound.
  if (biased <= 0 && !(biased == 0 && rounded >> 63)) return packTiny<T>(sign, biased, sig, inexact);
  if (inexact) signal(PE);
  // The leading one counts as one more in the exponent.
  const bits = ((<u64>(biased - 1)) << fractionBits<T>()) + (rounded >> shift);
  if (bits < infinity<T>()) return sign | bits;
  signal(OE);
  // With overflow unmasked, PE tells of the result with a wrapped exponent.
  if (masked(OE)) signal(PE);
  const outward = mode == NEAREST || mode == (negative ? DOWN : UP);
  return sign | (outward ? infinity<T>() : infinity<T>() - 1);
}

function packTiny<T>(sign: u64, biased: i32, sig: u64, inexact: bool): u64 {
  if (!masked(UE)) {
    signal(inexact ? UE | PE : UE);
    return sign;
  }
  if (flushToZero()) {
    signal(UE | PE);
    return sign;
  }
  const shift = <u64>LEADING - fractionBits<T>();
  const unit = (<u64>1) << shift;
  const denormal = shiftRightJam(sig, 1 - biased);
  if (denormal & (unit - 1)) signal(UE | PE);
  return sign | (roundAt(denormal, rounding(), sign != 0, unit) >> shift);
}
