/** ELF64 kernels (System V ABI, gABI 4.1): Linux's vmlinux, and whatever else has a PVH entry point. */
import type { GuestMemory } from '../../../hypervisor/guest-memory.ts';
import { HIGH_RAM_START, KERNEL_START, lowRamEnd } from '../map.ts';
import { tooLarge } from './bzimage.ts';
import { KernelError } from './error.ts';

const EHDR_SIZE = 64;
const PHDR_SIZE = 56;
const ELFCLASS64 = 2;
const ELFDATA2LSB = 1;
const ELFDATA2MSB = 2;
const ET_EXEC = 2;
const ET_DYN = 3;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;
/** Xen's elfnote.h: the 32-bit entry point of the PVH boot protocol. */
const XEN_ELFNOTE_PHYS32_ENTRY = 18;
/** Longer notes are not looked through: a kernel has a few hundred bytes of them. */
const MAX_NOTES = 0x10000;

/** e_machine values that a kernel file is likely to have. */
const MACHINES: ReadonlyMap<number, string> = new Map([
  [2, 'SPARC'],
  [3, '32-bit x86'],
  [8, 'MIPS'],
  [20, 'PowerPC'],
  [21, '64-bit PowerPC'],
  [22, 'S/390'],
  [40, '32-bit Arm'],
  [43, 'SPARC64'],
  [50, 'Itanium'],
  [183, 'aarch64'],
  [243, 'RISC-V'],
  [258, 'LoongArch'],
]);

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly physicalAddress: number;
  readonly fileSize: number;
  readonly memorySize: number;
  readonly align: number;
}

/** A checked ELF kernel. */
export interface ElfKernel {
  /** The file, or its first bytes. */
  readonly head: Uint8Array;
  /** PT_LOAD segments that have a size in memory, in the file's order. */
  readonly segments: readonly Segment[];
  /** e_entry. */
  readonly entry: number;
  /** Entry point of the PVH boot protocol, if the file has one. */
  readonly pvhEntry: number | undefined;
}

