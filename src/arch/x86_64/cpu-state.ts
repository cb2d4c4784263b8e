/** Processor state at the kernel's first instruction, and the GDT and page tables in guest memory that belong to it. */

import { LAPIC_START } from '../../devices/pc-map.ts';
import type { GuestMemory } from '../../hypervisor/guest-memory.ts';
import type { CpuidEntry, MpState, Regs, Segment, Sregs } from '../../hypervisor/hypervisor.ts';
import {
  BOOT_STACK,
  GDT_START,
  IDT_START,
  PAGE_SIZE,
  PD_COUNT,
  PD_START,
  PDPT_START,
  PML4_START,
  PVH_START_INFO,
  ZERO_PAGE,
} from './map.ts';

/** Registers of vCPU 0 at entry. */
export interface EntryState {
  readonly regs: Regs;
  readonly sregs: Sregs;
}

const CR0_PE = 1n << 0n;
/** Always 1 on processors since the 486. */
const CR0_ET = 1n << 4n;
const CR0_PG = 1n << 31n;
const CR4_PAE = 1n << 5n;
const EFER_LME = 1n << 8n;
const EFER_LMA = 1n << 10n;
const RFLAGS_RESERVED = 2n;
const APIC_BASE_BSP = 1n << 8n;
const APIC_BASE_ENABLE = 1n << 11n;

// ---- GDT -----------------------------------------------------------------------------------------------------------
// Access byte and flags nibble as in bits 40-55 of a descriptor, without limit bits 16-19 (SDM 3A, 3.4.5).
const CODE64 = 0xa09b;
const CODE32 = 0xc09b;
const DATA = 0xc093;
const TSS = 0x808b;
const LIMIT_4GIB = 0xfffff;
/** Bytes of a task state segment in protected mode, less 1. */
const TSS_LIMIT = 0x67;

interface Descriptor {
  readonly flags: number;
  /** As encoded: in bytes, or in pages with the granularity flag. */
  readonly limit: number;
}

const NULL_DESCRIPTOR: Descriptor = { flags: 0, limit: 0 };

/** A descriptor with base 0. */
function encodeDescriptor({ flags, limit }: Descriptor): bigint {
  return (BigInt(flags) << 40n) | (BigInt(limit >> 16) << 48n) | BigInt(limit & 0xffff);
}

/** The segment register that loading the descriptor's selector gives. */
function loadedSegment(gdt: readonly Descriptor[], index: number): Segment {
  const { flags, limit } = gdt[index] as Descriptor;
  const granular = (flags & 0x8000) !== 0;
  return {
    base: 0n,
    limit: granular ? (limit * PAGE_SIZE + PAGE_SIZE - 1) >>> 0 : limit,
    selector: index * 8,
    type: flags & 0xf,
    s: (flags & 0x10) !== 0,
    dpl: (flags >> 5) & 3,
    present: (flags & 0x80) !== 0,
    avl: (flags & 0x1000) !== 0,
    l: (flags & 0x2000) !== 0,
    db: (flags & 0x4000) !== 0,
    g: granular,
    unusable: false,
  };
}

const NO_LDT: Segment = {
  base: 0n,
  limit: 0,
  selector: 0,
  type: 2,
  s: false,
  dpl: 0,
  present: false,
  avl: false,
  l: false,
  db: false,
  g: false,
  unusable: true,
};

function writeGdt(memory: GuestMemory, gdt: readonly Descriptor[]): void {
  for (const [i, descriptor] of gdt.entries()) {
    memory.writeU64(GDT_START + i * 8, encodeDescriptor(descriptor));
  }
  memory.writeU64(IDT_START, 0n);
}

function segmentsOf(gdt: readonly Descriptor[]) {
  const data = () => loadedSegment(gdt, 2);
  return {
    cs: loadedSegment(gdt, 1),
    ds: data(),
    es: data(),
    fs: data(),
    gs: data(),
    ss: data(),
    tr: loadedSegment(gdt, 3),
    ldt: { ...NO_LDT },
    gdt: { base: BigInt(GDT_START), limit: gdt.length * 8 - 1 },
    idt: { base: BigInt(IDT_START), limit: 7 },
    cr2: 0n,
    cr8: 0n,
    apicBase: BigInt(LAPIC_START) | APIC_BASE_ENABLE | APIC_BASE_BSP,
  };
}

