/** Finds out what a kernel file is, by its content, and puts it into guest memory. */
import type { GuestMemory } from '../../../hypervisor/guest-memory.ts';
import { type BzImage, HDR, isBzImage, loadBzImage, parseBzImage } from './bzimage.ts';
import { joinPieces, unpackPayload } from './decompress.ts';
import { type ElfKernel, isElf, loadElf, parseElf } from './elf.ts';
import { KernelError } from './error.ts';

/**
 * How to enter a kernel. `auto`: a bzImage is unpacked on the host and entered by `linux64`, or by `bzimage` where only
 * the guest can unpack it; an ELF by `pvh` if it has that entry point, else by `linux64`.
 * `linux64`: the kernel proper, in long mode (Linux's 64-bit boot protocol). `pvh`: the kernel proper, in 32-bit protected
 * mode. `bzimage`: the bzImage's own 64-bit entry point: the guest unpacks the kernel, and may move it (KASLR).
 */
export type KernelEntry = 'auto' | 'linux64' | 'pvh' | 'bzimage';

export interface LoadedKernel {
  /** The state to enter in. */
  readonly protocol: 'linux64' | 'pvh';
  /** Guest-physical address of the first instruction. */
  readonly entry: number;
  /** First guest-physical address after what the kernel needs at first. */
  readonly end: number;
  /** The bzImage's setup header, from its offset 0x1f1 on; undefined for an ELF. */
  readonly setupHeader: Uint8Array | undefined;
  /** Where the bzImage's protected-mode part is, when it is in memory. */
  readonly code32Start: number | undefined;
  /** Highest address of the initrd's last byte. */
  readonly initrdAddrMax: number;
  /** Most bytes of command line, without the final NUL. */
  readonly cmdlineSize: number;
  /** What it is, in a few words. */
  readonly description: string;
}

/** For kernels that do not say: the first 2 GiB, as every Linux since 2.6.24 says. */
const INITRD_ADDR_MAX = 0x7fffffff;
/** COMMAND_LINE_SIZE of x86 Linux, less the NUL. */
const CMDLINE_SIZE = 2047;

/** Files that are often given for a kernel: where they have which bytes, and what to say. */
const OTHER_FILES: readonly (readonly [
  offset: number,
  magic: string,
  kind: 'wrong-architecture' | 'not-a-kernel',
  text: string,
])[] = [
  [0x38, 'ARM\x64', 'wrong-architecture', 'the kernel is for aarch64 (an arm64 Image): use one for x86-64'],
  [0x38, 'RSC\x05', 'wrong-architecture', 'the kernel is for RISC-V (an Image): use one for x86-64'],
  [0x24, '\x18\x28\x6f\x01', 'wrong-architecture', 'the kernel is for 32-bit Arm (a zImage): use one for x86-64'],
  [4, 'zimg', 'wrong-architecture', 'the kernel is an EFI zboot image, which x86-64 does not have: use one for x86-64'],
  [0, '\x1f\x8b', 'not-a-kernel', 'the file is packed with gzip: unpack it first'],
  [0, '\xfd7zXZ', 'not-a-kernel', 'the file is packed with xz: unpack it first'],
  [0, '\x28\xb5\x2f\xfd', 'not-a-kernel', 'the file is packed with zstd: unpack it first'],
  [0, '070701', 'not-a-kernel', 'the file is a cpio archive (an initrd?): pass it with --initrd'],
  [0, 'QFI\xfb', 'not-a-kernel', 'the file is a qcow2 disk image, not a kernel'],
  [0, '!<arch>\n', 'not-a-kernel', 'the file is an archive (a Debian package?): take vmlinuz out of it'],
  [0, 'MZ', 'not-a-kernel', 'the file is an EFI program without a Linux setup header: use a bzImage or a vmlinux'],
];

