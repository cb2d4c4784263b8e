/**
 * struct boot_params, the "zero page" of Linux's 64-bit boot protocol (Documentation/arch/x86/zero-page.rst and boot.rst).
 * Field names are its own.
 */
import type { GuestMemory } from '../../hypervisor/guest-memory.ts';
import type { E820Entry } from './e820.ts';
import type { LoadedInitrd } from './initrd.ts';
import { BOOT_FLAG, HDR, HEADER_MAGIC, SETUP_HEADER_START } from './kernel/bzimage.ts';
import type { LoadedKernel } from './kernel/load.ts';
import { PAGE_SIZE, RSDP_START, ZERO_PAGE } from './map.ts';

const ACPI_RSDP_ADDR = 0x70;
const EXT_RAMDISK_IMAGE = 0xc0;
const EXT_RAMDISK_SIZE = 0xc4;
const EXT_CMD_LINE_PTR = 0xc8;
const E820_ENTRIES = 0x1e8;
const E820_TABLE = 0x2d0;
const E820_ENTRY_SIZE = 20;
const E820_MAX_ENTRIES = 128;

/** type_of_loader: a loader without an assigned number. */
const LOADER_UNDEFINED = 0xff;
const LOADED_HIGH = 1;
/** For an ELF, which has no setup header: the first version with everything that is filled in here. */
const PROTOCOL_VERSION = 0x20c;
const DEFAULT_KERNEL_ALIGNMENT = 0x1000000;

export interface BootParams {
  readonly kernel: LoadedKernel;
  readonly e820: readonly E820Entry[];
  /** Guest-physical address of the command line. */
  readonly cmdlineStart: number;
  readonly initrd: LoadedInitrd | undefined;
}

/** High half of an address or size. */
function high(value: number): number {
  return Math.floor(value / 2 ** 32);
}

/** Writes the zero page at ZERO_PAGE. */
export function writeBootParams(memory: GuestMemory, { kernel, e820, cmdlineStart, initrd }: BootParams): void {
  // All that is not said is 0: in particular `sentinel`, which tells that fields outside the header are meant.
  memory.fill(ZERO_PAGE, PAGE_SIZE, 0);
  const u8 = (offset: number, value: number) => memory.writeU8(ZERO_PAGE + offset, value);
  const u16 = (offset: number, value: number) => memory.writeU16(ZERO_PAGE + offset, value);
  const u32 = (offset: number, value: number) => memory.writeU32(ZERO_PAGE + offset, value);
  const u64 = (offset: number, value: number) => memory.writeU64(ZERO_PAGE + offset, BigInt(value));

  if (kernel.setupHeader !== undefined) {
    memory.write(ZERO_PAGE + SETUP_HEADER_START, kernel.setupHeader);
  } else {
    u16(HDR.BOOT_FLAG, BOOT_FLAG);
    u32(HDR.HEADER, HEADER_MAGIC);
    u16(HDR.VERSION, PROTOCOL_VERSION);
    u8(HDR.LOADFLAGS, LOADED_HIGH);
    u32(HDR.KERNEL_ALIGNMENT, DEFAULT_KERNEL_ALIGNMENT);
    u32(HDR.INITRD_ADDR_MAX, kernel.initrdAddrMax);
    u32(HDR.CMDLINE_SIZE, kernel.cmdlineSize);
  }
  u8(HDR.TYPE_OF_LOADER, LOADER_UNDEFINED);
  if (kernel.code32Start !== undefined) {
    u32(HDR.CODE32_START, kernel.code32Start);
  }
  u32(HDR.CMD_LINE_PTR, cmdlineStart);
  u32(EXT_CMD_LINE_PTR, high(cmdlineStart));
  const ramdisk = initrd ?? { start: 0, size: 0 };
  u32(HDR.RAMDISK_IMAGE, ramdisk.start);
  u32(HDR.RAMDISK_SIZE, ramdisk.size);
  u32(EXT_RAMDISK_IMAGE, high(ramdisk.start));
  u32(EXT_RAMDISK_SIZE, high(ramdisk.size));
  u64(HDR.SETUP_DATA, 0);
  u64(ACPI_RSDP_ADDR, RSDP_START);

  if (e820.length > E820_MAX_ENTRIES) {
    throw new RangeError(`${e820.length} E820 entries, the zero page has room for ${E820_MAX_ENTRIES}`);
  }
  u8(E820_ENTRIES, e820.length);
  for (const [i, { start, size, type }] of e820.entries()) {
    const at = E820_TABLE + i * E820_ENTRY_SIZE;
    u64(at, start);
    u64(at + 8, size);
    u32(at + 16, type);
  }
}
