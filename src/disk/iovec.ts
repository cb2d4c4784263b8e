/** Lists of pieces of this process's memory, as preadv(2) takes them: guest RAM, or buffers. */
import { addressOf, libc } from '../host/ffi.ts';

/** A piece of memory. */
export interface HostRange {
  /** First byte's address in this process. */
  readonly address: number;
  /** Bytes. */
  readonly length: number;
  /** What the memory belongs to, if it goes when nothing refers to that any more: an address alone does not keep it. */
  readonly owner?: Uint8Array | undefined;
}

const memset = libc('intptr_t memset(void *s, int c, size_t n)');
const memcpy = libc('intptr_t memcpy(void *dest, const void *src, size_t n)');

/** The memory of a buffer. */
export function rangeOf(buffer: Uint8Array): HostRange {
  return { address: Number(addressOf(buffer.buffer)) + buffer.byteOffset, length: buffer.length, owner: buffer };
}

/** Bytes of all ranges. */
export function lengthOf(ranges: readonly HostRange[]): number {
  let total = 0;
  for (const { length } of ranges) total += length;
  return total;
}

/** `length` bytes from byte `offset` on. All of them must be there. */
export function sliceRanges(ranges: readonly HostRange[], offset: number, length: number): readonly HostRange[] {
  const [first] = ranges;
  if (first === undefined || length === 0) return [];
  if (offset + length <= first.length) {
    return offset === 0 && length === first.length && ranges.length === 1
      ? ranges
      : [{ address: first.address + offset, length, owner: first.owner }];
  }
  const slice: HostRange[] = [];
  let skip = offset;
  let left = length;
  for (const range of ranges) {
    if (left === 0) break;
    const take = Math.min(range.length - skip, left);
    if (take <= 0) {
      skip -= range.length;
      continue;
    }
    slice.push({ address: range.address + skip, length: take, owner: range.owner });
    left -= take;
    skip = 0;
  }
  return slice;
}

/** Fills memory with zeroes. */
export function fillZeroes(ranges: readonly HostRange[]): void {
  for (const { address, length } of ranges) memset(address, 0, length);
}

/** Copies a buffer of the ranges' length into them. */
export function copyInto(ranges: readonly HostRange[], source: Uint8Array): void {
  let at = 0;
  for (const { address, length } of ranges) {
    memcpy(address, source.subarray(at, at + length), length);
    at += length;
  }
}

/** Copies the first bytes of ranges, which hold at least as many, into a buffer. */
export function copyFrom(ranges: readonly HostRange[], target: Uint8Array): void {
  let at = 0;
  for (const { address, length } of ranges) {
    if (at === target.length) break;
    const piece = target.subarray(at, at + length);
    memcpy(piece, address, piece.length);
    at += piece.length;
  }
}
