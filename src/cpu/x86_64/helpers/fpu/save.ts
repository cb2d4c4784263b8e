// FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XSAVEC, XRSTOR (SDM volume 1, sections 10.5 and 13.7 to 13.10).

import {
  CR0,
  CR4,
  FCS,
  FCW,
  FDP,
  FDS,
  FIP,
  FOP,
  FPR,
  FPU_AREA,
  FSW,
  FTW,
  MODE,
  MODE_CODE_MASK,
  MODE_CODE64,
  MXCSR,
  RAX,
  RDX,
  STATUS_OK,
  XCR0,
  XMM,
  XMM_SIZE,
} from '../../layout';
import { cpl_read_bytes, cpl_write_bytes, probe_write } from '../access';
import { cpuid_eax, cpuid_find } from '../cpuid';
import { raise, raise_error } from '../raise';
import { CR0_TS, CR4_OSFXSR, CR4_OSXSAVE, GP, NM, UD } from '../registers';
import { fpu_available, fpu_enter, reset_fpu, summarize } from './state';

/** Bits of MXCSR that exist. */
const MXCSR_MASK: u32 = 0xffff;
const MXCSR_RESET: u32 = 0x1f80;
/** XSAVE area: components of XCR0, and where their bytes and the header are. */
const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = 4;
const X87_AREA: u32 = 32;
const SSE_AREA: u32 = 160;
const LEGACY_SIZE: u32 = 416;
const FXSAVE_SIZE: u32 = 512;
const HEADER: u32 = 512;
const HEADER_SIZE: u32 = 64;
/** Upper halves of YMM0 to YMM15, in both forms: AVX is the only component behind the header. */
const AVX_AREA: u32 = 576;
/** XCOMP_BV: the compacted form. */
const COMPACTED: u64 = 1 << 63;

function registers(): u32 {
  // XMM8 to XMM15 belong to 64-bit mode.
  return (load<u32>(MODE) & MODE_CODE_MASK) == MODE_CODE64 ? 16 : 8;
}

// ---- x87 -----------------------------------------------------------------------------------------------------------------
/** A bit for each register that is not empty. */
function abridged_tags(): u32 {
  const tags = load<u32>(FTW);
  let bits: u32 = 0;
  for (let i: u32 = 0; i < 8; i++) if (((tags >> (2 * i)) & 3) != 3) bits |= 1 << i;
  return bits;
}

/** The tag a physical register's contents have: 0 valid, 1 zero, 2 special. */
export function tag_of(physical: u32): u32 {
  const significand = load<u64>(FPR + physical * 16);
  const exponent = load<u16>(FPR + physical * 16, 8) & 0x7fff;
  if (exponent == 0) return significand == 0 ? 1 : 2;
  return exponent == 0x7fff || !(significand >> 63) ? 2 : 0;
}

function put_x87(wide: bool): void {
  store<u16>(FPU_AREA, <u16>load<u32>(FCW));
  store<u16>(FPU_AREA, <u16>load<u32>(FSW), 2);
  store<u16>(FPU_AREA, <u16>abridged_tags(), 4);
  store<u16>(FPU_AREA, <u16>load<u32>(FOP), 6);
  if (wide) {
    store<u64>(FPU_AREA, load<u64>(FIP), 8);
    store<u64>(FPU_AREA, load<u64>(FDP), 16);
  } else {
    store<u32>(FPU_AREA, load<u32>(FIP), 8);
    store<u32>(FPU_AREA, load<u32>(FCS) & 0xffff, 12);
    store<u32>(FPU_AREA, load<u32>(FDP), 16);
    store<u32>(FPU_AREA, load<u32>(FDS) & 0xffff, 20);
  }
  const top = (load<u32>(FSW) >> 11) & 7;
  for (let i: u32 = 0; i < 8; i++) {
    const from = FPR + ((top + i) & 7) * 16;
    store<u64>(FPU_AREA + X87_AREA + i * 16, load<u64>(from));
    store<u64>(FPU_AREA + X87_AREA + i * 16, load<u64>(from, 8) & 0xffff, 8);
  }
}

function take_x87(wide: bool): void {
  store<u32>(FCW, (load<u16>(FPU_AREA) & 0x1f3f) | 0x40);
  store<u32>(FSW, load<u16>(FPU_AREA, 2));
  store<u32>(FOP, load<u16>(FPU_AREA, 6) & 0x7ff);
  if (wide) {
    store<u64>(FIP, load<u64>(FPU_AREA, 8));
    store<u64>(FDP, load<u64>(FPU_AREA, 16));
    store<u32>(FCS, 0);
    store<u32>(FDS, 0);
  } else {
    store<u64>(FIP, load<u32>(FPU_AREA, 8));
    store<u32>(FCS, load<u16>(FPU_AREA, 12));
    store<u64>(FDP, load<u32>(FPU_AREA, 16));
    store<u32>(FDS, load<u16>(FPU_AREA, 20));
  }
  const top = (load<u32>(FSW) >> 11) & 7;
  for (let i: u32 = 0; i < 8; i++) {
    const to = FPR + ((top + i) & 7) * 16;
    store<u64>(to, load<u64>(FPU_AREA + X87_AREA + i * 16));
    store<u64>(to, load<u64>(FPU_AREA + X87_AREA + i * 16, 8) & 0xffff, 8);
  }
  const used: u32 = load<u8>(FPU_AREA, 4);
  let tags: u32 = 0;
  for (let i: u32 = 0; i < 8; i++) tags |= ((used >> i) & 1 ? tag_of(i) : 3) << (2 * i);
  store<u32>(FTW, tags);
  summarize();
}

