/** Memory that threads and processes share: memfds, and mapping them over the memory of WebAssembly. */
import { fstatSync } from 'node:fs';
import { closeDescriptor } from './descriptor.ts';
import { EINVAL, OsError } from './errno.ts';
import { addressOf, check, libc, uninterrupted } from './ffi.ts';

export const PAGE_SIZE = 4096;
const WASM_PAGE_SIZE = 65536;
/** A WebAssembly memory, and so a window, holds no more. Bytes. */
export const MAX_WINDOW_SIZE = 2 ** 34;
/** Beyond this it needs 64-bit addresses. Bytes. */
const MAX_MEMORY32 = 2 ** 32;

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_SEAL_SEAL = 1;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

const memfd_create = libc('int memfd_create(const char *name, unsigned int flags)');
const ftruncate = libc('int ftruncate(int fd, int64_t length)');
const fcntl = libc('int fcntl(int fd, int cmd, ...)', ['int']);
const mmap = libc('intptr_t mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)');
const munmap = libc('int munmap(void *addr, size_t length)');
const madvise = libc('int madvise(void *addr, size_t length, int advice)');
const malloc_trim = libc('int malloc_trim(size_t pad)');
const fallocate = libc('int fallocate(int fd, int mode, int64_t offset, int64_t len)');

/** madvise(2)'s advice, by name. */
const ADVICE = { willneed: 3, dontneed: 4, remove: 9, mergeable: 12, hugepage: 14 } as const;
export type Advice = keyof typeof ADVICE;

/**
 * Makes a memfd of `size` bytes, all zero. Its size is sealed: whoever holds the descriptor, a device process too, cannot
 * take pages away from under the others' mappings. Throws OsError.
 */
