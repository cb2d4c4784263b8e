// Segment and system descriptors in the guest's tables (SDM volume 3, sections 3.4, 3.5 and 7.2).

import {
  ATTR_UNUSABLE,
  GDTR_BASE,
  GDTR_LIMIT,
  SEG_LDTR,
  SEG_O_ATTR,
  SEG_O_BASE,
  SEG_O_LIMIT,
  STATUS_FAULT,
  STATUS_OK,
} from '../layout';
import { access_status, sup_read64, sup_write8 } from './access';
import { is_long, set_segment } from './mode';
import { raise_error } from './raise';
import { DESC_ACCESSED, DESC_G, DESC_P, DESC_S } from './registers';

/** The descriptor lies outside of its table. */
export const FETCH_OUTSIDE = -1;

/** The descriptor fetched last: its two words, its linear address and (16-byte descriptors) the upper two words. */
export let desc_lo: u32 = 0;
export let desc_hi: u32 = 0;
export let desc_upper_lo: u32 = 0;
export let desc_upper_hi: u32 = 0;
export let desc_address: u64 = 0;
let desc_end: u64 = 0;

/** Linear address for the processor's own accesses to tables: 32 bits outside of IA-32e mode. */
export function table_linear(address: u64): u64 {
  return is_long() ? address : address & 0xffffffff;
}

export function is_null(selector: u32): bool {
  return (selector & 0xfffc) == 0;
}

/** Reads the descriptor of a selector. STATUS_OK, FETCH_OUTSIDE, or the status of a failed access. */
export function fetch_descriptor(selector: u32): i32 {
  let base: u64;
  let limit: u32;
  if (selector & 4) {
    if (load<u32>(SEG_LDTR, SEG_O_ATTR) & ATTR_UNUSABLE) return FETCH_OUTSIDE;
    base = load<u64>(SEG_LDTR, SEG_O_BASE);
    limit = load<u32>(SEG_LDTR, SEG_O_LIMIT);
  } else {
    base = load<u64>(GDTR_BASE);
    limit = load<u32>(GDTR_LIMIT);
  }
  const offset = selector & 0xfff8;
  if (<u64>offset + 7 > <u64>limit) return FETCH_OUTSIDE;
  desc_address = table_linear(base + offset);
  desc_end = base + limit;
  const value = sup_read64(desc_address);
  if (access_status != STATUS_OK) return access_status;
  desc_lo = <u32>value;
  desc_hi = <u32>(value >> 32);
  return STATUS_OK;
}

/** Reads the upper half of the 16-byte descriptor that fetch_descriptor() read the lower half of. */
export function fetch_upper(): i32 {
  if (desc_address + 15 > desc_end) return FETCH_OUTSIDE;
  const value = sup_read64(desc_address + 8);
  if (access_status != STATUS_OK) return access_status;
  desc_upper_lo = <u32>value;
  desc_upper_hi = <u32>(value >> 32);
  return STATUS_OK;
}

/**
 * As fetch_descriptor(), raising `vector` with the selector as error code (bit 0: EXT) where the descriptor is outside of
 * its table.
 */
export function fetch_or_raise(selector: u32, vector: u32, ext: u32): i32 {
  const status = fetch_descriptor(selector);
  return status == FETCH_OUTSIDE ? raise_error(vector, (selector & 0xfffc) | ext) : status;
}

/** As fetch_upper(), raising likewise. */
export function fetch_upper_or_raise(selector: u32, vector: u32, ext: u32): i32 {
  const status = fetch_upper();
  return status == FETCH_OUTSIDE ? raise_error(vector, (selector & 0xfffc) | ext) : status;
}

/** Raises `vector` with a selector as error code. */
export function raise_selector(vector: u32, selector: u32): i32 {
  raise_error(vector, selector & 0xfffc);
  return STATUS_FAULT;
}

export function desc_dpl(hi: u32): u32 {
  return (hi >> 13) & 3;
}

/** Type of a system descriptor; -1 for code and data. */
export function system_type(hi: u32): i32 {
  return hi & DESC_S ? -1 : (hi >> 8) & 15;
}

export function desc_present(hi: u32): bool {
  return (hi & DESC_P) != 0;
}

export function desc_base(lo: u32, hi: u32): u32 {
  return (lo >> 16) | ((hi & 0xff) << 16) | (hi & 0xff000000);
}

/** Limit in bytes. */
export function desc_limit(lo: u32, hi: u32): u32 {
  const limit = (lo & 0xffff) | (hi & 0xf0000);
  return hi & DESC_G ? (limit << 12) | 0xfff : limit;
}

/** Access rights in the form of SEG_O_ATTR. */
export function desc_attr(hi: u32): u32 {
  return (hi >> 8) & 0xf0ff;
}

/** Sets the accessed bit of a code or data descriptor in memory, if it is clear. */
export function mark_accessed(address: u64, hi: u32): i32 {
  if (hi & DESC_ACCESSED) return STATUS_OK;
  sup_write8(address + 5, <u64>(((hi >> 8) & 0xff) | 1));
  return access_status;
}

/** Loads a code or data segment register from a descriptor's words, as accessed. */
export function set_from_descriptor(index: i32, selector: u32, lo: u32, hi: u32): void {
  set_segment(index, selector, <u64>desc_base(lo, hi), desc_limit(lo, hi), desc_attr(hi) | 1);
}
