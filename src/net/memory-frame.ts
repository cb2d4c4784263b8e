/** A frame that lies in a buffer. */
import { type HostRange, rangeOf } from '../disk/iovec.ts';
import { type GuestFrame, HEAD_SIZE } from './link.ts';

export class MemoryFrame implements GuestFrame {
  readonly length: number;
  readonly head: Uint8Array;
  readonly partialChecksum: boolean;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array, partialChecksum: boolean) {
    this.length = bytes.length;
    this.head = bytes.subarray(0, HEAD_SIZE);
    this.partialChecksum = partialChecksum;
    this.#bytes = bytes;
  }

  ranges(offset: number, length: number): readonly HostRange[] {
    return [rangeOf(this.#bytes.subarray(offset, offset + length))];
  }

  bytes(): Uint8Array {
    return this.#bytes;
  }
}
