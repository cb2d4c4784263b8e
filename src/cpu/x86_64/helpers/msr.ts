// RDMSR and WRMSR (SDM volume 4, table 2-2: the architectural registers).

import {
  CR0,
  EFER,
  HOST_VALUE,
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
  RCX,
  SEG_FS,
  SEG_GS,
  SEG_O_BASE,
  STATUS_NEXT,
  STATUS_OK,
  TSC_OFFSET,
} from '../layout';
import { tlb_flush } from './access';
import { cpuid_eax, cpuid_ebx, cpuid_edx, cpuid_find, physical_bits } from './cpuid';
import { host_rdmsr, host_tsc, host_wrmsr } from './host';
import { cpl, is_canonical, update_mode } from './mode';
import { raise_error } from './raise';
import { CR0_PG, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE, GP } from './registers';
import { edx_eax, exit_to_look, guest_tsc, set_edx_eax } from './system';

const P5_MC_ADDR: u32 = 0x0;
const P5_MC_TYPE: u32 = 0x1;
const TSC: u32 = 0x10;
const KVM_WALL_CLOCK: u32 = 0x11;
const KVM_SYSTEM_TIME: u32 = 0x12;
const PLATFORM_ID: u32 = 0x17;
const APIC_BASE: u32 = 0x1b;
const EBL_CR_POWERON: u32 = 0x2a;
const FEATURE_CONTROL: u32 = 0x3a;
const TSC_ADJUST: u32 = 0x3b;
const SPEC_CTRL: u32 = 0x48;
const PRED_CMD: u32 = 0x49;
const BIOS_SIGN_ID: u32 = 0x8b;
const MTRRCAP: u32 = 0xfe;
const ARCH_CAPABILITIES: u32 = 0x10a;
const FLUSH_CMD: u32 = 0x10b;
const SYSENTER_CS: u32 = 0x174;
const SYSENTER_ESP: u32 = 0x175;
const SYSENTER_EIP: u32 = 0x176;
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MISC_ENABLE: u32 = 0x1a0;
const DEBUGCTL: u32 = 0x1d9;
const MTRR_PHYSBASE0: u32 = 0x200;
const MTRR_PHYSMASK7: u32 = 0x20f;
const MTRR_FIX64K_00000: u32 = 0x250;
const MTRR_FIX16K_80000: u32 = 0x258;
const MTRR_FIX16K_A0000: u32 = 0x259;
const MTRR_FIX4K_C0000: u32 = 0x268;
const MTRR_FIX4K_F8000: u32 = 0x26f;
const PAT: u32 = 0x277;
const MTRR_DEF_TYPE: u32 = 0x2ff;
const TSC_DEADLINE: u32 = 0x6e0;
const X2APIC_FIRST: u32 = 0x800;
const X2APIC_LAST: u32 = 0x8ff;
const XSS: u32 = 0xda0;
const KVM_FIRST: u32 = 0x4b564d00;
const KVM_LAST: u32 = 0x4b564dff;
const MSR_EFER: u32 = 0xc0000080;
const STAR: u32 = 0xc0000081;
const LSTAR: u32 = 0xc0000082;
const CSTAR: u32 = 0xc0000083;
const FMASK: u32 = 0xc0000084;
const FS_BASE: u32 = 0xc0000100;
const GS_BASE: u32 = 0xc0000101;
const KERNEL_GS_BASE: u32 = 0xc0000102;
const MSR_AUX: u32 = 0xc0000103;

/** Eight variable ranges, fixed ranges, write-combining. */
const MTRRCAP_VALUE = 0x508;
/** Fast strings; BTS and PEBS unavailable. */
export const MISC_ENABLE_RESET = 0x1801;
/** Bits of IA32_MISC_ENABLE that may be set: those and EIST, MONITOR. */
const MISC_ENABLE_BITS = 0x51881;
/**
 * Guest instructions do not reach the host's processor, so that none of its leaks is open to them: RDCL_NO, SKIP_L1DFL,
 * SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO.
 */
const ARCH_CAPABILITIES_VALUE: u64 = 0xd10e179;

/** Written or not, by write_msr(). */
export const MSR_REFUSED = 0;
export const MSR_WRITTEN = 1;
/** Written; whether an interrupt waits must be looked at. */
export const MSR_LOOK = 2;

/** Whether the hypervisor's interrupt chip and clock own the register. */
function is_host(index: u32): bool {
  if (index == APIC_BASE || index == TSC_DEADLINE || index == KVM_WALL_CLOCK || index == KVM_SYSTEM_TIME) return true;
  return (index >= X2APIC_FIRST && index <= X2APIC_LAST) || (index >= KVM_FIRST && index <= KVM_LAST);
}

const NOWHERE: usize = 0;

