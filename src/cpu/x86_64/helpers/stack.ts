// Stack instructions outside 64-bit mode, PUSHA, POPA and ENTER (SDM volume 2). In 64-bit mode the plain ones are
// handlers without help.

import {
  ATTR_DB,
  GPR,
  HOST_VALUE,
  R_PREFIX,
  R_SEG,
  RAX,
  RBP,
  RBX,
  RP_ADDR16,
  RSP,
  SEG_O_ATTR,
  SEG_O_BASE,
  SEG_SS,
  STATUS_OK,
} from '../layout';
import { access_status, cpl_read8 } from './access';
import {
  frame_commit,
  frame_current,
  frame_peek,
  frame_pop,
  frame_push,
  frame_skip,
  frame_sp,
  frame_status,
  in_limit,
  release_stack,
} from './frame';
import { is_64bit } from './mode';
import { raise_error } from './raise';
import { GP, SS } from './registers';

function register(index: u32, size: u32): u64 {
  const at = GPR + index * 8;
  return size == 8 ? load<u64>(at) : size == 4 ? <u64>load<u32>(at) : <u64>load<u16>(at);
}

function set_register(index: u32, size: u32, value: u64): void {
  const at = GPR + index * 8;
  if (size == 2) store<u16>(at, <u16>value);
  else store<u64>(at, size == 4 ? value & 0xffffffff : value);
}

/** Pushes `size` bytes (2 or 4). */
export function push_legacy(value: u64, size: i32): i32 {
  frame_current(0);
  const status = frame_push(size, value);
  if (status == STATUS_OK) frame_commit();
  return status;
}

/** Reads `size` bytes at the top of the stack into HOST_VALUE; the stack pointer stays. */
export function top_legacy(size: i32): i32 {
  frame_current(0);
  store<u64>(HOST_VALUE, frame_pop(size));
  return frame_status;
}

/** Moves the stack pointer up. */
export function pop_legacy(bytes: i32): void {
  release_stack(bytes);
}

/** PUSHA: rAX rCX rDX rBX, the old rSP, rBP rSI rDI. */
export function pusha(size: i32): i32 {
  frame_current(0);
  for (let index: u32 = 0; index < 8; index++) {
    const status = frame_push(size, register(index, size));
    if (status != STATUS_OK) return status;
  }
  frame_commit();
  return STATUS_OK;
}

/** POPA: the reverse of PUSHA; the saved rSP is skipped. */
export function popa(size: i32): i32 {
  frame_current(0);
  // All reads come first, so that a fault leaves the registers alone.
  for (let i: u32 = 0; i < 8; i++) {
    frame_peek(size, i * size);
    if (frame_status != STATUS_OK) return frame_status;
  }
  for (let i: u32 = 0; i < 8; i++) {
    const value = frame_peek(size, i * size);
    if (i != 3) set_register(7 - i, size, value);
  }
  frame_skip(8 * size);
  frame_commit();
  return STATUS_OK;
}

/** Value of a frame's stack pointer mask: 64, 32 or 16 bits. */
function stack_mask(): u64 {
  if (is_64bit()) return ~(<u64>0);
  return load<u32>(SEG_SS, SEG_O_ATTR) & ATTR_DB ? 0xffffffff : 0xffff;
}

/** ENTER with `locals` bytes and nesting level `level`. */
export function enter(size: i32, locals: i32, level: i32): i32 {
  const depth = level & 31;
  frame_current(0);
  const mask = stack_mask();
  let status = frame_push(size, register(5, size));
  if (status != STATUS_OK) return status;
  const frame = frame_sp;
  // The display: saved frame pointers of the enclosing levels, read below the old rBP.
  const base = load<u64>(RBP);
  for (let i = 1; i < depth; i++) {
    const pointer = frame_peek(size, <u32>((base - <u64>(i * size) - frame_sp) & mask));
    if (frame_status != STATUS_OK) return frame_status;
    status = frame_push(size, pointer);
    if (status != STATUS_OK) return status;
  }
  if (depth > 0) {
    status = frame_push(size, frame);
    if (status != STATUS_OK) return status;
  }
  const top = (frame_sp - <u64>(locals & 0xffff)) & mask;
  // The new top must be writable: the processor probes it.
  set_register(5, size, frame);
  if (mask == 0xffff) store<u16>(RSP, <u16>top);
  else store<u64>(RSP, top);
  return STATUS_OK;
}

/** LEAVE outside 64-bit mode. */
export function leave_frame(size: i32): i32 {
  const mask = stack_mask();
  const old = load<u64>(RSP);
  store<u64>(RSP, mask == 0xffff ? (old & ~mask) | (load<u64>(RBP) & mask) : load<u64>(RBP) & mask);
  frame_current(0);
  const value = frame_pop(size);
  if (frame_status != STATUS_OK) {
    store<u64>(RSP, old);
    return frame_status;
  }
  frame_commit();
  set_register(5, size, value);
  return STATUS_OK;
}

/** XLAT outside 64-bit mode: AL = [segment:rBX + AL]. */
export function xlat_legacy(record: i32): i32 {
  const wide = !(load<u8>(record, R_PREFIX) & RP_ADDR16);
  const offset = (load<u64>(RBX) + load<u8>(RAX)) & (wide ? 0xffffffff : 0xffff);
  const segment = <usize>load<u16>(record, R_SEG);
  if (!in_limit(offset, 1, load<u32>(segment, 8), load<u32>(segment, SEG_O_ATTR))) {
    return raise_error(segment == SEG_SS ? SS : GP, 0);
  }
  const value = cpl_read8((load<u64>(segment, SEG_O_BASE) + offset) & 0xffffffff);
  if (access_status != STATUS_OK) return access_status;
  store<u8>(RAX, <u8>value);
  return STATUS_OK;
}
