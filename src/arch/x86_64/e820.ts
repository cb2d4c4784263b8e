/** The memory map that firmware would give by INT 15h, AX=E820h. */
import { PCI_ECAM_SIZE, PCI_ECAM_START } from '../../devices/pc-map.ts';
import type { GuestMemory } from '../../hypervisor/guest-memory.ts';
import { BIOS_AREA_END, BIOS_AREA_START, EBDA_SIZE, EBDA_START, HIGH_RAM_START, lowRamEnd } from './map.ts';

export const E820_RAM = 1;
export const E820_RESERVED = 2;

export interface E820Entry {
  readonly start: number;
  /** Bytes. */
  readonly size: number;
  readonly type: typeof E820_RAM | typeof E820_RESERVED;
}

/**
 * The map for this RAM, by rising address. MP and ACPI tables lie in reserved memory; the ECAM area must be reserved for
 * guests to believe MCFG (PCI Firmware Specification 3.3, 4.1.2).
 */
export function e820Map(memory: GuestMemory): E820Entry[] {
  const entries: E820Entry[] = [
    { start: 0, size: EBDA_START, type: E820_RAM },
    { start: EBDA_START, size: EBDA_SIZE, type: E820_RESERVED },
    { start: BIOS_AREA_START, size: BIOS_AREA_END - BIOS_AREA_START, type: E820_RESERVED },
    { start: HIGH_RAM_START, size: lowRamEnd(memory) - HIGH_RAM_START, type: E820_RAM },
    { start: PCI_ECAM_START, size: PCI_ECAM_SIZE, type: E820_RESERVED },
  ];
  for (const { guestAddress, bytes } of memory.regions) {
    if (guestAddress > 0) {
      entries.push({ start: guestAddress, size: bytes.length, type: E820_RAM });
    }
  }
  return entries.sort((a, b) => a.start - b.start);
}
