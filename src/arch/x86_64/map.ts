/**
 * Where things are in the guest-physical memory of an x86-64 machine: RAM around the hole below 4 GiB, and what the
 * boot set-up puts at fixed addresses. Device addresses are those of devices/pc-map.ts.
 */
import { MMIO_HOLE_END, MMIO_HOLE_START } from '../../devices/pc-map.ts';
import type { GuestMemory } from '../../hypervisor/guest-memory.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const PAGE_SIZE = 4096;

// ---- Below 640 KiB: boot structures, in RAM that the guest takes over once it has read them -----------------------------
export const GDT_START = 0x500;
export const IDT_START = 0x520;
/** PVH: struct hvm_start_info, its module list, its memory map. */
export const PVH_START_INFO = 0x6000;
export const PVH_MODLIST = 0x6040;
export const PVH_MEMMAP = 0x6080;
/** struct boot_params, "zero page": one page. */
export const ZERO_PAGE = 0x7000;
/** Initial stack pointer: the stack grows down from here. */
export const BOOT_STACK = 0x8000;
/** Page tables of the 64-bit entry: PML4, PDPT, then one page directory for each of the first 4 GiB. */
export const PML4_START = 0x9000;
export const PDPT_START = 0xa000;
export const PD_START = 0xb000;
export const PD_COUNT = 4;
export const CMDLINE_START = 0x20000;
/** Bytes, the final NUL included: up to the extended BIOS data area. */
export const CMDLINE_MAX_SIZE = 0x9fc00 - CMDLINE_START;
/** Extended BIOS data area, where firmware keeps the MP tables. End of usable low memory. */
export const EBDA_START = 0x9fc00;
export const EBDA_SIZE = 0xa0000 - EBDA_START;
/** BIOS read-only area, in which guests look for the RSDP on 16-byte boundaries. */
export const BIOS_AREA_START = 0xe0000;
export const BIOS_AREA_END = 0x100000;
export const RSDP_START = 0xe0000;
export const ACPI_TABLES_START = 0xe0040;
export const ACPI_TABLES_END = 0xf0000;
/** MP configuration table; its floating pointer is at EBDA_START. */
export const MP_TABLE_START = 0xf0000;

// ---- From 1 MiB on ---------------------------------------------------------------------------------------------------------
export const HIGH_RAM_START = 0x100000;
/** Where an ELF linked at address 0 goes, such as Linux's arch/x86/boot/compressed/vmlinux. */
export const KERNEL_START = 0x200000;
/** KVM on Intel needs three pages for a task state segment of its own, outside RAM. */
export const KVM_TSS_START = 0xfffbd000;

/** Smallest RAM with which set-up makes sense: the boot structures and the start of a kernel. */
export const MIN_MEMORY = 4 * MIB;

/** A range of guest-physical RAM. */
export interface RamRange {
  readonly start: number;
  /** Bytes. */
  readonly size: number;
}

/** RAM of `size` bytes: what does not fit below the hole goes on at 4 GiB. */
export function ramRanges(size: number): RamRange[] {
  const low = Math.min(size, MMIO_HOLE_START);
  const ranges: RamRange[] = [{ start: 0, size: low }];
  if (size > low) {
    ranges.push({ start: MMIO_HOLE_END, size: size - low });
  }
  return ranges;
}

/** First address after the RAM that starts at 0; 0 when there is none. */
export function lowRamEnd(memory: GuestMemory): number {
  return memory.regions.find((region) => region.guestAddress === 0)?.bytes.length ?? 0;
}
