// The stack of a more privileged level, taken from the task-state segment (SDM volume 3, sections 5.8.5, 6.12.1, 6.14).

import {
  ATTR_UNUSABLE,
  SEG_O_ATTR,
  SEG_O_BASE,
  SEG_O_LIMIT,
  SEG_O_SELECTOR,
  SEG_TR,
  STATUS_FAULT,
  STATUS_OK,
} from '../layout';
import { access_status, sup_read16, sup_read32, sup_read64 } from './access';
import {
  desc_address,
  desc_attr,
  desc_base,
  desc_dpl,
  desc_hi,
  desc_limit,
  desc_lo,
  desc_present,
  fetch_or_raise,
  is_null,
  mark_accessed,
  set_from_descriptor,
  table_linear,
} from './descriptors';
import { frame_flat64, frame_segment } from './frame';
import { is_canonical, set_segment } from './mode';
import { raise_error } from './raise';
import { DESC_CODE, DESC_RW, DESC_S, INDEX_SS, SS, TS } from './registers';

let inner_selector: u32 = 0;
let inner_lo: u32 = 0;
let inner_hi: u32 = 0;
let inner_address: u64 = 0;

/** Raises #TS with the selector of the current TSS. */
function bad_tss(ext: u32): i32 {
  return raise_error(TS, (load<u32>(SEG_TR, SEG_O_SELECTOR) & 0xfffc) | ext);
}

/** Legacy modes: starts the frame on the stack for `level`. `ext`: EXT bit of error codes. */
export function begin_inner_stack(level: u32, ext: u32): i32 {
  const base = load<u64>(SEG_TR, SEG_O_BASE);
  const limit = load<u32>(SEG_TR, SEG_O_LIMIT);
  let selector: u32;
  let sp: u32;
  if (load<u32>(SEG_TR, SEG_O_ATTR) & 8) {
    const offset = level * 8 + 4;
    if (offset + 5 > limit) return bad_tss(ext);
    sp = <u32>sup_read32(table_linear(base + offset));
    if (access_status != STATUS_OK) return access_status;
    selector = <u32>sup_read16(table_linear(base + offset + 4));
  } else {
    const offset = level * 4 + 2;
    if (offset + 3 > limit) return bad_tss(ext);
    sp = <u32>sup_read16(table_linear(base + offset));
    if (access_status != STATUS_OK) return access_status;
    selector = <u32>sup_read16(table_linear(base + offset + 2));
  }
  if (access_status != STATUS_OK) return access_status;
  if (is_null(selector)) return raise_error(TS, ext);
  const error = (selector & 0xfffc) | ext;
  const status = fetch_or_raise(selector, TS, ext);
  if (status != STATUS_OK) return status;
  const hi = desc_hi;
  const writable = (hi & (DESC_S | DESC_CODE | DESC_RW)) == (DESC_S | DESC_RW);
  if ((selector & 3) != level || desc_dpl(hi) != level || !writable) return raise_error(TS, error);
  if (!desc_present(hi)) return raise_error(SS, error);
  inner_selector = selector;
  inner_lo = desc_lo;
  inner_hi = hi;
  inner_address = desc_address;
  frame_segment(desc_base(inner_lo, hi), desc_limit(inner_lo, hi), desc_attr(hi), sp, level, error);
  return STATUS_OK;
}

/** Legacy modes: loads SS with what begin_inner_stack() found. Fails only before any change. */
export function commit_inner_stack(): i32 {
  const status = mark_accessed(inner_address, inner_hi);
  if (status != STATUS_OK) return status;
  set_from_descriptor(INDEX_SS, inner_selector, inner_lo, inner_hi);
  return STATUS_OK;
}

/** IA-32e mode: stack pointer at `offset` in the TSS (RSP0..2 or IST1..7) into the frame, after masking with `mask`. */
export function begin_inner_stack64(offset: u32, level: u32, mask: u64, ext: u32): i32 {
  if (offset + 7 > load<u32>(SEG_TR, SEG_O_LIMIT)) return bad_tss(ext);
  const sp = sup_read64(load<u64>(SEG_TR, SEG_O_BASE) + offset);
  if (access_status != STATUS_OK) return access_status;
  if (!is_canonical(sp)) {
    raise_error(SS, ext);
    return STATUS_FAULT;
  }
  frame_flat64(sp & mask, level, ext);
  return STATUS_OK;
}

/** IA-32e mode: a change to an inner level loads SS with a null selector. */
export function set_null_stack(level: u32): void {
  set_segment(INDEX_SS, level, 0, 0xffffffff, ATTR_UNUSABLE | (level << 5));
}
