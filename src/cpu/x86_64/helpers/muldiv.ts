// Division, BCD adjustments, bit deposits (SDM volume 2), random numbers.

import { CC_A, CC_KIND, CC_KIND_RES, CC_RES, FLAG_AF, FLAG_CF, RAX, STATUS_OK } from '../layout';
import { get_arith } from './flags';
import { divide } from './fpu/wide';
import { raise } from './raise';
import { DE } from './registers';

// @ts-ignore: decorator
@external('host', 'host_random')
declare function host_random(): void;

/** Quotient of high:low by `divisor`, for high < divisor. */
export function quotient(high: u64, low: u64, divisor: u64): u64 {
  if (high == 0) return low / divisor;
  const shift = clz(divisor);
  const normal = shift == 0 ? high : (high << shift) | (low >> (64 - shift));
  return divide(normal, low << shift, divisor << shift);
}

/** Quotient of signed numbers, without its sign; all ones where it has no room in 64 bits. */
function magnitude(high: i64, low: u64, divisor: i64): u64 {
  const l: u64 = high < 0 ? 0 - low : low;
  const h: u64 = high < 0 ? ~(<u64>high) + (low == 0 ? 1 : 0) : <u64>high;
  const by: u64 = divisor < 0 ? 0 - <u64>divisor : <u64>divisor;
  return h < by ? quotient(h, l, by) : u64.MAX_VALUE;
}

/** Whether high:low by `divisor`, signed, has a quotient of 64 bits. */
export function quotient_fits(high: i64, low: u64, divisor: i64): i32 {
  const negative = high < 0 != divisor < 0;
  const most: u64 = negative ? <u64>1 << 63 : ((<u64>1 << 63) - 1);
  return magnitude(high, low, divisor) <= most ? 1 : 0;
}

/** That quotient, where it fits. */
export function quotient_signed(high: i64, low: u64, divisor: i64): i64 {
  const unsigned = magnitude(high, low, divisor);
  return <i64>(high < 0 != divisor < 0 ? 0 - unsigned : unsigned);
}

/** Bits of `source` to the places of the mask's ones. */
export function pdep(source: u64, mask: u64): u64 {
  let result: u64 = 0;
  let rest = mask;
  let bits = source;
  while (rest) {
    if (bits & 1) result |= rest & (0 - rest);
    rest &= rest - 1;
    bits >>= 1;
  }
  return result;
}

/** Bits of `source` at the mask's ones, side by side. */
export function pext(source: u64, mask: u64): u64 {
  let result: u64 = 0;
  let rest = mask;
  let position: u64 = 0;
  while (rest) {
    if (source & rest & (0 - rest)) result |= <u64>1 << position;
    rest &= rest - 1;
    position++;
  }
  return result;
}

/** DAA (0), DAS (1), AAA (2), AAS (3), AAM (4), AAD (5); `base` for the last two. */
export function bcd_adjust(kind: i32, base: i32): i32 {
  const flags = get_arith();
  let al: u32 = load<u8>(RAX);
  let ah: u32 = load<u8>(RAX, 1);
  const half = (al & 15) > 9 || (flags & FLAG_AF) != 0;
  let bits: u32 = 0;
  if (kind <= 1) {
    const old = al;
    const carry = (flags & FLAG_CF) != 0;
    const high = old > 0x99 || carry;
    if (half) {
      bits |= FLAG_AF;
      if (kind == 1 && old < 6) bits |= FLAG_CF;
      al = kind == 0 ? al + 6 : al - 6;
    }
    if (high) al = kind == 0 ? al + 0x60 : al - 0x60;
    if (carry || high) bits |= FLAG_CF;
  } else if (kind <= 3) {
    if (half) {
      // The adjustment goes through AX as one number.
      const ax = (ah << 8) | al;
      const adjusted = kind == 2 ? ax + 0x106 : ax - 0x106;
      al = adjusted & 0xff;
      ah = (adjusted >> 8) & 0xff;
      bits = FLAG_AF | FLAG_CF;
    }
    al &= 15;
  } else if (kind == 4) {
    const divisor: u32 = base & 0xff;
    if (divisor == 0) return raise(DE);
    ah = al / divisor;
    al = al % divisor;
  } else {
    al = (al + ah * (base & 0xff)) & 0xff;
    ah = 0;
  }
  store<u8>(RAX, <u8>al);
  store<u8>(RAX, <u8>ah, 1);
  store<u32>(CC_KIND, CC_KIND_RES);
  store<i64>(CC_RES, <i64>(<i8>al));
  store<u64>(CC_A, bits);
  return STATUS_OK;
}

/** 64 random bits from the host into HOST_VALUE. */
export function random(): void {
  host_random();
}
