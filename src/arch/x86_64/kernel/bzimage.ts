/**
 * The Linux x86 boot protocol's image: a real-mode part with the setup header, then the protected-mode part, which
 * unpacks the kernel. Documentation/arch/x86/boot.rst in Linux; field names are its own.
 */
import type { GuestMemory } from '../../../hypervisor/guest-memory.ts';
import { HIGH_RAM_START, lowRamEnd, MIB } from '../map.ts';
import { KernelError } from './error.ts';

/** Offset of the setup header, in the image and in struct boot_params. */
export const SETUP_HEADER_START = 0x1f1;
/** The most that struct boot_params leaves for it. */
export const SETUP_HEADER_MAX_END = 0x290;
/** Offsets of its fields, from the start of the image. */
export const HDR = {
  SETUP_SECTS: 0x1f1,
  SYSSIZE: 0x1f4,
  BOOT_FLAG: 0x1fe,
  JUMP: 0x200,
  HEADER: 0x202,
  VERSION: 0x206,
  TYPE_OF_LOADER: 0x210,
  LOADFLAGS: 0x211,
  CODE32_START: 0x214,
  RAMDISK_IMAGE: 0x218,
  RAMDISK_SIZE: 0x21c,
  HEAP_END_PTR: 0x224,
  CMD_LINE_PTR: 0x228,
  INITRD_ADDR_MAX: 0x22c,
  KERNEL_ALIGNMENT: 0x230,
  RELOCATABLE_KERNEL: 0x234,
  XLOADFLAGS: 0x236,
  CMDLINE_SIZE: 0x238,
  PAYLOAD_OFFSET: 0x248,
  PAYLOAD_LENGTH: 0x24c,
  SETUP_DATA: 0x250,
  PREF_ADDRESS: 0x258,
  INIT_SIZE: 0x260,
} as const;

export const BOOT_FLAG = 0xaa55;
/** "HdrS". */
export const HEADER_MAGIC = 0x53726448;
const LOADED_HIGH = 1;
const XLF_KERNEL_64 = 1;
/** Protocol 2.06 (Linux 2.6.22) says how long the command line may be; older ones are not worth a special case. */
const MIN_VERSION = 0x206;
const VERSION_WITH_PAYLOAD = 0x208;
const VERSION_WITH_INIT_SIZE = 0x20a;
const VERSION_WITH_XLOADFLAGS = 0x20c;
const SECTOR = 512;
/** The 64-bit entry point, from the start of the protected-mode part. */
const ENTRY_64 = 0x200;

/** A checked image. Views into the file's bytes; addresses are guest-physical. */
export interface BzImage {
  /** From SETUP_HEADER_START on, as long as the kernel says it is. */
  readonly setupHeader: Uint8Array;
  /** Boot protocol version, 0x20f for 2.15. */
  readonly version: number;
  readonly protectedMode: Uint8Array;
  /** The packed kernel; undefined before protocol 2.08. */
  readonly payload: Uint8Array | undefined;
  /** XLF_KERNEL_64: there is a 64-bit entry point. */
  readonly has64BitEntry: boolean;
  readonly relocatable: boolean;
  /** kernel_alignment, bytes. */
  readonly alignment: number;
  /** Where the kernel wants to run. */
  readonly prefAddress: number;
  /** init_size: bytes that it needs from there on before it has read the memory map. */
  readonly initSize: number;
  /** Highest address of the initrd's last byte. */
  readonly initrdAddrMax: number;
  /** Most bytes of command line, without the final NUL. */
  readonly cmdlineSize: number;
}