/** State address of a register that is plain storage, NOWHERE if it is not. */
function storage(index: u32): usize {
  switch (index) {
    case SYSENTER_CS:
      return MSR_SYSENTER_CS;
    case SYSENTER_ESP:
      return MSR_SYSENTER_ESP;
    case SYSENTER_EIP:
      return MSR_SYSENTER_EIP;
    case MISC_ENABLE:
      return MSR_MISC_ENABLE;
    case PAT:
      return MSR_PAT;
    case MTRR_DEF_TYPE:
      return MSR_MTRR_DEF_TYPE;
    case MTRR_FIX64K_00000:
      return MSR_MTRR_FIXED;
    case MTRR_FIX16K_80000:
    case MTRR_FIX16K_A0000:
      return MSR_MTRR_FIXED + 8 + (index - MTRR_FIX16K_80000) * 8;
    case STAR:
      return MSR_STAR;
    case LSTAR:
      return MSR_LSTAR;
    case CSTAR:
      return MSR_CSTAR;
    case FMASK:
      return MSR_SFMASK;
    case FS_BASE:
      return SEG_FS + SEG_O_BASE;
    case GS_BASE:
      return SEG_GS + SEG_O_BASE;
    case KERNEL_GS_BASE:
      return MSR_KERNEL_GS_BASE;
    case MSR_AUX:
      return MSR_TSC_AUX;
    case SPEC_CTRL:
      if (!has_spec_ctrl()) return NOWHERE;
      return MSR_SPEC_CTRL;
    case XSS:
      if (!cpuid_find(0xd, 1) || !(cpuid_eax() & 8)) return NOWHERE;
      return MSR_XSS;
    default:
      if (index >= MTRR_PHYSBASE0 && index <= MTRR_PHYSMASK7) return MSR_MTRR_VARIABLE + (index - MTRR_PHYSBASE0) * 8;
      if (index >= MTRR_FIX4K_C0000 && index <= MTRR_FIX4K_F8000) {
        return MSR_MTRR_FIXED + 24 + (index - MTRR_FIX4K_C0000) * 8;
      }
      return NOWHERE;
  }
}

/** A bit of CPUID leaf 7's EDX. */
function feature(bit: u32): bool {
  return cpuid_find(7, 0) && ((cpuid_edx() >> bit) & 1) != 0;
}

/** IBRS and IBPB, STIBP, SSBD. */
function has_spec_ctrl(): bool {
  return feature(26) || feature(27) || feature(31);
}

/** Reads an MSR to HOST_VALUE, whatever the privilege level; false where the processor raises #GP. */
export function read_msr(index: u32): bool {
  if (is_host(index)) return host_rdmsr(index) == 1;
  const at = storage(index);
  if (at) {
    store<u64>(HOST_VALUE, load<u64>(at));
    return true;
  }
  switch (index) {
    case MSR_EFER:
      return give(load<u64>(EFER));
    case TSC:
      return give(guest_tsc());
    case TSC_ADJUST:
      return cpuid_find(7, 0) && (cpuid_ebx() & 2) != 0 ? give(load<u64>(MSR_TSC_ADJUST)) : false;
    case BIOS_SIGN_ID:
      return give(load<u64>(MSR_BIOS_SIGN_ID));
    case MTRRCAP:
      return give(MTRRCAP_VALUE);
    case FEATURE_CONTROL:
      // Locked, with nothing enabled.
      return give(1);
    case ARCH_CAPABILITIES:
      return feature(29) ? give(ARCH_CAPABILITIES_VALUE) : false;
    case P5_MC_ADDR:
    case P5_MC_TYPE:
    case PLATFORM_ID:
    case EBL_CR_POWERON:
    case MCG_CAP:
    case MCG_STATUS:
    case DEBUGCTL:
      return give(0);
    default:
      return false;
  }
}

function give(value: u64): bool {
  store<u64>(HOST_VALUE, value);
  return true;
}

/** MTRR memory types: UC, WC, WT, WP, WB. */
function is_memory_type(type: u64): bool {
  return type <= 1 || (type >= 4 && type <= 6);
}

/** All eight bytes are memory types; the PAT has UC- (7) as well. */
function are_types(value: u64, pat: bool): bool {
  for (let i = 0; i < 8; i++) {
    const type = (value >> (i * 8)) & 0xff;
    if (!is_memory_type(type) && !(pat && type == 7)) return false;
  }
  return true;
}

