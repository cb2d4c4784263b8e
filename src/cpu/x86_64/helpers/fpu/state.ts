// Whether x87, MMX and SSE are there for the guest, and x87's control and status words (SDM volume 1, section 8.1).

import { CR0, CR4, FCS, FCW, FDP, FDS, FIP, FOP, FSW, FTW, STATUS_OK, XCR0 } from '../../layout';
import { raise } from '../raise';
import { CR0_EM, CR0_MP, CR0_NE, CR0_TS, CR4_OSFXSR, CR4_OSXSAVE, NM, UD, XCR0_AVX } from '../registers';

const MF: u32 = 16;
/** FSW: exception flags IE DE ZE OE UE PE; error summary; busy, which follows it. */
const FSW_EXCEPTIONS: u32 = 0x3f;
const FSW_ES: u32 = 0x80;
const FSW_BUSY: u32 = 0x8000;
/** FSW without the flags, stack fault, summary and busy. */
const FSW_CLEARED: u32 = 0x7f00;

/** x87 can be used: else #NM. */
export function fpu_available(): i32 {
  return load<u32>(CR0) & (CR0_EM | CR0_TS) ? raise(NM) : STATUS_OK;
}

/**
 * An unmasked exception that waits comes first. With CR0.NE clear the PC's external error logic (IRQ 13) would take it:
 * that is not there, and the exception stays pending.
 */
export function fpu_pending(): i32 {
  return load<u32>(FSW) & FSW_ES && load<u32>(CR0) & CR0_NE ? raise(MF) : STATUS_OK;
}

/** What all x87 instructions but the non-waiting ones begin with. */
export function fpu_enter(): i32 {
  return fpu_available() || fpu_pending();
}

/** FWAIT. */
export function fpu_wait(): i32 {
  if ((load<u32>(CR0) & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)) return raise(NM);
  return fpu_pending();
}

/** What SSE instructions end with when CR0 or CR4 bars them. */
export function sse_unavailable(): i32 {
  return raise(load<u32>(CR0) & CR0_EM || !(load<u32>(CR4) & CR4_OSFXSR) ? UD : NM);
}

/** An instruction of AVX cannot be used: why. */
export function avx_unavailable(): i32 {
  const enabled = (load<u32>(CR4) & CR4_OSXSAVE) != 0 && (load<u32>(XCR0) & XCR0_AVX) == XCR0_AVX;
  return raise(enabled ? NM : UD);
}

function mmx_available(): i32 {
  if (load<u32>(CR0) & CR0_EM) return raise(UD);
  return fpu_enter();
}

/** What MMX instructions begin with: all registers are in use, and the stack's top is 0. */
export function mmx_enter(): i32 {
  const status = mmx_available();
  if (status != STATUS_OK) return status;
  store<u32>(FSW, load<u32>(FSW) & ~0x3800);
  store<u32>(FTW, 0);
  return STATUS_OK;
}

/** EMMS. */
export function fpu_empty(): i32 {
  const status = mmx_available();
  if (status == STATUS_OK) store<u32>(FTW, 0xffff);
  return status;
}

/** FNINIT. */
export function fpu_initialize(): i32 {
  const status = fpu_available();
  if (status == STATUS_OK) reset_fpu();
  return status;
}

export function reset_fpu(): void {
  store<u32>(FCW, 0x37f);
  store<u32>(FSW, 0);
  store<u32>(FTW, 0xffff);
  store<u32>(FOP, 0);
  store<u64>(FIP, 0);
  store<u64>(FDP, 0);
  store<u32>(FCS, 0);
  store<u32>(FDS, 0);
}

/** FNCLEX. */
export function fpu_clear_exceptions(): i32 {
  const status = fpu_available();
  if (status == STATUS_OK) store<u32>(FSW, load<u32>(FSW) & FSW_CLEARED);
  return status;
}

/** FLDCW; fpu_enter() came first. Exceptions that the new masks let through become pending. */
export function fpu_load_control(value: i32): i32 {
  store<u32>(FCW, (value & 0x1f3f) | 0x40);
  summarize();
  return STATUS_OK;
}

/** Sets ES and B by the exception flags and their masks. */
export function summarize(): void {
  const status = load<u32>(FSW) & ~(FSW_ES | FSW_BUSY);
  const unmasked = status & ~load<u32>(FCW) & FSW_EXCEPTIONS;
  store<u32>(FSW, unmasked ? status | FSW_ES | FSW_BUSY : status);
}
