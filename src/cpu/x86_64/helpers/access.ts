// Guest memory accesses that the TLB did not settle at once, and accesses by helpers.
//
// An access that stays in one page of RAM gives a host address. All others (two pages, a device) go through SCRATCH:
// reads are put together there, writes are left there by the instruction and carried out by commit_store().
//
// A read from a device outside of the machine leaves run(): the instruction starts again with the data in MMIO_READS.
// Writes to devices are posted, and handed out when the instruction has ended.

import {
  CODE_PAGES,
  COMMIT_ADDRESS,
  COMMIT_SIZE,
  CPL,
  DEBUG_HIT,
  DR,
  DR7,
  EXC_VECTOR,
  EXIT_INTERNAL_ERROR,
  EXIT_MMIO_READ,
  EXIT_REASON,
  IO_ADDRESS,
  IO_DATA,
  IO_RESUME,
  IO_SIZE,
  LEAVE_STATUS,
  MMIO_DONE,
  MMIO_POSTED,
  MMIO_READS,
  MMIO_TAKEN,
  MMIO_WRITES,
  MMU_KERNEL,
  MMU_MODE,
  MMU_USER,
  OUTER_DR,
  OUTER_DR7,
  OUTER_HIT,
  R_PREFIX,
  R_SCALE,
  RP_STACK,
  RSP,
  SCALE_STACK,
  SCRATCH,
  STATUS_EXIT,
  STATUS_OK,
  TLB,
  TLB_BASE,
  TLB_EMPTY,
  TLB_ENTRIES,
  TLB_ENTRY,
  TLB_O_ADDEND,
  TLB_O_READ,
  TLB_O_WRITE,
  TLB_SIZE,
} from '../layout';
import { code_written } from './code';
import { host_mmio } from './host';
import { ACCESS_READ, ACCESS_WRITE, fill_physical, tlb_fill } from './mmu';
import { is_64bit, is_canonical } from './mode';
import { raise_error } from './raise';
import { AC, DR7_ENABLES, GP, SS } from './registers';

export { tlb_flush, tlb_invlpg } from './mmu';

/** Most device reads of one instruction, and most device writes. */
const MOST_DEVICE_ACCESSES: u32 = 8;
const MMIO_WRITE_ENTRY = 24;

/** Of the last cpl_ or sup_ access: STATUS_OK, or what to leave the instruction with. */
export let access_status: i32 = STATUS_OK;

// ---- Devices -----------------------------------------------------------------------------------------------------------
/** The instruction asks more of devices than one instruction can. */
function too_many(): bool {
  store<u32>(EXIT_REASON, EXIT_INTERNAL_ERROR);
  store<u32>(LEAVE_STATUS, STATUS_EXIT);
  return false;
}

/** Largest access of 1, 2, 4 or 8 bytes that fits. */
function part_of(size: u32): u32 {
  return size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
}

function device_read(physical: u64, size: u32, to: usize): bool {
  for (let done: u32 = 0; done < size; ) {
    const part = part_of(size - done);
    store<u64>(IO_ADDRESS, physical + done);
    store<u32>(IO_SIZE, part);
    let from: usize = IO_DATA;
    if (!host_mmio(0)) {
      const taken = load<u32>(MMIO_TAKEN);
      if (taken >= MOST_DEVICE_ACCESSES) return too_many();
      if (taken >= load<u32>(MMIO_DONE)) {
        store<u32>(EXIT_REASON, EXIT_MMIO_READ);
        store<u32>(IO_RESUME, 2);
        store<u32>(LEAVE_STATUS, STATUS_EXIT);
        return false;
      }
      from = MMIO_READS + taken * 8;
      store<u32>(MMIO_TAKEN, taken + 1);
    }
    memory.copy(to + done, from, part);
    done += part;
  }
  return true;
}

function device_write(physical: u64, size: u32, from: usize): void {
  for (let done: u32 = 0; done < size; ) {
    const part = part_of(size - done);
    store<u64>(IO_ADDRESS, physical + done);
    store<u32>(IO_SIZE, part);
    store<u64>(IO_DATA, 0);
    memory.copy(IO_DATA, from + done, part);
    if (!host_mmio(1)) {
      const posted = load<u32>(MMIO_POSTED);
      // More than fits is lost, as on a bus that nobody answers: no driver writes so much to a device at once.
      if (posted < MOST_DEVICE_ACCESSES) {
        const entry = MMIO_WRITES + posted * MMIO_WRITE_ENTRY;
        store<u64>(entry, physical + done);
        store<u64>(entry, load<u64>(IO_DATA), 8);
        store<u32>(entry, part, 16);
        store<u32>(MMIO_POSTED, posted + 1);
      }
    }
    done += part;
  }
}

