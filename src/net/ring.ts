/** Buffers of connections: bytes that one side gave and the other has not taken. */

/** Bytes that a ring of a pool holds, and so what one TCP connection can have under way in one direction. A power of two. */
export const RING_SIZE = 256 * 1024;

/** Memory of rings, for all connections together. */
export class RingPool {
  readonly #free: Uint8Array[] = [];
  readonly #waiting = new Set<() => void>();
  #left: number;

  /** `most`: rings that can be in use at the same time. */
  constructor(most: number) {
    this.#left = most;
  }

  /** A ring, or none: then `wake` is called when one is free again. */
  take(wake?: () => void): Ring | undefined {
    if (this.#left === 0) {
      if (wake !== undefined) this.#waiting.add(wake);
      return undefined;
    }
    this.#left--;
    return new Ring(this.#free.pop() ?? new Uint8Array(RING_SIZE));
  }

  give(ring: Ring): void {
    this.#left++;
    // A few are kept: making and clearing one takes longer than what most connections say.
    if (this.#free.length < 16) this.#free.push(ring.memory);
    const [wake] = this.#waiting;
    if (wake === undefined) return;
    this.#waiting.delete(wake);
    wake();
  }

  /** Does not wait any more. */
  forget(wake: () => void): void {
    this.#waiting.delete(wake);
  }
}

export class Ring {
  readonly memory: Uint8Array;
  /** Bytes in it. */
  length = 0;
  readonly #mask: number;
  #first = 0;

  /** `memory`: a power of two of bytes. */
  constructor(memory: Uint8Array) {
    this.memory = memory;
    this.#mask = memory.length - 1;
  }

  /** Where the next bytes go, as far as it is in one piece. Empty: it is full. */
  space(): Uint8Array {
    const from = (this.#first + this.length) & this.#mask;
    return this.memory.subarray(from, from + Math.min(this.memory.length - this.length, this.memory.length - from));
  }

  /** The first `count` bytes of space() are filled. */
  produced(count: number): void {
    this.length += count;
  }

  /** `count` bytes from the `offset`th on, which are there: one piece or two. */
  pieces(offset: number, count: number): Uint8Array[] {
    if (count === 0) return [];
    const from = (this.#first + offset) & this.#mask;
    const end = from + count;
    if (end <= this.memory.length) return [this.memory.subarray(from, end)];
    return [this.memory.subarray(from), this.memory.subarray(0, end - this.memory.length)];
  }

  /** Forgets the first `count` bytes. */
  consume(count: number): void {
    this.length -= count;
    this.#first = this.length === 0 ? 0 : (this.#first + count) & this.#mask;
  }
}