const ZERO_REGS: Regs = {
  rax: 0n,
  rbx: 0n,
  rcx: 0n,
  rdx: 0n,
  rsi: 0n,
  rdi: 0n,
  rsp: 0n,
  rbp: 0n,
  r8: 0n,
  r9: 0n,
  r10: 0n,
  r11: 0n,
  r12: 0n,
  r13: 0n,
  r14: 0n,
  r15: 0n,
  rip: 0n,
  rflags: RFLAGS_RESERVED,
};

// ---- 64-bit entry ----------------------------------------------------------------------------------------------------
const PTE_PRESENT_WRITABLE = 0x3n;
const PDE_PRESENT_WRITABLE_2MIB = 0x83n;
const TABLE_ENTRIES = 512;
const LARGE_PAGE = 0x200000n;

/** Identity mapping of the first 4 GiB by 2 MiB pages. */
function writePageTables(memory: GuestMemory): void {
  memory.fill(PML4_START, PAGE_SIZE, 0);
  memory.fill(PDPT_START, PAGE_SIZE, 0);
  memory.writeU64(PML4_START, BigInt(PDPT_START) | PTE_PRESENT_WRITABLE);
  for (let i = 0; i < PD_COUNT; i++) {
    memory.writeU64(PDPT_START + i * 8, BigInt(PD_START + i * PAGE_SIZE) | PTE_PRESENT_WRITABLE);
  }
  for (let i = 0; i < PD_COUNT * TABLE_ENTRIES; i++) {
    memory.writeU64(PD_START + i * 8, (BigInt(i) * LARGE_PAGE) | PDE_PRESENT_WRITABLE_2MIB);
  }
}

/**
 * Linux's 64-bit boot protocol: long mode, paging on, interrupts off, RSI = zero page. Writes the GDT and the page tables.
 * `entry` is a guest-physical address.
 */
export function enterLinux64(memory: GuestMemory, entry: number): EntryState {
  const gdt: Descriptor[] = [
    NULL_DESCRIPTOR,
    { flags: CODE64, limit: LIMIT_4GIB },
    { flags: DATA, limit: LIMIT_4GIB },
    { flags: TSS, limit: LIMIT_4GIB },
  ];
  writeGdt(memory, gdt);
  writePageTables(memory);
  const stack = BigInt(BOOT_STACK);
  return {
    regs: { ...ZERO_REGS, rip: BigInt(entry), rsi: BigInt(ZERO_PAGE), rsp: stack, rbp: stack },
    sregs: {
      ...segmentsOf(gdt),
      cr0: CR0_PE | CR0_ET | CR0_PG,
      cr3: BigInt(PML4_START),
      cr4: CR4_PAE,
      efer: EFER_LME | EFER_LMA,
    },
  };
}

/**
 * PVH: 32-bit protected mode without paging, EBX = hvm_start_info (Xen's docs/misc/pvh.pandoc). Writes the GDT.
 * `entry` is a guest-physical address.
 */
export function enterPvh(memory: GuestMemory, entry: number): EntryState {
  const gdt: Descriptor[] = [
    NULL_DESCRIPTOR,
    { flags: CODE32, limit: LIMIT_4GIB },
    { flags: DATA, limit: LIMIT_4GIB },
    { flags: 0x008b, limit: TSS_LIMIT },
  ];
  writeGdt(memory, gdt);
  return {
    regs: { ...ZERO_REGS, rip: BigInt(entry), rbx: BigInt(PVH_START_INFO) },
    sregs: { ...segmentsOf(gdt), cr0: CR0_PE | CR0_ET, cr3: 0n, cr4: 0n, efer: 0n },
  };
}

