// The processor's mode, and what is derived from it (SDM volume 3, section 2.2).

import {
  ATTR_DB,
  ATTR_L,
  CPL,
  CR0,
  CR4,
  DR7,
  EFER,
  EPOCH_KERNEL,
  EPOCH_LAST,
  EPOCH_USER,
  FLAG_AC,
  FLAG_RF,
  FLAG_TF,
  FLAG_VM,
  FLAGS,
  JUMP_EPOCH,
  MMU_KERNEL,
  MMU_KERNEL_AC,
  MMU_MODE,
  MMU_USER,
  MODE,
  MODE_CODE_MASK,
  MODE_CODE16,
  MODE_CODE32,
  MODE_CODE64,
  MODE_DEBUG,
  MODE_LIMITED,
  MODE_NO_AVX,
  MODE_NO_SSE,
  MODE_REAL,
  MODE_STACK32,
  OUTER_DR7,
  SEG,
  SEG_CS,
  SEG_O_ATTR,
  SEG_O_BASE,
  SEG_O_LIMIT,
  SEG_O_SELECTOR,
  SEG_SIZE,
  SEG_SS,
  TLB,
  TLB_BASE,
  TLB_EMPTY,
  TLB_SIZE,
  XCR0,
} from '../layout';
import {
  CR0_AM,
  CR0_EM,
  CR0_PE,
  CR0_TS,
  CR4_OSFXSR,
  CR4_OSXSAVE,
  CR4_SMAP,
  DR7_ENABLES,
  EFER_LMA,
  XCR0_AVX,
} from './registers';

/** IA-32e mode: 64-bit or compatibility mode. */
export function is_long(): bool {
  return (load<u32>(EFER) & EFER_LMA) != 0;
}

export function is_64bit(): bool {
  return (load<u32>(MODE) & MODE_CODE_MASK) == MODE_CODE64;
}

export function is_v86(): bool {
  return (load<u32>(FLAGS) & FLAG_VM) != 0;
}

/** Real-address or virtual-8086 mode: selectors are paragraphs. */
export function is_real_or_v86(): bool {
  return (load<u32>(MODE) & MODE_REAL) != 0;
}

/** CR0.PE set, not virtual-8086 mode. */
export function is_protected(): bool {
  return (load<u32>(MODE) & MODE_REAL) == 0;
}

export function cpl(): u32 {
  return load<u32>(CPL);
}

export function iopl(): u32 {
  return (load<u32>(FLAGS) >> 12) & 3;
}

/** 48-bit linear addresses: bits 47 to 63 are equal. */
export function is_canonical(address: u64): bool {
  return ((<i64>address) << 16) >> 16 == <i64>address;
}

export function segment(index: i32): usize {
  return SEG + index * SEG_SIZE;
}

export function segment_selector(index: i32): u32 {
  return load<u32>(segment(index), SEG_O_SELECTOR);
}

export function segment_attr(index: i32): u32 {
  return load<u32>(segment(index), SEG_O_ATTR);
}

export function segment_base(index: i32): u64 {
  return load<u64>(segment(index), SEG_O_BASE);
}

export function segment_limit(index: i32): u32 {
  return load<u32>(segment(index), SEG_O_LIMIT);
}

/** Fills a segment register whole. */
export function set_segment(index: i32, selector: u32, base: u64, limit: u32, attr: u32): void {
  const at = segment(index);
  store<u64>(at, base, SEG_O_BASE);
  store<u32>(at, limit, SEG_O_LIMIT);
  store<u32>(at, attr, SEG_O_ATTR);
  store<u32>(at, selector, SEG_O_SELECTOR);
}

/** Real-address or virtual-8086 load of a segment: limit and access rights stay as they are. */
export function set_paragraph(index: i32, selector: u32): void {
  const at = segment(index);
  store<u64>(at, <u64>(selector << 4), SEG_O_BASE);
  store<u32>(at, selector, SEG_O_SELECTOR);
}

/** Jumps of user mode that were found before may go elsewhere from now on; with `kernel`, those of the other modes too. */
export function forget_jumps(kernel: bool): void {
  store<u64>(EPOCH_USER, next_epoch());
  if (kernel) store<u64>(EPOCH_KERNEL, next_epoch());
  set_jump_epoch(load<u32>(MMU_MODE));
}

function next_epoch(): u64 {
  const epoch = load<u64>(EPOCH_LAST) + 0x10000;
  store<u64>(EPOCH_LAST, epoch);
  return epoch;
}

function set_jump_epoch(mmu: u32): void {
  store<u64>(JUMP_EPOCH, load<u64>(mmu == MMU_USER ? EPOCH_USER : EPOCH_KERNEL));
}

/**
 * Derives CPL, MODE, MMU_MODE and TLB_BASE. To be called after any change of CR0, CR4, XCR0, EFER, DR7, RFLAGS.VM/AC/TF, CS
 * or SS. CPL is the DPL of the cached SS, which every way of changing the privilege level keeps equal to it.
 */
export function update_mode(): void {
  const flags = load<u32>(FLAGS);
  const cs = load<u32>(SEG_CS, SEG_O_ATTR);
  const ss = load<u32>(SEG_SS, SEG_O_ATTR);
  let mode = 0;
  let level: u32 = 0;
  if (!(load<u32>(CR0) & CR0_PE)) {
    mode = MODE_REAL;
  } else if (flags & FLAG_VM) {
    mode = MODE_REAL;
    level = 3;
  } else {
    level = (ss >> 5) & 3;
  }
  if (is_long() && cs & ATTR_L) {
    mode |= MODE_CODE64;
  } else {
    mode |= cs & ATTR_DB ? MODE_CODE32 : MODE_CODE16;
    if (ss & ATTR_DB) mode |= MODE_STACK32;
    if (load<u32>(SEG_CS, SEG_O_LIMIT) != (cs & ATTR_DB ? 0xffffffff : 0xffff)) mode |= MODE_LIMITED;
  }
  const breakpoints = (load<u32>(DR7) | load<u32>(OUTER_DR7)) & DR7_ENABLES;
  if (breakpoints || flags & FLAG_TF) mode |= MODE_DEBUG;
  // RF bars execution breakpoints for one instruction; with none set it has no effect, and none need clear it.
  if (!breakpoints && flags & FLAG_RF) store<u32>(FLAGS, flags & ~FLAG_RF);
  const cr0 = load<u32>(CR0);
  const cr4 = load<u32>(CR4);
  if (cr0 & (CR0_EM | CR0_TS) || !(cr4 & CR4_OSFXSR)) mode |= MODE_NO_SSE;
  if (cr0 & CR0_TS || !(cr4 & CR4_OSXSAVE) || (load<u32>(XCR0) & XCR0_AVX) != XCR0_AVX) mode |= MODE_NO_AVX;
  store<u32>(CPL, level);
  store<u32>(MODE, mode);
  if (level == 3) {
    store<u32>(MMU_MODE, MMU_USER);
    store<u32>(TLB_BASE, flags & FLAG_AC && cr0 & CR0_AM ? TLB_EMPTY : TLB + MMU_USER * TLB_SIZE);
  } else {
    update_access();
  }
  set_jump_epoch(load<u32>(MMU_MODE));
}

/** The part of update_mode() that depends on RFLAGS.AC below CPL 3. */
export function update_access(): void {
  const mmu = load<u32>(CR4) & CR4_SMAP && load<u32>(FLAGS) & FLAG_AC ? MMU_KERNEL_AC : MMU_KERNEL;
  store<u32>(MMU_MODE, mmu);
  store<u32>(TLB_BASE, TLB + mmu * TLB_SIZE);
}
