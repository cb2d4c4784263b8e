// Far RET and IRET (SDM volume 2, RET and IRET/IRETD/IRETQ).

import {
  ATTR_DB,
  ATTR_UNUSABLE,
  CR4,
  EXIT_IRQ_WINDOW,
  EXIT_REASON,
  FLAG_AC,
  FLAG_DF,
  FLAG_ID,
  FLAG_IF,
  FLAG_IOPL,
  FLAG_NT,
  FLAG_RF,
  FLAG_TF,
  FLAG_VIF,
  FLAG_VIP,
  FLAG_VM,
  FLAGS,
  FLAGS_ARITH,
  IRQ_PENDING,
  NEXT_RIP,
  NMI_BLOCKED,
  RIP,
  RSP,
  SEG_O_ATTR,
  SEG_O_BASE,
  SEG_O_SELECTOR,
  SEG_TR,
  STATUS_EXIT,
  STATUS_JUMP,
  STATUS_OK,
} from '../layout';
import { access_status, sup_read16 } from './access';
import { is_contradictory, is_target, settle_task, truncate } from './control';
import {
  desc_address,
  desc_dpl,
  desc_hi,
  desc_lo,
  desc_present,
  FETCH_OUTSIDE,
  fetch_descriptor,
  fetch_or_raise,
  is_null,
  mark_accessed,
  raise_selector,
  set_from_descriptor,
  system_type,
  table_linear,
} from './descriptors';
import { get_rflags, set_rflags } from './flags';
import { frame_commit, frame_current, frame_pop, frame_skip, frame_status, release_stack } from './frame';
import {
  cpl,
  is_64bit,
  is_long,
  is_real_or_v86,
  is_v86,
  segment,
  segment_attr,
  segment_limit,
  segment_selector,
  set_paragraph,
  set_segment,
  update_mode,
} from './mode';
import { raise_error } from './raise';
import {
  ATTR_V86,
  CR4_VME,
  DESC_CODE,
  DESC_CONFORMING,
  DESC_L,
  DESC_S,
  GP,
  INDEX_CS,
  INDEX_DS,
  INDEX_ES,
  INDEX_FS,
  INDEX_GS,
  INDEX_SS,
  NP,
  TS,
  TYPE_TSS16_BUSY,
  TYPE_TSS32_BUSY,
} from './registers';
import { load_stack_segment } from './segments';
import { SWITCH_IRET, task_switch } from './task';

/** Flags that IRET and POPF load at any privilege level: in 16 bits, and beyond. */
export const FLAGS_ANY16: u32 = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
export const FLAGS_ANY32: u32 = FLAGS_ANY16 | FLAG_AC | FLAG_ID;

/** Code segment that a return goes to, as checked by fetch_return_code(). */
let code_lo: u32 = 0;
let code_hi: u32 = 0;
let code_address: u64 = 0;

/** Checks the code segment of a return in protected mode. */
function fetch_return_code(selector: u32): i32 {
  if (is_null(selector)) return raise_error(GP, 0);
  const status = fetch_or_raise(selector, GP, 0);
  if (status != STATUS_OK) return status;
  const hi = desc_hi;
  const rpl = selector & 3;
  const dpl = desc_dpl(hi);
  if ((hi & (DESC_S | DESC_CODE)) != (DESC_S | DESC_CODE) || rpl < cpl()) return raise_selector(GP, selector);
  if (is_contradictory(hi)) return raise_selector(GP, selector);
  if (hi & DESC_CONFORMING ? dpl > rpl : dpl != rpl) return raise_selector(GP, selector);
  if (!desc_present(hi)) return raise_selector(NP, selector);
  code_lo = desc_lo;
  code_hi = hi;
  code_address = desc_address;
  return STATUS_OK;
}

/** Loads SS for a return to level `rpl`; null only to 64-bit code outside of level 3. */
function load_return_stack(selector: u32, rpl: u32): i32 {
  if (is_null(selector)) {
    if (!is_long() || !(code_hi & DESC_L) || rpl == 3 || (selector & 3) != rpl) return raise_error(GP, 0);
    set_segment(INDEX_SS, selector, 0, 0xffffffff, ATTR_UNUSABLE | (rpl << 5));
    return STATUS_OK;
  }
  return load_stack_segment(selector, rpl, GP);
}

/** After a return to a less privileged level, segments that it may not use become null. */
function drop_data_segment(index: i32): void {
  const selector = segment_selector(index);
  const attr = segment_attr(index);
  if (is_null(selector) || attr & ATTR_UNUSABLE) return;
  const conforming_code = (attr & 0xc) == 0xc;
  if (conforming_code || ((attr >> 5) & 3) >= cpl()) return;
  // The base stays: FS and GS of 64-bit mode have theirs without a selector.
  store<u32>(segment(index), 0, SEG_O_SELECTOR);
  store<u32>(segment(index), ATTR_UNUSABLE, SEG_O_ATTR);
}

