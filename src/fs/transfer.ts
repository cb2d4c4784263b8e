/** Bytes between files and memory, without a copy in between. */

import { type HostRange, lengthOf, sliceRanges } from '../disk/iovec.ts';
import { check, libc, uninterrupted } from '../host/ffi.ts';
import { IoVector } from '../host/io-vector.ts';

const RWF_APPEND = 0x10;

const preadv = libc('intptr_t preadv(int fd, void *iov, int iovcnt, int64_t offset)');
const pwritev = libc('intptr_t pwritev(int fd, void *iov, int iovcnt, int64_t offset)');
const pwritev2 = libc('intptr_t pwritev2(int fd, void *iov, int iovcnt, int64_t offset, int flags)');

const vector = new IoVector();

/** Moves all that goes: what stopped it after the first bytes, the caller learns at the next attempt. */
function transfer(
  name: string,
  ranges: readonly HostRange[],
  offset: number,
  move: (iov: Uint32Array, count: number, offset: number) => number,
): number {
  const total = lengthOf(ranges);
  let rest = ranges;
  let done = 0;
  while (done < total) {
    const count = vector.set(rest);
    const moved = uninterrupted(() => move(vector.bytes, count, offset + done));
    if (moved < 0 && done === 0) check(name, moved);
    if (moved <= 0) break;
    done += moved;
    // This use after the call also keeps the ranges' memory from being collected during it.
    rest = sliceRanges(ranges, done, total - done);
  }
  return done;
}

/** Reads a file from a byte offset on. Returns how many bytes there were. Throws OsError. */
export function readFile(fd: number, ranges: readonly HostRange[], offset: number): number {
  return transfer('preadv', ranges, offset, (iov, count, at) => preadv(fd, iov, count, at));
}

/** Writes to a file at a byte offset, or at its end. Returns how many bytes went. Throws OsError. */
export function writeFile(fd: number, ranges: readonly HostRange[], offset: number, append: boolean): number {
  return transfer('pwritev', ranges, offset, (iov, count, at) =>
    append ? pwritev2(fd, iov, count, at, RWF_APPEND) : pwritev(fd, iov, count, at),
  );
}
