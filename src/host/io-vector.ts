/** struct iovec of 64-bit Linux, for readv(2) and its kin. */

/** A piece of this process's memory, which lives as long as the call that uses it. */
export interface MemoryRange {
  readonly address: number;
  /** Bytes. */
  readonly length: number;
}

/** Ranges that one call takes (IOV_MAX). */
export const MAX_RANGES = 1024;
const WORDS = 4;

/** A list of ranges as the kernel reads it, to be filled again for each call. */
export class IoVector {
  readonly bytes = new Uint32Array(MAX_RANGES * WORDS);

  /**
   * Fills it in with `length` bytes from byte `offset` of the ranges on, or as many as there are. Returns how many ranges it holds:
   * MAX_RANGES at most.
   */
  set(ranges: readonly MemoryRange[], offset = 0, length = Number.POSITIVE_INFINITY): number {
    let skip = offset;
    let left = length;
    let count = 0;
    for (let i = 0; i < ranges.length && left > 0 && count < MAX_RANGES; i++) {
      const range = ranges[i] as MemoryRange;
      if (skip >= range.length) {
        skip -= range.length;
        continue;
      }
      const address = range.address + skip;
      const size = Math.min(range.length - skip, left);
      // The array takes each value modulo 2^32.
      this.bytes[WORDS * count] = address;
      this.bytes[WORDS * count + 1] = address / 2 ** 32;
      this.bytes[WORDS * count + 2] = size;
      this.bytes[WORDS * count + 3] = size / 2 ** 32;
      count++;
      left -= size;
      skip = 0;
    }
    return count;
  }
}
