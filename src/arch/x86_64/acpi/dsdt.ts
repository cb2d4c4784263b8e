/** The DSDT: the machine's devices as ACPI describes them. */
import {
  ACPI_PM_PORT,
  ACPI_PM_PORTS,
  ACPI_S5_SLP_TYP,
  CMOS_PORT,
  CMOS_PORTS,
  PCI_CONFIG_PORT,
  PCI_CONFIG_PORTS,
  PCI_ECAM_BUSES,
  PCI_ECAM_SIZE,
  PCI_ECAM_START,
  PCI_MMIO_SIZE,
  PCI_MMIO_START,
  RTC_GSI,
  SERIAL_GSIS,
  SERIAL_PORT_COUNT,
  SERIAL_PORTS,
} from '../../../devices/pc-map.ts';
import { intxGsi } from '../../../devices/pci/intx.ts';
import {
  type Aml,
  busNumbers,
  device,
  edgeInterrupt,
  eisaId,
  integer,
  ioPorts,
  ioWindow,
  irq,
  memory32Fixed,
  memoryWindow,
  name,
  pkg,
  resources,
  scope,
  string,
} from './aml.ts';
import { makeTable } from './table.ts';

const PCI_DEVICES = 32;
const PCI_PINS = 4;
/** _STA: present, enabled, shown, working. */
const STATUS_WORKING = 0xf;
const PORTS_END = 0x10000;

/** _PRT: where each interrupt pin of each device goes: {address, pin, source 0 = a GSI, GSI} (6.2.13). */
function routingTable(): Aml {
  const rows: Aml[] = [];
  for (let slot = 0; slot < PCI_DEVICES; slot++) {
    for (let pin = 0; pin < PCI_PINS; pin++) {
      const address = slot * 0x10000 + 0xffff; // any function
      rows.push(pkg([integer(address), integer(pin), integer(0), integer(intxGsi(slot, pin))]));
    }
  }
  return pkg(rows);
}

function pciRoot(): Aml {
  const afterConfig = PCI_CONFIG_PORT + PCI_CONFIG_PORTS;
  return device('PCI0', [
    name('_HID', eisaId('PNP0A08')),
    name('_CID', eisaId('PNP0A03')),
    name('_UID', integer(0)),
    name('_SEG', integer(0)),
    name('_BBN', integer(0)),
    name(
      '_CRS',
      resources([
        busNumbers(PCI_ECAM_BUSES),
        ioPorts(PCI_CONFIG_PORT, PCI_CONFIG_PORTS),
        ioWindow(0, PCI_CONFIG_PORT),
        ioWindow(afterConfig, PORTS_END - afterConfig),
        memoryWindow(PCI_MMIO_START, PCI_MMIO_SIZE),
      ]),
    ),
    name('_PRT', routingTable()),
  ]);
}

/** Address space that belongs to the board: guests believe MCFG only when its area is reserved here. */
function boardResources(): Aml {
  return device('MBRD', [
    name('_HID', eisaId('PNP0C02')),
    name('_UID', integer(0)),
    name('_CRS', resources([memory32Fixed(PCI_ECAM_START, PCI_ECAM_SIZE), ioPorts(ACPI_PM_PORT, ACPI_PM_PORTS)])),
  ]);
}

function serialPorts(): Aml[] {
  return SERIAL_PORTS.map((port, i) =>
    device(`COM${i + 1}`, [
      name('_HID', eisaId('PNP0501')),
      name('_UID', integer(i + 1)),
      name('_STA', integer(STATUS_WORKING)),
      // Each line serves two ports.
      name('_CRS', resources([ioPorts(port, SERIAL_PORT_COUNT), irq(SERIAL_GSIS[i] as number, 'shared')])),
    ]),
  );
}

function clock(): Aml {
  return device('RTC0', [
    name('_HID', eisaId('PNP0B00')),
    name('_CRS', resources([ioPorts(CMOS_PORT, CMOS_PORTS), irq(RTC_GSI, 'exclusive')])),
  ]);
}

/** A virtio device over MMIO, to be named in `extraDevices`. `index` is 0 to 255, `size` in bytes. */
export function virtioMmioDevice(index: number, address: number, size: number, gsi: number): Aml {
  return device(`VR${index.toString(16).toUpperCase().padStart(2, '0')}`, [
    name('_HID', string('LNRO0005')),
    name('_UID', integer(index)),
    name('_CCA', integer(1)),
    name('_CRS', resources([memory32Fixed(address, size), edgeInterrupt(gsi)])),
  ]);
}

/** The whole table; `extraDevices` come into \_SB. */
export function makeDsdt(extraDevices: readonly Aml[]): Uint8Array {
  const softOff = pkg([integer(ACPI_S5_SLP_TYP), integer(ACPI_S5_SLP_TYP), integer(0), integer(0)]);
  const terms = [
    name('\\_S5', softOff),
    scope('\\_SB', [pciRoot(), boardResources(), ...serialPorts(), clock(), ...extraDevices]),
  ];
  return makeTable('DSDT', 2, Uint8Array.from(terms.flat()));
}
