// Addresses with segments: outside of 64-bit mode, and with 32-bit addresses in it (SDM volume 3, 5.3).

import {
  ATTR_UNUSABLE,
  EA_FAILED,
  R_DISP,
  R_INDEX,
  R_PREFIX,
  R_RM,
  R_SCALE,
  R_SEG,
  RP_ADDR16,
  RP_ADDR32,
  SEG_FS,
  SEG_GS,
  SEG_O_ATTR,
  SEG_O_BASE,
  SEG_O_LIMIT,
  SEG_SS,
} from '../layout';
import { in_limit } from './frame';
import { is_64bit, is_real_or_v86 } from './mode';
import { raise_error } from './raise';
import { GP, SS } from './registers';

/** Set when segment_linear() raised. */
export let segment_failed: bool = false;

function refuse(segment: usize): u64 {
  segment_failed = true;
  raise_error(segment == SEG_SS ? SS : GP, 0);
  return 0;
}

/** Linear address of `size` bytes at an offset in the segment whose entry is at `segment`. Size 0: no check of limits. */
export function segment_linear(segment: usize, offset: u64, size: u32, write: bool): u64 {
  segment_failed = false;
  if (is_64bit()) return segment == SEG_FS || segment == SEG_GS ? offset + load<u64>(segment, SEG_O_BASE) : offset;
  const attr = load<u32>(segment, SEG_O_ATTR);
  if (size) {
    if (attr & ATTR_UNUSABLE) return refuse(segment);
    if (!is_real_or_v86()) {
      // Type bit 3: code; bit 1: data writable, code readable.
      const code = (attr & 8) != 0;
      if (write ? code || !(attr & 2) : code && !(attr & 2)) return refuse(segment);
    }
    if (!in_limit(offset, size, load<u32>(segment, SEG_O_LIMIT), attr)) return refuse(segment);
  }
  return (offset + load<u64>(segment, SEG_O_BASE)) & 0xffffffff;
}

/** Cuts an offset to the record's address size. */
export function truncate_address(record: i32, offset: u64): u64 {
  const prefix = load<u8>(record, R_PREFIX);
  return prefix & RP_ADDR16 ? offset & 0xffff : prefix & RP_ADDR32 ? offset & 0xffffffff : offset;
}

/** Linear address of a decoded memory operand; EA_FAILED tells whether an exception was raised. */
export function ea_slow(record: i32, size: i32, write: i32): u64 {
  const index = load<u64>(load<u16>(record, R_INDEX)) << load<u8>(record, R_SCALE);
  const sum = load<u64>(load<u16>(record, R_RM)) + index + load<u64>(record, R_DISP);
  const linear = segment_linear(load<u16>(record, R_SEG), truncate_address(record, sum), size, write != 0);
  store<u32>(EA_FAILED, segment_failed ? 1 : 0);
  return linear;
}
