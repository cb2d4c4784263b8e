/** A file that holds an image: whole reads and writes at offsets, from buffers and from lists of memory ranges. */
import { fstatSync, ftruncateSync } from 'node:fs';
import { EINTR, ENOSYS, EOPNOTSUPP, OsError } from '../host/errno.ts';
import { check, libc, uninterrupted } from '../host/ffi.ts';
import { IoVector } from '../host/io-vector.ts';
import { DiskError } from './error.ts';
import { fillZeroes, type HostRange, lengthOf, rangeOf, sliceRanges } from './iovec.ts';

const SEEK_DATA = 3;
const SEEK_END = 2;
const ENXIO = 6;
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const FALLOC_FL_ZERO_RANGE = 0x10;

const preadv = libc('intptr_t preadv(int fd, void *iov, int iovcnt, int64_t offset)');
const pwritev = libc('intptr_t pwritev(int fd, void *iov, int iovcnt, int64_t offset)');
const pread = libc('intptr_t pread(int fd, void *buf, size_t count, int64_t offset)');
const pwrite = libc('intptr_t pwrite(int fd, void *buf, size_t count, int64_t offset)');
const fdatasync = libc('int fdatasync(int fd)');
const fallocate = libc('int fallocate(int fd, int mode, int64_t offset, int64_t len)');
const lseek = libc('int64_t lseek(int fd, int64_t offset, int whence)');

export class ImageFile {
  readonly fd: number;
  /** For messages. */
  readonly path: string;
  /** Bytes from the start to the end of the file, or of the block device. */
  size: number;
  readonly #vector = new IoVector();
  /** Whether the file system makes holes. */
  #punches = true;
  #zeroes = true;

  /** Throws OsError and Node's system errors. */
  constructor(fd: number, path: string) {
    this.fd = fd;
    this.path = path;
    const status = fstatSync(fd);
    this.size = status.isFile() ? status.size : check('lseek', lseek(fd, 0, SEEK_END));
  }

  /** Fills the buffer; what is behind the file's end reads as zeroes. Throws OsError, DiskError. */
  read(buffer: Uint8Array, offset: number): void {
    for (let done = 0; done < buffer.length; ) {
      const rest = done === 0 ? buffer : buffer.subarray(done);
      const count = pread(this.fd, rest, rest.length, offset + done);
      if (count === -EINTR) continue;
      check('pread', count);
      if (count === 0) {
        this.#requireEnd(offset + done);
        rest.fill(0);
        return;
      }
      done += count;
    }
  }

  write(buffer: Uint8Array, offset: number): void {
    for (let done = 0; done < buffer.length; ) {
      const rest = done === 0 ? buffer : buffer.subarray(done);
      const count = pwrite(this.fd, rest, rest.length, offset + done);
      if (count === -EINTR) continue;
      done += check('pwrite', count);
    }
    if (offset + buffer.length > this.size) this.size = offset + buffer.length;
  }

  /** As read(), into memory ranges. */
  readRanges(ranges: readonly HostRange[], offset: number): void {
    this.#transfer('preadv', preadv, ranges, offset);
  }

  /** As write(), from memory ranges. */
  writeRanges(ranges: readonly HostRange[], offset: number): void {
    const end = offset + this.#transfer('pwritev', pwritev, ranges, offset);
    if (end > this.size) this.size = end;
  }

  #transfer(name: string, call: typeof preadv, ranges: readonly HostRange[], offset: number): number {
    const total = lengthOf(ranges);
    let rest = ranges;
    for (let done = 0; done < total; ) {
      const count = this.#vector.set(rest);
      const moved = call(this.fd, this.#vector.bytes, count, offset + done);
      if (moved === -EINTR) continue;
      check(name, moved);
      if (moved === 0) {
        this.#requireEnd(offset + done);
        fillZeroes(rest);
        break;
      }
      done += moved;
      // This use after the call also keeps the ranges' memory from being collected during it.
      if (done < total) rest = sliceRanges(ranges, done, total - done);
    }
    return total;
  }

  /** A read has met the file's end: somebody else has cut the file off if it was longer. */
  #requireEnd(offset: number): void {
    if (offset < this.size) throw new DiskError(`${this.path}: somebody has made the file shorter while it is in use`);
  }

  /** Returns when all that was written is on the disk. */
  sync(): void {
    check(
      'fdatasync',
      uninterrupted(() => fdatasync(this.fd)),
    );
  }

  /** Changes the file's size; what is new reads as zeroes. */
  truncate(size: number): void {
    ftruncateSync(this.fd, size);
    this.size = size;
  }

  /** Gives space back to the file system; the range reads as zeroes afterwards. False: this file system cannot. */
  punch(offset: number, length: number): boolean {
    if (this.#punches) this.#punches = this.#allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    return this.#punches;
  }

  /** Makes the range read as zeroes, with its space kept. */
  writeZeroes(offset: number, length: number): void {
    if (length <= 0) return;
    if (this.#zeroes) this.#zeroes = this.#allocate(FALLOC_FL_ZERO_RANGE, offset, length);
    if (this.#zeroes) {
      if (offset + length > this.size) this.size = offset + length;
      return;
    }
    const zeroes = Buffer.alloc(Math.min(length, 2 ** 20));
    for (let done = 0; done < length; done += zeroes.length) {
      this.write(zeroes.subarray(0, Math.min(zeroes.length, length - done)), offset + done);
    }
  }

  /** False: the file system has no such call. */
  #allocate(mode: number, offset: number, length: number): boolean {
    const result = uninterrupted(() => fallocate(this.fd, mode, offset, length));
    if (result === -EOPNOTSUPP || result === -ENOSYS) return false;
    check('fallocate', result);
    return true;
  }

  /** The first offset from `offset` on that may hold other bytes than zeroes; the file's size if there is none. */
  nextData(offset: number): number {
    if (offset >= this.size) return this.size;
    const result = lseek(this.fd, offset, SEEK_DATA);
    if (result === -ENXIO) return this.size;
    // File systems and devices without holes.
    return result < 0 ? offset : result;
  }

  /** Reads `length` bytes into a new buffer. */
  readBuffer(offset: number, length: number): Buffer {
    const buffer = Buffer.alloc(length);
    this.read(buffer, offset);
    return buffer;
  }

  /** As writeRanges(), with buffers before and after. */
  writeAround(before: Buffer, ranges: readonly HostRange[], after: Buffer, offset: number): void {
    const all = [...ranges];
    if (before.length > 0) all.unshift(rangeOf(before));
    if (after.length > 0) all.push(rangeOf(after));
    this.writeRanges(all, offset);
  }
}

/** Whether an error is the operating system's, with this error number. */
export function isOsError(error: unknown, errno: number): boolean {
  return error instanceof OsError && error.errno === errno;
}
