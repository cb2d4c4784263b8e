/** Reads and writes of descriptors that have no position: taps, pipes, sockets. */
import { libc, uninterrupted } from './ffi.ts';
import { IoVector, type MemoryRange } from './io-vector.ts';

const read = libc('intptr_t read(int fd, void *buf, size_t count)');
const readv = libc('intptr_t readv(int fd, void *iov, int iovcnt)');
const writev = libc('intptr_t writev(int fd, void *iov, int iovcnt)');

const vector = new IoVector();

/** Reads into a buffer. Bytes, or the negated errno. */
export function readDescriptor(fd: number, into: Uint8Array): number {
  return uninterrupted(() => read(fd, into, into.length));
}

/** Reads into memory, in order. Bytes, or the negated errno. */
export function readRanges(fd: number, ranges: readonly MemoryRange[]): number {
  const count = vector.set(ranges);
  return uninterrupted(() => readv(fd, vector.bytes, count));
}

/** Writes what is in memory, in order. Bytes taken, or the negated errno. */
export function writeRanges(fd: number, ranges: readonly MemoryRange[]): number {
  const count = vector.set(ranges);
  return uninterrupted(() => writev(fd, vector.bytes, count));
}
