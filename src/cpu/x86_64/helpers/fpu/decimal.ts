// Packed decimal: 18 digits and a sign byte (SDM volume 1, section 4.7).

import { a_exponent, a_kind, a_sig, a_sign, INFINITE, ZERO } from './operand';
import { BIAS, result, round_integer } from './round';

const DIGITS: i32 = 18;
const LIMIT: u64 = 1000000000000000000;

/** Result: the decimal number at a host address. Digits above nine count as they are. */
export function unpack_decimal(host: usize): void {
  let value: u64 = 0;
  for (let i = DIGITS / 2 - 1; i >= 0; i--) {
    const pair: u64 = load<u8>(host + i);
    value = value * 100 + (pair >> 4) * 10 + (pair & 15);
  }
  const sign: u32 = (load<u8>(host, 9) >> 7) << 15;
  if (value == 0) {
    result(sign, 0);
  } else {
    const shift = <i32>clz(value);
    result(sign | <u32>(BIAS + 63 - shift), value << shift);
  }
}

/** Writes a, rounded to an integer, to a host address; false if it does not fit. */
export function packed_decimal(host: usize): bool {
  let value: u64 = 0;
  if (a_kind != ZERO) {
    if (a_kind >= INFINITE || a_exponent >= BIAS + 60) return false;
    value = round_integer(a_sign, a_exponent, a_sig, false);
    if (value >= LIMIT) return false;
  }
  for (let i = 0; i < DIGITS / 2; i++) {
    store<u8>(host + i, <u8>((value % 10) | (((value / 10) % 10) << 4)));
    value /= 100;
  }
  store<u8>(host, <u8>(a_sign << 7), 9);
  return true;
}
