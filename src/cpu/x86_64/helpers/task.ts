// Hardware task switches (SDM volume 3, chapter 7). They exist outside of IA-32e mode only.

import {
  ATTR_UNUSABLE,
  CR0,
  CR3,
  DR7,
  EXC_ADDRESS,
  FLAG_NT,
  FLAG_VM,
  GPR,
  RIP,
  SEG_O_ATTR,
  SEG_O_BASE,
  SEG_O_LIMIT,
  SEG_O_SELECTOR,
  SEG_TR,
  STATUS_FAULT,
  STATUS_JUMP,
  STATUS_OK,
} from '../layout';
import {
  access_status,
  probe_write,
  sup_read8,
  sup_read16,
  sup_read32,
  sup_write8,
  sup_write16,
  sup_write32,
  tlb_flush,
} from './access';
import { is_pae_paging, load_pdptes } from './control-registers';
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
  raise_selector,
  set_from_descriptor,
  system_type,
  table_linear,
} from './descriptors';
import { get_rflags, set_rflags } from './flags';
import { frame_commit, frame_current, frame_push } from './frame';
import { segment_limit, segment_selector, set_segment, update_mode } from './mode';
import { raise, raise_error } from './raise';
import {
  ATTR_V86,
  CR0_PG,
  CR0_TS,
  DB,
  DESC_CODE,
  DESC_CONFORMING,
  DESC_S,
  DR6_BT,
  GP,
  INDEX_CS,
  INDEX_DS,
  INDEX_ES,
  INDEX_FS,
  INDEX_GS,
  INDEX_LDTR,
  INDEX_SS,
  INDEX_TR,
  NP,
  TS,
  TYPE_TSS32,
  TYPE_TSS32_BUSY,
} from './registers';
import { load_data_segment, load_ldt, load_stack_segment } from './segments';

/** What switches: JMP leaves the old task, CALL (also interrupts and exceptions) nests, IRET ends a nested task. */
export const SWITCH_JMP = 0;
export const SWITCH_CALL = 1;
export const SWITCH_IRET = 2;

/** The last task_switch() passed its point of no return: its fault is the new task's. */
export let task_committed: bool = false;

/** The new TSS, read before anything changes: EIP, EFLAGS, 8 general registers, 6 selectors, LDT, CR3, T (u32 each). */
const NEW: usize = memory.data(19 * 4);
const NEW_EIP = 0;
const NEW_EFLAGS = 4;
const NEW_GPR = 8;
const NEW_SELECTORS = 40;
const NEW_LDT = 64;
const NEW_CR3 = 68;
const NEW_TRAP = 72;

/** Offsets in the two kinds of TSS. */
const CR3_32 = 0x1c;
const EIP_32 = 0x20;
const EIP_16 = 0x0e;
const LDT_32 = 0x60;
const LDT_16 = 0x2a;
const TRAP_32 = 0x64;
/** Bytes that the processor saves to and restores from. */
const SIZE_32 = 0x68;
const SIZE_16 = 0x2c;

let read_status: i32 = STATUS_OK;

/** Reads a field of a TSS; a failure stays in read_status. */
function field(address: u64, size: u32): u32 {
  if (read_status != STATUS_OK) return 0;
  const linear = table_linear(address);
  const value = size == 4 ? sup_read32(linear) : sup_read16(linear);
  read_status = access_status;
  return <u32>value;
}

function put(address: u64, size: u32, value: u32): void {
  const linear = table_linear(address);
  if (size == 4) sup_write32(linear, value);
  else sup_write16(linear, value & 0xffff);
}

