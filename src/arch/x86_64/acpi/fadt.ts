/** The FADT (ACPI 6.4, 5.2.9) and the FACS (5.2.10): a PC with fixed ACPI hardware, already in ACPI mode. */
import {
  ACPI_GPE0_PORT,
  ACPI_GPE0_SIZE,
  ACPI_PM_TMR_PORT,
  ACPI_PM_TMR_SIZE,
  ACPI_PM1A_CNT_PORT,
  ACPI_PM1A_CNT_SIZE,
  ACPI_PM1A_EVT_PORT,
  ACPI_PM1A_EVT_SIZE,
  ACPI_SCI_GSI,
  RESET_PORT,
  RESET_VALUE,
} from '../../../devices/pc-map.ts';
import { makeTable, putText, TABLE_HEADER_SIZE } from './table.ts';

const FADT_SIZE = 276;
const FADT_REVISION = 6;
const FADT_MINOR_REVISION = 4;
const CMOS_CENTURY = 0x32;

// IA-PC boot architecture flags (5.2.9.3).
// "8042" (bit 1) stays clear though the controller answers: no keyboard can be behind it, and guests that are told of a
// controller wait for the keyboard's interrupts. Resetting through it needs no flag.
/** There are ports and devices of the ISA PC: the serial ports. */
const LEGACY_DEVICES = 1 << 0;
const VGA_NOT_PRESENT = 1 << 2;
const PCIE_ASPM_CONTROLS = 1 << 4;

// Fixed feature flags (table 5.10).
const WBINVD = 1 << 0;
const PROC_C1 = 1 << 2;
/** No sleep button as a fixed feature. The power button is one: its flag stays 0. */
const SLP_BUTTON = 1 << 5;
/** The RTC's alarm does not wake by a fixed register. */
const FIX_RTC = 1 << 6;
const TMR_VAL_EXT = 1 << 8;
const RESET_REG_SUP = 1 << 10;

const SYSTEM_IO = 1;
const BYTE_ACCESS = 1;
const WORD_ACCESS = 2;
const DWORD_ACCESS = 3;

/** A FADT that points to these tables. Addresses are guest-physical, below 4 GiB. */
export function makeFadt(facs: number, dsdt: number): Uint8Array {
  const body = new Uint8Array(FADT_SIZE - TABLE_HEADER_SIZE);
  const view = new DataView(body.buffer);
  // Offsets are those of the specification, from the table's start.
  const u8 = (offset: number, value: number) => view.setUint8(offset - TABLE_HEADER_SIZE, value);
  const u16 = (offset: number, value: number) => view.setUint16(offset - TABLE_HEADER_SIZE, value, true);
  const u32 = (offset: number, value: number) => view.setUint32(offset - TABLE_HEADER_SIZE, value, true);
  const u64 = (offset: number, value: number) => view.setBigUint64(offset - TABLE_HEADER_SIZE, BigInt(value), true);
  /** Generic address structure (5.2.3.2) for ports. */
  const ports = (offset: number, port: number, size: number, access: number) => {
    u8(offset, SYSTEM_IO);
    u8(offset + 1, size * 8);
    u8(offset + 3, access);
    u64(offset + 4, port);
  };

  u32(36, facs);
  u32(40, dsdt);
  u16(46, ACPI_SCI_GSI);
  // SMI_CMD, ACPI_ENABLE and ACPI_DISABLE stay 0: there is no legacy mode to come from.
  u32(56, ACPI_PM1A_EVT_PORT);
  u32(64, ACPI_PM1A_CNT_PORT);
  u32(76, ACPI_PM_TMR_PORT);
  u32(80, ACPI_GPE0_PORT);
  u8(88, ACPI_PM1A_EVT_SIZE);
  u8(89, ACPI_PM1A_CNT_SIZE);
  u8(91, ACPI_PM_TMR_SIZE);
  u8(92, ACPI_GPE0_SIZE);
  u16(96, 0xffff); // P_LVL2_LAT: no C2
  u16(98, 0xffff); // P_LVL3_LAT: no C3
  u8(108, CMOS_CENTURY);
  u16(109, LEGACY_DEVICES | VGA_NOT_PRESENT | PCIE_ASPM_CONTROLS);
  u32(112, WBINVD | PROC_C1 | SLP_BUTTON | FIX_RTC | TMR_VAL_EXT | RESET_REG_SUP);
  ports(116, RESET_PORT, 1, BYTE_ACCESS);
  u8(128, RESET_VALUE);
  u8(131, FADT_MINOR_REVISION);
  // X_FIRMWARE_CTRL stays 0, as it must where FIRMWARE_CTRL is given.
  u64(140, dsdt);
  ports(148, ACPI_PM1A_EVT_PORT, ACPI_PM1A_EVT_SIZE, WORD_ACCESS);
  ports(172, ACPI_PM1A_CNT_PORT, ACPI_PM1A_CNT_SIZE, WORD_ACCESS);
  ports(208, ACPI_PM_TMR_PORT, ACPI_PM_TMR_SIZE, DWORD_ACCESS);
  ports(220, ACPI_GPE0_PORT, ACPI_GPE0_SIZE, BYTE_ACCESS);
  putText(body, 268 - TABLE_HEADER_SIZE, 'VIVARIUM'); // hypervisor vendor identity
  return makeTable('FACP', FADT_REVISION, body);
}

/** A FACS: it has no checksum, and must be aligned on 64 bytes. */
export function makeFacs(): Uint8Array {
  const facs = new Uint8Array(64);
  const view = new DataView(facs.buffer);
  putText(facs, 0, 'FACS');
  view.setUint32(4, facs.length, true);
  view.setUint8(32, 2); // version
  return facs;
}
