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

/** Bit i: whether element i of one vector is that of the other. */
function equal(x: v128, y: v128, words: bool): u32 {
  return words ? i16x8.bitmask(i16x8.eq(x, y)) : i8x16.bitmask(i8x16.eq(x, y));
}

/** Element `index` of the string at `address`, in all places. */
function everywhere(address: usize, index: u32, words: bool): v128 {
  return words ? v128.load16_splat(address + (index << 1)) : v128.load8_splat(address + index);
}

/** Elements before the first zero. */
function implicitLength(string: v128, count: u32, words: bool): u32 {
  return ctz(equal(string, i64x2.splat(0), words) | (1 << count));
}

/** A length in a register: its magnitude, at most `count`. */
function explicitLength(register: usize, count: u32, wide: bool): u32 {
  const value = wide ? load<i64>(register) : <i64>load<i32>(register);
  const size = value < 0 ? 0 - <u64>value : <u64>value;
  return size < count ? <u32>size : count;
}

/** Bit i: whether element i is between two others, both included. */
function between(low: v128, x: v128, high: v128, control: u32): u32 {
  if (control & WORDS) {
    return i16x8.bitmask(
      control & SIGNED
        ? v128.and(i16x8.ge_s(x, low), i16x8.le_s(x, high))
        : v128.and(i16x8.ge_u(x, low), i16x8.le_u(x, high)),
    );
  }
  return i8x16.bitmask(
    control & SIGNED
      ? v128.and(i8x16.ge_s(x, low), i8x16.le_s(x, high))
      : v128.and(i8x16.ge_u(x, low), i8x16.le_u(x, high)),
  );
}

/** Bit i: whether element `i` of the second string matches, by the aggregation. */
function matches(a: usize, aLength: u32, b: v128, bLength: u32, count: u32, control: u32): u32 {
  const words = (control & WORDS) != 0;
  const all: u32 = (1 << count) - 1;
  const valid: u32 = (1 << bLength) - 1;
  let bits: u32 = 0;
  switch ((control >> 2) & 3) {
    case EQUAL_ANY:
      for (let j: u32 = 0; j < aLength; j++) bits |= equal(everywhere(a, j, words), b, words);
      return bits & valid;
    case RANGES:
      for (let j: u32 = 1; j < aLength; j += 2) {
        bits |= between(everywhere(a, j - 1, words), b, everywhere(a, j, words), control);
      }
      return bits & valid;
    case EQUAL_EACH: {
      // Behind both ends elements are equal; behind one they are not.
      const first: u32 = (1 << aLength) - 1;
      return (equal(v128.load(a), b, words) & first & valid) | (all & ~(first | valid));
    }
    default:
      // Equal ordered: the first string is here, as far as the second reaches.
      bits = all;
      for (let j: u32 = 0; j < aLength; j++) {
        const here = equal(everywhere(a, j, words), b, words) & valid;
        bits &= (here >> j) | ~(all >> j);
      }
      return bits & all;
  }
}

/**
 * Compares the strings at `a` (a register) and `b`. `control` is the immediate, with bit 8 for lengths in RAX and RDX
 * and bit 9 for a mask to XMM0 in place of an index to RCX.
 */
export function string_compare(record: usize, a: usize, b: usize, control: u32): void {
  const count: u32 = control & WORDS ? 8 : 16;
  const wide = (load<u8>(record, R_PREFIX) & RP_OP64) != 0;
  const words = (control & WORDS) != 0;
  const second = v128.load(b);
  const aLength = control & 0x100 ? explicitLength(RAX, count, wide) : implicitLength(v128.load(a), count, words);
  const bLength = control & 0x100 ? explicitLength(RDX, count, wide) : implicitLength(second, count, words);
  let bits = matches(a, aLength, second, bLength, count, control);
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
