// The register stack, and what surrounds every x87 instruction.

import {
  FCS,
  FCW,
  FDP,
  FDS,
  FIP,
  FOP,
  FPR,
  FSW,
  FTW,
  MODE,
  MODE_CODE_MASK,
  MODE_CODE64,
  R_IMM,
  R_SEG,
  RIP,
  SEG_CS,
  SEG_O_SELECTOR,
  STATUS_OK,
} from '../../layout';
import { c1, clear_flags, flag, flags, IE, result, result_default_nan, SF, se, set_c1, sig, unmasked } from './round';
import { fpu_enter } from './state';

const C1: u32 = 0x200;
const TOP_SHIFT: u32 = 11;
const TOP_MASK: u32 = 0x3800;
const SUMMARY: u32 = 0x8080;
const EXCEPTIONS: u32 = 0x3f;
const EMPTY: u32 = 3;

function physical(i: u32): u32 {
  return ((load<u32>(FSW) >> TOP_SHIFT) + i) & 7;
}

/** Address of ST(i). */
export function st(i: u32): usize {
  return FPR + physical(i) * 16;
}

export function st_sig(i: u32): u64 {
  return load<u64>(st(i));
}

export function st_se(i: u32): u32 {
  return load<u16>(st(i), 8);
}

export function empty(i: u32): bool {
  return ((load<u32>(FTW) >> (physical(i) * 2)) & 3) == EMPTY;
}

/** Puts the result of round.ts into ST(i). */
export function put(i: u32): void {
  const to = st(i);
  store<u64>(to, sig);
  store<u64>(to, se, 8);
  store<u32>(FTW, load<u32>(FTW) & ~(EMPTY << (physical(i) * 2)));
}

export function free(i: u32): void {
  store<u32>(FTW, load<u32>(FTW) | (EMPTY << (physical(i) * 2)));
}

export function rotate(by: i32): void {
  const status = load<u32>(FSW);
  store<u32>(FSW, (status & ~TOP_MASK) | ((status + ((<u32>by) << TOP_SHIFT)) & TOP_MASK));
}

export function pop(count: i32): void {
  for (let i = 0; i < count; i++) {
    free(0);
    rotate(1);
  }
}

/** Pushes the result of round.ts. */
export function push(): void {
  rotate(-1);
  put(0);
}

/** ST(i) is empty though it is needed: true when the masked response (real indefinite, as the result) is to be stored. */
export function underflow(): bool {
  flag(IE | SF);
  set_c1(0);
  result_default_nan();
  return !unmasked(IE);
}

/** A push would go to a register in use: true when the masked response is to be pushed. */
export function stack_overflow(): bool {
  flag(IE | SF);
  set_c1(1);
  result_default_nan();
  return !unmasked(IE);
}

/** Flags of the operation into the status word. */
export function finish(): void {
  const status = (load<u32>(FSW) & ~C1) | flags | (c1 ? C1 : 0);
  store<u32>(FSW, status & ~load<u32>(FCW) & EXCEPTIONS ? status | SUMMARY : status);
}

/** C1 stays as it is, unless the operation changes it. */
export function keep_c1(): void {
  set_c1(load<u32>(FSW) & C1);
}

/** C3, C2 and C0 (0x4500). */
export function set_conditions(bits: u32): void {
  store<u32>(FSW, (load<u32>(FSW) & ~0x4500) | bits);
}

/** C2 (0x400) alone. */
export function set_c2(bit: u32): void {
  store<u32>(FSW, (load<u32>(FSW) & ~0x400) | bit);
}

/** Result: the register's own contents. */
export function result_st(i: u32): void {
  result(st_se(i), st_sig(i));
}

// ---- Around an instruction -----------------------------------------------------------------------------------------------
function note(record: i32): void {
  clear_flags();
  store<u64>(FIP, load<u64>(RIP));
  store<u32>(FCS, load<u32>(SEG_CS + SEG_O_SELECTOR));
  store<u32>(FOP, load<u32>(record + R_IMM));
}

/** Start of an instruction without memory operand: availability, pending exceptions, instruction pointer. */
export function fpu_begin(record: i32): i32 {
  const status = fpu_enter();
  if (status == STATUS_OK) note(record);
  return status;
}

/** The operand was read, or its place found: instruction and data pointers. */
export function fpu_operand(record: i32, offset: i64): void {
  note(record);
  store<u64>(FDP, offset);
  const segment = load<u16>(record + R_SEG);
  // 64-bit mode without an override has no segment in the record; selectors mean nothing there.
  const legacy = (load<u32>(MODE) & MODE_CODE_MASK) != MODE_CODE64;
  store<u32>(FDS, legacy ? load<u32>(<usize>segment + SEG_O_SELECTOR) : 0);
}
