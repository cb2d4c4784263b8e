import type { BusDevice } from '../../src/devices/bus.ts';
import type { SharedRange } from '../../src/devices/device-state.ts';

/** Fresh shared memory. */
export function sharedRange(size: number): SharedRange {
  return { buffer: new SharedArrayBuffer(size), offset: 0 };
}

/** Reads `size` bytes, little-endian. Bytes that nobody fills show as 0xee. */
export function read(device: BusDevice, offset: number, size = 1): number {
  const data = new Uint8Array(size).fill(0xee);
  device.read(offset, data);
  return data.reduceRight((value, byte) => value * 256 + byte, 0);
}

/** Writes `size` bytes, little-endian. */
export function write(device: BusDevice, offset: number, value: number, size = 1): void {
  device.write(offset, littleEndian(value, size));
}

export function littleEndian(value: number, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => Math.floor(value / 2 ** (8 * i)) % 256);
}

/** A line that remembers its level and how often it rose. */
export class TestLine {
  level = false;
  rises = 0;
  /** Levels told twice: a device must not. */
  repeats = 0;
  readonly set = (level: boolean): void => {
    if (level === this.level) this.repeats++;
    else if (level) this.rises++;
    this.level = level;
  };
}

/** Random numbers of a seed (xorshift32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0 || 1;
  }

  /** A whole number below `end`. */
  below(end: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % end;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }
}

/** A new seed; VIVARIUM_SEED repeats an old one. */
export function newSeed(): number {
  return Number(process.env['VIVARIUM_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
}
