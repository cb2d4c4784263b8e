// Page tables and TLB (SDM volume 3, chapter 4).

import {
  CODE_PAGES,
  COUNT_TLB_FLUSHES,
  COUNT_TLB_MISSES,
  CR0,
  CR3,
  CR4,
  DEVICE_WRITES_SEEN,
  DR,
  DR7,
  EFER,
  MMU_KERNEL_AC,
  MMU_USER,
  OUTER_DR,
  OUTER_DR7,
  PDPTE,
  TELL_WRITES,
  TLB,
  TLB_EMPTY,
  TLB_ENTRIES,
  TLB_ENTRY,
  TLB_GLOBAL,
  TLB_INVALID,
  TLB_LARGE,
  TLB_O_ADDEND,
  TLB_O_EXEC,
  TLB_O_FLAGS,
  TLB_O_READ,
  TLB_O_WRITE,
  TLB_SIZE,
} from '../layout';
import { code_written } from './code';
import { physical_bits } from './cpuid';
import { host_page_written } from './host';
import { forget_jumps, is_canonical, is_long } from './mode';
import { raise_error, raise_page_fault } from './raise';
import { device_writes, ram_flags, ram_host, ram_read32, ram_read64 } from './ram';
import { CR0_PG, CR0_WP, CR4_PAE, CR4_PGE, CR4_PSE, CR4_SMAP, CR4_SMEP, DR7_ENABLES, EFER_NXE, GP } from './registers';

export const ACCESS_READ = 0;
export const ACCESS_WRITE = 1;
export const ACCESS_EXECUTE = 2;

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const A: u64 = 0x20;
const D: u64 = 0x40;
const PS: u64 = 0x80;
const G: u64 = 0x100;
const NX: u64 = (<u64>1) << 63;

/** Result of the last walk: physical address of the byte, and what its page allows. */
let walk_physical: u64 = 0;
let walk_writable: bool = false;
let walk_user: bool = false;
let walk_nx: bool = false;
let walk_dirty: bool = false;
let walk_global: bool = false;
let walk_large: bool = false;

/** Physical address of the last tlb_fill() that returned 1. */
export let fill_physical: u64 = 0;

function fault(linear: u64, access: i32, mode: i32, present: u32): i32 {
  let error = present;
  if (access == ACCESS_WRITE) error |= 2;
  if (mode == MMU_USER) error |= 4;
  if (access == ACCESS_EXECUTE && (load<u32>(EFER) & EFER_NXE || load<u32>(CR4) & CR4_SMEP)) error |= 16;
  raise_page_fault(linear, error);
  return 0;
}

/** What the page that the last walk found allows. */
function allowed(access: i32, mode: i32): bool {
  if (mode == MMU_USER) {
    if (!walk_user) return false;
    if (access == ACCESS_WRITE) return walk_writable;
  } else {
    if (walk_user) {
      if (access == ACCESS_EXECUTE) {
        if (load<u32>(CR4) & CR4_SMEP) return false;
      } else if (mode != MMU_KERNEL_AC && load<u32>(CR4) & CR4_SMAP) {
        return false;
      }
    }
    if (access == ACCESS_WRITE) return walk_writable || !(load<u32>(CR0) & CR0_WP);
  }
  return access != ACCESS_EXECUTE || !walk_nx;
}

/** Sets bits of a page-table entry in memory. */
function mark(physical: u64, entry: u64, bits: u64): void {
  if ((entry & bits) == bits) return;
  const host = ram_host(physical);
  // Page tables in device memory or ROM keep what they have.
  if (host && !(ram_flags & 1)) store<u32>(host, load<u32>(host) | <u32>bits);
}

let table1: u64 = 0;
let table2: u64 = 0;
let table3: u64 = 0;
let entry1: u64 = 0;
let entry2: u64 = 0;
let entry3: u64 = 0;

