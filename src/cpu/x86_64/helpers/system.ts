// Control registers, the interrupt flag, HLT, TLB and cache invalidation, counters, XCR0.

import {
  ACTIVITY,
  CR0,
  CR2,
  CR3,
  CR4,
  EXIT_HLT,
  EXIT_IRQ_WINDOW,
  EXIT_REASON,
  FLAG_AC,
  FLAG_IF,
  FLAG_IOPL,
  FLAG_RF,
  FLAG_TF,
  FLAG_VIF,
  FLAG_VIP,
  FLAG_VM,
  FLAGS,
  HOST_VALUE,
  IRQ_PENDING,
  MSR_TSC_AUX,
  NEXT_RIP,
  NMI_BLOCKED,
  RAX,
  RCX,
  RDX,
  RIP,
  SHADOW,
  SHADOW_RIP,
  STATUS_EXIT,
  STATUS_NEXT,
  STATUS_OK,
  TSC_OFFSET,
  XCR0,
} from '../layout';
import { access_status, cpl_read64, tlb_flush, tlb_invlpg } from './access';
import { load_cr0, load_cr3, load_cr4 } from './control-registers';
import { cpuid_eax, cpuid_edx, cpuid_find } from './cpuid';
import { get_rflags, set_rflags } from './flags';
import { components_in_use } from './fpu/save';
import { frame_commit, frame_current, frame_skip } from './frame';
import { host_cr8, host_tsc } from './host';
import { cpl, iopl, is_64bit, is_canonical, is_v86, update_access, update_mode } from './mode';
import { raise, raise_error } from './raise';
import { CR0_TS, CR4_OSXSAVE, CR4_PCIDE, CR4_PVI, CR4_TSD, CR4_VME, GP, UD } from './registers';
import { FLAGS_ANY16, FLAGS_ANY32 } from './returns';
import { cast_shadow } from './segments';

/** Leaves run() after this instruction, so that a waiting interrupt is looked at. */
export function exit_to_look(): i32 {
  store<u64>(RIP, load<u64>(NEXT_RIP));
  store<u32>(EXIT_REASON, EXIT_IRQ_WINDOW);
  return STATUS_EXIT;
}

// ---- Control registers ---------------------------------------------------------------------------------------------------
/** MOV from a control register, to HOST_VALUE. */
export function mov_from_cr(index: i32): i32 {
  if (index != 0 && index != 2 && index != 3 && index != 4 && index != 8) return raise(UD);
  if (cpl()) return raise_error(GP, 0);
  if (index == 8) host_cr8(0);
  else store<u64>(HOST_VALUE, load<u64>(index == 0 ? CR0 : index == 2 ? CR2 : index == 3 ? CR3 : CR4));
  return STATUS_OK;
}

/** MOV to a control register. */
export function mov_to_cr(index: i32, value: u64): i32 {
  if (index != 0 && index != 2 && index != 3 && index != 4 && index != 8) return raise(UD);
  if (cpl()) return raise_error(GP, 0);
  if (index == 0) return load_cr0(value);
  if (index == 3) return load_cr3(value);
  if (index == 4) return load_cr4(value);
  if (index == 2) {
    store<u64>(CR2, value);
    return STATUS_OK;
  }
  if (value > 15) return raise_error(GP, 0);
  store<u64>(HOST_VALUE, value);
  return host_cr8(1) == 2 ? exit_to_look() : STATUS_OK;
}

/** CLTS. */
export function clts(): i32 {
  if (cpl()) return raise_error(GP, 0);
  store<u64>(CR0, load<u64>(CR0) & ~(<u64>CR0_TS));
  update_mode();
  return STATUS_NEXT;
}

// ---- Interrupt flag --------------------------------------------------------------------------------------------------------
/** HLT: leaves run() with RIP after it. */
export function hlt(): i32 {
  if (cpl()) return raise_error(GP, 0);
  store<u32>(ACTIVITY, 1);
  store<u32>(SHADOW, 0);
  store<u64>(RIP, load<u64>(NEXT_RIP));
  store<u32>(EXIT_REASON, EXIT_HLT);
  return STATUS_EXIT;
}

/** What CLI and STI work on. */
const ON_IF = 0;
const ON_VIF = 1;
const ON_NOTHING = 2;