/** Whether the bytes have the setup header's magic numbers. */
export function isBzImage(bytes: Uint8Array): boolean {
  if (bytes.length < HDR.VERSION) {
    return false;
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint16(HDR.BOOT_FLAG, true) === BOOT_FLAG && view.getUint32(HDR.HEADER, true) === HEADER_MAGIC;
}

function versionText(version: number): string {
  return `${version >> 8}.${String(version & 0xff).padStart(2, '0')}`;
}

/** Reads and checks an image for which isBzImage() holds. Throws KernelError. */
export function parseBzImage(bytes: Uint8Array): BzImage {
  const headerEnd = bytes.length > HDR.JUMP + 1 ? HDR.HEADER + (bytes[HDR.JUMP + 1] as number) : 0;
  if (bytes.length < Math.max(headerEnd, HDR.CMDLINE_SIZE + 4)) {
    throw new KernelError('truncated', 'the file ends inside the setup header: it is incomplete, fetch it again');
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint16(HDR.VERSION, true);
  if (version < MIN_VERSION) {
    throw new KernelError(
      'unsupported-protocol',
      `boot protocol ${versionText(version)} is too old: use a kernel with 2.06 or newer`,
    );
  }
  const fieldsEnd =
    version >= VERSION_WITH_INIT_SIZE
      ? HDR.INIT_SIZE + 4
      : version >= VERSION_WITH_PAYLOAD
        ? HDR.SETUP_DATA
        : HDR.CMDLINE_SIZE + 4;
  if (headerEnd < fieldsEnd || headerEnd > SETUP_HEADER_MAX_END) {
    throw new KernelError(
      'not-a-kernel',
      `the setup header ends at 0x${headerEnd.toString(16)}, which no kernel has: the file is damaged`,
    );
  }
  if (((bytes[HDR.LOADFLAGS] as number) & LOADED_HIGH) === 0) {
    throw new KernelError('unsupported-protocol', 'the kernel is a zImage, to be loaded below 640 KiB: use a bzImage');
  }
  const start = ((bytes[HDR.SETUP_SECTS] || 4) + 1) * SECTOR;
  const end = start + view.getUint32(HDR.SYSSIZE, true) * 16;
  if (end > bytes.length || end === start) {
    throw new KernelError(
      'truncated',
      `the file has ${bytes.length} bytes of ${end}: it is incomplete, fetch it again`,
    );
  }
  const protectedMode = bytes.subarray(start, end);
  let payload: Uint8Array | undefined;
  if (version >= VERSION_WITH_PAYLOAD) {
    const offset = view.getUint32(HDR.PAYLOAD_OFFSET, true);
    const length = view.getUint32(HDR.PAYLOAD_LENGTH, true);
    if (offset + length > protectedMode.length) {
      throw new KernelError(
        'corrupt-payload',
        'the setup header places the packed kernel outside the file: the file is damaged',
      );
    }
    payload = protectedMode.subarray(offset, offset + length);
  }
  const xloadflags = version >= VERSION_WITH_XLOADFLAGS ? view.getUint16(HDR.XLOADFLAGS, true) : 0;
  const newer = version >= VERSION_WITH_INIT_SIZE;
  return {
    setupHeader: bytes.subarray(SETUP_HEADER_START, headerEnd),
    version,
    protectedMode,
    payload,
    has64BitEntry: (xloadflags & XLF_KERNEL_64) !== 0,
    relocatable: bytes[HDR.RELOCATABLE_KERNEL] !== 0,
    alignment: view.getUint32(HDR.KERNEL_ALIGNMENT, true),
    prefAddress: newer ? Number(view.getBigUint64(HDR.PREF_ADDRESS, true)) : HIGH_RAM_START,
    initSize: newer ? view.getUint32(HDR.INIT_SIZE, true) : protectedMode.length,
    initrdAddrMax: view.getUint32(HDR.INITRD_ADDR_MAX, true),
    cmdlineSize: view.getUint32(HDR.CMDLINE_SIZE, true),
  };
}

/** Where a bzImage's own code was put. Guest-physical addresses. */
export interface LoadedBzImage {
  /** Start of the protected-mode part: code32_start. */
  readonly start: number;
  /** The 64-bit entry point. */
  readonly entry: number;
  /** First address that the kernel leaves alone before it has read the memory map. */
  readonly end: number;
}

/** Puts the protected-mode part where the kernel prefers to be. Throws KernelError. */
export function loadBzImage(memory: GuestMemory, image: BzImage): LoadedBzImage {
  if (!image.has64BitEntry) {
    throw new KernelError(
      'wrong-architecture',
      'the kernel has no 64-bit entry point: use an x86-64 kernel of Linux 3.8 or newer',
    );
  }
  const start = image.prefAddress;
  const { alignment } = image;
  if (!Number.isSafeInteger(start) || start < HIGH_RAM_START || start >= 2 ** 32) {
    throw new KernelError(
      'not-a-kernel',
      `the kernel asks for address 0x${start.toString(16)}, where it cannot be: the file is damaged`,
    );
  }
  if (image.relocatable && (alignment === 0 || (alignment & (alignment - 1)) !== 0 || start % alignment !== 0)) {
    throw new KernelError(
      'not-a-kernel',
      `the kernel asks for an alignment of 0x${alignment.toString(16)} bytes, which its address does not have: the file is damaged`,
    );
  }
  const end = start + Math.max(image.initSize, image.protectedMode.length);
  if (end > lowRamEnd(memory)) {
    throw tooLarge(end, lowRamEnd(memory));
  }
  memory.write(start, image.protectedMode);
  return { start, entry: start + ENTRY_64, end };
}

/** The error for a kernel that needs RAM up to `end`. */
export function tooLarge(end: number, ramEnd: number): KernelError {
  const needed = Math.ceil(end / MIB);
  return new KernelError(
    'too-large',
    `the kernel needs memory up to ${needed} MiB, the machine has ${Math.floor(ramEnd / MIB)} MiB below 4 GiB: give it more with --mem`,
  );
}