/** Paging with 8-byte entries: four levels, or the two below PDPTEs in registers. 1 done, 0 fault. */
function walk_wide(linear: u64, access: i32, mode: i32, effects: bool): i32 {
  const nxe = (load<u32>(EFER) & EFER_NXE) != 0;
  const above = ~(<u64>0) << physical_bits();
  const reserved = nxe ? above & ~NX : above | NX;
  // With IA-32e paging bits 52 to 62 are ignored.
  const ignored: u64 = is_long() ? 0x7ff0000000000000 : 0;
  const address: u64 = ~above & 0xffffffffff000;
  let table: u64;
  let level: i32;
  let writable = true;
  let user = true;
  let nx = false;
  if (is_long()) {
    table = load<u64>(CR3) & address;
    level = 3;
  } else {
    const pdpte = load<u64>(PDPTE + <usize>((linear >> 30) & 3) * 8);
    if (!(pdpte & P)) return fault(linear, access, mode, 0);
    table = pdpte & address;
    level = 1;
  }
  for (; ; level--) {
    const shift = <u64>(12 + 9 * level);
    const at = table + ((linear >> shift) & 511) * 8;
    const entry = ram_read64(at);
    if (!(entry & P)) return fault(linear, access, mode, 0);
    let bad = entry & reserved & ~ignored;
    const leaf = level == 0 || (level < 3 && (entry & PS) != 0);
    if (level == 3 && entry & PS) bad = 1;
    if (leaf && level > 0) bad |= entry & ((((<u64>1) << shift) - 1) & ~(<u64>0x1fff));
    if (bad) return fault(linear, access, mode, 9);
    writable = writable && (entry & RW) != 0;
    user = user && (entry & US) != 0;
    nx = nx || (nxe && (entry & NX) != 0);
    switch (level) {
      case 0:
        break;
      case 1:
        table1 = at;
        entry1 = entry;
        break;
      case 2:
        table2 = at;
        entry2 = entry;
        break;
      default:
        table3 = at;
        entry3 = entry;
    }
    if (!leaf) {
      table = entry & address;
      continue;
    }
    walk_writable = writable;
    walk_user = user;
    walk_nx = nx;
    if (!allowed(access, mode)) return fault(linear, access, mode, 1);
    const page = ((<u64>1) << shift) - 1;
    walk_physical = (entry & address & ~page) | (linear & page);
    walk_global = (entry & G) != 0 && (load<u32>(CR4) & CR4_PGE) != 0;
    walk_large = level > 0;
    walk_dirty = (entry & D) != 0 || access == ACCESS_WRITE;
    if (effects) {
      if (is_long()) {
        mark(table3, entry3, A);
        if (level < 2) mark(table2, entry2, A);
      }
      if (level < 1) mark(table1, entry1, A);
      mark(at, entry, access == ACCESS_WRITE ? A | D : A);
    }
    return 1;
  }
}

/** 32-bit paging. */
function walk_narrow(linear: u64, access: i32, mode: i32, effects: bool): i32 {
  const directory = (load<u64>(CR3) & 0xfffff000) + ((linear >> 22) & 1023) * 4;
  const pde = <u64>ram_read32(directory);
  if (!(pde & P)) return fault(linear, access, mode, 0);
  let entry = pde;
  let at = directory;
  let page: u64 = 0xfff;
  walk_large = false;
  if (pde & PS && load<u32>(CR4) & CR4_PSE) {
    // PSE-36: bits 13 to 20 are physical address bits 32 to 39; 21 is reserved.
    if (pde & 0x200000) return fault(linear, access, mode, 9);
    page = 0x3fffff;
    walk_physical = (pde & 0xffc00000) | ((pde & 0x1fe000) << 19) | (linear & page);
    walk_writable = (pde & RW) != 0;
    walk_user = (pde & US) != 0;
    walk_large = true;
  } else {
    at = (pde & 0xfffff000) + ((linear >> 12) & 1023) * 4;
    entry = <u64>ram_read32(at);
    if (!(entry & P)) return fault(linear, access, mode, 0);
    walk_physical = (entry & 0xfffff000) | (linear & page);
    walk_writable = (pde & entry & RW) != 0;
    walk_user = (pde & entry & US) != 0;
  }
  walk_nx = false;
  if (!allowed(access, mode)) return fault(linear, access, mode, 1);
  walk_global = (entry & G) != 0 && (load<u32>(CR4) & CR4_PGE) != 0;
  walk_dirty = (entry & D) != 0 || access == ACCESS_WRITE;
  if (effects) {
    if (!walk_large) mark(directory, pde, A);
    mark(at, entry, access == ACCESS_WRITE ? A | D : A);
  }
  return 1;
}