// ---- One page ------------------------------------------------------------------------------------------------------------
/** Notes data breakpoints that an access hits. */
function watch(linear: u64, size: u32, write: bool): void {
  watch_by(DR, load<u32>(DR7), DEBUG_HIT, linear, size, write);
  watch_by(OUTER_DR, load<u32>(OUTER_DR7), OUTER_HIT, linear, size, write);
}

function watch_by(addresses: usize, dr7: u32, hits: usize, linear: u64, size: u32, write: bool): void {
  if (!(dr7 & DR7_ENABLES)) return;
  for (let i: u32 = 0; i < 4; i++) {
    if (!((dr7 >> (2 * i)) & 3)) continue;
    const kind = (dr7 >> (16 + 4 * i)) & 3;
    if (kind != 3 && !(kind == 1 && write)) continue;
    const code = (dr7 >> (18 + 4 * i)) & 3;
    const length: u64 = code == 2 ? 8 : code + 1;
    const start = load<u64>(addresses + i * 8) & ~(length - 1);
    if (linear < start + length && start < linear + size) store<u32>(hits, load<u32>(hits) | (1 << i));
  }
}

/** Host address of bytes within one page; 0: a fault was raised; 1: a device (fill_physical). */
function locate(linear: u64, size: u32, access: i32, mode: u32): u32 {
  const entry = TLB + mode * TLB_SIZE + (<u32>(linear >> 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY;
  const page = linear & ~(<u64>0xfff);
  const tag = access == ACCESS_WRITE ? load<u64>(entry, TLB_O_WRITE) : load<u64>(entry, TLB_O_READ);
  if (tag == page) return <u32>linear + load<u32>(entry, TLB_O_ADDEND);
  const host = <u32>tlb_fill(linear, access, mode);
  if (host == 0) return 0;
  watch(linear, size, access == ACCESS_WRITE);
  if (host > 1 && access == ACCESS_WRITE && load<u32>(CODE_PAGES + (host >>> 12) * 4)) code_written(host, size);
  return host;
}

function crosses(linear: u64, size: u32): bool {
  return (<u32>linear & 0xfff) + size > 4096;
}

/** The byte that starts the second page; addresses wrap at 4 GiB outside of 64-bit mode. */
function second_page(linear: u64): u64 {
  const next = (linear | 0xfff) + 1;
  return is_64bit() ? next : next & 0xffffffff;
}

// ---- Reads -----------------------------------------------------------------------------------------------------------------
function read_page(linear: u64, size: u32, mode: u32, to: usize): bool {
  const host = locate(linear, size, ACCESS_READ, mode);
  if (host == 0) return false;
  if (host == 1) return device_read(fill_physical, size, to);
  memory.copy(to, host, size);
  return true;
}

/** Bytes at a linear address, in whatever pages, to `to`. */
function read_bytes(linear: u64, size: u32, mode: u32, to: usize): bool {
  if (!crosses(linear, size)) return read_page(linear, size, mode, to);
  const first = 4096 - (<u32>linear & 0xfff);
  return read_page(linear, first, mode, to) && read_page(second_page(linear), size - first, mode, to + first);
}

// ---- Writes ------------------------------------------------------------------------------------------------------------------
function write_page(linear: u64, size: u32, mode: u32, from: usize): bool {
  const host = locate(linear, size, ACCESS_WRITE, mode);
  if (host == 0) return false;
  if (host == 1) device_write(fill_physical, size, from);
  else memory.copy(host, from, size);
  return true;
}

function write_bytes(linear: u64, size: u32, mode: u32, from: usize): bool {
  if (!crosses(linear, size)) return write_page(linear, size, mode, from);
  const first = 4096 - (<u32>linear & 0xfff);
  // Nothing is written unless everything can be.
  if (!locate(second_page(linear), size - first, ACCESS_WRITE, mode)) return false;
  return write_page(linear, first, mode, from) && write_page(second_page(linear), size - first, mode, from + first);
}

// ---- Alignment checks (SDM volume 3, 6.15, #AC) ----------------------------------------------------------------------------
/** #AC at an access of the program that is not at a multiple of `alignment` (a power of two), where that is checked. */
export function check_alignment(linear: u64, alignment: u32): i32 {
  if (load<u32>(TLB_BASE) != TLB_EMPTY || !(<u32>linear & (alignment - 1))) return STATUS_OK;
  // An address that is not canonical is the access's own fault.
  return is_canonical(linear) ? raise_error(AC, 0) : STATUS_OK;
}

/** Whether #AC was raised for an operand of `size` bytes. Vectors of 16 bytes have instructions and #GP of their own. */
function misaligned(linear: u64, size: u32): bool {
  const alignment: u32 = size >= 16 ? 1 : size >= 8 ? 8 : size >= 4 ? 4 : size;
  return check_alignment(linear, alignment) != STATUS_OK;
}

// ---- For handlers --------------------------------------------------------------------------------------------------------------
/** A #GP for a non-canonical address is #SS where the stack was meant: by the address form, or as PUSH and POP do. */
export function as_stack_fault(linear: u64, record: i32): u32 {
  if (load<u32>(EXC_VECTOR) != GP || !is_64bit()) return 0;
  const implicit = (load<u8>(record, R_SCALE) & SCALE_STACK) != 0 && linear - load<u64>(RSP) + 8 <= 8;
  if (implicit || load<u8>(record, R_PREFIX) & RP_STACK) store<u32>(EXC_VECTOR, SS);
  return 0;
}

/** Host address of `size` readable bytes; 0: leave the instruction as LEAVE_STATUS says. */
export function load_slow(linear: u64, size: i32, record: i32): u32 {
  if (misaligned(linear, size)) return 0;
  const mode = load<u32>(MMU_MODE);
  if (!crosses(linear, size)) {
    const host = locate(linear, size, ACCESS_READ, mode);
    if (host > 1) return host;
    if (host == 0) return as_stack_fault(linear, record);
    return device_read(fill_physical, size, SCRATCH) ? SCRATCH : 0;
  }
  return read_bytes(linear, size, mode, SCRATCH) ? SCRATCH : as_stack_fault(linear, record);
}

function open_for_write(linear: u64, size: u32, record: i32): u32 {
  if (misaligned(linear, size)) return 0;
  const mode = load<u32>(MMU_MODE);
  store<u64>(COMMIT_ADDRESS, linear);
  store<u32>(COMMIT_SIZE, size);
  if (!crosses(linear, size)) {
    const host = locate(linear, size, ACCESS_WRITE, mode);
    if (host > 1) return host;
    return host == 1 ? SCRATCH : as_stack_fault(linear, record);
  }
  const first = 4096 - (<u32>linear & 0xfff);
  if (!locate(linear, first, ACCESS_WRITE, mode)) return as_stack_fault(linear, record);
  if (!locate(second_page(linear), size - first, ACCESS_WRITE, mode)) return as_stack_fault(linear, record);
  return SCRATCH;
}

/** Host address for `size` bytes to be written; SCRATCH: call commit_store() after writing. 0 as load_slow(). */
export function store_slow(linear: u64, size: i32, record: i32): u32 {
  return open_for_write(linear, size, record);
}

/** Host address of `size` bytes that are read, then written. 0 as load_slow(). */
export function rmw_slow(linear: u64, size: i32, record: i32): u32 {
  const host = open_for_write(linear, size, record);
  if (host != SCRATCH) return host;
  return read_bytes(linear, size, load<u32>(MMU_MODE), SCRATCH) ? SCRATCH : 0;
}

/** Carries out the write that is in SCRATCH: it has been found possible. */
export function commit_store(): i32 {
  write_bytes(load<u64>(COMMIT_ADDRESS), load<u32>(COMMIT_SIZE), load<u32>(MMU_MODE), SCRATCH);
  return STATUS_OK;
}

// ---- For helpers ---------------------------------------------------------------------------------------------------------------
/** Where helpers put what they write. */
const BUFFER: usize = memory.data(16, 16);

function settle(done: bool): void {
  access_status = done ? STATUS_OK : load<i32>(LEAVE_STATUS);
}

function read(linear: u64, size: u32, mode: u32): u64 {
  store<u64>(BUFFER, 0);
  settle((mode != MMU_USER || !misaligned(linear, size)) && read_bytes(linear, size, mode, BUFFER));
  return load<u64>(BUFFER);
}

function write(linear: u64, size: u32, mode: u32, value: u64): void {
  store<u64>(BUFFER, value);
  settle((mode != MMU_USER || !misaligned(linear, size)) && write_bytes(linear, size, mode, BUFFER));
}

/** Reads at the current privilege level; see access_status. */
export function cpl_read8(linear: u64): u64 {
  return read(linear, 1, load<u32>(MMU_MODE));
}

export function cpl_read16(linear: u64): u64 {
  return read(linear, 2, load<u32>(MMU_MODE));
}

export function cpl_read32(linear: u64): u64 {
  return read(linear, 4, load<u32>(MMU_MODE));
}

export function cpl_read64(linear: u64): u64 {
  return read(linear, 8, load<u32>(MMU_MODE));
}

export function cpl_write8(linear: u64, value: u64): void {
  write(linear, 1, load<u32>(MMU_MODE), value);
}

export function cpl_write16(linear: u64, value: u64): void {
  write(linear, 2, load<u32>(MMU_MODE), value);
}

export function cpl_write32(linear: u64, value: u64): void {
  write(linear, 4, load<u32>(MMU_MODE), value);
}

export function cpl_write64(linear: u64, value: u64): void {
  write(linear, 8, load<u32>(MMU_MODE), value);
}

/** Reads by the processor itself (descriptor tables, stacks of inner levels): supervisor's, at any privilege level. */
export function sup_read8(linear: u64): u64 {
  return read(linear, 1, MMU_KERNEL);
}

export function sup_read16(linear: u64): u64 {
  return read(linear, 2, MMU_KERNEL);
}

export function sup_read32(linear: u64): u64 {
  return read(linear, 4, MMU_KERNEL);
}

export function sup_read64(linear: u64): u64 {
  return read(linear, 8, MMU_KERNEL);
}

export function sup_write8(linear: u64, value: u64): void {
  write(linear, 1, MMU_KERNEL, value);
}

export function sup_write16(linear: u64, value: u64): void {
  write(linear, 2, MMU_KERNEL, value);
}

export function sup_write32(linear: u64, value: u64): void {
  write(linear, 4, MMU_KERNEL, value);
}

export function sup_write64(linear: u64, value: u64): void {
  write(linear, 8, MMU_KERNEL, value);
}

/** Any number of bytes at the current privilege level, into the processor's own memory. STATUS_OK, or how to leave. */
export function cpl_read_bytes(linear: u64, size: u32, to: usize): i32 {
  for (let done: u32 = 0; done < size; ) {
    const part = min<u32>(size - done, 4096);
    settle(read_bytes(at(linear, done), part, load<u32>(MMU_MODE), to + done));
    if (access_status != STATUS_OK) return access_status;
    done += part;
  }
  return STATUS_OK;
}

/** The reverse; probe_write() first, where a fault must come before any byte is written. */
export function cpl_write_bytes(linear: u64, size: u32, from: usize): i32 {
  for (let done: u32 = 0; done < size; ) {
    const part = min<u32>(size - done, 4096);
    settle(write_bytes(at(linear, done), part, load<u32>(MMU_MODE), from + done));
    if (access_status != STATUS_OK) return access_status;
    done += part;
  }
  return STATUS_OK;
}

function at(linear: u64, offset: u32): u64 {
  return is_64bit() ? linear + offset : (linear + offset) & 0xffffffff;
}

/** Whether `size` bytes can be written, by the program or by the processor itself: STATUS_OK, or a fault is raised. */
export function probe_write(linear: u64, size: u32, user: bool): i32 {
  const mode = user || load<u32>(CPL) != 3 ? load<u32>(MMU_MODE) : MMU_KERNEL;
  let done: u32 = 0;
  do {
    const start = at(linear, done);
    const part = min<u32>(size - done, 4096 - (<u32>start & 0xfff));
    settle(locate(start, part, ACCESS_WRITE, mode) != 0);
    if (access_status != STATUS_OK) return access_status;
    done += part;
  } while (done < size);
  return STATUS_OK;
}

/** As locate(), for runs of string instructions: host address, 0 fault, 1 device or each access is checked. */
export function locate_run(linear: u64, size: u32, write: bool): u32 {
  if (load<u32>(TLB_BASE) == TLB_EMPTY) return 1;
  return locate(linear, size, write ? ACCESS_WRITE : ACCESS_READ, load<u32>(MMU_MODE));
}
