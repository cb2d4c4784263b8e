// Loads, stores and exchanges (SDM volume 1, section 8.3.1 and 8.3.2).

import { packed_decimal, unpack_decimal } from './decimal';
import {
  a_exponent,
  a_kind,
  a_sig,
  a_sign,
  b_denormal,
  b_exponent,
  b_kind,
  b_sig,
  b_sign,
  DOUBLE,
  INFINITE,
  QUIET,
  SIGNALING,
  UNSUPPORTED,
  unpack_a,
  unpack_memory,
  ZERO,
} from './operand';
import {
  BIAS,
  CHOP,
  clear_flags,
  DE,
  DOWN,
  EXPONENT_MAX,
  flag,
  IE,
  OE,
  result,
  round_float,
  round_integer,
  rounding,
  sig,
  UE,
  UP,
  unmasked,
} from './round';
import {
  empty,
  finish,
  free,
  keep_c1,
  pop,
  push,
  put,
  result_st,
  rotate,
  st_se,
  st_sig,
  stack_overflow,
  underflow,
} from './stack';

// ---- Loads -----------------------------------------------------------------------------------------------------------------
/** Result: the unpacked memory operand as a register holds it. */
function result_b(): void {
  if (b_kind == ZERO) {
    result(b_sign << 15, 0);
    return;
  }
  let significand = b_sig;
  if (b_kind == SIGNALING) {
    flag(IE);
    significand |= 1 << 62;
  }
  if (b_denormal) flag(DE);
  result((b_sign << 15) | <u32>b_exponent, significand);
}

/** FLD m32, m64 and FILD: `format` as in operand.ts. */
export function fpu_load(format: i32, bits: u64): void {
  if (!empty(7)) {
    if (stack_overflow()) push();
  } else {
    unpack_memory(format, bits);
    result_b();
    // A denormal number is loaded even when DE is not masked.
    if (!unmasked(IE)) push();
  }
  finish();
}

function push_result(): void {
  if (empty(7) || stack_overflow()) push();
  finish();
}

/** FLD m80, from a host address. */
export function fpu_load_extended(host: i32): void {
  result(load<u16>(host, 8), load<u64>(host));
  push_result();
}

/** FBLD, from a host address. */
export function fpu_load_decimal(host: i32): void {
  unpack_decimal(host);
  push_result();
}

/** FLD ST(i). */
export function fpu_load_register(i: i32): void {
  if (empty(i)) {
    if (underflow()) push();
  } else if (!empty(7)) {
    if (stack_overflow()) push();
  } else {
    result_st(i);
    push();
  }
  finish();
}

/** FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ by opcode: rounded by RC from more bits. */
export function fpu_load_constant(which: i32): void {
  const mode = rounding();
  const down = mode == DOWN || mode == CHOP;
  switch (which) {
    case 0:
      result(BIAS, 0x8000000000000000);
      break;
    case 1:
      result(BIAS + 1, mode == UP ? 0xd49a784bcd1b8aff : 0xd49a784bcd1b8afe);
      break;
    case 2:
      result(BIAS, down ? 0xb8aa3b295c17f0bb : 0xb8aa3b295c17f0bc);
      break;
    case 3:
      result(BIAS + 1, down ? 0xc90fdaa22168c234 : 0xc90fdaa22168c235);
      break;
    case 4:
      result(BIAS - 2, down ? 0x9a209a84fbcff798 : 0x9a209a84fbcff799);
      break;
    case 5:
      result(BIAS - 1, down ? 0xb17217f7d1cf79ab : 0xb17217f7d1cf79ac);
      break;
    default:
      result(0, 0);
  }
  push_result();
}

// ---- Stores ----------------------------------------------------------------------------------------------------------------
/** Formats of stores beyond SINGLE and DOUBLE (operand.ts): integers by bytes, by FCW.RC or chopped; the rest. */
const EXTENDED: i32 = 10;
const DECIMAL: i32 = 11;
const CHOPPED: i32 = 16;

let integer: i64 = 0;
/** Leaves a as an integer of `bytes` in `integer`; false if that is invalid. */
function to_integer(bytes: i32, chop: bool): bool {
  integer = 0;
  if (a_kind == ZERO) return true;
  const bits = bytes * 8;
  if (a_kind >= INFINITE || a_exponent >= BIAS + 64) return false;
  const magnitude = round_integer(a_sign, a_exponent, a_sig, chop);
  const limit: u64 = (<u64>1) << (bits - 1);
  integer = a_sign ? -(<i64>magnitude) : <i64>magnitude;
  return a_sign ? magnitude <= limit : magnitude < limit;
}

function write_integer(host: usize, bytes: i32, value: i64): void {
  if (bytes == 2) store<u16>(host, <u16>value);
  else if (bytes == 4) store<u32>(host, <u32>value);
  else store<u64>(host, value);
}

