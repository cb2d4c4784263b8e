// A virtio driver's end of a split queue, for tests: guest memory, a queue in it, chains of descriptors.
import { GuestMemory } from '../../src/hypervisor/guest-memory.ts';
import { features as featureSet } from '../../src/virtio/constants.ts';
import { GuestRanges } from '../../src/virtio/guest-ranges.ts';
import { Queue, type QueueConfig } from '../../src/virtio/queue.ts';

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

/** A descriptor, without what links it. */
export interface Piece {
  readonly address: number;
  readonly length: number;
  readonly writable?: boolean;
}

/** Guest RAM from address 0 on, for a test. */
export function testMemory(size = 1 << 20): GuestMemory {
  return new GuestMemory([{ guestAddress: 0, bytes: new Uint8Array(size) }]);
}

/** Room that a queue takes in guest memory. */
export function queueBytes(size: number): number {
  return 16 * size + 6 + 2 * size + 2 + 6 + 8 * size;
}

/** The driver's end. It takes descriptors one after the other, and frees those of a chain when it comes back. */
export class DriverQueue {
  readonly config: QueueConfig;
  readonly memory: GuestMemory;
  readonly #free: number[];
  readonly #chains = new Map<number, number[]>();
  #avail = 0;
  #used = 0;

  /** Puts the queue at `address`, a multiple of 16. */
  constructor(memory: GuestMemory, address: number, size: number) {
    const driver = address + 16 * size;
    const device = Math.ceil((driver + 6 + 2 * size) / 4) * 4;
    this.memory = memory;
    this.config = { size, descriptors: address, driver, device };
    this.#free = Array.from({ length: size }, (_, i) => i);
    memory.fill(address, device + 6 + 8 * size - address, 0);
  }

  writeDescriptor(table: number, index: number, piece: Piece, flags: number, next: number): void {
    const at = table + 16 * index;
    this.memory.writeU64(at, BigInt(piece.address));
    this.memory.writeU32(at + 8, piece.length);
    this.memory.writeU16(at + 12, flags | (piece.writable ? WRITE : 0));
    this.memory.writeU16(at + 14, next);
  }

  /** Makes a chain available. Returns its head. */
  add(pieces: readonly Piece[]): number {
    const indexes = pieces.map(() => {
      const index = this.#free.shift();
      if (index === undefined) throw new Error('the queue is full');
      return index;
    });
    for (const [i, piece] of pieces.entries()) {
      const last = i === pieces.length - 1;
      this.writeDescriptor(this.config.descriptors, indexes[i]!, piece, last ? 0 : NEXT, indexes[i + 1] ?? 0);
    }
    this.#chains.set(indexes[0]!, indexes);
    this.offer(indexes[0]!);
    return indexes[0]!;
  }

  /** As add(), by an indirect table at `table`. */
  addIndirect(table: number, pieces: readonly Piece[]): number {
    for (const [i, piece] of pieces.entries()) {
      const last = i === pieces.length - 1;
      this.writeDescriptor(table, i, piece, last ? 0 : NEXT, last ? 0 : i + 1);
    }
    const head = this.#free.shift();
    if (head === undefined) throw new Error('the queue is full');
    this.writeDescriptor(this.config.descriptors, head, { address: table, length: 16 * pieces.length }, INDIRECT, 0);
    this.#chains.set(head, [head]);
    this.offer(head);
    return head;
  }

  /** Puts a head into the available ring. */
  offer(head: number): void {
    const { driver, size } = this.config;
    this.memory.writeU16(driver + 4 + 2 * (this.#avail % size), head);
    this.#avail = (this.#avail + 1) & 0xffff;
    this.memory.writeU16(driver + 2, this.#avail);
  }

  /** The next chain that the device has given back. */
  take(): { readonly head: number; readonly written: number } | undefined {
    const { device, size } = this.config;
    if (this.memory.readU16(device + 2) === this.#used) return undefined;
    const at = device + 4 + 8 * (this.#used % size);
    this.#used = (this.#used + 1) & 0xffff;
    const head = this.memory.readU32(at);
    this.#free.push(...(this.#chains.get(head) ?? []));
    this.#chains.delete(head);
    return { head, written: this.memory.readU32(at + 4) };
  }

  /** Flags of the available ring: 1 asks for no interrupts. */
  setFlags(flags: number): void {
    this.memory.writeU16(this.config.driver, flags);
  }

  /** With the event index: interrupt when the device has used this many chains and one more. */
  setUsedEvent(index: number): void {
    this.memory.writeU16(this.config.driver + 4 + 2 * this.config.size, index);
  }

  /** Does the device want to be told of the chain with this number, the first being 0? `eventIdx`: it was negotiated. */
  wantsNotification(eventIdx: boolean, index: number): boolean {
    const { device, size } = this.config;
    if (!eventIdx) return (this.memory.readU16(device) & 1) === 0;
    return this.memory.readU16(device + 4 + 8 * size) === (index & 0xffff);
  }
}

/** Both ends of a queue over the same memory. */
export function queuePair(size: number, bits: readonly bigint[] = [], memory = testMemory(), address = 0x1000) {
  const driver = new DriverQueue(memory, address, size);
  let interrupts = 0;
  const queue = new Queue(0, driver.config, new GuestRanges(memory), featureSet(...bits), () => interrupts++);
  return {
    driver,
    queue,
    memory,
    get interrupts() {
      return interrupts;
    },
  };
}
