// Pushing and popping by far transfers and exceptions: a cursor over a stack whose effects on the registers the caller
// commits at the end, so that a fault on the way leaves them as they were.

import { ATTR_DB, ATTR_UNUSABLE, CPL, RSP, STATUS_OK } from '../layout';
import {
  access_status,
  cpl_read16,
  cpl_read32,
  cpl_read64,
  cpl_write16,
  cpl_write32,
  cpl_write64,
  sup_write16,
  sup_write32,
  sup_write64,
} from './access';
import { is_64bit, is_canonical, segment_attr, segment_base, segment_limit } from './mode';
import { raise_error } from './raise';
import { INDEX_SS, SS } from './registers';

/** Stack pointer of the cursor, truncated to the stack's address size. */
export let frame_sp: u64 = 0;
/** Result of the last frame_pop(): STATUS_OK, or the status to leave the instruction with. */
export let frame_status: i32 = STATUS_OK;
let frame_base: u64 = 0;
let frame_limit: u32 = 0;
let frame_attr: u32 = 0;
/** Mask of offsets: 16, 32 or 64 bits. */
let frame_mask: u64 = 0;
/** A 64-bit stack: no base, no limit. */
let frame_flat: bool = false;
/** Error code of #SS. */
let frame_error: u32 = 0;
/** Privilege level of the accesses. */
let frame_cpl: u32 = 0;

/** Starts at the current stack; `flat`: as 64-bit code sees it. */
function begin_current(flat: bool, error: u32): void {
  frame_flat = flat;
  frame_base = segment_base(INDEX_SS);
  frame_limit = segment_limit(INDEX_SS);
  frame_attr = segment_attr(INDEX_SS);
  frame_mask = flat ? ~(<u64>0) : frame_attr & ATTR_DB ? 0xffffffff : 0xffff;
  frame_sp = load<u64>(RSP) & frame_mask;
  frame_error = error;
  frame_cpl = load<u32>(CPL);
}

/** The current stack, with the current mode's addresses. */
export function frame_current(error: u32): void {
  begin_current(is_64bit(), error);
}

/** A 64-bit stack at `sp`, accessed at privilege level `level`. */
export function frame_flat64(sp: u64, level: u32, error: u32): void {
  frame_flat = true;
  frame_mask = ~(<u64>0);
  frame_sp = sp;
  frame_error = error;
  frame_cpl = level;
}

/** A stack in a segment not loaded yet. `error`: error code of #SS. */
export function frame_segment(base: u32, limit: u32, attr: u32, sp: u32, level: u32, error: u32): void {
  frame_flat = false;
  frame_base = <u64>base;
  frame_limit = limit;
  frame_attr = attr;
  frame_mask = attr & ATTR_DB ? 0xffffffff : 0xffff;
  frame_sp = <u64>sp & frame_mask;
  frame_error = error;
  frame_cpl = level;
}

/** Whether `size` bytes at `offset` are inside a data segment. */
export function in_limit(offset: u64, size: u32, limit: u32, attr: u32): bool {
  if (attr & ATTR_UNUSABLE) return false;
  const last = offset + size - 1;
  // Expand-down data: type bits code 0, direction 1.
  if ((attr & 0xc) == 4) return offset > <u64>limit && last <= (attr & ATTR_DB ? 0xffffffff : 0xffff);
  return last <= <u64>limit;
}

/** Linear address of `size` bytes at an offset in the stack; raises #SS and clears frame_ok. */
function frame_linear(offset: u64, size: u32): u64 {
  frame_status = STATUS_OK;
  if (frame_flat) {
    if (!is_canonical(offset) || !is_canonical(offset + size - 1)) frame_status = raise_error(SS, frame_error);
    return offset;
  }
  if (!in_limit(offset, size, frame_limit, frame_attr)) frame_status = raise_error(SS, frame_error);
  return (frame_base + offset) & 0xffffffff;
}

/** Pushes `size` bytes (2, 4 or 8). STATUS_OK, or the status to leave with. */
export function frame_push(size: u32, value: u64): i32 {
  const sp = (frame_sp - size) & frame_mask;
  const linear = frame_linear(sp, size);
  if (frame_status != STATUS_OK) return frame_status;
  const same = frame_cpl == load<u32>(CPL);
  if (size == 8) {
    if (same) cpl_write64(linear, value);
    else sup_write64(linear, value);
  } else if (size == 4) {
    if (same) cpl_write32(linear, value & 0xffffffff);
    else sup_write32(linear, value & 0xffffffff);
  } else {
    if (same) cpl_write16(linear, value & 0xffff);
    else sup_write16(linear, value & 0xffff);
  }
  if (access_status != STATUS_OK) return access_status;
  frame_sp = sp;
  return STATUS_OK;
}

/** Reads `size` bytes (2, 4 or 8) `depth` bytes above the cursor, at the current privilege level; see frame_status. */
export function frame_peek(size: u32, depth: u32): u64 {
  const linear = frame_linear((frame_sp + depth) & frame_mask, size);
  if (frame_status != STATUS_OK) return 0;
  const value = size == 8 ? cpl_read64(linear) : size == 4 ? cpl_read32(linear) : cpl_read16(linear);
  frame_status = access_status;
  return value;
}

/** Pops `size` bytes; see frame_status. */
export function frame_pop(size: u32): u64 {
  const value = frame_peek(size, 0);
  frame_sp = (frame_sp + size) & frame_mask;
  return value;
}

/** Moves the cursor up. */
export function frame_skip(bytes: u32): void {
  frame_sp = (frame_sp + bytes) & frame_mask;
}

/** Writes the cursor to RSP, leaving the bits above the stack's address size alone. */
export function frame_commit(): void {
  set_stack_pointer(frame_sp, frame_mask);
}

function set_stack_pointer(sp: u64, mask: u64): void {
  // A 32-bit stack pointer write clears the upper half, as any 32-bit register write.
  if (mask == 0xffff) store<u16>(RSP, <u16>sp);
  else store<u64>(RSP, sp & mask);
}

/** Moves the stack pointer up by `bytes`, by the address size of the stack segment now loaded. */
export function release_stack(bytes: u32): void {
  const mask: u64 = is_64bit() ? ~(<u64>0) : segment_attr(INDEX_SS) & ATTR_DB ? 0xffffffff : 0xffff;
  set_stack_pointer((load<u64>(RSP) + bytes) & mask, mask);
}
