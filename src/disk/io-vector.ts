import type { HostRange } from './iovec.ts';

/** Ranges that one call of the kernel takes (IOV_MAX). */
const MAX_RANGES = 1024;
const IOVEC_SIZE = 16;

/** An array of struct iovec for preadv(2) and its kin, used again for each call. */
export class IoVector {
  readonly bytes = Buffer.alloc(MAX_RANGES * IOVEC_SIZE);
  readonly #view = new DataView(this.bytes.buffer, this.bytes.byteOffset);

  /** Takes as many of the ranges as go into one call; returns how many. */
  load(ranges: readonly HostRange[]): number {
    const count = Math.min(ranges.length, MAX_RANGES);
    for (let i = 0; i < count; i++) {
      const { address, length } = ranges[i]!;
      this.#view.setBigUint64(i * IOVEC_SIZE, BigInt(address), true);
      this.#view.setBigUint64(i * IOVEC_SIZE + 8, BigInt(length), true);
    }
    return count;
  }
}
