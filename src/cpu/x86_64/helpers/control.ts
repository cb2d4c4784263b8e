// Far JMP and CALL: direct, through call gates, task gates and task-state segments (SDM volume 2, JMP and CALL; volume
// 3, section 5.8).

import { NEXT_RIP, RIP, RSP, STATUS_FAULT, STATUS_JUMP, STATUS_OK } from '../layout';
import {
  desc_address,
  desc_dpl,
  desc_hi,
  desc_limit,
  desc_lo,
  desc_present,
  desc_upper_hi,
  desc_upper_lo,
  fetch_or_raise,
  fetch_upper_or_raise,
  is_null,
  mark_accessed,
  raise_selector,
  set_from_descriptor,
  system_type,
} from './descriptors';
import { deliver_exception } from './exceptions';
import { frame_commit, frame_current, frame_peek, frame_push, frame_status } from './frame';
import { begin_inner_stack, begin_inner_stack64, commit_inner_stack, set_null_stack } from './inner-stack';
import {
  cpl,
  is_canonical,
  is_long,
  is_real_or_v86,
  segment_limit,
  segment_selector,
  set_paragraph,
  update_mode,
} from './mode';
import { raise_error } from './raise';
import {
  DESC_CODE,
  DESC_CONFORMING,
  DESC_DB,
  DESC_L,
  DESC_S,
  GP,
  INDEX_CS,
  INDEX_SS,
  NP,
  TYPE_CALL_GATE16,
  TYPE_CALL_GATE32,
  TYPE_TASK_GATE,
  TYPE_TSS16,
  TYPE_TSS32,
} from './registers';
import { SWITCH_CALL, SWITCH_JMP, task_committed, task_switch } from './task';

/** Parameters of a call gate, copied between stacks. */
const PARAMETERS: usize = memory.data(31 * 4);

/** Far JMP. `size`: 2, 4 or 8, the operand size. STATUS_JUMP or a fault. */
export function far_jump(selector: i32, offset: u64, size: i32): i32 {
  return transfer(<u32>selector & 0xffff, truncate(offset, size), size, false);
}

/** Far CALL. */
export function far_call(selector: i32, offset: u64, size: i32): i32 {
  return transfer(<u32>selector & 0xffff, truncate(offset, size), size, true);
}

/** An offset cut to an operand size. */
export function truncate(offset: u64, size: u32): u64 {
  return size == 8 ? offset : size == 4 ? offset & 0xffffffff : offset & 0xffff;
}

function transfer(selector: u32, offset: u64, size: u32, call: bool): i32 {
  if (is_real_or_v86()) return transfer_real(selector, offset, size, call);
  if (is_null(selector)) return raise_error(GP, 0);
  const status = fetch_or_raise(selector, GP, 0);
  if (status != STATUS_OK) return status;
  if (desc_hi & DESC_S) return transfer_code(selector, offset, size, call);
  const type = system_type(desc_hi);
  const long = is_long();
  if (type == TYPE_CALL_GATE32 || (type == TYPE_CALL_GATE16 && !long)) return transfer_gate(selector, call);
  if (long) return raise_selector(GP, selector);
  if (type == TYPE_TASK_GATE) return transfer_task_gate(selector, call);
  if (type == TYPE_TSS16 || type == TYPE_TSS32) {
    const dpl = desc_dpl(desc_hi);
    if (dpl < cpl() || dpl < (selector & 3)) return raise_selector(GP, selector);
    return transfer_task(selector, call);
  }
  return raise_selector(GP, selector);
}

function transfer_real(selector: u32, offset: u64, size: u32, call: bool): i32 {
  if (offset > <u64>segment_limit(INDEX_CS)) return raise_error(GP, 0);
  if (call) {
    const status = push_return(size);
    if (status != STATUS_OK) return status;
    frame_commit();
  }
  set_paragraph(INDEX_CS, selector);
  store<u64>(RIP, offset);
  update_mode();
  return STATUS_JUMP;
}

/** Pushes CS and the next instruction's pointer on the current stack. */
function push_return(size: u32): i32 {
  frame_current(0);
  const status = frame_push(size, segment_selector(INDEX_CS));
  return status == STATUS_OK ? frame_push(size, load<u64>(NEXT_RIP)) : status;
}

/** Whether `offset` may be the instruction pointer in the code segment with these descriptor words. */
export function is_target(offset: u64, lo: u32, hi: u32): bool {
  if (is_long() && hi & DESC_L) return is_canonical(offset);
  return offset <= <u64>desc_limit(lo, hi);
}

/** IA-32e mode: a code segment is not both 64-bit and 32-bit. */
export function is_contradictory(hi: u32): bool {
  return is_long() && (hi & (DESC_L | DESC_DB)) == (DESC_L | DESC_DB);
}

/** Straight to a code segment of the same privilege level. */
function transfer_code(selector: u32, offset: u64, size: u32, call: bool): i32 {
  const lo = desc_lo;
  const hi = desc_hi;
  const address = desc_address;
  if (!(hi & DESC_CODE)) return raise_selector(GP, selector);
  const dpl = desc_dpl(hi);
  const level = cpl();
  if (hi & DESC_CONFORMING) {
    if (dpl > level) return raise_selector(GP, selector);
  } else if ((selector & 3) > level || dpl != level) {
    return raise_selector(GP, selector);
  }
  if (is_contradictory(hi)) return raise_selector(GP, selector);
  if (!desc_present(hi)) return raise_selector(NP, selector);
  let status = STATUS_OK;
  if (call) {
    status = push_return(size);
    if (status != STATUS_OK) return status;
  }
  if (!is_target(offset, lo, hi)) return raise_error(GP, 0);
  status = mark_accessed(address, hi);
  if (status != STATUS_OK) return status;
  if (call) frame_commit();
  set_from_descriptor(INDEX_CS, (selector & 0xfffc) | level, lo, hi);
  store<u64>(RIP, offset);
  update_mode();
  return STATUS_JUMP;
}

