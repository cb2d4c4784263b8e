// INT n in virtual-8086 mode (SDM volume 3, sections 20.2 and 20.3).

import {
  CR4,
  FLAG_IF,
  FLAG_IOPL,
  FLAG_NT,
  FLAG_TF,
  FLAG_VIF,
  FLAGS,
  RIP,
  SEG_O_ATTR,
  SEG_O_BASE,
  SEG_O_LIMIT,
  SEG_TR,
  STATUS_OK,
} from '../layout';
import { access_status, cpl_read32, sup_read8, sup_read16 } from './access';
import { table_linear } from './descriptors';
import { get_rflags } from './flags';
import { frame_commit, frame_current, frame_push } from './frame';
import { iopl, segment_selector, set_paragraph } from './mode';
import { raise_error } from './raise';
import { CR4_VME, GP, INDEX_CS } from './registers';

/** Goes on through the IDT. */
export const V86_PROTECTED = -1;
/** Delivered by the 8086 program's own vector table. */
export const V86_DELIVERED = -2;

/** INT n in virtual-8086 mode: V86_*, or the status of a fault. */
export function redirect_v86(vector: u32, ip: u64): i32 {
  if (load<u32>(CR4) & CR4_VME) {
    const byte = redirection_byte(vector);
    if (map_status != STATUS_OK) return map_status;
    if (((byte >> (vector & 7)) & 1) == 0) return deliver_8086(vector, ip);
  }
  return iopl() < 3 ? raise_error(GP, 0) : V86_PROTECTED;
}

let map_status: i32 = STATUS_OK;

/** The TSS's interrupt redirection map is the 32 bytes before its I/O permission map; all ones where there is none. */
function redirection_byte(vector: u32): u32 {
  map_status = STATUS_OK;
  const limit = load<u32>(SEG_TR, SEG_O_LIMIT);
  if (!(load<u32>(SEG_TR, SEG_O_ATTR) & 8) || limit < 0x67) return 0xff;
  const base = load<u64>(SEG_TR, SEG_O_BASE);
  const map = <u32>sup_read16(table_linear(base + 0x66));
  map_status = access_status;
  if (map_status != STATUS_OK) return 0xff;
  const offset = map - 32 + (vector >> 3);
  if (offset > limit) return 0xff;
  const bits = <u32>sup_read8(table_linear(base + offset));
  map_status = access_status;
  return bits;
}

function deliver_8086(vector: u32, ip: u64): i32 {
  const entry = <u32>cpl_read32(vector * 4);
  if (access_status != STATUS_OK) return access_status;
  const full = iopl() == 3;
  let image = get_rflags();
  if (!full) {
    const vif: u32 = image & FLAG_VIF ? FLAG_IF : 0;
    image = (image & ~FLAG_IF) | FLAG_IOPL | vif;
  }
  frame_current(0);
  let status = frame_push(2, image);
  if (status == STATUS_OK) status = frame_push(2, segment_selector(INDEX_CS));
  if (status == STATUS_OK) status = frame_push(2, ip);
  if (status != STATUS_OK) return status;
  frame_commit();
  set_paragraph(INDEX_CS, entry >> 16);
  store<u64>(RIP, entry & 0xffff);
  const cleared: u32 = FLAG_TF | FLAG_NT | (full ? FLAG_IF : FLAG_VIF);
  store<u32>(FLAGS, load<u32>(FLAGS) & ~cleared);
  return V86_DELIVERED;
}