function walk(linear: u64, access: i32, mode: i32, effects: bool): i32 {
  if (!(load<u32>(CR0) & CR0_PG)) {
    walk_physical = linear;
    walk_writable = true;
    walk_user = true;
    walk_nx = false;
    walk_dirty = true;
    walk_global = false;
    walk_large = false;
    return 1;
  }
  return load<u32>(CR4) & CR4_PAE
    ? walk_wide(linear, access, mode, effects)
    : walk_narrow(linear, access, mode, effects);
}

/** Guest-physical address for a debugger: no effect on the guest; all ones where nothing is mapped. */
export function debug_translate(linear: u64): u64 {
  if (is_long() && !is_canonical(linear)) return ~(<u64>0);
  return walk(linear, ACCESS_READ, MMU_KERNEL_AC, false) ? walk_physical : ~(<u64>0);
}

/** A data breakpoint is on this page: accesses must go the long way. */
function watched(linear: u64): bool {
  return watched_by(DR, load<u32>(DR7), linear) || watched_by(OUTER_DR, load<u32>(OUTER_DR7), linear);
}

function watched_by(addresses: usize, dr7: u32, linear: u64): bool {
  if (!(dr7 & DR7_ENABLES)) return false;
  for (let i = 0; i < 4; i++) {
    if (!(dr7 & (3 << (2 * i))) || !((dr7 >> (16 + 4 * i)) & 3)) continue;
    if ((load<u64>(addresses + i * 8) ^ linear) >> 12 == 0) return true;
  }
  return false;
}

// ---- TLB -------------------------------------------------------------------------------------------------------------
/**
 * Addresses of the entries filled since they were last flushed, so that a flush costs what was used: global pages apart, which most flushes
 * leave alone (a context switch that looked at them all cost more the longer the guest had run). One that is cleared or filled otherwise
 * meanwhile stays in its log.
 */
const LOCAL_LOG: usize = memory.data(16388);
const GLOBAL_LOG: usize = memory.data(16388);
/** A log: addresses, and behind them how many there are, one more than this where there were more. */
const LOG_MOST: u32 = 4096;
const LOG_COUNT: usize = LOG_MOST * 4;
store<u32>(LOCAL_LOG, LOG_MOST + 1, LOG_COUNT);
store<u32>(GLOBAL_LOG, LOG_MOST + 1, LOG_COUNT);
/** Where pages larger than 4 KiB were put into the TLB since it was last emptied: bit n, in a gigabyte whose number is n modulo 64. */
let large_places: u64 = 0;
/** Which pages of the lower half were put in executable since the last flush: bit n, one whose number is n modulo EXECUTABLE_BITS. */
const EXECUTABLE: usize = memory.data(512);
const EXECUTABLE_BITS = 4096;
/** One of them was global, which a flush may leave, or part of a larger page, which goes as a whole. */
let is_any_executable: bool = false;

function large_place(linear: u64): u64 {
  return (<u64>1) << ((linear >> 30) & 63);
}

function executable_byte(linear: u64): usize {
  return EXECUTABLE + <usize>(((linear >> 12) & (EXECUTABLE_BITS - 1)) >> 3);
}

function executable_bit(linear: u64): u8 {
  return (<u8>1) << (<u8>((linear >> 12) & 7));
}

function note_executable(linear: u64): void {
  if (<i64>linear < 0) return;
  if (walk_global || walk_large) is_any_executable = true;
  const byte = executable_byte(linear);
  store<u8>(byte, load<u8>(byte) | executable_bit(linear));
}

