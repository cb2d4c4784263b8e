// Interrupt delivery through the interrupt vector table of real mode and the gates of the IDT (SDM volume 2, INT n;
// volume 3, sections 6.12, 6.14, 20.1.4).

import {
  ATTR_UNUSABLE,
  FLAG_AC,
  FLAG_IF,
  FLAG_NT,
  FLAG_RF,
  FLAG_TF,
  FLAG_VM,
  FLAGS,
  IDTR_BASE,
  IDTR_LIMIT,
  RIP,
  RSP,
  STATUS_JUMP,
  STATUS_OK,
} from '../layout';
import { access_status, sup_read16, sup_read64 } from './access';
import {
  desc_address,
  desc_dpl,
  desc_hi,
  desc_limit,
  desc_lo,
  desc_present,
  FETCH_OUTSIDE,
  fetch_descriptor,
  fetch_or_raise,
  is_null,
  mark_accessed,
  set_from_descriptor,
  system_type,
  table_linear,
} from './descriptors';
import { frame_commit, frame_current, frame_flat64, frame_push } from './frame';
import { begin_inner_stack, begin_inner_stack64, commit_inner_stack, set_null_stack } from './inner-stack';
import {
  cpl,
  is_canonical,
  is_long,
  is_v86,
  segment_limit,
  segment_selector,
  set_paragraph,
  set_segment,
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
  INDEX_DS,
  INDEX_ES,
  INDEX_FS,
  INDEX_GS,
  INDEX_SS,
  NP,
  TYPE_INTERRUPT_GATE16,
  TYPE_INTERRUPT_GATE32,
  TYPE_TASK_GATE,
  TYPE_TRAP_GATE16,
  TYPE_TRAP_GATE32,
  TYPE_TSS16,
  TYPE_TSS32,
} from './registers';
import { SWITCH_CALL, task_switch } from './task';

/** Real mode: four bytes a vector, no error codes. */
export function deliver_real(vector: u32, image: u32, ip: u64): i32 {
  if (vector * 4 + 3 > load<u32>(IDTR_LIMIT)) return raise_error(GP, 0);
  const entry = load<u64>(IDTR_BASE) + vector * 4;
  const target = sup_read16(table_linear(entry));
  if (access_status != STATUS_OK) return access_status;
  const selector = sup_read16(table_linear(entry + 2));
  if (access_status != STATUS_OK) return access_status;
  if (target > <u64>segment_limit(INDEX_CS)) return raise_error(GP, 0);
  frame_current(0);
  let status = frame_push(2, image);
  if (status == STATUS_OK) status = frame_push(2, segment_selector(INDEX_CS));
  if (status == STATUS_OK) status = frame_push(2, ip);
  if (status != STATUS_OK) return status;
  frame_commit();
  set_paragraph(INDEX_CS, <u32>selector);
  store<u64>(RIP, target);
  store<u32>(FLAGS, load<u32>(FLAGS) & ~(FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF));
  return STATUS_JUMP;
}

/**
 * Protected, virtual-8086 and IA-32e modes. `ext`: EXT bit of the error codes of nested faults; `checks_dpl`: INT n, INT3,
 * INTO. `image`: RFLAGS to push; `ip`: return address. STATUS_JUMP, or a fault before any change.
 */
