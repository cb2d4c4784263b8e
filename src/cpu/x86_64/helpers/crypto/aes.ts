// AES rounds (FIPS 197; SDM volume 2, AESENC and its like), sixteen bytes at a time: `d` is the first source.

// The S-box is an inversion in GF(2^8) (and an affine map), done as M. Hamburg has shown ("Accelerating AES with vector permute
// instructions", 2009): in a field over GF(2^4), where a table of 16 bytes is one swizzle. An element is i + k b with i and k in GF(2^4);
// both halves of the quotient are then reciprocals of sums of reciprocals. In the tables 0x80 is infinity, as the reciprocal of 0: it
// stays out of range whatever is added to it, and what is out of range gives 0.

/** A byte's low and high bits to i (bits 4 to 7) and k. */
const INTO_LOW = i32x4(0x36261000, 0x4b5b6d7d, 0x7b6b5d4d, 0x06162030);
const INTO_HIGH = i32x4(0x9eb92700, 0xe9ce5077, 0x80a7391e, 0xf7d04e69);
/** The same after the inverse of the affine map, whose constant is taken off before. */
const BACK_LOW = i32x4(0x58441c00, 0xbca0f8e4, 0x2e326a76, 0xcad68e92);
const BACK_HIGH = i32x4(0xf02ada00, 0xef35c51f, 0x24fe0ed4, 0x3be111cb);
/** 1 / x in GF(2^4), and a constant over x. */
const RECIPROCAL = i32x4(0x080c0180, 0x0e040f06, 0x0a0b0d03, 0x05070902);
const SCALED = i32x4(0x04060c80, 0x07020b03, 0x05090a0d, 0x0e0f0801);
/** The halves of the inverse (as reciprocals) to bytes: through the affine map, and as they are. */
const AFFINE_I = i32x4(0xb7015400, 0xa6b6f211, 0x104455f3, 0xe245e3a7);
const AFFINE_J = i32x4(0x2ab54b00, 0x899fc2a3, 0x165dfe77, 0xd4e8613c);
const PLAIN_I = i32x4(0x3f4a1f00, 0xd175ceee, 0xa4bb5584, 0x6af1209b);
const PLAIN_J = i32x4(0x8fab1e00, 0x3d2423b2, 0x1907b588, 0x3aac9196);
const AFFINE_CONSTANT: i8 = 0x63;

function highBits(x: v128): v128 {
  return v128.and(i16x8.shr_u(x, 4), i8x16.splat(15));
}

/** Each byte's inverse: a linear map into the other field by two tables, and one out of it. */
function invert(x: v128, intoLow: v128, intoHigh: v128, outI: v128, outJ: v128): v128 {
  const low = v128.and(x, i8x16.splat(15));
  const both = v128.xor(i8x16.swizzle(intoLow, low), i8x16.swizzle(intoHigh, highBits(x)));
  const k = v128.and(both, i8x16.splat(15));
  const i = highBits(both);
  const j = v128.xor(i, k);
  const scaled = i8x16.swizzle(SCALED, k);
  const overI = v128.xor(i8x16.swizzle(RECIPROCAL, i), scaled);
  const overJ = v128.xor(i8x16.swizzle(RECIPROCAL, j), scaled);
  const first = v128.xor(i8x16.swizzle(RECIPROCAL, overI), j);
  const second = v128.xor(i8x16.swizzle(RECIPROCAL, overJ), i);
  return v128.xor(i8x16.swizzle(outI, first), i8x16.swizzle(outJ, second));
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