/** Raises IE alone, with C1 clear; true when the masked response is to be stored. */
function invalid_store(): bool {
  // An inexact rounding that went before does not count.
  clear_flags();
  flag(IE);
  return !unmasked(IE);
}

function write_indefinite(format: i32, host: usize): void {
  if (format == 0) store<u32>(host, 0xffc00000);
  else if (format == DOUBLE) store<u64>(host, 0xfff8000000000000);
  else if (format == EXTENDED || format == DECIMAL) {
    store<u64>(host, 0xc000000000000000);
    store<u16>(host, 0xffff, 8);
  } else {
    const bytes = format & 15;
    write_integer(host, bytes, <i64>((<u64>-1) << (bytes * 8 - 1)));
  }
}

function write_float(format: i32, host: usize): bool {
  const double = format == DOUBLE;
  const exponent_bits = double ? 11 : 8;
  const drop: u32 = double ? 11 : 40;
  const fraction_bits = 63 - drop;
  if (a_kind == UNSUPPORTED) {
    if (!invalid_store()) return false;
    write_indefinite(format, host);
    return true;
  }
  let bits: u64;
  const sign = (<u64>a_sign) << (fraction_bits + exponent_bits);
  const most = (<u64>(1 << exponent_bits) - 1) << fraction_bits;
  if (a_kind == ZERO) bits = sign;
  else if (a_kind == INFINITE) bits = sign | most;
  else if (a_kind >= QUIET) {
    if (a_kind == SIGNALING && !invalid_store()) return false;
    bits = sign | most | (((a_sig << 1) >> (drop + 1)) | ((<u64>1) << (fraction_bits - 1)));
  } else {
    round_float(a_sign, a_exponent, a_sig, exponent_bits, drop);
    if (unmasked(OE | UE)) return false;
    bits = sig;
  }
  if (double) store<u64>(host, bits);
  else store<u32>(host, <u32>bits);
  return true;
}

function write(format: i32, host: usize): bool {
  if (empty(0)) {
    if (!underflow()) return false;
    write_indefinite(format, host);
    return true;
  }
  if (format == EXTENDED) {
    store<u64>(host, st_sig(0));
    store<u16>(host, <u16>st_se(0), 8);
    return true;
  }
  unpack_a(st_se(0), st_sig(0));
  if (format <= DOUBLE) return write_float(format, host);
  if (format == DECIMAL ? packed_decimal(host) : to_integer(format & 15, (format & CHOPPED) != 0)) {
    if (format != DECIMAL) write_integer(host, format & 15, integer);
    return true;
  }
  if (!invalid_store()) return false;
  write_indefinite(format, host);
  return true;
}

/** FST, FIST, FISTTP, FBSTP and their popping forms to a host address; 1 when something was stored there. */
export function fpu_store(format: i32, host: i32, pops: i32): i32 {
  const stored = write(format, host);
  finish();
  if (stored) pop(pops);
  return i32(stored);
}

/** FST ST(i), FSTP ST(i). */
export function fpu_store_register(i: i32, pops: i32): void {
  if (empty(0)) {
    if (underflow()) {
      put(i);
      pop(pops);
    }
  } else {
    result_st(0);
    put(i);
    pop(pops);
  }
  finish();
}

// ---- Registers -------------------------------------------------------------------------------------------------------------
/** FXCH: an empty register takes part as real indefinite. */
export function fpu_exchange(i: i32): void {
  const first = empty(0);
  const second = empty(i);
  if ((first || second) && !underflow()) {
    finish();
    return;
  }
  const other_se: u32 = second ? 0xffff : st_se(i);
  const other: u64 = second ? 0xc000000000000000 : st_sig(i);
  if (!first) result_st(0);
  put(i);
  result(other_se, other);
  put(0);
  finish();
}

/** FCHS (0), FABS (1). */
export function fpu_sign(absolute: i32): void {
  if (empty(0)) {
    if (underflow()) put(0);
  } else {
    result(absolute ? st_se(0) & EXPONENT_MAX : st_se(0) ^ 0x8000, st_sig(0));
    put(0);
  }
  finish();
}

/** FCMOVcc: an empty register is found whether or not the condition holds. */
export function fpu_move(i: i32, condition: i32): void {
  keep_c1();
  if (empty(0) || empty(i)) {
    if (underflow()) put(0);
  } else if (condition) {
    result_st(i);
    put(0);
  }
  finish();
}

/** FFREE ST(i), FFREEP ST(i). */
export function fpu_free(i: i32, pops: i32): void {
  free(i);
  pop(pops);
  finish();
}

/** FINCSTP, FDECSTP. */
export function fpu_rotate(by: i32): void {
  rotate(by);
  finish();
}
