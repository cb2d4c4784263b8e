// Register values after power-up, INIT and a start-up IPI (SDM volume 3, table 9-1 and section 8.4.4).

import {
  ACTIVITY,
  CR0,
  CR2,
  CR3,
  CR4,
  DEBUG_HIT,
  DR,
  DR6,
  DR7,
  EFER,
  FCW,
  FPR,
  FSW,
  FTW,
  GDTR_BASE,
  GDTR_LIMIT,
  GPR,
  IDTR_BASE,
  IDTR_LIMIT,
  MSR_BIOS_SIGN_ID,
  MSR_CSTAR,
  MSR_KERNEL_GS_BASE,
  MSR_LSTAR,
  MSR_MISC_ENABLE,
  MSR_MTRR_DEF_TYPE,
  MSR_MTRR_FIXED,
  MSR_MTRR_VARIABLE,
  MSR_PAT,
  MSR_SFMASK,
  MSR_SPEC_CTRL,
  MSR_STAR,
  MSR_SYSENTER_CS,
  MSR_SYSENTER_EIP,
  MSR_SYSENTER_ESP,
  MSR_TSC_ADJUST,
  MSR_TSC_AUX,
  MSR_XSS,
  MXCSR,
  NMI_BLOCKED,
  RDX,
  RIP,
  SHADOW,
  TRAP_ARMED,
  XCR0,
  XMM,
  XMM_SIZE,
  ZERO,
} from '../layout';
import { tlb_flush } from './access';
import { cpuid_eax, cpuid_find } from './cpuid';
import { set_rflags } from './flags';
import { set_segment, update_mode } from './mode';
import { MISC_ENABLE_RESET } from './msr';
import { CR0_CD, CR0_ET, CR0_NW, DR6_FIXED, DR7_FIXED, INDEX_CS, INDEX_LDTR, INDEX_TR } from './registers';

/** Real-mode data and code, LDT, busy 16-bit TSS. */
const ATTR_DATA = 0x93;
const ATTR_CODE = 0x9b;
const ATTR_LDT = 0x82;
const ATTR_TSS = 0x8b;

/** PA0..PA7 after power-up: WB WT UC- UC, twice. */
const PAT_RESET: u64 = 0x0007040600070406;

/**
 * Puts the registers into their state after power-up (`init` 0) or INIT (`init` 1, which leaves the caches' bits of CR0, the
 * x87 and vector registers, XCR0 and most MSRs alone). The local APIC, the TSC and ACTIVITY of a processor that waits
 * for a start-up IPI are the caller's.
 */
export function reset_state(init: i32): void {
  const cache = init ? load<u32>(CR0) & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW;
  memory.fill(GPR, 0, 16 * 8);
  store<u64>(ZERO, 0);
  // The processor's family, model and stepping.
  store<u64>(RDX, cpuid_find(1, 0) ? cpuid_eax() : 0);
  store<u64>(RIP, 0xfff0);
  set_rflags(2);
  for (let i = 0; i < INDEX_LDTR; i++) set_segment(i, 0, 0, 0xffff, ATTR_DATA);
  set_segment(INDEX_CS, 0xf000, 0xffff0000, 0xffff, ATTR_CODE);
  set_segment(INDEX_LDTR, 0, 0, 0xffff, ATTR_LDT);
  set_segment(INDEX_TR, 0, 0, 0xffff, ATTR_TSS);
  store<u64>(GDTR_BASE, 0);
  store<u32>(GDTR_LIMIT, 0xffff);
  store<u64>(IDTR_BASE, 0);
  store<u32>(IDTR_LIMIT, 0xffff);
  store<u64>(CR0, cache | CR0_ET);
  store<u64>(CR2, 0);
  store<u64>(CR3, 0);
  store<u64>(CR4, 0);
  store<u64>(EFER, 0);
  memory.fill(DR, 0, 8 * 8);
  store<u64>(DR6, DR6_FIXED);
  store<u64>(DR7, DR7_FIXED);
  store<u32>(SHADOW, 0);
  store<u32>(ACTIVITY, 0);
  store<u32>(NMI_BLOCKED, 0);
  store<u32>(TRAP_ARMED, 0);
  store<u32>(DEBUG_HIT, 0);
  if (!init) power_up();
  tlb_flush(1);
  update_mode();
}

function power_up(): void {
  store<u64>(MSR_STAR, 0);
  store<u64>(MSR_LSTAR, 0);
  store<u64>(MSR_CSTAR, 0);
  store<u64>(MSR_SFMASK, 0);
  store<u64>(MSR_KERNEL_GS_BASE, 0);
  store<u64>(MSR_SYSENTER_CS, 0);
  store<u64>(MSR_SYSENTER_ESP, 0);
  store<u64>(MSR_SYSENTER_EIP, 0);
  store<u64>(MSR_TSC_AUX, 0);
  store<u64>(MSR_TSC_ADJUST, 0);
  store<u64>(MSR_SPEC_CTRL, 0);
  store<u64>(MSR_XSS, 0);
  store<u64>(MSR_PAT, PAT_RESET);
  store<u64>(MSR_MISC_ENABLE, MISC_ENABLE_RESET);
  // Revision 1, in the upper half.
  store<u64>(MSR_BIOS_SIGN_ID, 0x100000000);
  store<u64>(MSR_MTRR_DEF_TYPE, 0);
  memory.fill(MSR_MTRR_FIXED, 0, 11 * 8);
  memory.fill(MSR_MTRR_VARIABLE, 0, 16 * 8);
  store<u64>(XCR0, 1);
  memory.fill(FPR, 0, 8 * 16);
  store<u32>(FCW, 0x40);
  store<u32>(FSW, 0);
  store<u32>(FTW, 0x5555);
  store<u32>(MXCSR, 0x1f80);
  memory.fill(XMM, 0, 16 * XMM_SIZE);
}

/** A start-up IPI: real mode at `vector` * 4 KiB. */
export function sipi(vector: i32): void {
  const page = <u32>vector & 0xff;
  set_segment(INDEX_CS, page << 8, <u64>(page << 12), 0xffff, ATTR_CODE);
  store<u64>(RIP, 0);
  store<u32>(ACTIVITY, 0);
  update_mode();
}