export function isElf(bytes: Uint8Array): boolean {
  return bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

/** What e_machine says, in words. */
function machineName(machine: number): string {
  return MACHINES.get(machine) ?? `machine type ${machine}`;
}

function checkHeader(bytes: Uint8Array, view: DataView): void {
  if (!isElf(bytes)) {
    throw new KernelError('invalid-elf-magic-number', 'the file is not an ELF');
  }
  if (bytes.length < EHDR_SIZE) {
    throw new KernelError('read-elf-header', `the file ends inside the ELF header: it is incomplete, fetch it again`);
  }
  const bigEndian = bytes[5] === ELFDATA2MSB;
  const machine = view.getUint16(18, !bigEndian);
  if (bigEndian) {
    throw new KernelError(
      'big-endian-elf',
      `the kernel is for a big-endian processor (${machineName(machine)}): use one for x86-64`,
    );
  }
  if (machine !== EM_X86_64) {
    throw new KernelError('wrong-architecture', `the kernel is for ${machineName(machine)}: use one for x86-64`);
  }
  if (bytes[4] !== ELFCLASS64) {
    throw new KernelError('wrong-architecture', 'the kernel is a 32-bit ELF: use one for x86-64');
  }
  const type = view.getUint16(16, true);
  if (bytes[5] !== ELFDATA2LSB || (type !== ET_EXEC && type !== ET_DYN)) {
    throw new KernelError(
      'not-a-kernel',
      'the ELF is no executable (an object file or a core dump?): use a vmlinux or a bzImage',
    );
  }
}

function readProgramHeaders(bytes: Uint8Array, view: DataView): Segment[] {
  const offset = Number(view.getBigUint64(32, true));
  const count = view.getUint16(56, true);
  if (view.getUint16(54, true) !== PHDR_SIZE) {
    throw new KernelError(
      'invalid-program-header-size',
      'the ELF says its program headers are not 56 bytes long: the file is damaged',
    );
  }
  if (offset < EHDR_SIZE) {
    throw new KernelError(
      'invalid-program-header-offset',
      'the ELF places its program headers inside its own header: the file is damaged',
    );
  }
  if (count === 0) {
    throw new KernelError('not-a-kernel', 'the ELF has no program headers, so nothing to load: use a linked kernel');
  }
  if (offset + count * PHDR_SIZE > bytes.length) {
    throw new KernelError(
      'read-program-header',
      'the file ends before its program headers do: it is incomplete, fetch it again',
    );
  }
  return Array.from({ length: count }, (_, i) => {
    const at = offset + i * PHDR_SIZE;
    return {
      type: view.getUint32(at, true),
      offset: Number(view.getBigUint64(at + 8, true)),
      physicalAddress: Number(view.getBigUint64(at + 24, true)),
      fileSize: Number(view.getBigUint64(at + 32, true)),
      memorySize: Number(view.getBigUint64(at + 40, true)),
      align: Number(view.getBigUint64(at + 48, true)),
    };
  });
}

function checkSegment(fileSize: number, segment: Segment): void {
  if (segment.offset + segment.fileSize > fileSize) {
    throw new KernelError(
      'read-kernel-image',
      'the file ends before its segments do: it is incomplete, fetch it again',
    );
  }
  if (segment.fileSize > segment.memorySize) {
    throw new KernelError(
      'invalid-program-header-size',
      'a segment is larger in the file than in memory: the file is damaged',
    );
  }
}

/** Looks for the PVH entry point in a PT_NOTE segment's notes. */
function findPvhEntry(bytes: Uint8Array, view: DataView, segment: Segment): number | undefined {
  const alignment = segment.align === 8 ? 8 : 4;
  const align = (value: number) => Math.ceil(value / alignment) * alignment;
  const end = segment.offset + segment.fileSize;
  let at = segment.offset;
  while (at + 12 <= end) {
    const nameSize = view.getUint32(at, true);
    const size = view.getUint32(at + 4, true);
    const type = view.getUint32(at + 8, true);
    const name = at + 12;
    const description = name + align(nameSize);
    if (description + size > end) {
      return undefined;
    }
    const isXen = nameSize === 4 && String.fromCharCode(...bytes.subarray(name, name + 4)) === 'Xen\0';
    if (isXen && type === XEN_ELFNOTE_PHYS32_ENTRY && size >= 4) {
      return view.getUint32(description, true);
    }
    at = description + align(size);
  }
  return undefined;
}

/**
 * Reads and checks an ELF kernel of `size` bytes, of which `head` are the first: a PVH entry point that is described behind them is
 * not found. Throws KernelError.
 */
export function parseElf(head: Uint8Array, size: number = head.length): ElfKernel {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  checkHeader(head, view);
  const headers = readProgramHeaders(head, view);
  const segments = headers.filter(({ type, memorySize }) => type === PT_LOAD && memorySize > 0);
  for (const segment of segments) {
    checkSegment(size, segment);
  }
  if (segments.length === 0) {
    throw new KernelError('not-a-kernel', 'the ELF has no segment to load: use a linked kernel');
  }
  let pvhEntry: number | undefined;
  for (const segment of headers) {
    if (segment.type === PT_NOTE && segment.fileSize <= MAX_NOTES && segment.offset + segment.fileSize <= head.length) {
      pvhEntry ??= findPvhEntry(head, view, segment);
    }
  }
  return { head, segments, entry: Number(view.getBigUint64(24, true)), pvhEntry };
}

/** Where an ELF kernel was put. Guest-physical addresses. */
export interface LoadedElf {
  readonly entry: number;
  /** First address after the highest segment. */
  readonly end: number;
}

/**
 * Copies the segments to their physical addresses and zeroes what the file does not hold of them. `rest` is what follows the
 * kernel's head, piece by piece. A kernel that is linked at address 0, to be put anywhere (Linux's arch/x86/boot/compressed/vmlinux),
 * goes to KERNEL_START. Throws KernelError, before anything is written; and what `rest` throws.
 */
export function loadElf(
  memory: GuestMemory,
  elf: ElfKernel,
  entry: 'linux64' | 'pvh',
  rest: Iterable<Uint8Array> = [],
): LoadedElf {
  const lowest = Math.min(...elf.segments.map(({ physicalAddress }) => physicalAddress));
  const shift = entry === 'linux64' && lowest < HIGH_RAM_START ? KERNEL_START : 0;
  const entryAddress = entry === 'pvh' ? elf.pvhEntry : elf.entry + shift;
  if (entryAddress === undefined) {
    throw new KernelError(
      'no-pvh-entry',
      'the kernel has no PVH entry point: build it with CONFIG_PVH, or boot it another way',
    );
  }
  const ramEnd = lowRamEnd(memory);
  let end = 0;
  let total = 0;
  let entryFound = false;
  for (const { physicalAddress, memorySize } of elf.segments) {
    const start = physicalAddress + shift;
    const segmentEnd = start + memorySize;
    if (start < HIGH_RAM_START || !Number.isSafeInteger(segmentEnd) || segmentEnd > 2 ** 32) {
      throw new KernelError(
        'invalid-program-header-address',
        `a segment of the ELF is to be at 0x${start.toString(16)}, where no kernel can be: it must lie between 1 MiB and 4 GiB`,
      );
    }
    end = Math.max(end, segmentEnd);
    total += memorySize;
    entryFound ||= entryAddress >= start && entryAddress < segmentEnd;
  }
  if (end > ramEnd) {
    throw tooLarge(end, ramEnd);
  }
  if (total > end) {
    throw new KernelError('invalid-program-header-address', "the ELF's segments overlap: the file is damaged");
  }
  if (!entryFound) {
    throw new KernelError(
      'invalid-program-header-address',
      `the ELF's entry point 0x${entryAddress.toString(16)} is in none of its segments: it must be a physical address`,
    );
  }
  let at = 0;
  const take = (piece: Uint8Array): void => {
    for (const { physicalAddress, offset, fileSize } of elf.segments) {
      const from = Math.max(offset, at);
      const to = Math.min(offset + fileSize, at + piece.length);
      if (from < to) memory.write(physicalAddress + shift + from - offset, piece.subarray(from - at, to - at));
    }
    at += piece.length;
  };
  take(elf.head);
  for (const piece of rest) take(piece);
  for (const { physicalAddress, fileSize, memorySize } of elf.segments) {
    memory.fill(physicalAddress + shift + fileSize, memorySize - fileSize, 0);
  }
  return { entry: entryAddress, end };
}