/** Code may have been run at a page, since the last flush that dropped it. */
function may_be_code(linear: u64): bool {
  return <i64>linear < 0 || is_any_executable || (load<u8>(executable_byte(linear)) & executable_bit(linear)) != 0;
}

function clear_entry(entry: usize): void {
  store<i64>(entry, TLB_INVALID, TLB_O_READ);
  store<i64>(entry, TLB_INVALID, TLB_O_WRITE);
  store<i64>(entry, TLB_INVALID, TLB_O_EXEC);
}

function is_clear(entry: usize): bool {
  return (load<i64>(entry, TLB_O_READ) & load<i64>(entry, TLB_O_WRITE) & load<i64>(entry, TLB_O_EXEC)) == TLB_INVALID;
}

memory.fill(TLB_EMPTY, 0xff, TLB_SIZE);

/** Drops all translations; `all` = 0 keeps those of global pages. */
export function tlb_flush(all: i32): void {
  forget_jumps(all != 0);
  store<u64>(COUNT_TLB_FLUSHES, load<u64>(COUNT_TLB_FLUSHES) + 1);
  drop_logged(LOCAL_LOG, all);
  if (all) drop_logged(GLOBAL_LOG, all);
  store<u32>(LOCAL_LOG, 0, LOG_COUNT);
  memory.fill(EXECUTABLE, 0, EXECUTABLE_BITS / 8);
  if (!all) return;
  store<u32>(GLOBAL_LOG, 0, LOG_COUNT);
  large_places = 0;
  is_any_executable = false;
}

function is_overfull(log: usize): bool {
  return load<u32>(log, LOG_COUNT) > LOG_MOST;
}

/** Entries to look at for all that a log stands for: the whole table, where more were filled than it holds. */
function logged(log: usize): u32 {
  return is_overfull(log) ? 3 * TLB_ENTRIES : load<u32>(log, LOG_COUNT);
}

/** One of them, by its number. */
function logged_entry(log: usize, i: u32): usize {
  return is_overfull(log) ? TLB + i * TLB_ENTRY : load<u32>(log + i * 4);
}

function drop_logged(log: usize, all: i32): void {
  for (let i: u32 = 0, count = logged(log); i < count; i++) {
    const entry = logged_entry(log, i);
    if (all || !(load<u32>(entry, TLB_O_FLAGS) & TLB_GLOBAL)) clear_entry(entry);
  }
}

/** An entry is about to be filled. */
function log_entry(entry: usize, global: bool): void {
  if (!is_clear(entry) && ((load<u32>(entry, TLB_O_FLAGS) & TLB_GLOBAL) != 0) == global) return;
  const log = global ? GLOBAL_LOG : LOCAL_LOG;
  if (is_overfull(log)) return;
  const count = load<u32>(log, LOG_COUNT);
  if (count < LOG_MOST) store<u32>(log + count * 4, <u32>entry);
  store<u32>(log, count + 1, LOG_COUNT);
}

/** Drops the translation of one page, whatever its size. Most are of data, which no jump goes to. */
export function tlb_invlpg(linear: u64): void {
  // Of the kernel's jumps the cache has those in the upper half alone.
  if (may_be_code(linear)) forget_jumps(<i64>linear < 0);
  const index = <usize>((linear >> 12) & (TLB_ENTRIES - 1));
  for (let mode: usize = 0; mode < 3; mode++) clear_entry(TLB + mode * TLB_SIZE + index * TLB_ENTRY);
  if (!(large_places & large_place(linear))) return;
  // A large page is in the TLB as many small ones.
  drop_large(LOCAL_LOG, linear);
  drop_large(GLOBAL_LOG, linear);
}

function drop_large(log: usize, linear: u64): void {
  for (let i: u32 = 0, count = logged(log); i < count; i++) {
    const entry = logged_entry(log, i);
    if (load<u32>(entry, TLB_O_FLAGS) & TLB_LARGE && in_same_large(entry, linear)) clear_entry(entry);
  }
}