function transfer_gate(gate_selector: u32, call: bool): i32 {
  const gate_lo = desc_lo;
  const gate_hi = desc_hi;
  const long = is_long();
  const gate_dpl = desc_dpl(gate_hi);
  if (gate_dpl < cpl() || gate_dpl < (gate_selector & 3)) return raise_selector(GP, gate_selector);
  let target = <u64>((gate_lo & 0xffff) | (gate_hi & 0xffff0000));
  const wide = system_type(gate_hi) == TYPE_CALL_GATE32;
  if (!wide) target &= 0xffff;
  if (long) {
    const upper = fetch_upper_or_raise(gate_selector, GP, 0);
    if (upper != STATUS_OK) return upper;
    if (desc_upper_hi & 0x1f00) return raise_selector(GP, gate_selector);
    target |= (<u64>desc_upper_lo) << 32;
  }
  if (!desc_present(gate_hi)) return raise_selector(NP, gate_selector);
  const selector = gate_lo >> 16;
  if (is_null(selector)) return raise_error(GP, 0);
  let status = fetch_or_raise(selector, GP, 0);
  if (status != STATUS_OK) return status;
  const lo = desc_lo;
  const hi = desc_hi;
  const address = desc_address;
  const dpl = desc_dpl(hi);
  const conforming = (hi & DESC_CONFORMING) != 0;
  if ((hi & (DESC_S | DESC_CODE)) != (DESC_S | DESC_CODE) || dpl > cpl()) return raise_selector(GP, selector);
  // Only CALL gains privilege through a gate.
  if (!call && !conforming && dpl != cpl()) return raise_selector(GP, selector);
  if (long && (hi & (DESC_L | DESC_DB)) != DESC_L) return raise_selector(GP, selector);
  if (!desc_present(hi)) return raise_selector(NP, selector);
  if (!is_target(target, lo, hi)) return raise_error(GP, 0);

  const level = conforming ? cpl() : dpl;
  const inner = level < cpl();
  if (call) {
    const size: u32 = long ? 8 : wide ? 4 : 2;
    status = inner ? push_inner(size, level, gate_hi & 31) : push_return(size);
    if (status != STATUS_OK) return status;
  }
  status = mark_accessed(address, hi);
  if (status == STATUS_OK && inner && !long) status = commit_inner_stack();
  if (status != STATUS_OK) return status;
  if (inner && long) set_null_stack(level);
  if (call) frame_commit();
  set_from_descriptor(INDEX_CS, (selector & 0xfffc) | level, lo, hi);
  store<u64>(RIP, target);
  update_mode();
  return STATUS_JUMP;
}

/** The frame of a call to a more privileged level: SS, stack pointer, `count` parameters of the old stack, CS, pointer. */
function push_inner(size: u32, level: u32, count: u32): i32 {
  const long = size == 8;
  const parameters: u32 = long ? 0 : count;
  frame_current(0);
  for (let i: u32 = 0; i < parameters; i++) {
    const value = <u32>frame_peek(size, i * size);
    if (frame_status != STATUS_OK) return frame_status;
    store<u32>(PARAMETERS + i * 4, value);
  }
  let status = long ? begin_inner_stack64(4 + level * 8, level, ~(<u64>0), 0) : begin_inner_stack(level, 0);
  if (status == STATUS_OK) status = frame_push(size, segment_selector(INDEX_SS));
  if (status == STATUS_OK) status = frame_push(size, load<u64>(RSP));
  for (let i = parameters; i > 0 && status == STATUS_OK; i--) {
    status = frame_push(size, load<u32>(PARAMETERS + (i - 1) * 4));
  }
  if (status == STATUS_OK) status = frame_push(size, segment_selector(INDEX_CS));
  if (status == STATUS_OK) status = frame_push(size, load<u64>(NEXT_RIP));
  return status;
}

function transfer_task_gate(gate_selector: u32, call: bool): i32 {
  const dpl = desc_dpl(desc_hi);
  if (dpl < cpl() || dpl < (gate_selector & 3)) return raise_selector(GP, gate_selector);
  if (!desc_present(desc_hi)) return raise_selector(NP, gate_selector);
  const selector = desc_lo >> 16;
  if (selector & 4 || is_null(selector)) return raise_selector(GP, selector);
  const status = fetch_or_raise(selector, GP, 0);
  if (status != STATUS_OK) return status;
  const type = system_type(desc_hi);
  if (type != TYPE_TSS16 && type != TYPE_TSS32) return raise_selector(GP, selector);
  return transfer_task(selector, call);
}

/** To the task of the TSS descriptor fetched last. */
function transfer_task(selector: u32, call: bool): i32 {
  if (selector & 4) return raise_selector(GP, selector);
  if (!desc_present(desc_hi)) return raise_selector(NP, selector);
  return settle_task(task_switch(selector, call ? SWITCH_CALL : SWITCH_JMP, load<u64>(NEXT_RIP), false, 0, 0));
}

/** A fault after a task switch's point of no return belongs to the new task, at its RIP: delivered at once. */
export function settle_task(status: i32): i32 {
  return status == STATUS_FAULT && task_committed ? deliver_exception() : status;
}