function read_tss(base: u64, wide: bool): i32 {
  read_status = STATUS_OK;
  const size: u32 = wide ? 4 : 2;
  const first = base + (wide ? EIP_32 : EIP_16);
  store<u32>(NEW + NEW_EIP, field(first, size));
  store<u32>(NEW + NEW_EFLAGS, field(first + size, size));
  for (let i: u32 = 0; i < 8; i++) store<u32>(NEW + NEW_GPR + i * 4, field(first + (i + 2) * size, size));
  const selectors: u32 = wide ? 6 : 4;
  for (let i: u32 = 0; i < 6; i++) {
    const value = i < selectors ? field(first + (i + 10) * size, 2) : 0;
    store<u32>(NEW + NEW_SELECTORS + i * 4, value);
  }
  store<u32>(NEW + NEW_LDT, field(base + (wide ? LDT_32 : LDT_16), 2));
  store<u32>(NEW + NEW_CR3, wide ? field(base + CR3_32, 4) : 0);
  store<u32>(NEW + NEW_TRAP, wide ? field(base + TRAP_32, 2) & 1 : 0);
  return read_status;
}

function save_tss(base: u64, wide: bool, ip: u64, flags: u32): void {
  const size: u32 = wide ? 4 : 2;
  const first = base + (wide ? EIP_32 : EIP_16);
  put(first, size, <u32>ip);
  put(first + size, size, flags);
  for (let i: u32 = 0; i < 8; i++) put(first + (i + 2) * size, size, load<u32>(GPR + i * 8));
  const selectors: u32 = wide ? 6 : 4;
  for (let i: u32 = 0; i < selectors; i++) put(first + (i + 10) * size, 2, segment_selector(i));
}

/**
 * Switches to the task whose TSS descriptor was fetched last and checked for its type, DPL and presence. `ip` is saved
 * for the old task; `error` is pushed on the new stack if `has_error`; `ext`: EXT bit of error codes. STATUS_JUMP, or
 * STATUS_FAULT: of the old task unless task_committed.
 */
export function task_switch(selector: u32, source: i32, ip: u64, has_error: bool, error: u32, ext: u32): i32 {
  task_committed = false;
  const lo = desc_lo;
  const hi = desc_hi;
  const busy_byte = desc_address + 5;
  const type = system_type(hi);
  const wide = type == TYPE_TSS32 || type == TYPE_TSS32_BUSY;
  const base = <u64>desc_base(lo, hi);
  const limit = desc_limit(lo, hi);
  const size: u32 = wide ? SIZE_32 : SIZE_16;
  if (limit < size - 1) return raise_error(TS, (selector & 0xfffc) | ext);

  const old_base = load<u64>(SEG_TR, SEG_O_BASE);
  const old_attr = load<u32>(SEG_TR, SEG_O_ATTR);
  const old_selector = load<u32>(SEG_TR, SEG_O_SELECTOR);
  const old_wide = (old_attr & 8) != 0;
  const old_size: u32 = old_wide ? SIZE_32 : SIZE_16;
  if (load<u32>(SEG_TR, SEG_O_LIMIT) < old_size - 1) return raise_error(TS, (old_selector & 0xfffc) | ext);
  let status = read_tss(base, wide);
  if (status != STATUS_OK) return status;
  // All that is written later is probed now.
  status = probe_write(table_linear(old_base), old_size, false);
  if (status == STATUS_OK && source == SWITCH_CALL) status = probe_write(table_linear(base), 4, false);
  if (status == STATUS_OK) status = probe_write(busy_byte, 1, false);
  let old_busy: u64 = 0;
  if (status == STATUS_OK && source != SWITCH_CALL) {
    // The old task's descriptor is in the GDT, where LTR or an earlier switch found it.
    status = fetch_or_raise(old_selector, TS, ext);
    if (status != STATUS_OK) return status;
    old_busy = desc_address + 5;
    status = probe_write(old_busy, 1, false);
  }
  if (status != STATUS_OK) return status;

  // ---- The old task ends here.
  let flags = get_rflags();
  if (source == SWITCH_IRET) flags &= ~FLAG_NT;
  save_tss(old_base, old_wide, ip, flags);
  if (old_busy) sup_write8(old_busy, sup_read8(old_busy) & ~(<u64>2));
  let new_flags = load<u32>(NEW + NEW_EFLAGS) | 2;
  if (source == SWITCH_CALL) {
    put(base, 2, old_selector);
    new_flags |= FLAG_NT;
  }
  if (source != SWITCH_IRET) sup_write8(busy_byte, <u64>(((hi >> 8) & 0xff) | 2));
  task_committed = true;
  set_segment(INDEX_TR, selector, base, limit, desc_attr(hi) | 2);
  store<u64>(CR0, load<u64>(CR0) | CR0_TS);
  // Local breakpoints are the old task's.
  store<u64>(DR7, load<u64>(DR7) & ~(<u64>0x155));
  return enter_task(wide, new_flags, has_error, error, ext);
}