function drop_data_segments(): void {
  drop_data_segment(INDEX_ES);
  drop_data_segment(INDEX_DS);
  drop_data_segment(INDEX_FS);
  drop_data_segment(INDEX_GS);
}

/** STATUS_JUMP; leaves run() if interrupts have become possible and one waits. RIP is set. */
export function jump_and_look(): i32 {
  if (load<u32>(IRQ_PENDING) && load<u32>(FLAGS) & FLAG_IF) {
    store<u32>(EXIT_REASON, EXIT_IRQ_WINDOW);
    return STATUS_EXIT;
  }
  return STATUS_JUMP;
}

/**
 * Loads the stack (`has_stack`: popped, else the cursor's) and code segments of a return, and the flags in `mask` from
 * popped_flags; `extra` bytes are released from the outer stack.
 */
function commit_return(selector: u32, ip: u64, has_stack: bool, ss: u32, sp: u64, extra: u32, mask: u32): i32 {
  const rpl = selector & 3;
  const outer = rpl != cpl();
  if (!is_target(ip, code_lo, code_hi)) return raise_error(GP, 0);
  let status = mark_accessed(code_address, code_hi);
  if (status != STATUS_OK) return status;
  if (has_stack) {
    status = load_return_stack(ss, rpl);
    if (status != STATUS_OK) return status;
  } else {
    frame_commit();
  }
  set_from_descriptor(INDEX_CS, selector, code_lo, code_hi);
  store<u64>(RIP, ip);
  if (mask) merge_flags(popped_flags, mask);
  update_mode();
  if (has_stack) {
    set_outer_pointer(sp);
    release_stack(extra);
  }
  if (outer) drop_data_segments();
  return STATUS_JUMP;
}

/** Stack pointer popped by a return: whole in 64-bit mode, by SS's size elsewhere. */
function set_outer_pointer(sp: u64): void {
  if (is_64bit()) store<u64>(RSP, sp);
  else if (segment_attr(INDEX_SS) & ATTR_DB) store<u64>(RSP, sp & 0xffffffff);
  else store<u16>(RSP, <u16>sp);
}

/** Far RET: `size` 2, 4 or 8; `count` bytes of parameters. */
export function far_ret(size: i32, count: i32): i32 {
  frame_current(0);
  const ip = truncate(frame_pop(size), size);
  if (frame_status != STATUS_OK) return frame_status;
  const selector = <u32>frame_pop(size) & 0xffff;
  if (frame_status != STATUS_OK) return frame_status;
  frame_skip(count);
  if (is_real_or_v86()) {
    if (ip > <u64>segment_limit(INDEX_CS)) return raise_error(GP, 0);
    frame_commit();
    set_paragraph(INDEX_CS, selector);
    store<u64>(RIP, ip);
    update_mode();
    return STATUS_JUMP;
  }
  const status = fetch_return_code(selector);
  if (status != STATUS_OK) return status;
  if ((selector & 3) == cpl()) return commit_return(selector, ip, false, 0, 0, 0, 0);
  const sp = frame_pop(size);
  if (frame_status != STATUS_OK) return frame_status;
  const ss = <u32>frame_pop(size) & 0xffff;
  if (frame_status != STATUS_OK) return frame_status;
  return commit_return(selector, ip, true, ss, sp, count, 0);
}

/** IRET, IRETD, IRETQ: `size` 2, 4 or 8. */
export function iret(size: i32): i32 {
  if (is_v86()) return iret_v86(size);
  // NMIs are open again even if the return faults.
  store<u32>(NMI_BLOCKED, 0);
  if (is_real_or_v86()) return iret_real(size);
  if (load<u32>(FLAGS) & FLAG_NT) return is_long() ? raise_error(GP, 0) : iret_task();
  return iret_protected(size);
}

/** Pops IP, CS and flags of an IRET. */
let popped_ip: u64 = 0;
let popped_cs: u32 = 0;
let popped_flags: u32 = 0;

function pop_frame(size: u32): i32 {
  frame_current(0);
  popped_ip = truncate(frame_pop(size), size);
  if (frame_status != STATUS_OK) return frame_status;
  popped_cs = <u32>frame_pop(size) & 0xffff;
  if (frame_status != STATUS_OK) return frame_status;
  popped_flags = <u32>frame_pop(size);
  return frame_status;
}

/** Loads the flags in `mask` from the popped image. */
function merge_flags(image: u32, mask: u32): void {
  set_rflags((get_rflags() & ~mask) | (image & mask) | 2);
}

function iret_real(size: u32): i32 {
  const status = pop_frame(size);
  if (status != STATUS_OK) return status;
  if (popped_ip > <u64>segment_limit(INDEX_CS)) return raise_error(GP, 0);
  frame_commit();
  set_paragraph(INDEX_CS, popped_cs);
  store<u64>(RIP, popped_ip);
  const low = FLAGS_ANY16 | FLAG_IF | FLAG_IOPL;
  merge_flags(popped_flags, size == 2 ? low : low | FLAG_RF | FLAG_AC | FLAG_ID);
  update_mode();
  return jump_and_look();
}

