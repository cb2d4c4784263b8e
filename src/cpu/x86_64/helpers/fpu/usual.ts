// x87's arithmetic where it is as usual, all at once: two normal numbers, and a normal result rounded to the nearest with all 64 bits.
// Everything else is left to arithmetic.ts.

import { FCW } from '../../layout';
import { exact_exponent, exact_high, exact_low, exact_product, exact_quotient, exact_sign, exact_sum } from './exact';
import { EXPONENT_MAX, flag, PE, result, set_c1, TOP_BIT } from './round';

/** FCW.PC and FCW.RC, and what they are by default: 64 bits, to the nearest. */
const CONTROLS: u32 = 0xf00;
const USUAL: u32 = 0x300;

function is_normal(exponent: u32, significand: u64): bool {
  return exponent - 1 < <u32>EXPONENT_MAX - 1 && significand >> 63 != 0;
}

/** Result: the exact one, rounded; false, and nothing is done, where its exponent is no normal number's. */
function rounds(): bool {
  const exponent = exact_exponent;
  const h = exact_high;
  const l = exact_low;
  if (exponent < 1 || exponent >= EXPONENT_MAX - 1) return false;
  const up = l > TOP_BIT || (l == TOP_BIT && (h & 1) != 0);
  if (l) flag(PE);
  set_c1(u32(up));
  const significand = h + u64(up);
  if (significand) result((exact_sign << 15) | <u32>exponent, significand);
  else result((exact_sign << 15) | <u32>(exponent + 1), TOP_BIT);
  return true;
}

/**
 * One of the operations as operate() counts them, of two registers' contents, with its flags. False where anything is unusual: nothing
 * has been done then.
 */
export function operate_usually(operation: i32, a_se: u32, a: u64, b_se: u32, b: u64): bool {
  const a_exponent = a_se & EXPONENT_MAX;
  const b_exponent = b_se & EXPONENT_MAX;
  if (!is_normal(a_exponent, a) || !is_normal(b_exponent, b) || (load<u32>(FCW) & CONTROLS) != USUAL) return false;
  const a_sign = a_se >> 15;
  const b_sign = b_se >> 15;
  switch (operation) {
    case 1:
      exact_product(a_sign ^ b_sign, a_exponent, a, b_exponent, b);
      return rounds();
    case 6:
      exact_quotient(a_sign ^ b_sign, a_exponent, a, b_exponent, b);
      return rounds();
    case 7:
      exact_quotient(a_sign ^ b_sign, b_exponent, b, a_exponent, a);
      return rounds();
  }
  exact_sum(a_sign ^ u32(operation == 5), a_exponent, a, b_sign ^ u32(operation == 4), b_exponent, b);
  if ((exact_high | exact_low) != 0) return rounds();
  result(0, 0);
  return true;
}
