// PCLMULQDQ: products of polynomials over GF(2) (SDM volume 2).

/** Every fourth bit. */
const FOURTH: u64 = 0x1111111111111111;

/**
 * Carry-less product of two values of 32 bits. With three zeros between bits at most eight ones meet at a place of an
 * ordinary product, so their carries stay off the next place that counts.
 */
function multiply32(a: u64, b: u64): u64 {
  const a0 = a & FOURTH;
  const a1 = a & (FOURTH << 1);
  const a2 = a & (FOURTH << 2);
  const a3 = a & (FOURTH << 3);
  const b0 = b & FOURTH;
  const b1 = b & (FOURTH << 1);
  const b2 = b & (FOURTH << 2);
  const b3 = b & (FOURTH << 3);
  const z0 = (a0 * b0) ^ (a1 * b3) ^ (a2 * b2) ^ (a3 * b1);
  const z1 = (a0 * b1) ^ (a1 * b0) ^ (a2 * b3) ^ (a3 * b2);
  const z2 = (a0 * b2) ^ (a1 * b1) ^ (a2 * b0) ^ (a3 * b3);
  const z3 = (a0 * b3) ^ (a1 * b2) ^ (a2 * b1) ^ (a3 * b0);
  return (z0 & FOURTH) | (z1 & (FOURTH << 1)) | (z2 & (FOURTH << 2)) | (z3 & (FOURTH << 3));
}

/** Bits 0 and 4 of `choice` choose the quadwords of the two sources. */
export function pclmulqdq(first: v128, second: v128, choice: u32): v128 {
  const a = choice & 1 ? i64x2.extract_lane(first, 1) : i64x2.extract_lane(first, 0);
  const b = choice & 16 ? i64x2.extract_lane(second, 1) : i64x2.extract_lane(second, 0);
  const low = multiply32(<u64>a & 0xffffffff, <u64>b & 0xffffffff);
  const high = multiply32(<u64>a >> 32, <u64>b >> 32);
  const middle = multiply32((a ^ (<u64>a >> 32)) & 0xffffffff, (b ^ (<u64>b >> 32)) & 0xffffffff) ^ low ^ high;
  return i64x2.replace_lane(i64x2.splat(low ^ (middle << 32)), 1, high ^ (middle >> 32));
}
