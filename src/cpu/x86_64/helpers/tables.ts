// Descriptor-table registers, the machine status word, and the instructions that look at descriptors without loading
// them (SDM volume 2: LGDT, SGDT, SMSW, LMSW, LAR, LSL, VERR, VERW, ARPL).

import {
  CC_A,
  CC_KIND,
  CC_KIND_FLAGS,
  CR0,
  CR4,
  FLAG_ZF,
  FLAGS_ARITH,
  GDTR_BASE,
  GDTR_LIMIT,
  HOST_VALUE,
  IDTR_BASE,
  IDTR_LIMIT,
  STATUS_OK,
} from '../layout';
import {
  access_status,
  check_alignment,
  cpl_read16,
  cpl_read32,
  cpl_read64,
  cpl_write_bytes,
  probe_write,
} from './access';
import { load_cr0 } from './control-registers';
import {
  desc_dpl,
  desc_hi,
  desc_limit,
  desc_lo,
  FETCH_OUTSIDE,
  fetch_descriptor,
  fetch_upper,
  is_null,
  system_type,
} from './descriptors';
import { get_arith } from './flags';
import { cpl, is_64bit, is_canonical, is_long, is_real_or_v86 } from './mode';
import { raise, raise_error } from './raise';
import {
  CR0_PE,
  CR4_UMIP,
  DESC_CODE,
  DESC_CONFORMING,
  DESC_RW,
  DESC_S,
  GP,
  TYPE_CALL_GATE16,
  TYPE_CALL_GATE32,
  TYPE_LDT,
  TYPE_TASK_GATE,
  TYPE_TSS16,
  TYPE_TSS16_BUSY,
  TYPE_TSS32,
  TYPE_TSS32_BUSY,
  UD,
} from './registers';

/** UMIP keeps SGDT, SIDT, SLDT, SMSW and STR from programs. */
export function bars_store(): bool {
  return cpl() != 0 && (load<u32>(CR4) & CR4_UMIP) != 0;
}

/** SGDT to the linear address: 2 bytes of limit, then 4 of base (8 in 64-bit mode). */
export function sgdt(linear: u64): i32 {
  return store_table(linear, GDTR_BASE, GDTR_LIMIT);
}

/** SIDT. */
export function sidt(linear: u64): i32 {
  return store_table(linear, IDTR_BASE, IDTR_LIMIT);
}

/** LGDT from the linear address; `size` 2: the base has 24 bits. */
export function lgdt(linear: u64, size: i32): i32 {
  return load_table(linear, size, GDTR_BASE, GDTR_LIMIT);
}

/** LIDT. */
export function lidt(linear: u64, size: i32): i32 {
  return load_table(linear, size, IDTR_BASE, IDTR_LIMIT);
}

/** Linear address of a second part of an operand. */
function beyond(linear: u64, offset: u32): u64 {
  return is_64bit() ? linear + offset : (linear + offset) & 0xffffffff;
}

/** A pseudo-descriptor on its way to memory. */
const IMAGE: usize = memory.data(16, 16);

function store_table(linear: u64, base: usize, limit: usize): i32 {
  if (bars_store()) return raise_error(GP, 0);
  const long = is_64bit();
  let status = check_alignment(linear, 4);
  // All of it can be written, or nothing is.
  if (status == STATUS_OK) status = probe_write(linear, long ? 10 : 6, true);
  if (status != STATUS_OK) return status;
  store<u16>(IMAGE, <u16>load<u32>(limit));
  store<u64>(IMAGE, load<u64>(base), 2);
  return cpl_write_bytes(linear, long ? 10 : 6, IMAGE);
}

function load_table(linear: u64, size: i32, base: usize, limit: usize): i32 {
  if (cpl()) return raise_error(GP, 0);
  const limit_value = cpl_read16(linear);
  if (access_status != STATUS_OK) return access_status;
  const long = is_64bit();
  let base_value = long ? cpl_read64(beyond(linear, 2)) : cpl_read32(beyond(linear, 2));
  if (access_status != STATUS_OK) return access_status;
  if (long && !is_canonical(base_value)) return raise_error(GP, 0);
  if (!long && size == 2) base_value &= 0xffffff;
  store<u64>(base, base_value);
  store<u32>(limit, <u32>limit_value);
  return STATUS_OK;
}

/** SMSW: CR0 to HOST_VALUE. */
export function smsw(): i32 {
  if (bars_store()) return raise_error(GP, 0);
  store<u64>(HOST_VALUE, load<u64>(CR0));
  return STATUS_OK;
}