export function createMemfd(name: string, size: number): number {
  const fd = check('memfd_create', memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  try {
    check(
      'ftruncate',
      uninterrupted(() => ftruncate(fd, size)),
    );
    check('fcntl', fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
  return fd;
}

function checkRange(buffer: ArrayBuffer | SharedArrayBuffer, byteOffset: number, size: number): void {
  for (const value of [byteOffset, size]) {
    if (!Number.isSafeInteger(value) || value < 0 || value % PAGE_SIZE !== 0) {
      throw new RangeError(`${value} is not a multiple of the page size`);
    }
  }
  // MAP_FIXED replaces whatever is there: outside the buffer that is somebody else's memory.
  if (size === 0 || byteOffset + size > buffer.byteLength) {
    throw new RangeError(`${size} bytes at ${byteOffset} are not inside a buffer of ${buffer.byteLength}`);
  }
}

function mapFixed(
  buffer: ArrayBuffer | SharedArrayBuffer,
  byteOffset: number,
  size: number,
  protection: number,
  flags: number,
  fd: number,
  fdOffset: number,
): void {
  checkRange(buffer, byteOffset, size);
  const address = addressOf(buffer) + BigInt(byteOffset);
  check('mmap', mmap(address, size, protection, flags | MAP_FIXED, fd, fdOffset));
}

/**
 * Maps `size` bytes of a file from `fdOffset` on over the buffer of a WebAssembly.Memory, at `byteOffset`; all three are
 * multiples of 4096. The memory must not grow in a way that moves it: give it a maximum. A page that is `readOnly`
 * kills the process when JavaScript writes to it, and traps when WebAssembly does.
 * Throws OsError, and RangeError for a range outside the buffer or beyond the file's end (which would be fatal later: SIGBUS).
 */
export function mapInto(
  buffer: ArrayBuffer | SharedArrayBuffer,
  byteOffset: number,
  fd: number,
  fdOffset: number,
  size: number,
  options: { readonly readOnly?: boolean } = {},
): void {
  if (!Number.isSafeInteger(fdOffset) || fdOffset < 0 || fdOffset % PAGE_SIZE !== 0) {
    throw new RangeError(`file offset ${fdOffset} is not a multiple of the page size`);
  }
  if (fdOffset + size > fstatSync(fd).size) throw new RangeError(`the file ends before ${fdOffset + size}`);
  const protection = options.readOnly === true ? PROT_READ : PROT_READ | PROT_WRITE;
  mapFixed(buffer, byteOffset, size, protection, MAP_SHARED, fd, fdOffset);
}

/** Undoes mapInto(): the range is private memory of zeroes again. */
export function unmapFrom(buffer: ArrayBuffer | SharedArrayBuffer, byteOffset: number, size: number): void {
  mapFixed(buffer, byteOffset, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/** Tells the kernel how a range of a buffer will be used (madvise). `remove` frees the pages of the file mapped there. */
export function advise(
  buffer: ArrayBuffer | SharedArrayBuffer,
  byteOffset: number,
  size: number,
  advice: Advice,
): void {
  checkRange(buffer, byteOffset, size);
  check('madvise', madvise(addressOf(buffer) + BigInt(byteOffset), size, ADVICE[advice]));
}

/** Asks for huge pages under a range of a buffer: a wish that kernels without them do not grant. */
export function wishHugePages(buffer: ArrayBuffer, byteOffset: number, size: number): void {
  checkRange(buffer, byteOffset, size);
  madvise(addressOf(buffer) + BigInt(byteOffset), size, ADVICE.hugepage);
}

let canTrim = true;

/** Gives the pages back to the host in which malloc() has nothing, some milliseconds long: glibc keeps them. Other C libraries are left alone. */
export function trimMalloc(): void {
  if (!canTrim) return;
  try {
    malloc_trim(0);
  } catch {
    canTrim = false;
  }
}

/** Gives a range of a file back to the host: it reads as zeroes. Bytes; throws OsError. */
export function punchHole(fd: number, offset: number, size: number): void {
  const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  check(
    'fallocate',
    uninterrupted(() => fallocate(fd, mode, offset, size)),
  );
}

/**
 * Address space of `size` bytes that JavaScript can reach: a WebAssembly memory that does not grow any more. V8 takes memory that is made
 * so large at once for garbage soon to be collected, and begins to collect.
 */
function reserve(size: number, what: string): ArrayBuffer {
  const pages = Math.ceil(size / WASM_PAGE_SIZE);
  try {
    // The types know 32-bit addresses only.
    if (size > MAX_MEMORY32) {
      const limits = { initial: 0n, maximum: BigInt(pages), address: 'i64' } as unknown as WebAssembly.MemoryDescriptor;
      return grown(new WebAssembly.Memory(limits), BigInt(pages) as unknown as number);
    }
    return grown(new WebAssembly.Memory({ initial: 0, maximum: pages }), pages);
  } catch (error) {
    if (error instanceof RangeError) throw new Error(`no address space for a window of ${size} bytes on ${what}`);
    throw error;
  }
}

function grown(memory: WebAssembly.Memory, pages: number): ArrayBuffer {
  memory.grow(pages);
  return memory.buffer as ArrayBuffer;
}

/**
 * Bytes of a file, mapped shared into this thread: what others write there is seen here and the other way round.
 * `fdOffset` and `size` are multiples of 4096, size at most MAX_WINDOW_SIZE: map more in several windows. The mapping goes when
 * the array is collected. Throws OsError where the address space or memory has no room.
 */
export function window(fd: number, fdOffset: number, size: number): Uint8Array<ArrayBuffer> {
  if (size > MAX_WINDOW_SIZE) throw new RangeError(`a window of ${size} bytes is too large`);
  const buffer = reserve(size, 'guest memory');
  mapInto(buffer, 0, fd, fdOffset, size);
  return new Uint8Array(buffer, 0, size);
}

/**
 * The first `size` bytes (a multiple of 4096) that a device's driver offers to map, which has no size as a file has.
 * Throws OsError.
 */
export function deviceWindow(fd: number, size: number): Uint8Array<ArrayBuffer> {
  const buffer = reserve(size, 'a device');
  mapFixed(buffer, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return new Uint8Array(buffer, 0, size);
}

/** A mapping that only the kernel uses, by its address. */
export interface Mapping {
  readonly address: number;
  /** Bytes. */
  readonly size: number;
}

/**
 * Maps a range of a file (multiples of 4096) anywhere in this process. It stays until unmap(). `hugePages` asks for large
 * pages where the kernel has them for such memory. Throws OsError, RangeError beyond the file's end.
 */
export function map(
  fd: number,
  fdOffset: number,
  size: number,
  options: { readonly readOnly?: boolean; readonly hugePages?: boolean } = {},
): Mapping {
  if (size <= 0 || fdOffset < 0 || fdOffset + size > fstatSync(fd).size) {
    throw new RangeError(`${size} bytes at ${fdOffset} are not inside the file`);
  }
  const protection = options.readOnly === true ? PROT_READ : PROT_READ | PROT_WRITE;
  const address = check('mmap', mmap(null, size, protection, MAP_SHARED | MAP_NORESERVE, fd, fdOffset));
  // A kernel without large pages answers EINVAL: it is a wish only.
  if (options.hugePages === true) madvise(address, size, ADVICE.hugepage);
  return { address, size };
}

/** Undoes map(). Throws OsError. */
export function unmap({ address, size }: Mapping): void {
  check('munmap', munmap(address, size));
}

/** Memory in a memfd. */
export class SharedRegion {
  readonly fd: number;
  /** Bytes, a multiple of 4096. */
  readonly size: number;

  private constructor(fd: number, size: number) {
    this.fd = fd;
    this.size = size;
  }

  /** Makes memory of `size` bytes, a multiple of 4096. `name` is shown in /proc. */
  static create(size: number, name = 'vivarium'): SharedRegion {
    if (!Number.isSafeInteger(size) || size <= 0 || size % PAGE_SIZE !== 0) {
      throw new RangeError(`memory of ${size} bytes: the size is a positive multiple of ${PAGE_SIZE}`);
    }
    return new SharedRegion(createMemfd(name, size), size);
  }

  /** Memory that somebody else made: the descriptor comes from another thread or process. Throws OsError if it is smaller. */
  static open(fd: number, size: number): SharedRegion {
    if (fstatSync(fd).size < size) throw new OsError('memory', EINVAL);
    return new SharedRegion(fd, size);
  }

  /** The bytes from `offset` on, in this thread: see window(). */
  window(offset = 0, size = this.size - offset): Uint8Array<ArrayBuffer> {
    return window(this.fd, offset, size);
  }

  /** Closes the descriptor. Windows stay. */
  close(): void {
    closeDescriptor(this.fd);
  }
}
