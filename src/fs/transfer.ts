/** Bytes between files and memory, without a copy in between. */
import { type HostRange, lengthOf } from '../disk/iovec.ts';
import { check, libc, uninterrupted } from '../host/ffi.ts';
import { IoVector } from '../host/io-vector.ts';

const RWF_APPEND = 0x10;
/**
 * Bytes of one write. For larger ones ext4 takes pages of a megabyte for its cache, and a host that is a virtual machine itself often has none
 * but such as were never used: a write of 1 MiB took 2 ms there, and eight of these 0.3 ms.
 */
const PIECE = 128 * 1024;

const preadv = libc('intptr_t preadv(int fd, void *iov, int iovcnt, int64_t offset)');
const pwritev = libc('intptr_t pwritev(int fd, void *iov, int iovcnt, int64_t offset)');
const pwritev2 = libc('intptr_t pwritev2(int fd, void *iov, int iovcnt, int64_t offset, int flags)');

const vector = new IoVector();

/** Moves all that goes: what stopped it after the first bytes, the caller learns at the next attempt. */
function transfer(
  name: string,
  ranges: readonly HostRange[],
  offset: number,
  piece: number,
  move: (iov: Uint32Array, count: number, offset: number) => number,
): number {
  let done = 0;
  // Their length, looked at after each call, also keeps the ranges' memory from being collected during it.
  for (let left = lengthOf(ranges); left > 0; left = lengthOf(ranges) - done) {
    const count = vector.set(ranges, done, Math.min(piece, left));
    const moved = uninterrupted(() => move(vector.bytes, count, offset + done));
    if (moved < 0 && done === 0) check(name, moved);
    if (moved <= 0) break;
    done += moved;
  }
  return done;
}

/** Reads a file from a byte offset on. Returns how many bytes there were. Throws OsError. */
export function readFile(fd: number, ranges: readonly HostRange[], offset: number): number {
  return transfer('preadv', ranges, offset, Number.POSITIVE_INFINITY, (iov, count, at) => preadv(fd, iov, count, at));
}

/** Writes to a file at a byte offset. `whole`: by one call, as each is on the disk when it returns. Returns how many bytes went. Throws OsError. */
export function writeFile(fd: number, ranges: readonly HostRange[], offset: number, whole: boolean): number {
  const piece = whole ? Number.POSITIVE_INFINITY : PIECE;
  return transfer('pwritev', ranges, offset, piece, (iov, count, at) => pwritev(fd, iov, count, at));
}

/** Writes to a file at its end, by one call: nobody else's bytes come between these. Returns how many went. Throws OsError. */
export function appendFile(fd: number, ranges: readonly HostRange[]): number {
  return transfer('pwritev', ranges, 0, Number.POSITIVE_INFINITY, (iov, count, at) =>
    pwritev2(fd, iov, count, at, RWF_APPEND),
  );
}