// ---- State that does not depend on the entry ----------------------------------------------------------------------------
const MSR_IA32_TSC = 0x10;
const MSR_IA32_SYSENTER_CS = 0x174;
const MSR_IA32_SYSENTER_ESP = 0x175;
const MSR_IA32_SYSENTER_EIP = 0x176;
const MSR_IA32_MISC_ENABLE = 0x1a0;
const MSR_IA32_MTRR_DEF_TYPE = 0x2ff;
const MSR_STAR = 0xc0000081;
const MSR_LSTAR = 0xc0000082;
const MSR_CSTAR = 0xc0000083;
const MSR_SYSCALL_MASK = 0xc0000084;
const MSR_KERNEL_GS_BASE = 0xc0000102;
const MISC_ENABLE_FAST_STRING = 1n;
/** MTRRs enabled, all memory write-back: without it Linux does without the page attribute table. */
const MTRR_ENABLED_WRITE_BACK = 0x806n;
const CPUID_1_EDX_MTRR = 1 << 12;

/** MSRs of every vCPU at start, for a processor that announces `cpuid`. */
export function bootMsrs(cpuid: readonly CpuidEntry[]): { readonly index: number; readonly value: bigint }[] {
  const zero = [
    MSR_IA32_SYSENTER_CS,
    MSR_IA32_SYSENTER_ESP,
    MSR_IA32_SYSENTER_EIP,
    MSR_STAR,
    MSR_CSTAR,
    MSR_KERNEL_GS_BASE,
    MSR_SYSCALL_MASK,
    MSR_LSTAR,
    MSR_IA32_TSC,
  ];
  const msrs = zero.map((index) => ({ index, value: 0n }));
  msrs.push({ index: MSR_IA32_MISC_ENABLE, value: MISC_ENABLE_FAST_STRING });
  const features = cpuid.find(({ leaf }) => leaf === 1);
  if (features !== undefined && (features.edx & CPUID_1_EDX_MTRR) !== 0) {
    msrs.push({ index: MSR_IA32_MTRR_DEF_TYPE, value: MTRR_ENABLED_WRITE_BACK });
  }
  return msrs;
}

const XSAVE_FCW = 0;
const XSAVE_MXCSR = 24;
const XSAVE_XSTATE_BV = 512;
const XSTATE_X87_SSE = 3;

/** Changes an XSAVE area as getXsave() gives it: FCW 0x37f, MXCSR 0x1f80, x87 and SSE registers empty. */
export function initializeXsave(area: Uint8Array): void {
  const view = new DataView(area.buffer, area.byteOffset, area.byteLength);
  area.fill(0);
  view.setUint16(XSAVE_FCW, 0x37f, true);
  view.setUint32(XSAVE_MXCSR, 0x1f80, true);
  view.setUint8(XSAVE_XSTATE_BV, XSTATE_X87_SSE);
}

const APIC_LVT_LINT0 = 0x350;
const APIC_LVT_LINT1 = 0x360;
const LVT_DELIVERY_MODE = 0x700;
const LVT_MASKED = 0x10000;
const DELIVERY_EXTINT = 0x700;
const DELIVERY_NMI = 0x400;

/** Changes local APIC registers as getLapic() gives them: LINT0 takes the 8259's interrupts, LINT1 NMIs. */
export function connectLocalInterrupts(registers: Uint8Array): void {
  const view = new DataView(registers.buffer, registers.byteOffset, registers.byteLength);
  const set = (lvt: number, mode: number) =>
    view.setUint32(lvt, (view.getUint32(lvt, true) & ~(LVT_DELIVERY_MODE | LVT_MASKED)) | mode, true);
  set(APIC_LVT_LINT0, DELIVERY_EXTINT);
  set(APIC_LVT_LINT1, DELIVERY_NMI);
}

/** vCPU 0 runs; the others wait for INIT and SIPI from it. */
export function bootMpState(vcpuId: number): MpState {
  return vcpuId === 0 ? 'runnable' : 'uninitialized';
}