function in_same_large(entry: usize, linear: u64): bool {
  const tag = load<u64>(entry, TLB_O_READ);
  return tag == <u64>TLB_INVALID || (tag ^ linear) >> 30 == 0;
}

/**
 * Translates and puts the result into the TLB. Returns the byte's host offset; 0 when a fault was raised; 1 when no
 * memory slot is there (fill_physical).
 */
export function tlb_fill(linear: u64, access: i32, mode: i32): i32 {
  store<u64>(COUNT_TLB_MISSES, load<u64>(COUNT_TLB_MISSES) + 1);
  if (is_long() && !is_canonical(linear)) {
    raise_error(GP, 0);
    return 0;
  }
  if (!walk(linear, access, mode, true)) return 0;
  const host = ram_host(walk_physical);
  if (!host) {
    fill_physical = walk_physical;
    return 1;
  }
  const readonly = (ram_flags & 1) != 0;
  if (access == ACCESS_WRITE && readonly) {
    fill_physical = walk_physical;
    return 1;
  }
  if (access == ACCESS_WRITE && load<u32>(TELL_WRITES)) host_page_written(host);
  if (access != ACCESS_EXECUTE && watched(linear)) return host;
  const page = linear & ~(<u64>0xfff);
  const entry = TLB + <usize>mode * TLB_SIZE + <usize>((linear >> 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY;
  log_entry(entry, walk_global);
  const readable = allowed(ACCESS_READ, mode);
  const executable = allowed(ACCESS_EXECUTE, mode);
  if (executable) {
    note_executable(linear);
    code_page_check(host);
  }
  const writable =
    walk_dirty &&
    !readonly &&
    allowed(ACCESS_WRITE, mode) &&
    load<u32>(CODE_PAGES + (host >>> 12) * 4) == 0 &&
    (access == ACCESS_WRITE || !load<u32>(TELL_WRITES));
  const data = !watched(linear);
  store<i64>(entry, readable && data ? <i64>page : TLB_INVALID, TLB_O_READ);
  store<i64>(entry, writable && data ? <i64>page : TLB_INVALID, TLB_O_WRITE);
  store<i64>(entry, executable ? <i64>page : TLB_INVALID, TLB_O_EXEC);
  store<u32>(entry, host - <u32>linear, TLB_O_ADDEND);
  store<u32>(entry, (walk_global ? TLB_GLOBAL : 0) | (walk_large ? TLB_LARGE : 0), TLB_O_FLAGS);
  if (walk_large) large_places |= large_place(linear);
  return host;
}

/**
 * Forgets what was decoded from a page that a device has written to since: a device does not write as the processor does. A guest that
 * runs code that a device has read for it maps the page first.
 */
function code_page_check(host: u32): void {
  const page = host >>> 12;
  if (!load<u32>(CODE_PAGES + page * 4) || load<u16>(DEVICE_WRITES_SEEN + page * 2) == device_writes(host)) return;
  code_written(page << 12, 4096);
  store<u16>(DEVICE_WRITES_SEEN + page * 2, <u16>device_writes(host));
}

/** Takes the short way to write away from every translation of a host page: it holds decoded code now. */
export function code_page_protect(host: u32): void {
  const page = host >>> 12;
  store<u16>(DEVICE_WRITES_SEEN + page * 2, <u16>device_writes(host));
  protect(LOCAL_LOG, page);
  protect(GLOBAL_LOG, page);
}

function protect(log: usize, page: u32): void {
  for (let i: u32 = 0, count = logged(log); i < count; i++) {
    const entry = logged_entry(log, i);
    const tag = load<i64>(entry, TLB_O_WRITE);
    if (tag != TLB_INVALID && (<u32>tag + load<u32>(entry, TLB_O_ADDEND)) >>> 12 == page) {
      store<i64>(entry, TLB_INVALID, TLB_O_WRITE);
    }
  }
}
