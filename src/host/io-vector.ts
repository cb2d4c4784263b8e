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

  /** Fills it in. Returns how many ranges it holds: MAX_RANGES at most. */
  set(ranges: readonly MemoryRange[]): number {
    const count = Math.min(ranges.length, MAX_RANGES);
    for (let i = 0; i < count; i++) {
      const { address, length } = ranges[i] as MemoryRange;
      // The array takes each value modulo 2^32.
      this.bytes[WORDS * i] = address;
      this.bytes[WORDS * i + 1] = address / 2 ** 32;
      this.bytes[WORDS * i + 2] = length;
      this.bytes[WORDS * i + 3] = length / 2 ** 32;
    }
    return count;
  }
}