/** Loads the new task's registers from NEW. */
function enter_task(wide: bool, flags: u32, has_error: bool, error: u32, ext: u32): i32 {
  store<u64>(RIP, load<u32>(NEW + NEW_EIP));
  set_rflags(flags & 0x003f7fd7);
  for (let i: u32 = 0; i < 8; i++) store<u64>(GPR + i * 8, load<u32>(NEW + NEW_GPR + i * 4));
  const v86 = (flags & FLAG_VM) != 0;
  const cs = load<u32>(NEW + NEW_SELECTORS + INDEX_CS * 4);
  const level: u32 = v86 ? 3 : cs & 3;
  for (let i = 0; i < 6; i++) {
    const selector = load<u32>(NEW + NEW_SELECTORS + i * 4);
    if (v86) set_segment(i, selector, <u64>(selector << 4), 0xffff, ATTR_V86);
    else set_segment(i, selector, 0, 0, ATTR_UNUSABLE | (i == INDEX_SS ? level << 5 : 0));
  }
  const ldt = load<u32>(NEW + NEW_LDT);
  set_segment(INDEX_LDTR, ldt, 0, 0, ATTR_UNUSABLE);
  update_mode();
  let status = STATUS_OK;
  if (wide && load<u32>(CR0) & CR0_PG) {
    store<u64>(CR3, load<u32>(NEW + NEW_CR3));
    tlb_flush(0);
    if (is_pae_paging() && !load_pdptes()) return raise_error(GP, 0);
  }
  status = load_ldt(ldt, TS);
  if (status == STATUS_OK && !v86) status = load_task_segments(cs, level);
  if (status != STATUS_OK) return status;
  update_mode();
  if (load<u64>(RIP) > <u64>segment_limit(INDEX_CS)) return raise_error(GP, 0);
  if (has_error) {
    frame_current(ext);
    status = frame_push(wide ? 4 : 2, error);
    if (status != STATUS_OK) return status;
    frame_commit();
  }
  if (load<u32>(NEW + NEW_TRAP)) {
    raise(DB);
    store<u64>(EXC_ADDRESS, DR6_BT);
    return STATUS_FAULT;
  }
  return STATUS_JUMP;
}

function load_task_segments(cs: u32, level: u32): i32 {
  if (is_null(cs)) return raise_error(TS, 0);
  let status = fetch_or_raise(cs, TS, 0);
  if (status != STATUS_OK) return status;
  const lo = desc_lo;
  const hi = desc_hi;
  const address = desc_address;
  if ((hi & (DESC_S | DESC_CODE)) != (DESC_S | DESC_CODE)) return raise_selector(TS, cs);
  const dpl = desc_dpl(hi);
  if (hi & DESC_CONFORMING ? dpl > level : dpl != level) return raise_selector(TS, cs);
  if (!desc_present(hi)) return raise_selector(NP, cs);
  status = mark_accessed(address, hi);
  if (status != STATUS_OK) return status;
  set_from_descriptor(INDEX_CS, cs, lo, hi);
  status = load_stack_segment(load<u32>(NEW + NEW_SELECTORS + INDEX_SS * 4), level, TS);
  if (status == STATUS_OK) status = load_new(INDEX_ES);
  if (status == STATUS_OK) status = load_new(INDEX_DS);
  if (status == STATUS_OK) status = load_new(INDEX_FS);
  if (status == STATUS_OK) status = load_new(INDEX_GS);
  return status;
}

function load_new(index: i32): i32 {
  return load_data_segment(index, load<u32>(NEW + NEW_SELECTORS + index * 4), TS);
}