/** IF by IOPL; VIF with the virtual-mode extensions, or in protected mode with virtual interrupts at level 3. */
function interrupt_flag(): i32 {
  if (cpl() <= iopl()) return ON_IF;
  const cr4 = load<u32>(CR4);
  if (is_v86()) return cr4 & CR4_VME ? ON_VIF : ON_NOTHING;
  return cpl() == 3 && cr4 & CR4_PVI ? ON_VIF : ON_NOTHING;
}

/** CLI. */
export function cli(): i32 {
  const which = interrupt_flag();
  if (which == ON_NOTHING) return raise_error(GP, 0);
  const flag: u32 = which == ON_IF ? FLAG_IF : FLAG_VIF;
  store<u32>(FLAGS, load<u32>(FLAGS) & ~flag);
  return STATUS_OK;
}

/** STI: interrupts wait for the end of the next instruction if IF was clear. STATUS_NEXT if one waits already. */
export function sti(): i32 {
  const which = interrupt_flag();
  const flags = load<u32>(FLAGS);
  if (which == ON_NOTHING || (which == ON_VIF && flags & FLAG_VIP)) return raise_error(GP, 0);
  if (which == ON_VIF) {
    store<u32>(FLAGS, flags | FLAG_VIF);
    return STATUS_OK;
  }
  if (flags & FLAG_IF) return STATUS_OK;
  store<u32>(FLAGS, flags | FLAG_IF);
  cast_shadow(1);
  return load<u32>(IRQ_PENDING) ? STATUS_NEXT : STATUS_OK;
}

/** STAC (`set` 1), CLAC. */
export function set_ac(set: i32): i32 {
  if (cpl()) return raise(UD);
  const flags = load<u32>(FLAGS);
  store<u32>(FLAGS, set ? flags | FLAG_AC : flags & ~FLAG_AC);
  update_access();
  return STATUS_OK;
}

/** PUSHF: the image to HOST_VALUE. */
export function pushf_value(size: i32): i32 {
  let image = get_rflags() & ~(FLAG_RF | FLAG_VM);
  if (is_v86() && iopl() < 3) {
    if (!(load<u32>(CR4) & CR4_VME) || size != 2) return raise_error(GP, 0);
    image = (image & ~FLAG_IF) | FLAG_IOPL | (image & FLAG_VIF ? FLAG_IF : 0);
  }
  store<u64>(HOST_VALUE, image);
  return STATUS_OK;
}

/** POPF of an image that has been read from the top of the stack; releases its `size` bytes. */
export function popf(size: i32, value: u64): i32 {
  const image = <u32>value;
  const old = get_rflags();
  let mask: u32 = size == 2 ? FLAGS_ANY16 : FLAGS_ANY32;
  let popped = image;
  if (is_v86() && iopl() < 3) {
    if (!(load<u32>(CR4) & CR4_VME) || size != 2) return raise_error(GP, 0);
    const wants = (image & FLAG_IF) != 0;
    if (image & FLAG_TF || (wants && old & FLAG_VIP)) return raise_error(GP, 0);
    popped = (image & ~FLAG_VIF) | (wants ? FLAG_VIF : 0);
    mask |= FLAG_VIF;
  } else {
    if (cpl() <= iopl()) mask |= FLAG_IF;
    if (cpl() == 0) mask |= FLAG_IOPL;
  }
  frame_current(0);
  frame_skip(size);
  frame_commit();
  const next = (old & ~(mask | FLAG_RF)) | (popped & mask) | 2;
  set_rflags(next);
  const changed = (old ^ next) & (FLAG_TF | FLAG_AC | FLAG_RF);
  if (changed) update_mode();
  if (next & ~old & FLAG_IF && load<u32>(IRQ_PENDING)) return exit_to_look();
  return changed ? STATUS_NEXT : STATUS_OK;
}

/** Whether an external interrupt can be taken before the instruction at RIP. */
export function interruptible(): i32 {
  return (load<u32>(FLAGS) & FLAG_IF) != 0 && !is_shadowed(3) ? 1 : 0;
}

/** Whether an NMI can be taken before the instruction at RIP. */
export function nmi_interruptible(): i32 {
  return !load<u32>(NMI_BLOCKED) && !is_shadowed(2) ? 1 : 0;
}