/** FNINIT's state, and empty registers. */
function initialize_x87(): void {
  reset_fpu();
  memory.fill(FPR, 0, 128);
}

// ---- SSE -----------------------------------------------------------------------------------------------------------------
function put_mxcsr(): void {
  store<u32>(FPU_AREA, load<u32>(MXCSR), 24);
  store<u32>(FPU_AREA, MXCSR_MASK, 28);
}

function put_sse(): void {
  const count = registers();
  for (let i: u32 = 0; i < count; i++) v128.store(FPU_AREA + SSE_AREA + i * 16, v128.load(XMM + i * XMM_SIZE));
}

function take_sse(): void {
  const count = registers();
  for (let i: u32 = 0; i < count; i++) v128.store(XMM + i * XMM_SIZE, v128.load(FPU_AREA + SSE_AREA + i * 16));
}

function initialize_sse(): void {
  const count = registers();
  for (let i: u32 = 0; i < count; i++) v128.store(XMM + i * XMM_SIZE, i64x2.splat(0));
}

// ---- Instructions --------------------------------------------------------------------------------------------------------
/** FXSAVE; `size` 8: FXSAVE64. */
export function fxsave(linear: u64, size: i32): i32 {
  if (fpu_available() != STATUS_OK) return fpu_available();
  if (linear & 15) return raise_error(GP, 0);
  const status = probe_write(linear, FXSAVE_SIZE, true);
  if (status != STATUS_OK) return status;
  put_x87(size == 8);
  if (!(load<u32>(CR4) & CR4_OSFXSR)) return cpl_write_bytes(linear, SSE_AREA, FPU_AREA);
  put_mxcsr();
  put_sse();
  // The last 96 bytes are left as they are, and outside 64-bit mode XMM8 to XMM15.
  return cpl_write_bytes(linear, SSE_AREA + registers() * 16, FPU_AREA);
}

/** FXRSTOR. */
export function fxrstor(linear: u64, size: i32): i32 {
  if (fpu_enter() != STATUS_OK) return fpu_enter();
  if (linear & 15) return raise_error(GP, 0);
  const status = cpl_read_bytes(linear, FXSAVE_SIZE, FPU_AREA);
  if (status != STATUS_OK) return status;
  const sse = (load<u32>(CR4) & CR4_OSFXSR) != 0;
  if (sse && load<u32>(FPU_AREA, 24) & ~MXCSR_MASK) return raise_error(GP, 0);
  take_x87(size == 8);
  if (sse) {
    store<u32>(MXCSR, load<u32>(FPU_AREA, 24));
    take_sse();
  }
  return STATUS_OK;
}

function xsave_available(linear: u64): i32 {
  if (!(load<u32>(CR4) & CR4_OSXSAVE)) return raise(UD);
  if (load<u32>(CR0) & CR0_TS) return raise(NM);
  return linear & 63 ? raise_error(GP, 0) : STATUS_OK;
}

/** Components that are asked for and enabled. */
function requested(): u64 {
  return ((load<u64>(RDX) << 32) | load<u32>(RAX)) & load<u64>(XCR0);
}

// ---- XSAVE -----------------------------------------------------------------------------------------------------------------
function put_avx(): void {
  const count = registers();
  for (let i: u32 = 0; i < count; i++) v128.store(FPU_AREA + AVX_AREA + i * 16, v128.load(XMM + i * XMM_SIZE, 16));
}

function take_avx(): void {
  const count = registers();
  for (let i: u32 = 0; i < count; i++) v128.store(XMM + i * XMM_SIZE, v128.load(FPU_AREA + AVX_AREA + i * 16), 16);
}

function initialize_avx(): void {
  const count = registers();
  for (let i: u32 = 0; i < count; i++) v128.store(XMM + i * XMM_SIZE, i64x2.splat(0), 16);
}

/** Bytes of YMM registers that there are in this mode. */
function avx_size(): u32 {
  return registers() * 16;
}

/** Components that are not in their initial state (section 13.6). x87 always counts as in use. */
export function components_in_use(): u64 {
  const count = registers();
  let low = i64x2.splat(0);
  let upper = i64x2.splat(0);
  for (let i: u32 = 0; i < count; i++) {
    low = v128.or(low, v128.load(XMM + i * XMM_SIZE));
    upper = v128.or(upper, v128.load(XMM + i * XMM_SIZE, 16));
  }
  let used = X87;
  if (v128.any_true(low)) used |= SSE;
  if (v128.any_true(upper)) used |= AVX;
  return used;
}