/** Whether a register that is plain storage takes a value. */
function is_acceptable(index: u32, value: u64): bool {
  switch (index) {
    case SYSENTER_ESP:
    case SYSENTER_EIP:
    case LSTAR:
    case CSTAR:
    case FS_BASE:
    case GS_BASE:
    case KERNEL_GS_BASE:
      return is_canonical(value);
    case SYSENTER_CS:
    case STAR:
      return true;
    case FMASK:
    case MSR_AUX:
      return value >> 32 == 0;
    case MISC_ENABLE:
      return (value & ~(<u64>MISC_ENABLE_BITS)) == 0;
    case PAT:
      return are_types(value, true);
    case MTRR_DEF_TYPE:
      return (value & ~(<u64>0xcff)) == 0 && is_memory_type(value & 0xff);
    case SPEC_CTRL:
      return (value & ~(<u64>7)) == 0;
    case XSS:
      // No supervisor component exists.
      return value == 0;
    default:
      if (index >= MTRR_PHYSBASE0 && index <= MTRR_PHYSMASK7) {
        if (value >> physical_bits()) return false;
        // Odd: mask, with its valid bit; even: base, with its type.
        return index & 1 ? (value & 0x7ff) == 0 : (value & 0xf00) == 0 && is_memory_type(value & 0xff);
      }
      return are_types(value, false);
  }
}

/** Writes an MSR, whatever the privilege level: MSR_REFUSED where the processor raises #GP, MSR_WRITTEN or MSR_LOOK. */
export function write_msr(index: u32, value: u64): i32 {
  if (is_host(index)) {
    store<u64>(HOST_VALUE, value);
    return host_wrmsr(index);
  }
  const at = storage(index);
  if (at) {
    if (!is_acceptable(index, value)) return MSR_REFUSED;
    store<u64>(at, value);
    return MSR_WRITTEN;
  }
  switch (index) {
    case MSR_EFER:
      return write_efer(value);
    case TSC: {
      host_tsc();
      const offset = value - load<u64>(HOST_VALUE);
      store<u64>(MSR_TSC_ADJUST, load<u64>(MSR_TSC_ADJUST) + offset - load<u64>(TSC_OFFSET));
      store<u64>(TSC_OFFSET, offset);
      return MSR_WRITTEN;
    }
    case TSC_ADJUST: {
      if (!cpuid_find(7, 0) || !(cpuid_ebx() & 2)) return MSR_REFUSED;
      store<u64>(TSC_OFFSET, load<u64>(TSC_OFFSET) + value - load<u64>(MSR_TSC_ADJUST));
      store<u64>(MSR_TSC_ADJUST, value);
      return MSR_WRITTEN;
    }
    case BIOS_SIGN_ID:
      // Written with 0 before CPUID puts the microcode's revision there; here it is there always.
      return MSR_WRITTEN;
    case PRED_CMD:
      return has_spec_ctrl() && value <= 1 ? MSR_WRITTEN : MSR_REFUSED;
    case FLUSH_CMD:
      return feature(28) && value <= 1 ? MSR_WRITTEN : MSR_REFUSED;
    case P5_MC_ADDR:
    case P5_MC_TYPE:
    case EBL_CR_POWERON:
    case MCG_STATUS:
    case DEBUGCTL:
      return value == 0 ? MSR_WRITTEN : MSR_REFUSED;
    default:
      return MSR_REFUSED;
  }
}

function write_efer(value: u64): i32 {
  const old = load<u64>(EFER);
  // SYSCALL, NX and long mode, each by its CPUID bit.
  let known: u64 = EFER_LMA;
  if (cpuid_find(0x80000001, 0)) {
    const edx = cpuid_edx();
    if (edx & (1 << 11)) known |= EFER_SCE;
    if (edx & (1 << 20)) known |= EFER_NXE;
    if (edx & (1 << 29)) known |= EFER_LME | EFER_SCE;
  }
  if (value & ~known) return MSR_REFUSED;
  // LMA is the processor's own.
  const next = (value & ~(<u64>EFER_LMA)) | (old & EFER_LMA);
  const changed = old ^ next;
  if (changed & EFER_LME && load<u32>(CR0) & CR0_PG) return MSR_REFUSED;
  store<u64>(EFER, next);
  if (changed & EFER_NXE) tlb_flush(1);
  update_mode();
  return MSR_WRITTEN;
}

/** RDMSR: ECX to EDX:EAX. */
export function rdmsr(): i32 {
  if (cpl() || !read_msr(load<u32>(RCX))) return raise_error(GP, 0);
  set_edx_eax(load<u64>(HOST_VALUE));
  return STATUS_OK;
}

/** WRMSR: EDX:EAX to ECX. */
export function wrmsr(): i32 {
  if (cpl()) return raise_error(GP, 0);
  const result = write_msr(load<u32>(RCX), edx_eax());
  if (result == MSR_REFUSED) return raise_error(GP, 0);
  return result == MSR_LOOK ? exit_to_look() : STATUS_NEXT;
}
