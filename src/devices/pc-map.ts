/**
 * Where the PC's devices are: ports, guest-physical addresses and interrupt lines. src/arch describes the same
 * numbers to the guest (ACPI, MP tables, E820) and takes them from here.
 *
 * There is no HPET: the 8254, the local APIC's timer (TSC-deadline included) and the paravirtual clock serve every
 * guest that would look for one, so ACPI has no HPET table and nothing answers at 0xfed00000.
 */

// ---- Guest-physical addresses ----------------------------------------------------------------------------------------
/** First address that is never RAM below 4 GiB. */
export const MMIO_HOLE_START = 0xd000_0000;
/** First address after the hole. */
export const MMIO_HOLE_END = 0x1_0000_0000;
/** Window in which base address registers of PCI functions are placed. */
export const PCI_MMIO_START = 0xd000_0000;
export const PCI_MMIO_SIZE = 0x1000_0000;
/** virtio over MMIO: 4 KiB a device. */
export const VIRTIO_MMIO_START = 0xe000_0000;
export const VIRTIO_MMIO_SIZE = 0x1_0000;
/** PCI Express enhanced configuration access: 1 MiB a bus, buses 0 to 15. */
export const PCI_ECAM_START = 0xe800_0000;
export const PCI_ECAM_SIZE = 0x100_0000;
export const PCI_ECAM_BUSES = 16;
export const IOAPIC_START = 0xfec0_0000;
export const IOAPIC_SIZE = 0x1000;
/** Reset value of the local APICs' base. */
export const LAPIC_START = 0xfee0_0000;
export const LAPIC_SIZE = 0x1000;

// ---- Ports -----------------------------------------------------------------------------------------------------------
/** 8254: four ports and their alias. The interrupt chip answers the first four. */
export const PIT_PORT = 0x40;
export const PIT_PORTS = 8;
/** 8042: data at 0x60, command and status at 0x64. Port 0x61 belongs to the interrupt chip's 8254. */
export const I8042_DATA_PORT = 0x60;
export const I8042_COMMAND_PORT = 0x64;
export const I8042_PORTS = 5;
export const CMOS_PORT = 0x70;
export const CMOS_PORTS = 2;
/** Traditional delay port. */
export const DELAY_PORT = 0xed;
/** Coprocessor error ports of the PC/AT. */
export const FPU_ERROR_PORT = 0xf0;
export const FPU_ERROR_PORTS = 2;
export const DEBUG_EXIT_PORT = 0xf4;
export const DEBUG_EXIT_PORTS = 4;
/** COM1 to COM4: eight ports each. */
export const SERIAL_PORTS = [0x3f8, 0x2f8, 0x3e8, 0x2e8] as const;
export const SERIAL_PORT_COUNT = 8;
/** Ports in which base address registers of PCI functions are placed. */
export const PCI_IO_START = 0xc000;
export const PCI_IO_END = 0x10000;
/** CONFIG_ADDRESS at 0xcf8, CONFIG_DATA at 0xcfc. */
export const PCI_CONFIG_PORT = 0xcf8;
export const PCI_CONFIG_PORTS = 8;
/** Reset control register: inside CONFIG_ADDRESS's ports, reached by one-byte accesses. */
export const RESET_PORT = 0xcf9;
/** Value that the FADT's RESET_REG asks the guest to write. */
export const RESET_VALUE = 0x06;

// ACPI fixed hardware (ACPI 6.4, 4.8.3).
/** PM1a event block: status (2 bytes), enable (2 bytes). */
export const ACPI_PM1A_EVT_PORT = 0x600;
export const ACPI_PM1A_EVT_SIZE = 4;
/** PM1a control block. */
export const ACPI_PM1A_CNT_PORT = 0x604;
export const ACPI_PM1A_CNT_SIZE = 2;
/** PM timer: 32 bits wide, so the FADT says TMR_VAL_EXT. */
export const ACPI_PM_TMR_PORT = 0x608;
export const ACPI_PM_TMR_SIZE = 4;
/** General-purpose event block 0: status (2 bytes), enable (2 bytes). */
export const ACPI_GPE0_PORT = 0x620;
export const ACPI_GPE0_SIZE = 4;
/** Ports that belong to the ACPI device as a whole. */
export const ACPI_PM_PORT = 0x600;
export const ACPI_PM_PORTS = 0x24;
/** SLP_TYP for soft off: \_S5's first element. */
export const ACPI_S5_SLP_TYP = 5;

// ---- Interrupt lines (GSIs) --------------------------------------------------------------------------------------------
/** 8254, channel 0. The I/O APIC sees it at pin 2 (interrupt source override). */
export const PIT_GSI = 0;
export const PIT_IOAPIC_PIN = 2;
/** COM1 to COM4. */
export const SERIAL_GSIS = [4, 3, 4, 3] as const;
export const RTC_GSI = 8;
/** ACPI's SCI: level-triggered. */
export const ACPI_SCI_GSI = 9;
/** First of the lines that PCI's INTx pins share; see pci/intx.ts. */
export const PCI_INTX_GSI_START = 16;
export const PCI_INTX_GSI_COUNT = 8;
/** Pins of the I/O APIC. */
export const IOAPIC_PINS = 24;