/** Writes components to an area whose header says `state` and `compaction`. */
function write_area(linear: u64, size: i32, saved: u64, mxcsr: bool, state: u64, compaction: u64, whole: bool): i32 {
  let status = probe_write(linear, HEADER + HEADER_SIZE, true);
  if (status == STATUS_OK && saved & AVX) status = probe_write(linear + AVX_AREA, avx_size(), true);
  // What is not saved stays as it is.
  if (status == STATUS_OK) status = cpl_read_bytes(linear, LEGACY_SIZE, FPU_AREA);
  if (status != STATUS_OK) return status;
  if (saved & X87) put_x87(size == 8);
  if (mxcsr) put_mxcsr();
  if (saved & SSE) put_sse();
  store<u64>(FPU_AREA + HEADER, state);
  store<u64>(FPU_AREA + HEADER, compaction, 8);
  status = cpl_write_bytes(linear, LEGACY_SIZE, FPU_AREA);
  if (status == STATUS_OK) status = cpl_write_bytes(linear + HEADER, whole ? 16 : 8, FPU_AREA + HEADER);
  if (status != STATUS_OK || !(saved & AVX)) return status;
  put_avx();
  return cpl_write_bytes(linear + AVX_AREA, avx_size(), FPU_AREA + AVX_AREA);
}

/** XSAVE, and with `optimized` XSAVEOPT, which leaves out what is in its initial state. */
function save_standard(linear: u64, size: i32, optimized: bool): i32 {
  let status = xsave_available(linear);
  if (status == STATUS_OK) status = cpl_read_bytes(linear + HEADER, 8, FPU_AREA + HEADER);
  if (status != STATUS_OK) return status;
  const components = requested();
  const used = components & components_in_use();
  const state = (load<u64>(FPU_AREA + HEADER) & ~components) | used;
  const saved = optimized ? used : components;
  return write_area(linear, size, saved, (components & ~X87) != 0, state, 0, false);
}

export function xsave(linear: u64, size: i32): i32 {
  return save_standard(linear, size, false);
}

export function xsaveopt(linear: u64, size: i32): i32 {
  return save_standard(linear, size, true);
}

/** XSAVEC: the compacted form, without what is in its initial state. */
export function xsavec(linear: u64, size: i32): i32 {
  const status = xsave_available(linear);
  if (status != STATUS_OK) return status;
  const components = requested();
  let used = components & components_in_use();
  // MXCSR goes with SSE here, and makes it count as in use.
  if (components & SSE && load<u32>(MXCSR) != MXCSR_RESET) used |= SSE;
  return write_area(linear, size, used, (used & SSE) != 0, used, COMPACTED | components, true);
}

/** XRSTOR: both forms. */
export function xrstor(linear: u64, size: i32): i32 {
  let status = xsave_available(linear);
  if (status == STATUS_OK) status = cpl_read_bytes(linear, HEADER + HEADER_SIZE, FPU_AREA);
  if (status != STATUS_OK) return status;
  const present = load<u64>(FPU_AREA + HEADER);
  const format = load<u64>(FPU_AREA + HEADER, 8);
  const compacted = (format & COMPACTED) != 0;
  const offered = load<u64>(XCR0);
  if (present & ~offered) return raise_error(GP, 0);
  if (compacted ? !has_xsavec() || format & ~COMPACTED & ~offered || present & ~format : format != 0)
    return raise_error(GP, 0);
  // The header's other bytes must be zero: the next eight, in the compacted form all.
  const zeros: u32 = compacted ? HEADER_SIZE : 24;
  for (let at: u32 = 16; zeros > at; at += 8) if (load<u64>(FPU_AREA + HEADER + at)) return raise_error(GP, 0);
  const components = requested();
  const restored = components & present;
  if (restored & AVX) {
    status = cpl_read_bytes(linear + AVX_AREA, avx_size(), FPU_AREA + AVX_AREA);
    if (status != STATUS_OK) return status;
  }
  if (compacted ? (components & SSE) != 0 : (components & ~X87) != 0) {
    const mxcsr = compacted && !(present & SSE) ? MXCSR_RESET : load<u32>(FPU_AREA, 24);
    if (mxcsr & ~MXCSR_MASK) return raise_error(GP, 0);
    store<u32>(MXCSR, mxcsr);
  }
  if (components & X87) {
    if (present & X87) take_x87(size == 8);
    else initialize_x87();
  }
  if (components & SSE) {
    if (present & SSE) take_sse();
    else initialize_sse();
  }
  if (components & AVX) {
    if (present & AVX) take_avx();
    else initialize_avx();
  }
  return STATUS_OK;
}

function has_xsavec(): bool {
  return cpuid_find(0xd, 1) && (cpuid_eax() & 2) != 0;
}