function unknownFile(bytes: Uint8Array): KernelError {
  if (bytes.length < HDR.VERSION && bytes[0] === 0x4d && bytes[1] === 0x5a) {
    return new KernelError('truncated', 'the file ends before the setup header: it is incomplete, fetch it again');
  }
  for (const [offset, magic, kind, text] of OTHER_FILES) {
    if (String.fromCharCode(...bytes.subarray(offset, offset + magic.length)) === magic) {
      return new KernelError(kind, text);
    }
  }
  return new KernelError(
    'not-a-kernel',
    'the file is neither a bzImage nor an ELF kernel: pass a vmlinuz or a vmlinux',
  );
}

/** `rest` is what follows the kernel's head. */
function loadKernelProper(
  memory: GuestMemory,
  elf: ElfKernel,
  rest: Iterable<Uint8Array>,
  protocol: 'auto' | 'linux64' | 'pvh',
  image: { readonly bzImage: BzImage; readonly compression: string } | undefined,
): LoadedKernel {
  let how = protocol;
  if (how === 'auto') {
    how = image === undefined && elf.pvhEntry !== undefined ? 'pvh' : 'linux64';
  }
  const { entry, end } = loadElf(memory, elf, how, rest);
  const what = image === undefined ? 'ELF' : `ELF from a bzImage (${image.compression}, unpacked on the host)`;
  return {
    protocol: how,
    entry,
    end,
    setupHeader: image?.bzImage.setupHeader,
    code32Start: undefined,
    initrdAddrMax: image?.bzImage.initrdAddrMax ?? INITRD_ADDR_MAX,
    cmdlineSize: image?.bzImage.cmdlineSize ?? CMDLINE_SIZE,
    description: `${what}, ${how === 'pvh' ? 'PVH' : '64-bit'} entry`,
  };
}

/** Unpacks a bzImage; undefined where that is left to the guest. */
function unpack(bzImage: BzImage, entry: 'auto' | 'linux64' | 'pvh') {
  try {
    if (bzImage.payload === undefined) {
      throw new KernelError(
        'unsupported-protocol',
        'the kernel does not say where its payload is: use the entry of the bzImage',
      );
    }
    return unpackPayload(bzImage.payload);
  } catch (error) {
    const guestCan = error instanceof KernelError && error.kind.startsWith('unsupported-');
    if (entry === 'auto' && guestCan && bzImage.has64BitEntry) {
      return undefined;
    }
    throw error;
  }
}

function loadBzImageBy(memory: GuestMemory, bytes: Uint8Array, entry: KernelEntry): LoadedKernel {
  const bzImage = parseBzImage(bytes);
  if (entry !== 'bzimage') {
    const unpacked = unpack(bzImage, entry);
    if (unpacked !== undefined) {
      const { compression, pieces, size } = unpacked;
      // The note about a PVH entry point is somewhere in it.
      const head: Uint8Array = entry === 'pvh' ? joinPieces(unpacked) : (pieces.next().value ?? new Uint8Array());
      return loadKernelProper(memory, parseElf(head, size), pieces, entry, { bzImage, compression });
    }
  }
  const loaded = loadBzImage(memory, bzImage);
  return {
    protocol: 'linux64',
    entry: loaded.entry,
    end: loaded.end,
    setupHeader: bzImage.setupHeader,
    code32Start: loaded.start,
    initrdAddrMax: bzImage.initrdAddrMax,
    cmdlineSize: bzImage.cmdlineSize,
    description: 'bzImage, 64-bit entry, unpacked by the guest',
  };
}

/** Puts a kernel into guest memory. Throws KernelError with a message for the user that starts with `name`, the file's. */
export function loadKernel(memory: GuestMemory, bytes: Uint8Array, entry: KernelEntry, name: string): LoadedKernel {
  try {
    if (bytes.length === 0) {
      throw new KernelError('empty', 'the file is empty: fetch or build the kernel again');
    }
    if (isElf(bytes)) {
      if (entry === 'bzimage') {
        throw new KernelError(
          'unsupported-protocol',
          'the file is an ELF, which has no bzImage entry: enter it another way',
        );
      }
      return loadKernelProper(memory, parseElf(bytes), [], entry, undefined);
    }
    if (isBzImage(bytes)) {
      return loadBzImageBy(memory, bytes, entry);
    }
    throw unknownFile(bytes);
  } catch (error) {
    throw error instanceof KernelError ? error.in(name) : error;
  }
}
