// AES rounds (FIPS 197; SDM volume 2, AESENC and its like), sixteen bytes at a time: `d` is the first source.

// The S-box is an inversion in GF(2^8) (and an affine map), done as M. Hamburg has shown ("Accelerating AES with vector permute
// instructions", 2009): in a field over GF(2^4), where a table of 16 bytes is one swizzle. An element is i + k b with i and k in GF(2^4);
// both halves of the quotient are then reciprocals of sums of reciprocals. In the tables 0x80 is infinity, as the reciprocal of 0: it
// stays out of range whatever is added to it, and what is out of range gives 0.

/** What a table (an address) has for each byte. */
function lookup(table: usize, x: v128): v128 {
  return i8x16.swizzle(v128.load(table), x);
}

/** A byte's low and high bits to i (bits 4 to 7) and k. */
const INTO_LOW = memory.data<u8>(
  [0x00, 0x10, 0x26, 0x36, 0x7d, 0x6d, 0x5b, 0x4b, 0x4d, 0x5d, 0x6b, 0x7b, 0x30, 0x20, 0x16, 0x06],
  16,
);
const INTO_HIGH = memory.data<u8>(
  [0x00, 0x27, 0xb9, 0x9e, 0x77, 0x50, 0xce, 0xe9, 0x1e, 0x39, 0xa7, 0x80, 0x69, 0x4e, 0xd0, 0xf7],
  16,
);
/** The same after the inverse of the affine map, whose constant is taken off before. */
const BACK_LOW = memory.data<u8>(
  [0x00, 0x1c, 0x44, 0x58, 0xe4, 0xf8, 0xa0, 0xbc, 0x76, 0x6a, 0x32, 0x2e, 0x92, 0x8e, 0xd6, 0xca],
  16,
);
const BACK_HIGH = memory.data<u8>(
  [0x00, 0xda, 0x2a, 0xf0, 0x1f, 0xc5, 0x35, 0xef, 0xd4, 0x0e, 0xfe, 0x24, 0xcb, 0x11, 0xe1, 0x3b],
  16,
);
/** 1 / x in GF(2^4), and a constant over x. */
const RECIPROCAL = memory.data<u8>(
  [0x80, 0x01, 0x0c, 0x08, 0x06, 0x0f, 0x04, 0x0e, 0x03, 0x0d, 0x0b, 0x0a, 0x02, 0x09, 0x07, 0x05],
  16,
);
const SCALED = memory.data<u8>(
  [0x80, 0x0c, 0x06, 0x04, 0x03, 0x0b, 0x02, 0x07, 0x0d, 0x0a, 0x09, 0x05, 0x01, 0x08, 0x0f, 0x0e],
  16,
);
/** The halves of the inverse (as reciprocals) to bytes: through the affine map, and as they are. */
const AFFINE_I = memory.data<u8>(
  [0x00, 0x54, 0x01, 0xb7, 0x11, 0xf2, 0xb6, 0xa6, 0xf3, 0x55, 0x44, 0x10, 0xa7, 0xe3, 0x45, 0xe2],
  16,
);
const AFFINE_J = memory.data<u8>(
  [0x00, 0x4b, 0xb5, 0x2a, 0xa3, 0xc2, 0x9f, 0x89, 0x77, 0xfe, 0x5d, 0x16, 0x3c, 0x61, 0xe8, 0xd4],
  16,
);
const PLAIN_I = memory.data<u8>(
  [0x00, 0x1f, 0x4a, 0x3f, 0xee, 0xce, 0x75, 0xd1, 0x84, 0x55, 0xbb, 0xa4, 0x9b, 0x20, 0xf1, 0x6a],
  16,
);
const PLAIN_J = memory.data<u8>(
  [0x00, 0x1e, 0xab, 0x8f, 0xb2, 0x23, 0x24, 0x3d, 0x88, 0xb5, 0x07, 0x19, 0x96, 0x91, 0xac, 0x3a],
  16,
);
const AFFINE_CONSTANT: i8 = 0x63;

