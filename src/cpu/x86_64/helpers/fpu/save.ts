// FXSAVE, FXRSTOR, XSAVE, XRSTOR (SDM volume 1, sections 10.5 and 13.7 to 13.8).

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
import { raise, raise_error } from '../raise';
import { CR0_TS, CR4_OSFXSR, CR4_OSXSAVE, GP, NM, UD } from '../registers';
import { fpu_available, fpu_enter, reset_fpu, summarize } from './state';

/** Bits of MXCSR that exist. */
const MXCSR_MASK: u32 = 0xffff;
/** XSAVE area: components of XCR0, and where their bytes and the header are. */
const X87: u64 = 1;
const SSE: u64 = 2;
const X87_AREA: u32 = 32;
const SSE_AREA: u32 = 160;
const LEGACY_SIZE: u32 = 416;
const FXSAVE_SIZE: u32 = 512;
const HEADER: u32 = 512;
const HEADER_SIZE: u32 = 64;

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

/** XSAVE: all components count as in use. */
export function xsave(linear: u64, size: i32): i32 {
  let status = xsave_available(linear);
  if (status == STATUS_OK) status = probe_write(linear, HEADER + HEADER_SIZE, true);
  // What is not asked for stays as it is.
  if (status == STATUS_OK) status = cpl_read_bytes(linear, HEADER + 8, FPU_AREA);
  if (status != STATUS_OK) return status;
  const components = requested();
  const before = load<u64>(FPU_AREA + HEADER);
  if (components & X87) put_x87(size == 8);
  if (components & ~X87) put_mxcsr();
  if (components & SSE) put_sse();
  store<u64>(FPU_AREA + HEADER, before | components);
  status = cpl_write_bytes(linear, LEGACY_SIZE, FPU_AREA);
  return status == STATUS_OK ? cpl_write_bytes(linear + HEADER, 8, FPU_AREA + HEADER) : status;
}

/** XRSTOR, standard form. */
export function xrstor(linear: u64, size: i32): i32 {
  let status = xsave_available(linear);
  if (status == STATUS_OK) status = cpl_read_bytes(linear, HEADER + HEADER_SIZE, FPU_AREA);
  if (status != STATUS_OK) return status;
  const present = load<u64>(FPU_AREA + HEADER);
  // XCOMP_BV and the reserved bytes after it must be zero.
  if (present & ~load<u64>(XCR0) || load<u64>(FPU_AREA + HEADER, 8) || load<u64>(FPU_AREA + HEADER, 16))
    return raise_error(GP, 0);
  const components = requested();
  if (components & ~X87) {
    const mxcsr = load<u32>(FPU_AREA, 24);
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
  return STATUS_OK;
}
