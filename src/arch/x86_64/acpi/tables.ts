/** Writes all ACPI tables into the BIOS area. */
import type { GuestMemory } from '../../../hypervisor/guest-memory.ts';
import { ACPI_TABLES_END, ACPI_TABLES_START, RSDP_START } from '../map.ts';
import type { Aml } from './aml.ts';
import { makeDsdt } from './dsdt.ts';
import { makeFacs, makeFadt } from './fadt.ts';
import { makeMadt, makeMcfg } from './madt.ts';
import { makeRsdp, makeXsdt } from './table.ts';

/** The FACS needs it; the others do not mind. */
const TABLE_ALIGNMENT = 64;

export interface AcpiOptions {
  readonly vcpuCount: number;
  /** AML of more devices for \_SB, such as virtioMmioDevice()'s. */
  readonly extraDevices?: readonly Aml[];
}

/** Writes the tables at ACPI_TABLES_START and the RSDP, which leads to them, at RSDP_START. */
export function writeAcpiTables(memory: GuestMemory, { vcpuCount, extraDevices = [] }: AcpiOptions): void {
  let next = ACPI_TABLES_START;
  const put = (table: Uint8Array): number => {
    const address = next;
    next = Math.ceil((address + table.length) / TABLE_ALIGNMENT) * TABLE_ALIGNMENT;
    if (next > ACPI_TABLES_END) {
      throw new RangeError(`the ACPI tables take more than ${ACPI_TABLES_END - ACPI_TABLES_START} bytes`);
    }
    memory.write(address, table);
    return address;
  };
  const facs = put(makeFacs());
  const dsdt = put(makeDsdt(extraDevices));
  const fadt = put(makeFadt(facs, dsdt));
  const madt = put(makeMadt(vcpuCount));
  const mcfg = put(makeMcfg());
  const xsdt = put(makeXsdt([fadt, madt, mcfg]));
  memory.write(RSDP_START, makeRsdp(xsdt));
}
