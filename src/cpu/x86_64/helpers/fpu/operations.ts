// Arithmetic and comparison instructions (SDM volume 1, sections 8.3.3 to 8.3.6).

import { CC_A, CC_KIND, CC_KIND_FLAGS, FLAG_CF, FLAG_PF, FLAG_ZF } from '../../layout';
import { operate, square_root } from './arithmetic';
import {
  a_denormal,
  a_exponent,
  a_kind,
  a_sig,
  a_sign,
  b_denormal,
  b_exponent,
  b_kind,
  b_sig,
  b_sign,
  FINITE,
  INFINITE,
  QUIET,
  UNSUPPORTED,
  unpack_a,
  unpack_b,
  unpack_memory,
  ZERO,
} from './operand';
import { DE, flag, IE, set_c1, stopped } from './round';
import { empty, finish, keep_c1, pop, put, set_conditions, st_se, st_sig, underflow } from './stack';
import { operate_usually } from './usual';

const C0: u32 = 0x100;
const C2: u32 = 0x400;
const C3: u32 = 0x4000;

// ---- Arithmetic ------------------------------------------------------------------------------------------------------------
/** ST(0) = ST(0) op memory; `operation` as in arithmetic.ts, `format` as in operand.ts. */
export function fpu_arith_memory(operation: i32, format: i32, bits: u64): void {
  if (empty(0)) {
    if (underflow()) put(0);
  } else {
    unpack_memory(format, bits);
    if (b_denormal || !operate_usually(operation, st_se(0), st_sig(0), (b_sign << 15) | b_exponent, b_sig)) {
      unpack_a(st_se(0), st_sig(0));
      operate(operation);
    }
    if (!stopped()) put(0);
  }
  finish();
}

/** ST(to) = ST(to) op ST(other). */
export function fpu_arith(operation: i32, to: i32, other: i32, pops: i32): void {
  let done: bool;
  if (empty(to) || empty(other)) {
    done = underflow();
  } else {
    if (!operate_usually(operation, st_se(to), st_sig(to), st_se(other), st_sig(other))) {
      unpack_a(st_se(to), st_sig(to));
      unpack_b(st_se(other), st_sig(other));
      operate(operation);
    }
    done = !stopped();
  }
  if (done) {
    put(to);
    pop(pops);
  }
  finish();
}

export function fpu_sqrt(): void {
  if (empty(0)) {
    if (underflow()) put(0);
  } else {
    unpack_a(st_se(0), st_sig(0));
    square_root();
    if (!stopped()) put(0);
  }
  finish();
}

// ---- Comparison ------------------------------------------------------------------------------------------------------------
/** Condition code of comparing a with b. `quiet`: quiet NaNs are not invalid. */
function compare(quiet: bool): u32 {
  if (a_kind >= QUIET || b_kind >= QUIET) {
    if (!quiet || a_kind > QUIET || b_kind > QUIET) flag(IE);
    return C3 | C2 | C0;
  }
  if (a_denormal || b_denormal) flag(DE);
  if (a_kind == ZERO && b_kind == ZERO) return C3;
  if (a_kind == ZERO) return b_sign ? 0 : C0;
  if (b_kind == ZERO) return a_sign ? C0 : 0;
  if (a_sign != b_sign) return a_sign ? C0 : 0;
  let order: i32;
  if (a_exponent != b_exponent) order = a_exponent < b_exponent ? -1 : 1;
  else order = a_sig == b_sig ? 0 : a_sig < b_sig ? -1 : 1;
  if (order == 0) return C3;
  return order < 0 != (a_sign != 0) ? C0 : 0;
}

/** The condition code is set even when an unmasked exception keeps the stack from being popped. */
function conclude(conditions: u32, pops: i32): void {
  set_conditions(conditions);
  if (!stopped()) pop(pops);
  finish();
}

/** FCOM, FICOM with memory. */
export function fpu_compare_memory(format: i32, bits: u64, pops: i32): void {
  let conditions: u32 = C3 | C2 | C0;
  if (empty(0)) {
    underflow();
  } else {
    unpack_a(st_se(0), st_sig(0));
    unpack_memory(format, bits);
    conditions = compare(false);
  }
  conclude(conditions, pops);
}

function compare_registers(i: i32, quiet: bool): u32 {
  if (empty(0) || empty(i)) {
    underflow();
    return C3 | C2 | C0;
  }
  unpack_a(st_se(0), st_sig(0));
  unpack_b(st_se(i), st_sig(i));
  return compare(quiet);
}

/** FCOM, FUCOM. */
export function fpu_compare(i: i32, quiet: i32, pops: i32): void {
  conclude(compare_registers(i, quiet != 0), pops);
}

/** FCOMI, FUCOMI: result in ZF, PF and CF; the other arithmetic flags are cleared. */
export function fpu_compare_flags(i: i32, quiet: i32, pops: i32): void {
  keep_c1();
  const conditions = compare_registers(i, quiet != 0);
  const zf: u64 = conditions & C3 ? FLAG_ZF : 0;
  const pf: u64 = conditions & C2 ? FLAG_PF : 0;
  const cf: u64 = conditions & C0 ? FLAG_CF : 0;
  store<u32>(CC_KIND, CC_KIND_FLAGS);
  store<u64>(CC_A, zf | pf | cf);
  if (!stopped()) pop(pops);
  finish();
}

/** FTST. */
export function fpu_test(): void {
  let conditions: u32 = C3 | C2 | C0;
  if (empty(0)) {
    underflow();
  } else {
    unpack_a(st_se(0), st_sig(0));
    unpack_b(0, 0);
    conditions = compare(false);
  }
  conclude(conditions, 0);
}

/** FXAM: class of ST(0) in C3, C2, C0, its sign in C1; never an exception. */
export function fpu_examine(): void {
  const se = st_se(0);
  let conditions: u32 = C3 | C0;
  if (!empty(0)) {
    unpack_a(se, st_sig(0));
    if (a_kind == UNSUPPORTED) conditions = 0;
    else if (a_kind >= QUIET) conditions = C0;
    else if (a_kind == INFINITE) conditions = C2 | C0;
    else if (a_kind == ZERO) conditions = C3;
    else conditions = a_kind == FINITE && a_denormal ? C3 | C2 : C2;
  }
  set_c1(se >> 15);
  set_conditions(conditions);
  finish();
}
