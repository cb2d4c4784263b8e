// AVX's masked moves and AVX2's gathers (SDM volume 2, VMASKMOV, VPMASKMOV, VPGATHERDD and its like): only chosen elements
// are accessed. An element is chosen by the top bit of its mask.

import { R_DISP, R_INDEX, R_RM, R_SCALE, R_SEG, STATUS_FAULT, STATUS_OK } from '../layout';
import { access_status, as_stack_fault, cpl_read32, cpl_read64, cpl_write32, cpl_write64, probe_write } from './access';
import { segment_failed, segment_linear, truncate_address } from './address';

/** A vector and a mask on their way. */
const VALUES: usize = memory.data(32, 16);
const MASK: usize = memory.data(32, 16);

function chosen(mask: usize, index: u32, bytes: u32): bool {
  return (load<u8>(mask + (index + 1) * bytes - 1) & 0x80) != 0;
}

function failed(linear: u64, record: i32): i32 {
  const status = access_status;
  if (status == STATUS_FAULT) as_stack_fault(linear, record);
  return status;
}

/** Reads one element to `to`. */
function fetch(linear: u64, bytes: u32, to: usize): i32 {
  const value = bytes == 4 ? cpl_read32(linear) : cpl_read64(linear);
  if (access_status != STATUS_OK) return access_status;
  if (bytes == 4) store<u32>(to, <u32>value);
  else store<u64>(to, value);
  return STATUS_OK;
}

/** Elements of `bytes` each, `size` bytes in all, to the register at `data`; those not chosen are zero. */
export function avx_masked_load(linear: u64, record: i32, data: i32, mask: i32, bytes: i32, size: i32): i32 {
  memory.fill(VALUES, 0, 32);
  for (let i = 0; i * bytes < size; i++) {
    if (!chosen(mask, i, bytes)) continue;
    const at = linear + i * bytes;
    if (fetch(at, bytes, VALUES + i * bytes) != STATUS_OK) return failed(at, record);
  }
  memory.copy(data, VALUES, 32);
  return STATUS_OK;
}

export function avx_masked_store(linear: u64, record: i32, data: i32, mask: i32, bytes: i32, size: i32): i32 {
  for (let pass = 0; pass < 2; pass++) {
    for (let i = 0; i * bytes < size; i++) {
      if (!chosen(mask, i, bytes)) continue;
      const at = linear + i * bytes;
      // Nothing is written unless everything can be.
      if (pass == 0) {
        if (probe_write(at, bytes, true) != STATUS_OK) return failed(at, record);
      } else if (bytes == 4) {
        cpl_write32(at, load<u32>(data + i * bytes));
      } else {
        cpl_write64(at, load<u64>(data + i * bytes));
      }
    }
  }
  return STATUS_OK;
}

/**
 * `sizes`: bytes of an index, and from bit 8 on of an element. An element that was read is no longer chosen, so that
 * the instruction goes on where a fault stopped it.
 */
export function avx_gather(record: i32, data: i32, mask: i32, sizes: i32, count: i32): i32 {
  const index_bytes = sizes & 0xff;
  const bytes = sizes >> 8;
  const indices: usize = load<u16>(record, R_INDEX);
  const scale = <u64>(load<u8>(record, R_SCALE) & 3);
  const base = load<u64>(load<u16>(record, R_RM)) + load<u64>(record, R_DISP);
  memory.copy(VALUES, data, 32);
  memory.copy(MASK, mask, 32);
  for (let i = 0; i < count; i++) {
    const own = MASK + i * bytes;
    const wanted = chosen(MASK, i, bytes);
    // What is not wanted is done with.
    if (!wanted) {
      memory.fill(own, 0, bytes);
      continue;
    }
    const index = index_bytes == 4 ? <i64>load<i32>(indices + i * 4) : load<i64>(indices + i * 8);
    const offset = truncate_address(record, base + ((<u64>index) << scale));
    const linear = segment_linear(load<u16>(record, R_SEG), offset, bytes, false);
    const status = segment_failed ? STATUS_FAULT : fetch(linear, bytes, VALUES + i * bytes);
    if (status != STATUS_OK) {
      if (status == STATUS_FAULT) {
        if (!segment_failed) as_stack_fault(linear, record);
        memory.copy(data, VALUES, 32);
        memory.copy(mask, MASK, 32);
      }
      return status;
    }
    memory.fill(own, 0, bytes);
  }
  const size = count * bytes;
  memory.fill(VALUES + size, 0, 32 - size);
  memory.copy(data, VALUES, 32);
  memory.fill(mask, 0, 32);
  return STATUS_OK;
}
