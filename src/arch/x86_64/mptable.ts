/** Intel MultiProcessor Specification 1.4 tables, for guests without ACPI. */
import { IOAPIC_START, LAPIC_START, PIT_GSI, PIT_IOAPIC_PIN } from '../../devices/pc-map.ts';
import { intxGsi } from '../../devices/pci/intx.ts';
import type { GuestMemory } from '../../hypervisor/guest-memory.ts';
import { ioApicId } from './acpi/madt.ts';
import { checksum, putText } from './acpi/table.ts';
import { EBDA_START, MP_TABLE_START } from './map.ts';

const SPEC_1_4 = 4;
const APIC_VERSION = 0x14;
const CPU_ENABLED = 1;
const CPU_BOOT = 2;
/** Family 6, and the features FPU and APIC: who wants more reads CPUID. */
const CPU_SIGNATURE = 0x600;
const CPU_FEATURES = 0x201;
const BUS_PCI = 0;
const BUS_ISA = 1;
const ISA_IRQS = 16;
/** The 8259 pair's own cascade. */
const CASCADE_IRQ = 2;
const PCI_DEVICES = 32;
const PCI_PINS = 4;
const INT = 0;
const NMI = 1;
const EXT_INT = 3;
/** Polarity and trigger as the bus has them. */
const CONFORMS = 0;
/** Active low, level-triggered: PCI. */
const ACTIVE_LOW_LEVEL = 0xf;
const ALL_LOCAL_APICS = 0xff;
/** Ids of eight bits, and 255 means all. */
const MAX_PROCESSORS = 254;

/** `value` in `size` bytes, little-endian. */
function little(value: number, size: number): number[] {
  return Array.from({ length: size }, (_, i) => Math.floor(value / 2 ** (8 * i)) & 0xff);
}

/** A text padded with spaces. */
function text(value: string, size: number): number[] {
  return [...value.padEnd(size)].map((c) => c.charCodeAt(0));
}

/** The entries of the base table (4.3): processors, buses, I/O APIC, its interrupts, local interrupts. */
function makeEntries(vcpuCount: number): number[][] {
  const ioApic = ioApicId(vcpuCount);
  const entries: number[][] = [];
  for (let id = 0; id < vcpuCount; id++) {
    const flags = CPU_ENABLED | (id === 0 ? CPU_BOOT : 0);
    entries.push([
      0,
      id,
      APIC_VERSION,
      flags,
      ...little(CPU_SIGNATURE, 4),
      ...little(CPU_FEATURES, 4),
      ...little(0, 8),
    ]);
  }
  entries.push([1, BUS_PCI, ...text('PCI', 6)], [1, BUS_ISA, ...text('ISA', 6)]);
  entries.push([2, ioApic, APIC_VERSION, 1, ...little(IOAPIC_START, 4)]);
  for (let irq = 0; irq < ISA_IRQS; irq++) {
    if (irq !== CASCADE_IRQ) {
      const pin = irq === PIT_GSI ? PIT_IOAPIC_PIN : irq;
      entries.push([3, INT, ...little(CONFORMS, 2), BUS_ISA, irq, ioApic, pin]);
    }
  }
  for (let slot = 0; slot < PCI_DEVICES; slot++) {
    for (let pin = 0; pin < PCI_PINS; pin++) {
      entries.push([3, INT, ...little(ACTIVE_LOW_LEVEL, 2), BUS_PCI, (slot << 2) | pin, ioApic, intxGsi(slot, pin)]);
    }
  }
  entries.push([4, EXT_INT, ...little(CONFORMS, 2), BUS_ISA, 0, ALL_LOCAL_APICS, 0]);
  entries.push([4, NMI, ...little(CONFORMS, 2), BUS_ISA, 0, ALL_LOCAL_APICS, 1]);
  return entries;
}

/**
 * Writes the floating pointer at EBDA_START and the configuration table at MP_TABLE_START. Nothing for more processors than
 * the tables can tell of.
 */
export function writeMpTables(memory: GuestMemory, vcpuCount: number): void {
  if (vcpuCount > MAX_PROCESSORS) {
    return;
  }
  const entries = makeEntries(vcpuCount);
  const body = entries.flat();
  const header = [
    ...text('PCMP', 4),
    ...little(44 + body.length, 2),
    SPEC_1_4,
    0, // checksum
    ...text('VIVARIUM', 8),
    ...text('VM', 12),
    ...little(0, 4), // no OEM table
    ...little(0, 2),
    ...little(entries.length, 2),
    ...little(LAPIC_START, 4),
    ...little(0, 4), // no extended table
  ];
  const table = Uint8Array.from([...header, ...body]);
  table[7] = checksum(table);
  memory.write(MP_TABLE_START, table);

  const pointer = new Uint8Array(16);
  putText(pointer, 0, '_MP_');
  new DataView(pointer.buffer).setUint32(4, MP_TABLE_START, true);
  pointer[8] = 1; // length in units of 16 bytes
  pointer[9] = SPEC_1_4;
  pointer[10] = checksum(pointer);
  memory.write(EBDA_START, pointer);
}