function iret_v86(size: u32): i32 {
  const full = (load<u32>(FLAGS) & FLAG_IOPL) == FLAG_IOPL;
  // With the virtual-mode extensions a 16-bit IRET works on VIF in place of IF.
  const virtual = !full && size == 2 && (load<u32>(CR4) & CR4_VME) != 0;
  if (!full && !virtual) return raise_error(GP, 0);
  store<u32>(NMI_BLOCKED, 0);
  const status = pop_frame(size);
  if (status != STATUS_OK) return status;
  if (popped_ip > <u64>segment_limit(INDEX_CS)) return raise_error(GP, 0);
  if (virtual) {
    const wants = (popped_flags & FLAG_IF) != 0;
    if (popped_flags & FLAG_TF || (wants && load<u32>(FLAGS) & FLAG_VIP)) return raise_error(GP, 0);
    popped_flags = (popped_flags & ~FLAG_VIF) | (wants ? FLAG_VIF : 0);
  }
  frame_commit();
  set_paragraph(INDEX_CS, popped_cs);
  store<u64>(RIP, popped_ip);
  let mask = FLAGS_ANY16 | (virtual ? FLAG_VIF : FLAG_IF);
  if (size != 2) mask |= FLAG_RF | FLAG_AC | FLAG_ID;
  merge_flags(popped_flags, mask);
  update_mode();
  return jump_and_look();
}

function iret_protected(size: u32): i32 {
  let status = pop_frame(size);
  if (status != STATUS_OK) return status;
  if (!is_long() && size == 4 && popped_flags & FLAG_VM && cpl() == 0) return return_to_v86();
  status = fetch_return_code(popped_cs);
  if (status != STATUS_OK) return status;
  const level = cpl();
  const has_stack = is_64bit() || (popped_cs & 3) != level;
  let sp: u64 = 0;
  let ss: u32 = 0;
  if (has_stack) {
    sp = frame_pop(size);
    if (frame_status != STATUS_OK) return frame_status;
    ss = <u32>frame_pop(size) & 0xffff;
    if (frame_status != STATUS_OK) return frame_status;
  }
  let mask: u32 = size == 2 ? FLAGS_ANY16 : FLAGS_ANY32 | FLAG_RF;
  if (level <= ((load<u32>(FLAGS) >> 12) & 3)) mask |= FLAG_IF;
  if (level == 0) mask |= size == 2 ? FLAG_IOPL : FLAG_IOPL | FLAG_VIF | FLAG_VIP;
  status = commit_return(popped_cs, popped_ip, has_stack, ss, sp, 0, mask);
  return status == STATUS_JUMP ? jump_and_look() : status;
}

function return_to_v86(): i32 {
  const sp = frame_pop(4);
  if (frame_status != STATUS_OK) return frame_status;
  const ss = <u32>frame_pop(4) & 0xffff;
  if (frame_status != STATUS_OK) return frame_status;
  const es = <u32>frame_pop(4) & 0xffff;
  if (frame_status != STATUS_OK) return frame_status;
  const ds = <u32>frame_pop(4) & 0xffff;
  if (frame_status != STATUS_OK) return frame_status;
  const fs = <u32>frame_pop(4) & 0xffff;
  if (frame_status != STATUS_OK) return frame_status;
  const gs = <u32>frame_pop(4) & 0xffff;
  if (frame_status != STATUS_OK) return frame_status;
  if (popped_ip > 0xffff) return raise_error(GP, 0);
  store<u64>(RSP, sp);
  store<u64>(RIP, popped_ip);
  set_rflags((popped_flags & 0x003f7fd5) | 2);
  set_v86_segment(INDEX_CS, popped_cs);
  set_v86_segment(INDEX_SS, ss);
  set_v86_segment(INDEX_ES, es);
  set_v86_segment(INDEX_DS, ds);
  set_v86_segment(INDEX_FS, fs);
  set_v86_segment(INDEX_GS, gs);
  update_mode();
  return jump_and_look();
}

/** A segment register as virtual-8086 mode has it. */
export function set_v86_segment(index: i32, selector: u32): void {
  set_segment(index, selector, <u64>(selector << 4), 0xffff, ATTR_V86);
}

/** NT: back to the task whose TSS the current one links to. */
function iret_task(): i32 {
  const selector = <u32>sup_read16(table_linear(load<u64>(SEG_TR, SEG_O_BASE)));
  if (access_status != STATUS_OK) return access_status;
  if (selector & 4) return raise_selector(TS, selector);
  const status = is_null(selector) ? FETCH_OUTSIDE : fetch_descriptor(selector);
  if (status == FETCH_OUTSIDE) return raise_selector(TS, selector);
  if (status != STATUS_OK) return status;
  const type = system_type(desc_hi);
  if (type != TYPE_TSS16_BUSY && type != TYPE_TSS32_BUSY) return raise_selector(TS, selector);
  if (!desc_present(desc_hi)) return raise_selector(NP, selector);
  return settle_task(task_switch(selector, SWITCH_IRET, load<u64>(NEXT_RIP), false, 0, 0));
}
