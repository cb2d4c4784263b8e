/** Flat state in memory that all threads share: ranges, their allocator, and the lock that guards one. */

/** A piece of shared memory; survives structured clone. */
export interface SharedRange {
  readonly buffer: SharedArrayBuffer;
  /** Bytes from the buffer's start, a multiple of 64. */
  readonly offset: number;
}

/** Ranges start at cache lines, so that two devices never share one. */
const ALIGNMENT = 64;

/** Hands out consecutive ranges of one buffer. The same calls in the same order give the same ranges in any thread. */
export class StateAllocator {
  readonly #buffer: SharedArrayBuffer;
  #next: number;

  constructor(buffer: SharedArrayBuffer, start = 0) {
    this.#buffer = buffer;
    this.#next = start;
  }

  /** The next `size` bytes. Throws RangeError when the buffer has no room. */
  allocate(size: number): SharedRange {
    const offset = Math.ceil(this.#next / ALIGNMENT) * ALIGNMENT;
    if (offset + size > this.#buffer.byteLength) {
      throw new RangeError(
        `shared state of ${this.#buffer.byteLength} bytes has no room for ${size} more at ${offset}`,
      );
    }
    this.#next = offset + size;
    return { buffer: this.#buffer, offset };
  }
}

/** Bytes that an allocator needs for ranges of these sizes. */
export function stateSize(sizes: readonly number[]): number {
  return sizes.reduce((sum, size) => sum + Math.ceil(size / ALIGNMENT) * ALIGNMENT, 0);
}

const FREE = 0;
const HELD = 1;
const CONTENDED = 2;
/** Tries before the thread sleeps: critical sections here take well under a microsecond. */
const SPINS = 100;

/** Mutual exclusion between threads, in one Int32 of shared memory. Not recursive. */
export class Lock {
  readonly #words: Int32Array;
  readonly #index: number;

  /** `index` counts Int32s in `words`; the word starts as 0. */
  constructor(words: Int32Array, index: number) {
    this.#words = words;
    this.#index = index;
  }

  acquire(): void {
    if (Atomics.compareExchange(this.#words, this.#index, FREE, HELD) !== FREE) this.#acquireSlowly();
  }

  /** Takes the lock if nobody has it; true: taken. */
  tryAcquire(): boolean {
    return Atomics.compareExchange(this.#words, this.#index, FREE, HELD) === FREE;
  }

  release(): void {
    if (Atomics.exchange(this.#words, this.#index, FREE) === CONTENDED) Atomics.notify(this.#words, this.#index, 1);
  }

  #acquireSlowly(): void {
    for (let i = 0; i < SPINS; i++) {
      if (Atomics.compareExchange(this.#words, this.#index, FREE, HELD) === FREE) return;
    }
    // Whoever sleeps takes the lock as contended: others may sleep too, and must be woken at its release.
    while (Atomics.exchange(this.#words, this.#index, CONTENDED) !== FREE) {
      Atomics.wait(this.#words, this.#index, CONTENDED);
    }
  }
}