function highBits(x: v128): v128 {
  return v128.and(i16x8.shr_u(x, 4), i8x16.splat(15));
}

/** Each byte's inverse: a linear map into the other field by two tables, and one out of it. */
function invert(x: v128, intoLow: usize, intoHigh: usize, outI: usize, outJ: usize): v128 {
  const low = v128.and(x, i8x16.splat(15));
  const both = v128.xor(lookup(intoLow, low), lookup(intoHigh, highBits(x)));
  const k = v128.and(both, i8x16.splat(15));
  const i = highBits(both);
  const j = v128.xor(i, k);
  const scaled = lookup(SCALED, k);
  const overI = v128.xor(lookup(RECIPROCAL, i), scaled);
  const overJ = v128.xor(lookup(RECIPROCAL, j), scaled);
  const first = v128.xor(lookup(RECIPROCAL, overI), j);
  const second = v128.xor(lookup(RECIPROCAL, overJ), i);
  return v128.xor(lookup(outI, first), lookup(outJ, second));
}

function substitute(x: v128): v128 {
  return v128.xor(invert(x, INTO_LOW, INTO_HIGH, AFFINE_I, AFFINE_J), i8x16.splat(AFFINE_CONSTANT));
}

function substituteBack(x: v128): v128 {
  return invert(v128.xor(x, i8x16.splat(AFFINE_CONSTANT)), BACK_LOW, BACK_HIGH, PLAIN_I, PLAIN_J);
}

function shiftRows(x: v128): v128 {
  return i8x16.swizzle(x, i8x16(0, 5, 10, 15, 4, 9, 14, 3, 8, 13, 2, 7, 12, 1, 6, 11));
}

function inverseShiftRows(x: v128): v128 {
  return i8x16.swizzle(x, i8x16(0, 13, 10, 7, 4, 1, 14, 11, 8, 5, 2, 15, 12, 9, 6, 3));
}

/** Each column turned by a number of bytes: byte i takes the place of the one before it. */
function turn1(x: v128): v128 {
  return i8x16.swizzle(x, i8x16(1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12));
}

function turn2(x: v128): v128 {
  return i8x16.swizzle(x, i8x16(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
}

/** Each byte times x in GF(2^8). */
function double(x: v128): v128 {
  return v128.xor(i8x16.add(x, x), v128.and(i8x16.lt_s(x, i8x16.splat(0)), i8x16.splat(0x1b)));
}

function mixColumns(x: v128): v128 {
  const next = turn1(x);
  const pair = v128.xor(x, next);
  // 2a + 3b + c + d = 2(a + b) + b + (c + d).
  return v128.xor(double(pair), v128.xor(next, turn2(pair)));
}

function inverseMixColumns(x: v128): v128 {
  // The inverse polynomial is the forward one times 4x^2 + 5.
  return mixColumns(v128.xor(x, double(double(v128.xor(x, turn2(x))))));
}

export function aes_enc(d: v128, s: v128): v128 {
  return v128.xor(mixColumns(substitute(shiftRows(d))), s);
}

export function aes_enclast(d: v128, s: v128): v128 {
  return v128.xor(substitute(shiftRows(d)), s);
}

export function aes_dec(d: v128, s: v128): v128 {
  return v128.xor(inverseMixColumns(substituteBack(inverseShiftRows(d))), s);
}

export function aes_declast(d: v128, s: v128): v128 {
  return v128.xor(substituteBack(inverseShiftRows(d)), s);
}

export function aes_imc(s: v128): v128 {
  return inverseMixColumns(s);
}

/** Dwords 1 and 3 of the source through the S-box, each also turned and with the round constant. */
export function aes_keygenassist(s: v128, constant: u32): v128 {
  const words = substitute(s);
  const spread = i8x16.swizzle(words, i8x16(4, 5, 6, 7, 5, 6, 7, 4, 12, 13, 14, 15, 13, 14, 15, 12));
  return v128.xor(spread, i32x4.replace_lane(i32x4.replace_lane(i32x4.splat(0), 1, constant), 3, constant));
}