/** LMSW: PE (which it can only set), MP, EM, TS. */
export function lmsw(value: i32): i32 {
  if (cpl()) return raise_error(GP, 0);
  const old = load<u32>(CR0);
  return load_cr0(<u64>((old & ~(<u32>0xe)) | (<u32>value & 0xf) | (old & CR0_PE)));
}

function set_zf(set: bool): void {
  const rest = get_arith() & FLAGS_ARITH & ~FLAG_ZF;
  store<u32>(CC_KIND, CC_KIND_FLAGS);
  store<u64>(CC_A, <u64>(rest | (set ? FLAG_ZF : 0)));
}

/** Whether CPL and RPL allow sight of the descriptor fetched last: conforming code to all. */
function is_visible(selector: u32): bool {
  const hi = desc_hi;
  if ((hi & (DESC_S | DESC_CODE | DESC_CONFORMING)) == (DESC_S | DESC_CODE | DESC_CONFORMING)) return true;
  const dpl = desc_dpl(hi);
  return cpl() <= dpl && (selector & 3) <= dpl;
}

/** Fetches the descriptor of LAR, LSL, VERR, VERW: STATUS_OK, FETCH_OUTSIDE (ZF is to be clear) or a fault. */
function look(selector: u32): i32 {
  if (is_real_or_v86()) return raise(UD);
  if (is_null(selector)) return FETCH_OUTSIDE;
  const status = fetch_descriptor(selector);
  if (status != STATUS_OK) return status;
  // System descriptors of IA-32e mode are 16 bytes long, and all of them must be there.
  if (is_long() && !(desc_hi & DESC_S)) return fetch_upper();
  return STATUS_OK;
}

/** LAR: ZF, and if it is set, the access rights (the descriptor's second word and 00FFFF00H) in HOST_VALUE. */
export function lar(selector: i32): i32 {
  const value = <u32>selector & 0xffff;
  const status = look(value);
  if (status != STATUS_OK && status != FETCH_OUTSIDE) return status;
  const type = system_type(desc_hi);
  const gates = type == TYPE_CALL_GATE16 || type == TYPE_TASK_GATE;
  const known = type < 0 || has_limit(type) || type == TYPE_CALL_GATE32 || (gates && !is_long());
  const valid = status == STATUS_OK && known && is_visible(value);
  if (valid) store<u64>(HOST_VALUE, desc_hi & 0x00ffff00);
  set_zf(valid);
  return STATUS_OK;
}

/** System descriptors with a limit that LAR and LSL take. */
function has_limit(type: i32): bool {
  if (type == TYPE_LDT || type == TYPE_TSS32 || type == TYPE_TSS32_BUSY) return true;
  return !is_long() && (type == TYPE_TSS16 || type == TYPE_TSS16_BUSY);
}

/** LSL: ZF, and if it is set, the limit in bytes in HOST_VALUE. */
export function lsl(selector: i32): i32 {
  const value = <u32>selector & 0xffff;
  const status = look(value);
  if (status != STATUS_OK && status != FETCH_OUTSIDE) return status;
  const type = system_type(desc_hi);
  const valid = status == STATUS_OK && (type < 0 || has_limit(type)) && is_visible(value);
  if (valid) store<u64>(HOST_VALUE, desc_limit(desc_lo, desc_hi));
  set_zf(valid);
  return STATUS_OK;
}

/** VERR: ZF if the segment is readable. */
export function verr(selector: i32): i32 {
  return verify(selector, false);
}

/** VERW: ZF if the segment is writable. */
export function verw(selector: i32): i32 {
  return verify(selector, true);
}

function verify(selector: i32, write: bool): i32 {
  const value = <u32>selector & 0xffff;
  const status = look(value);
  if (status != STATUS_OK && status != FETCH_OUTSIDE) return status;
  const hi = desc_hi;
  const code = (hi & DESC_CODE) != 0;
  const rw = (hi & DESC_RW) != 0;
  const allowed = write ? !code && rw : !code || rw;
  set_zf(status == STATUS_OK && (hi & DESC_S) != 0 && allowed && is_visible(value));
  return STATUS_OK;
}

/** ARPL: the adjusted selector to HOST_VALUE, ZF if its RPL was raised. */
export function arpl(destination: i32, source: i32): i32 {
  if (is_real_or_v86()) return raise(UD);
  const rpl = source & 3;
  const raised = (destination & 3) < rpl;
  store<u64>(HOST_VALUE, <u64>(<u32>(raised ? (destination & 0xfffc) | rpl : destination & 0xffff)));
  set_zf(raised);
  return STATUS_OK;
}
