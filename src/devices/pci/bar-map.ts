import { Lock, type SharedRange } from '../../host/shared-state.ts';
import type { Bus, BusEntry, MovableEntries } from '../bus.ts';
import { BAR_COUNT, type BarDescription } from './bar.ts';
import type { PciDevice } from './pci-device.ts';

/** Devices of a bus. */
export const PCI_SLOTS = 32;
const WORDS_SIZE = 64;
export const BAR_MAP_STATE_SIZE = WORDS_SIZE + PCI_SLOTS * BAR_COUNT * 8;

const W_LOCK = 0;
/** Changes with the map: a thread whose copy is older makes a new one. */
const W_GENERATION = 1;
/** In place of an address: the BAR answers nowhere. */
const NOWHERE = -1;

interface MappedBar {
  readonly device: PciDevice;
  readonly bar: BarDescription;
  /** Index in the shared table. */
  readonly index: number;
}

/**
 * Where the BARs of all functions answer. The guest moves them at will; a BAR that it puts onto another one, or onto a
 * device that cannot move, answers nowhere until there is room, and the other one goes on.
 */
export class BarMap {
  readonly #words: Int32Array;
  readonly #lock: Lock;
  /** Address of each BAR, by slot and index. */
  readonly #addresses: Float64Array;
  readonly #bars: MappedBar[] = [];
  readonly #pio: Bus;
  readonly #mmio: Bus;
  /** This thread's copy, and its generation. */
  #entries: Record<'io' | 'memory', BusEntry[]> = { io: [], memory: [] };
  #seen = -1;

  /** `range` has BAR_MAP_STATE_SIZE bytes. The map becomes the two buses' movable part. */
  constructor(range: SharedRange, pio: Bus, mmio: Bus) {
    this.#words = new Int32Array(range.buffer, range.offset, WORDS_SIZE / 4);
    this.#lock = new Lock(this.#words, W_LOCK);
    this.#addresses = new Float64Array(range.buffer, range.offset + WORDS_SIZE, PCI_SLOTS * BAR_COUNT);
    this.#pio = pio;
    this.#mmio = mmio;
    pio.setMovable(this.#finder('io'));
    mmio.setMovable(this.#finder('memory'));
  }

  /** Adds a device's BARs: before reset(), and the same in every thread. */
  add(slot: number, device: PciDevice): void {
    for (const bar of device.config.bars) this.#bars.push({ device, bar, index: slot * BAR_COUNT + bar.index });
  }

  /** Power-on state, no BAR anywhere: once, before any other call in any thread. */
  reset(): void {
    this.#words.fill(0);
    this.#addresses.fill(NOWHERE);
  }

  /** Follows the functions' registers: after every write that may have changed a BAR or its decoding. */
  update(): void {
    this.#lock.acquire();
    try {
      let changed = false;
      // Those that left make room first.
      for (const mapped of this.#bars) {
        const address = this.#addresses[mapped.index] as number;
        if (address !== NOWHERE && mapped.device.config.barAddress(mapped.bar) !== address) {
          this.#move(mapped, NOWHERE);
          changed = true;
        }
      }
      for (const mapped of this.#bars) {
        if (this.#addresses[mapped.index] !== NOWHERE) continue;
        const address = mapped.device.config.barAddress(mapped.bar);
        if (address === undefined || !this.#isFree(mapped.bar, address)) continue;
        this.#move(mapped, address);
        changed = true;
      }
      if (changed) Atomics.add(this.#words, W_GENERATION, 1);
    } finally {
      this.#lock.release();
    }
  }

  #move(mapped: MappedBar, address: number): void {
    this.#addresses[mapped.index] = address;
    mapped.device.barMoved?.(mapped.bar.index, address === NOWHERE ? undefined : address);
  }

  #isFree({ kind, size }: BarDescription, start: number): boolean {
    const io = kind === 'io';
    if (!(io ? this.#pio : this.#mmio).isFree(start, size)) return false;
    return this.#bars.every(({ bar, index }) => {
      const other = this.#addresses[index] as number;
      return other === NOWHERE || (bar.kind === 'io') !== io || other >= start + size || other + bar.size <= start;
    });
  }

  #finder(space: 'io' | 'memory'): MovableEntries {
    return {
      find: (address) => {
        if (Atomics.load(this.#words, W_GENERATION) !== this.#seen) this.#copy();
        return this.#entries[space].find(({ start, end }) => address >= start && address < end);
      },
    };
  }

  #copy(): void {
    this.#lock.acquire();
    try {
      this.#seen = Atomics.load(this.#words, W_GENERATION);
      this.#entries = { io: [], memory: [] };
      for (const mapped of this.#bars) {
        const start = this.#addresses[mapped.index] as number;
        if (start !== NOWHERE) this.#entries[mapped.bar.kind === 'io' ? 'io' : 'memory'].push(entry(mapped, start));
      }
    } finally {
      this.#lock.release();
    }
  }
}

function entry({ device, bar }: MappedBar, start: number): BusEntry {
  return {
    start,
    end: start + bar.size,
    device: {
      read: (offset, data) => device.readBar?.(bar.index, offset, data),
      write: (offset, data) => device.writeBar?.(bar.index, offset, data),
    },
  };
}
