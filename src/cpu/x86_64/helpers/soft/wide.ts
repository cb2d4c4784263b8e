// Products and quotients of 128 bits.

/** Upper 64 bits of a * b; bit 0 is set as well if the lower half is not zero. */
export function multiplyJam(a: u64, b: u64): u64 {
  const a0 = a & 0xffffffff;
  const a1 = a >> 32;
  const b0 = b & 0xffffffff;
  const b1 = b >> 32;
  const low = a0 * b0;
  const middle = a1 * b0 + (low >> 32);
  const cross = a0 * b1 + (middle & 0xffffffff);
  const high = a1 * b1 + (middle >> 32) + (cross >> 32);
  const rest = (cross << 32) | (low & 0xffffffff);
  return high | u64(rest != 0);
}

/** One digit of 32 bits: (high * 2^32 + digit) / (d1 * 2^32 + d0), for high below the divisor, which has its top bit set. */
function digitOf(high: u64, digit: u64, d1: u64, d0: u64): u64 {
  let q = high / d1;
  let rest = high - q * d1;
  while (q > 0xffffffff || q * d0 > ((rest << 32) | digit)) {
    q--;
    rest += d1;
    if (rest > 0xffffffff) break;
  }
  return q;
}

/** (high:low) / divisor for high < divisor, divisor not zero; bit 0 is set as well if there is a remainder. */
export function divideJam(high: u64, low: u64, divisor: u64): u64 {
  const shift = clz(divisor);
  const d = divisor << shift;
  const d1 = d >> 32;
  const d0 = d & 0xffffffff;
  const top = shift == 0 ? high : (high << shift) | (low >> (64 - shift));
  const bottom = low << shift;
  const q1 = digitOf(top, bottom >> 32, d1, d0);
  const middle = (top << 32) + (bottom >> 32) - q1 * d;
  const q0 = digitOf(middle, bottom & 0xffffffff, d1, d0);
  const rest = (middle << 32) + (bottom & 0xffffffff) - q0 * d;
  return ((q1 << 32) + q0) | u64(rest != 0);
}
