// Loading segment registers (SDM volume 2, MOV, LLDT, LTR; volume 3, sections 3.4 and 5.4 to 5.6).

import { ATTR_DB, ATTR_UNUSABLE, HOST_VALUE, NEXT_RIP, SHADOW, SHADOW_RIP, STATUS_NEXT, STATUS_OK } from '../layout';
import { access_status, sup_write8 } from './access';
import {
  desc_address,
  desc_attr,
  desc_base,
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
import {
  cpl,
  is_64bit,
  is_canonical,
  is_long,
  is_real_or_v86,
  segment_attr,
  segment_selector,
  set_paragraph,
  set_segment,
  update_mode,
} from './mode';
import { raise, raise_error } from './raise';
import {
  DESC_CODE,
  DESC_CONFORMING,
  DESC_RW,
  DESC_S,
  GP,
  INDEX_CS,
  INDEX_LDTR,
  INDEX_SS,
  INDEX_TR,
  NP,
  SS,
  TS,
  TYPE_LDT,
  TYPE_TSS16,
  TYPE_TSS32,
  UD,
} from './registers';
import { bars_store } from './tables';

/** A null selector in a data segment register. The base goes, as on Intel's processors. */
export function set_null(index: i32, selector: u32): void {
  set_segment(index, selector, 0, 0, ATTR_UNUSABLE);
}

/**
 * Checks and loads ES, DS, FS or GS in protected mode. `vector` of a bad selector: #GP, or #TS within a task switch.
 */
export function load_data_segment(index: i32, selector: u32, vector: u32): i32 {
  if (is_null(selector)) {
    set_null(index, selector);
    return STATUS_OK;
  }
  let status = fetch_or_raise(selector, vector, 0);
  if (status != STATUS_OK) return status;
  const lo = desc_lo;
  const hi = desc_hi;
  const address = desc_address;
  if (!(hi & DESC_S)) return raise_selector(vector, selector);
  const code = (hi & DESC_CODE) != 0;
  if (code && !(hi & DESC_RW)) return raise_selector(vector, selector);
  if (!code || !(hi & DESC_CONFORMING)) {
    const dpl = desc_dpl(hi);
    if ((selector & 3) > dpl || cpl() > dpl) return raise_selector(vector, selector);
  }
  if (!desc_present(hi)) return raise_selector(NP, selector);
  status = mark_accessed(address, hi);
  if (status != STATUS_OK) return status;
  set_from_descriptor(index, selector, lo, hi);
  return STATUS_OK;
}

/**
 * Checks and loads SS in protected mode for privilege level `level`, which its RPL and DPL must equal. A null selector is
 * refused. `vector` as in load_data_segment().
 */
export function load_stack_segment(selector: u32, level: u32, vector: u32): i32 {
  if (is_null(selector)) return raise_error(vector, 0);
  let status = fetch_or_raise(selector, vector, 0);
  if (status != STATUS_OK) return status;
  const lo = desc_lo;
  const hi = desc_hi;
  const address = desc_address;
  const writable = (hi & (DESC_S | DESC_CODE | DESC_RW)) == (DESC_S | DESC_RW);
  if ((selector & 3) != level || desc_dpl(hi) != level || !writable) return raise_selector(vector, selector);
  if (!desc_present(hi)) return raise_selector(SS, selector);
  status = mark_accessed(address, hi);
  if (status != STATUS_OK) return status;
  set_from_descriptor(INDEX_SS, selector, lo, hi);
  return STATUS_OK;
}

/**
 * MOV and POP to ES, SS, DS, FS, GS (`index` as in SEG), and the selector of LDS and its like. #GP, #NP, #SS with the
 * selector. After SS interrupts and debug traps wait for one instruction (SHADOW bit 1).
 */
export function load_segment(index: i32, selector: i32): i32 {
  const value = <u32>selector & 0xffff;
  // CS changes by far transfers alone.
  if (index == INDEX_CS) return raise(UD);
  if (index == INDEX_SS) return load_ss(value);
  if (is_real_or_v86()) {
    set_paragraph(index, value);
    return STATUS_OK;
  }
  return load_data_segment(index, value, GP);
}

function load_ss(selector: u32): i32 {
  if (is_real_or_v86()) {
    set_paragraph(INDEX_SS, selector);
  } else if (is_null(selector) && is_64bit() && cpl() < 3 && (selector & 3) == cpl()) {
    set_segment(INDEX_SS, selector, 0, 0, ATTR_UNUSABLE | (cpl() << 5));
  } else {
    const wide = segment_attr(INDEX_SS) & ATTR_DB;
    const status = load_stack_segment(selector, cpl(), GP);
    if (status != STATUS_OK) return status;
    if ((segment_attr(INDEX_SS) & ATTR_DB) != wide) {
      update_mode();
      cast_shadow(2);
      return STATUS_NEXT;
    }
  }
  cast_shadow(2);
  return STATUS_OK;
}

/** Bars interrupts (bit 0) or interrupts and debug traps (bit 1) until the end of the next instruction. */
export function cast_shadow(bit: u32): void {
  store<u32>(SHADOW, bit);
  store<u64>(SHADOW_RIP, load<u64>(NEXT_RIP));
}

/** LLDT. */
export function lldt(selector: i32): i32 {
  const value = <u32>selector & 0xffff;
  if (is_real_or_v86()) return raise(UD);
  if (cpl()) return raise_error(GP, 0);
  return load_ldt(value, GP);
}

/** Loads LDTR; `vector` as in load_data_segment(). */
export function load_ldt(selector: u32, vector: u32): i32 {
  if (is_null(selector)) {
    set_segment(INDEX_LDTR, selector, 0, 0, ATTR_UNUSABLE);
    return STATUS_OK;
  }
  if (selector & 4) return raise_selector(vector, selector);
  const status = fetch_or_raise(selector, vector, 0);
  if (status != STATUS_OK) return status;
  if (system_type(desc_hi) != TYPE_LDT) return raise_selector(vector, selector);
  // A task switch reports an absent LDT as an invalid one (SDM volume 3, table 6-6).
  if (!desc_present(desc_hi)) return raise_selector(vector == TS ? TS : NP, selector);
  return set_system_segment(INDEX_LDTR, selector, 0);
}

/** LTR. */
export function ltr(selector: i32): i32 {
  const value = <u32>selector & 0xffff;
  if (is_real_or_v86()) return raise(UD);
  if (cpl() || is_null(value)) return raise_error(GP, 0);
  if (value & 4) return raise_selector(GP, value);
  const status = fetch_or_raise(value, GP, 0);
  if (status != STATUS_OK) return status;
  const type = system_type(desc_hi);
  if (type != TYPE_TSS32 && (type != TYPE_TSS16 || is_long())) return raise_selector(GP, value);
  if (!desc_present(desc_hi)) return raise_selector(NP, value);
  return set_system_segment(INDEX_TR, value, 2);
}

/** Loads LDTR or TR from the descriptor fetched last, with `busy` added to its type in the table and the register. */
function set_system_segment(index: i32, selector: u32, busy: u32): i32 {
  const lo = desc_lo;
  const hi = desc_hi;
  let base = <u64>desc_base(lo, hi);
  if (is_long()) {
    const status = fetch_upper_or_raise(selector, GP, 0);
    if (status != STATUS_OK) return status;
    base |= (<u64>desc_upper_lo) << 32;
    // Type bits of the second half must be those of no descriptor.
    if (!is_canonical(base) || desc_upper_hi & 0x1f00) return raise_selector(GP, selector);
  }
  if (busy) {
    sup_write8(desc_address + 5, <u64>(((hi >> 8) & 0xff) | busy));
    if (access_status != STATUS_OK) return access_status;
  }
  set_segment(index, selector, base, desc_limit(lo, hi), desc_attr(hi) | busy);
  return STATUS_OK;
}

/** SLDT: selector of LDTR to HOST_VALUE. */
export function sldt(): i32 {
  return store_selector(INDEX_LDTR);
}

/** STR: selector of TR to HOST_VALUE. */
export function str(): i32 {
  return store_selector(INDEX_TR);
}

function store_selector(index: i32): i32 {
  if (is_real_or_v86()) return raise(UD);
  if (bars_store()) return raise_error(GP, 0);
  store<u64>(HOST_VALUE, segment_selector(index));
  return STATUS_OK;
}
