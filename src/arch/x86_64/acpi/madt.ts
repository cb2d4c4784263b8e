/** The MADT (ACPI 6.4, 5.2.12) and MCFG (PCI Firmware Specification 3.3, 4.1.2). */
import {
  ACPI_SCI_GSI,
  IOAPIC_START,
  LAPIC_START,
  PCI_ECAM_BUSES,
  PCI_ECAM_START,
  PIT_GSI,
  PIT_IOAPIC_PIN,
} from '../../../devices/pc-map.ts';
import { makeTable } from './table.ts';

/** There is an 8259 pair too. */
const PCAT_COMPAT = 1;
const ENABLED = 1;
/** Interrupt source override flags: active high, level-triggered. */
const ACTIVE_HIGH_LEVEL = 0x0d;
/** Local APIC ids from here on need the x2APIC's structure. */
const FIRST_X2APIC_ID = 255;
const ALL_PROCESSORS = 0xff;

/** `value` in `size` bytes, little-endian. */
function little(value: number, size: number): number[] {
  return Array.from({ length: size }, (_, i) => Math.floor(value / 2 ** (8 * i)) & 0xff);
}

function processor(id: number): number[] {
  return id < FIRST_X2APIC_ID
    ? [0, 8, id, id, ...little(ENABLED, 4)]
    : [9, 16, 0, 0, ...little(id, 4), ...little(ENABLED, 4), ...little(id, 4)];
}

/** I/O APIC's id: above the processors', as the MP tables have it. */
export function ioApicId(vcpuCount: number): number {
  return (vcpuCount + 1) & 0xff;
}

/** Interrupt controllers of a machine with this many processors, whose APIC ids count from 0. */
export function makeMadt(vcpuCount: number): Uint8Array {
  const sourceOverride = (isaIrq: number, gsi: number, flags: number) => [
    2,
    10,
    0, // bus: ISA
    isaIrq,
    ...little(gsi, 4),
    ...little(flags, 2),
  ];
  const body = [
    ...little(LAPIC_START, 4),
    ...little(PCAT_COMPAT, 4),
    ...Array.from({ length: vcpuCount }, (_, id) => processor(id)).flat(),
    ...[1, 12, ioApicId(vcpuCount), 0, ...little(IOAPIC_START, 4), ...little(0, 4)],
    ...sourceOverride(PIT_GSI, PIT_IOAPIC_PIN, 0),
    ...sourceOverride(ACPI_SCI_GSI, ACPI_SCI_GSI, ACTIVE_HIGH_LEVEL),
    ...[4, 6, ALL_PROCESSORS, ...little(0, 2), 1], // NMI at LINT1
  ];
  return makeTable('APIC', 5, Uint8Array.from(body));
}

/** Where PCI Express configuration space is. */
export function makeMcfg(): Uint8Array {
  const body = [
    ...little(0, 8),
    ...little(PCI_ECAM_START, 8),
    ...little(0, 2), // segment group
    0, // first bus
    PCI_ECAM_BUSES - 1,
    ...little(0, 4),
  ];
  return makeTable('MCFG', 1, Uint8Array.from(body));
}
