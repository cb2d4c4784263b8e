/** A split virtqueue as the device sees it (virtio 1.2, 2.7). */
import { BrokenDriverError, Chain, type DescriptorTable } from './chain.ts';
import { hasFeature, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC } from './constants.ts';
import type { GuestRanges } from './guest-ranges.ts';

export const MAX_QUEUE_SIZE = 32768;

const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
const VIRTQ_USED_F_NO_NOTIFY = 1;

/** Index of the ring's idx field in 16-bit words; flags is word 0. */
const IDX = 1;
/** First 16-bit word of the available ring's entries. */
const RING = 2;

/** Where a driver has put a queue. */
export interface QueueConfig {
  /** Descriptors: a power of two. */
  readonly size: number;
  /** Guest-physical addresses: descriptor table, available ring, used ring. */
  readonly descriptors: number;
  readonly driver: number;
  readonly device: number;
}

/**
 * The device's end of a queue. All calls belong to the thread of the back end. After close() (a reset) every call does nothing:
 * requests that were under way may be finished, and no longer reach guest memory by way of the queue.
 *
 * A back end takes chains until pop() gives none, and gives each back once, in any order: push() for each, flush() after
 * the last of a batch. pop() throws BrokenDriverError; a back end lets it through, and the device then needs a reset.
 */
export class Queue {
  readonly index: number;
  readonly config: QueueConfig;
  readonly size: number;
  /** The driver has made something available. Set by the back end; called in its loop. */
  onNotify: () => void = () => {};
  readonly #ranges: GuestRanges;
  readonly #table: DescriptorTable;
  readonly #avail: Uint16Array;
  readonly #used: Uint16Array;
  /** The used ring's entries from word 1 on: index, length. */
  readonly #usedWords: Uint32Array;
  readonly #indirect: boolean;
  readonly #eventIdx: boolean;
  readonly #interrupt: () => void;
  readonly #mask: number;
  /** Free-running 16-bit counters. */
  #nextAvail = 0;
  #nextUsed = 0;
  /** What used.idx was at the last flush(). */
  #published = 0;
  /** Chains taken and not given back. */
  #outstanding = 0;
  #closed = false;

  /**
   * `features`: as negotiated. `interrupt` tells the driver. Throws BrokenDriverError for a size or addresses that a queue cannot
   * have.
   */
  constructor(index: number, config: QueueConfig, ranges: GuestRanges, features: bigint, interrupt: () => void) {
    const { size, descriptors, driver, device } = config;
    if (size < 1 || size > MAX_QUEUE_SIZE || (size & (size - 1)) !== 0) {
      throw new BrokenDriverError(`queue ${index} of ${size} descriptors`);
    }
    this.index = index;
    this.config = config;
    this.size = size;
    this.#mask = size - 1;
    this.#ranges = ranges;
    this.#interrupt = interrupt;
    this.#eventIdx = hasFeature(features, VIRTIO_F_EVENT_IDX);
    this.#indirect = hasFeature(features, VIRTIO_F_INDIRECT_DESC);
    // The words after the rings are the event index's: they belong to the rings whether it was negotiated or not.
    const table = this.#place(descriptors, 16 * size, 16);
    const avail = this.#place(driver, 6 + 2 * size, 2);
    const used = this.#place(device, 6 + 8 * size, 4);
    this.#table = { region: table.region, offset: table.offset, count: size };
    this.#avail = new Uint16Array(avail.buffer, avail.byteOffset, 3 + size);
    this.#used = new Uint16Array(used.buffer, used.byteOffset, 3 + 4 * size);
    this.#usedWords = new Uint32Array(used.buffer, used.byteOffset, 1 + 2 * size);
  }

  #place(address: number, length: number, alignment: number) {
    const region = Number.isSafeInteger(address) ? this.#ranges.find(address, length) : undefined;
    if (region === undefined || address % alignment !== 0) {
      throw new BrokenDriverError(`queue ${this.index} has no place at 0x${address.toString(16)}`);
    }
    const offset = address - region.start;
    return { region, offset, buffer: region.bytes.buffer, byteOffset: region.bytes.byteOffset + offset };
  }

  /**
   * The next chain; undefined when there is none, and then the driver tells when there is. Throws BrokenDriverError.
   */
  pop(): Chain | undefined {
    if (this.#closed) return undefined;
    let available = this.#available();
    if (available === 0) {
      // Ask to be told, then look again: the driver may have looked at the wish before it was there.
      this.#wishNotification();
      available = this.#available();
      if (available === 0) return undefined;
    }
    if (available > this.size - this.#outstanding) {
      throw new BrokenDriverError(`queue ${this.index} of ${this.size} has ${available} more requests`);
    }
    if (!this.#eventIdx) Atomics.store(this.#used, 0, VIRTQ_USED_F_NO_NOTIFY);
    const head = this.#avail[RING + (this.#nextAvail & this.#mask)] as number;
    const chain = new Chain(this.#table, head, this.#ranges, this.#indirect);
    this.#nextAvail = (this.#nextAvail + 1) & 0xffff;
    this.#outstanding++;
    return chain;
  }

  /** Is there a chain for pop()? Does not ask to be told. */
  get ready(): boolean {
    return !this.#closed && this.#available() !== 0;
  }

  #available(): number {
    return (Atomics.load(this.#avail, IDX) - this.#nextAvail) & 0xffff;
  }

  #wishNotification(): void {
    // avail_event, after the used ring; each store is also a fence.
    if (this.#eventIdx) Atomics.store(this.#used, RING + 4 * this.size, this.#nextAvail);
    else Atomics.store(this.#used, 0, 0);
  }

  /** Puts the last chain that pop() gave back into the queue, as if it had not been taken. */
  unpop(): void {
    if (this.#closed) return;
    this.#nextAvail = (this.#nextAvail - 1) & 0xffff;
    this.#outstanding--;
  }

  /** Gives a chain back to the driver; `written`: bytes from the first writable one on that the device has written. */
  push(chain: Chain, written: number): void {
    if (this.#closed) return;
    const { writes } = this.#ranges;
    if (writes !== undefined) for (const range of chain.writable) writes.add(range);
    const at = 1 + 2 * (this.#nextUsed & this.#mask);
    this.#usedWords[at] = chain.head;
    this.#usedWords[at + 1] = written;
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    this.#outstanding--;
  }

  /** Shows the driver what was pushed, and interrupts it if it wants that. */
  flush(): void {
    if (this.#closed || this.#published === this.#nextUsed) return;
    const before = this.#published;
    this.#published = this.#nextUsed;
    Atomics.store(this.#used, IDX, this.#nextUsed);
    if (this.#wantsInterrupt(before)) this.#interrupt();
  }

  /** Whether the driver wants to be told of the used entries from `before` on (2.7.7, 2.7.10). */
  #wantsInterrupt(before: number): boolean {
    if (!this.#eventIdx) return (Atomics.load(this.#avail, 0) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    const event = Atomics.load(this.#avail, RING + this.size);
    return ((this.#nextUsed - event - 1) & 0xffff) < ((this.#nextUsed - before) & 0xffff);
  }

  /** The queue is gone: a reset. */
  close(): void {
    this.#closed = true;
  }
}