function is_shadowed(bits: u32): bool {
  return (load<u32>(SHADOW) & bits) != 0 && load<u64>(SHADOW_RIP) == load<u64>(RIP);
}

// ---- TLB and caches ----------------------------------------------------------------------------------------------------------
/** INVLPG. */
export function invlpg_op(linear: u64): i32 {
  if (cpl()) return raise_error(GP, 0);
  tlb_invlpg(linear);
  return STATUS_NEXT;
}

/** INVPCID: `type` is the register operand, `linear` the descriptor's address. The TLB holds the current PCID alone. */
export function invpcid_op(type: u64, linear: u64): i32 {
  if (cpl()) return raise_error(GP, 0);
  const low = cpl_read64(linear);
  if (access_status != STATUS_OK) return access_status;
  const second = is_64bit() ? linear + 8 : (linear + 8) & 0xffffffff;
  const address = cpl_read64(second);
  if (access_status != STATUS_OK) return access_status;
  if (type > 3 || low >> 12) return raise_error(GP, 0);
  if (type < 2 && low != 0 && !(load<u32>(CR4) & CR4_PCIDE)) return raise_error(GP, 0);
  if (type == 0 && !is_canonical(address)) return raise_error(GP, 0);
  if (type == 0) {
    if (low == (load<u64>(CR3) & 0xfff) || !(load<u32>(CR4) & CR4_PCIDE)) tlb_invlpg(address);
  } else {
    tlb_flush(type == 2 ? 1 : 0);
  }
  return STATUS_NEXT;
}

/** WBINVD, INVD: memory is coherent, nothing is held back. */
export function wbinvd(): i32 {
  return cpl() ? raise_error(GP, 0) : STATUS_OK;
}

// ---- Counters ------------------------------------------------------------------------------------------------------------------
/** Puts a value in EDX:EAX. */
export function set_edx_eax(value: u64): void {
  store<u64>(RAX, value & 0xffffffff);
  store<u64>(RDX, value >> 32);
}

/** The value of EDX:EAX. */
export function edx_eax(): u64 {
  return ((<u64>load<u32>(RDX)) << 32) | load<u32>(RAX);
}

/** The TSC as the guest sees it. */
export function guest_tsc(): u64 {
  host_tsc();
  return load<u64>(HOST_VALUE) + load<u64>(TSC_OFFSET);
}

/** RDTSC. */
export function rdtsc(): i32 {
  if (cpl() && load<u32>(CR4) & CR4_TSD) return raise_error(GP, 0);
  set_edx_eax(guest_tsc());
  return STATUS_OK;
}

/** RDTSCP. */
export function rdtscp(): i32 {
  const status = rdtsc();
  if (status == STATUS_OK) store<u64>(RCX, load<u32>(MSR_TSC_AUX));
  return status;
}

/** RDPMC: there are no performance counters. */
export function rdpmc(): i32 {
  return raise_error(GP, 0);
}

// ---- Extended state ------------------------------------------------------------------------------------------------------------
/** XGETBV. */
export function xgetbv(): i32 {
  if (!(load<u32>(CR4) & CR4_OSXSAVE)) return raise(UD);
  const index = load<u32>(RCX);
  // XCR1: XINUSE.
  const in_use = index == 1 && cpuid_find(0xd, 1) && (cpuid_eax() & 4) != 0;
  if (index != 0 && !in_use) return raise_error(GP, 0);
  set_edx_eax(index ? load<u64>(XCR0) & components_in_use() : load<u64>(XCR0));
  return STATUS_OK;
}

/** Whether XCR0 may have this value: x87 always, AVX with SSE only, nothing that CPUID leaf 0DH does not offer. */
export function is_xcr0(value: u64): bool {
  const offered: u64 = cpuid_find(0xd, 0) ? ((<u64>cpuid_edx()) << 32) | cpuid_eax() : 3;
  return (value & 1) != 0 && !(value & ~offered) && (value & 6) != 4;
}

/** XSETBV. */
export function xsetbv(): i32 {
  if (!(load<u32>(CR4) & CR4_OSXSAVE)) return raise(UD);
  const value = edx_eax();
  if (cpl() || load<u32>(RCX) != 0 || !is_xcr0(value)) return raise_error(GP, 0);
  store<u64>(XCR0, value);
  update_mode();
  return STATUS_NEXT;
}
