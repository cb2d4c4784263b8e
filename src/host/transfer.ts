/** Reads and writes between descriptors and memory of this process by its address: read(2), write(2). */
import { libc, uninterrupted } from './ffi.ts';

const read = libc('intptr_t read(int fd, void *buf, size_t count)');
const write = libc('intptr_t write(int fd, const void *buf, size_t count)');

/** Bytes read, 0 at the end, or the negated errno. */
export function readInto(fd: number, address: number, length: number): number {
  return uninterrupted(() => read(fd, address, length));
}

/** Bytes written, or the negated errno. */
export function writeFrom(fd: number, address: number, length: number): number {
  return uninterrupted(() => write(fd, address, length));
}
