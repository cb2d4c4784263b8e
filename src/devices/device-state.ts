/** What all devices share: flat state with a lock in it, register helpers, and the reasons for which a device ends the run. */
import { Lock, type SharedRange } from '../host/shared-state.ts';

export type { SharedRange };

/** Flat state of a device: Int32 words guarded by a lock that is the first of them. */
export class DeviceState {
  /** Word 0 is the lock. */
  readonly words: Int32Array;
  readonly #lock: Lock;

  /** `size` in bytes. */
  constructor(range: SharedRange, size: number) {
    this.words = new Int32Array(range.buffer, range.offset, size / 4);
    this.#lock = new Lock(this.words, 0);
  }

  get(word: number): number {
    return this.words[word] as number;
  }

  set(word: number, value: number): void {
    this.words[word] = value;
  }

  /** Runs `body` with the lock held. It must not take the lock again. */
  locked<T>(body: () => T): T {
    this.#lock.acquire();
    try {
      return body();
    } finally {
      this.#lock.release();
    }
  }
}

/** Puts `value` into `data`, little-endian, zero-extended: up to 32 bits. */
export function putLittleEndian(data: Uint8Array, value: number): void {
  for (let i = 0; i < data.length; i++) data[i] = i < 4 ? (value >>> (8 * i)) & 0xff : 0;
}

/** The first 32 bits of `data`, little-endian, as a u32. */
export function getLittleEndian(data: Uint8Array): number {
  let value = 0;
  for (let i = Math.min(data.length, 4) - 1; i >= 0; i--) value = value * 256 + (data[i] as number);
  return value;
}

/** Level of an interrupt line, told by a device. */
export type LineCallback = (level: boolean) => void;
