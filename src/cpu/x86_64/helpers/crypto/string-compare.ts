// PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM volume 2, 4.1).

import {
  CC_A,
  CC_KIND,
  CC_KIND_FLAGS,
  FLAG_CF,
  FLAG_OF,
  FLAG_SF,
  FLAG_ZF,
  R_PREFIX,
  RAX,
  RCX,
  RDX,
  RP_OP64,
  XMM,
} from '../../layout';

const WORDS: u32 = 1;
const SIGNED: u32 = 2;
const MOST_SIGNIFICANT: u32 = 0x40;

/** Aggregations (bits 2 and 3 of the immediate). */
const EQUAL_ANY: u32 = 0;
const RANGES: u32 = 1;
const EQUAL_EACH: u32 = 2;

/** One element as a number that compares as the immediate wants. */
function element(address: usize, index: u32, control: u32): i32 {
  if (control & WORDS) {
    const at = address + (index << 1);
    return control & SIGNED ? <i32>load<i16>(at) : <i32>load<u16>(at);
  }
  return control & SIGNED ? <i32>load<i8>(address + index) : <i32>load<u8>(address + index);
}

/** Elements before the first zero. */
function implicitLength(address: usize, count: u32, control: u32): u32 {
  for (let i: u32 = 0; i < count; i++) {
    if (element(address, i, control) == 0) return i;
  }
  return count;
}

/** A length in a register: its magnitude, at most `count`. */
function explicitLength(register: usize, count: u32, wide: bool): u32 {
  const value = wide ? load<i64>(register) : <i64>load<i32>(register);
  const size = value < 0 ? 0 - <u64>value : <u64>value;
  return size < count ? <u32>size : count;
}

/** Whether element `i` of the second string matches, by the aggregation. */
function matches(a: usize, aLength: u32, b: usize, bLength: u32, i: u32, count: u32, control: u32): bool {
  const aggregation = (control >> 2) & 3;
  if (aggregation == EQUAL_EACH) {
    if (i >= aLength || i >= bLength) return i >= aLength && i >= bLength;
    return element(a, i, control) == element(b, i, control);
  }
  if (aggregation == EQUAL_ANY || aggregation == RANGES) {
    if (i >= bLength) return false;
    const value = element(b, i, control);
    if (aggregation == EQUAL_ANY) {
      for (let j: u32 = 0; j < aLength; j++) {
        if (element(a, j, control) == value) return true;
      }
      return false;
    }
    for (let j: u32 = 1; j < aLength; j += 2) {
      if (element(a, j - 1, control) <= value && value <= element(a, j, control)) return true;
    }
    return false;
  }
  // Equal ordered: the first string is here, as far as the second reaches.
  for (let j: u32 = 0; j < aLength && i + j < count; j++) {
    if (i + j >= bLength || element(a, j, control) != element(b, i + j, control)) return false;
  }
  return true;
}

/**
 * Compares the strings at `a` (a register) and `b`. `control` is the immediate, with bit 8 for lengths in RAX and RDX
 * and bit 9 for a mask to XMM0 in place of an index to RCX.
 */
export function string_compare(record: usize, a: usize, b: usize, control: u32): void {
  const count: u32 = control & WORDS ? 8 : 16;
  const wide = (load<u8>(record, R_PREFIX) & RP_OP64) != 0;
  const aLength = control & 0x100 ? explicitLength(RAX, count, wide) : implicitLength(a, count, control);
  const bLength = control & 0x100 ? explicitLength(RDX, count, wide) : implicitLength(b, count, control);
  let bits: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    if (matches(a, aLength, b, bLength, i, count, control)) bits |= 1 << i;
  }
  // Polarity: bit 4 inverts, with bit 5 only the second string's own elements.
  if (control & 0x10) bits ^= control & 0x20 ? (1 << bLength) - 1 : (1 << count) - 1;
  if (control & 0x200) storeMask(bits, control);
  else store<u64>(RCX, bits == 0 ? count : control & MOST_SIGNIFICANT ? 31 - clz(bits) : ctz(bits));
  let flags: u32 = 0;
  if (bits) flags |= FLAG_CF;
  if (bLength < count) flags |= FLAG_ZF;
  if (aLength < count) flags |= FLAG_SF;
  if (bits & 1) flags |= FLAG_OF;
  store<u32>(CC_KIND, CC_KIND_FLAGS);
  store<u64>(CC_A, flags);
}

/** The mask as bits, or as elements of all ones. */
function storeMask(bits: u32, control: u32): void {
  if ((control & MOST_SIGNIFICANT) == 0) {
    store<u64>(XMM, bits);
    store<u64>(XMM + 8, 0);
  } else if (control & WORDS) {
    for (let i: u32 = 0; i < 8; i++) store<u16>(XMM + (i << 1), bits & (1 << i) ? 0xffff : 0);
  } else {
    for (let i: u32 = 0; i < 16; i++) store<u8>(XMM + i, bits & (1 << i) ? 0xff : 0);
  }
}
