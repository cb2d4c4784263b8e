/** Frames out of the driver's transmit queue (virtio 1.2, 5.1.6.2). */
import { type HostRange, sliceRanges } from '../../disk/iovec.ts';
import { type GuestFrame, HEAD_SIZE, MAX_FRAME } from '../../net/link.ts';
import { leavesChecksum, VNET_HEADER_SIZE } from '../../net/vnet-header.ts';
import type { Chain } from '../chain.ts';

/** Ethernet's header. */
const LEAST_FRAME = 14;

/** Is there a frame in the chain that anybody could take? */
export function holdsFrame(chain: Chain): boolean {
  const length = chain.readableLength - VNET_HEADER_SIZE;
  return length >= LEAST_FRAME && length <= MAX_FRAME;
}

/** The frame of a chain, as long as the chain is not given back: its head was copied, the rest is where the driver put it. */
export class ChainFrame implements GuestFrame {
  readonly length: number;
  readonly head: Uint8Array;
  readonly partialChecksum: boolean;
  readonly #chain: Chain;
  #bytes: Uint8Array | undefined;

  /** `scratch`: room for the header and HEAD_SIZE bytes; it belongs to the frame until the next one is made. */
  constructor(chain: Chain, scratch: Uint8Array) {
    const count = chain.read(scratch.subarray(0, VNET_HEADER_SIZE + HEAD_SIZE));
    this.length = chain.readableLength - VNET_HEADER_SIZE;
    this.head = scratch.subarray(VNET_HEADER_SIZE, count);
    this.partialChecksum = leavesChecksum(scratch);
    this.#chain = chain;
  }

  ranges(offset: number, length: number): readonly HostRange[] {
    return sliceRanges(this.#chain.readable, VNET_HEADER_SIZE + offset, length);
  }

  bytes(): Uint8Array {
    if (this.#bytes === undefined) {
      this.#bytes = new Uint8Array(this.length);
      this.#chain.read(this.#bytes, VNET_HEADER_SIZE);
      // What was checked in the head is what is read here.
      this.#bytes.set(this.head);
    }
    return this.#bytes;
  }
}

export const SCRATCH_SIZE = VNET_HEADER_SIZE + HEAD_SIZE;