export function deliver_protected(
  vector: u32,
  ext: u32,
  checks_dpl: bool,
  has_error: bool,
  error: u32,
  image: u32,
  ip: u64,
): i32 {
  const long = is_long();
  const gate_error = (vector << 3) | 2 | ext;
  const offset = vector << (long ? 4 : 3);
  if (offset + (long ? 15 : 7) > load<u32>(IDTR_LIMIT)) return raise_error(GP, gate_error);
  const entry = table_linear(load<u64>(IDTR_BASE) + offset);
  const gate = sup_read64(entry);
  if (access_status != STATUS_OK) return access_status;
  const gate_lo = <u32>gate;
  const gate_hi = <u32>(gate >> 32);
  const type = system_type(gate_hi);
  const type32 = type == TYPE_INTERRUPT_GATE32 || type == TYPE_TRAP_GATE32;
  const type16 = type == TYPE_INTERRUPT_GATE16 || type == TYPE_TRAP_GATE16;
  if (!type32 && (long || (!type16 && type != TYPE_TASK_GATE))) return raise_error(GP, gate_error);
  if (checks_dpl && desc_dpl(gate_hi) < cpl()) return raise_error(GP, gate_error);
  if (!desc_present(gate_hi)) return raise_error(NP, gate_error);
  const selector = gate_lo >> 16;
  if (type == TYPE_TASK_GATE) return deliver_task(selector, ext, has_error, error, ip);
  let target = <u64>((gate_lo & 0xffff) | (gate_hi & 0xffff0000));
  if (long) {
    target |= sup_read64(entry + 8) << 32;
    if (access_status != STATUS_OK) return access_status;
  } else if (type16) {
    target &= 0xffff;
  }

  if (is_null(selector)) return raise_error(GP, ext);
  const fetched = fetch_or_raise(selector, GP, ext);
  if (fetched != STATUS_OK) return fetched;
  const lo = desc_lo;
  const hi = desc_hi;
  const address = desc_address;
  const error_cs = (selector & 0xfffc) | ext;
  const dpl = desc_dpl(hi);
  if ((hi & (DESC_S | DESC_CODE)) != (DESC_S | DESC_CODE) || dpl > cpl()) return raise_error(GP, error_cs);
  if (long && (hi & (DESC_L | DESC_DB)) != DESC_L) return raise_error(GP, error_cs);
  if (!desc_present(hi)) return raise_error(NP, error_cs);
  const level = hi & DESC_CONFORMING ? cpl() : dpl;
  const inner = level < cpl();
  if (is_v86() && level != 0) return raise_error(GP, error_cs);
  if (long ? !is_canonical(target) : target > <u64>desc_limit(lo, hi)) return raise_error(GP, ext);

  let status = long ? begin_long(gate_hi & 7, level, inner, ext) : begin_legacy(level, inner, ext);
  if (status != STATUS_OK) return status;
  const size: u32 = long ? 8 : type32 ? 4 : 2;
  status = push_frame(size, long, inner, image, ip);
  if (status == STATUS_OK && has_error) status = frame_push(size, error);
  if (status == STATUS_OK) status = mark_accessed(address, hi);
  if (status == STATUS_OK && inner && !long) status = commit_inner_stack();
  if (status != STATUS_OK) return status;

  // Nothing fails from here on.
  if (inner && long) set_null_stack(level);
  frame_commit();
  set_from_descriptor(INDEX_CS, (selector & 0xfffc) | level, lo, hi);
  store<u64>(RIP, target);
  if (is_v86()) clear_data_segments();
  let cleared: u32 = FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM;
  if ((type & 1) == 0) cleared |= FLAG_IF;
  store<u32>(FLAGS, load<u32>(FLAGS) & ~cleared);
  return STATUS_JUMP;
}

function begin_long(ist: u32, level: u32, inner: bool, ext: u32): i32 {
  // The stack pointer is aligned to 16 bytes before the frame is pushed.
  if (ist) return begin_inner_stack64(28 + ist * 8, level, ~(<u64>15), ext);
  if (inner) return begin_inner_stack64(4 + level * 8, level, ~(<u64>15), ext);
  frame_flat64(load<u64>(RSP) & ~(<u64>15), level, ext);
  return STATUS_OK;
}

function begin_legacy(level: u32, inner: bool, ext: u32): i32 {
  if (inner) return begin_inner_stack(level, ext);
  frame_current(ext);
  return STATUS_OK;
}

function push_frame(size: u32, long: bool, inner: bool, image: u32, ip: u64): i32 {
  let status = STATUS_OK;
  if (is_v86()) {
    status = frame_push(size, segment_selector(INDEX_GS));
    if (status == STATUS_OK) status = frame_push(size, segment_selector(INDEX_FS));
    if (status == STATUS_OK) status = frame_push(size, segment_selector(INDEX_DS));
    if (status == STATUS_OK) status = frame_push(size, segment_selector(INDEX_ES));
  }
  if (inner || long) {
    if (status == STATUS_OK) status = frame_push(size, segment_selector(INDEX_SS));
    if (status == STATUS_OK) status = frame_push(size, load<u64>(RSP));
  }
  if (status == STATUS_OK) status = frame_push(size, image);
  if (status == STATUS_OK) status = frame_push(size, segment_selector(INDEX_CS));
  if (status == STATUS_OK) status = frame_push(size, ip);
  return status;
}

/** Leaving virtual-8086 mode: the data segments become null. */
function clear_data_segments(): void {
  set_segment(INDEX_ES, 0, 0, 0, ATTR_UNUSABLE);
  set_segment(INDEX_DS, 0, 0, 0, ATTR_UNUSABLE);
  set_segment(INDEX_FS, 0, 0, 0, ATTR_UNUSABLE);
  set_segment(INDEX_GS, 0, 0, 0, ATTR_UNUSABLE);
}

function deliver_task(selector: u32, ext: u32, has_error: bool, error: u32, ip: u64): i32 {
  const tss_error = (selector & 0xfffc) | ext;
  if (selector & 4) return raise_error(GP, tss_error);
  const status = is_null(selector) ? FETCH_OUTSIDE : fetch_descriptor(selector);
  if (status == FETCH_OUTSIDE) return raise_error(GP, tss_error);
  if (status != STATUS_OK) return status;
  const type = system_type(desc_hi);
  if (type != TYPE_TSS16 && type != TYPE_TSS32) return raise_error(GP, tss_error);
  if (!desc_present(desc_hi)) return raise_error(NP, tss_error);
  return task_switch(selector, SWITCH_CALL, ip, has_error, error, ext);
}
