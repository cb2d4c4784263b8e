// RCPS*, RSQRTS*: approximations of twelve bits, without flags, whatever MXCSR says (SDM volume 2). Rounding to twelve
// significant bits is at most 2^-12 off, and flushes to zero where the SDM wants it.

import {
  indefinite,
  infinity,
  isDenormal,
  isInfinite,
  isNaNBits,
  isNegative,
  isZero,
  leastNormal,
  quietBit,
  signBit,
} from './format';

const KEPT_BITS = 12;

/** Rounds a positive f64 to twelve bits, and to an f32; what is tiny becomes zero. */
function twelveBits(value: f64): u64 {
  const dropped: u64 = 53 - KEPT_BITS;
  const rounded = reinterpret<f64>(
    (reinterpret<u64>(value) + ((<u64>1) << (dropped - 1))) & ~(((<u64>1) << dropped) - 1),
  );
  const bits = <u64>reinterpret<u32>(<f32>rounded);
  return bits < leastNormal<f32>() ? 0 : bits;
}

function absolute(a: u64): f64 {
  return <f64>reinterpret<f32>(<u32>(a & ~signBit<f32>()));
}

export function soft_rcp_f32(source: u32): u32 {
  const a = <u64>source;
  if (isNaNBits<f32>(a)) return <u32>(a | quietBit<f32>());
  const sign = a & signBit<f32>();
  if (isZero<f32>(a) || isDenormal<f32>(a)) return <u32>(sign | infinity<f32>());
  if (isInfinite<f32>(a)) return <u32>sign;
  return <u32>(sign | twelveBits(1.0 / absolute(a)));
}

export function soft_rsqrt_f32(source: u32): u32 {
  const a = <u64>source;
  if (isNaNBits<f32>(a)) return <u32>(a | quietBit<f32>());
  if (isZero<f32>(a) || isDenormal<f32>(a)) return <u32>((a & signBit<f32>()) | infinity<f32>());
  if (isNegative<f32>(a)) return <u32>indefinite<f32>();
  if (isInfinite<f32>(a)) return 0;
  return <u32>twelveBits(1.0 / sqrt<f64>(absolute(a)));
}
