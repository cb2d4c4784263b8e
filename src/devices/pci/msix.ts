import type { Msi } from '../../hypervisor/hypervisor.ts';
import { DeviceState, type SharedRange } from '../device-state.ts';
import type { ConfigSpace } from './config-space.ts';

const CAPABILITY_MSIX = 0x11;
const ENTRY_SIZE = 16;
const MAX_VECTORS = 2048;
const WORDS_SIZE = 64;

// Message control's high byte, in the capability.
const CONTROL_HIGH = 3;
const ENABLE = 0x80;
const FUNCTION_MASK = 0x40;

// Words of a table entry.
const ADDRESS_LOW = 0;
const ADDRESS_HIGH = 1;
const DATA = 2;
const VECTOR_CONTROL = 3;
const VECTOR_MASKED = 1;

/** Bytes of shared state for so many vectors: the table, and what each vector's event is connected to. */
export function msixStateSize(vectors: number): number {
  return WORDS_SIZE + 2 * vectors * ENTRY_SIZE;
}

/** Bytes of the table. */
export function msixTableSize(vectors: number): number {
  return vectors * ENTRY_SIZE;
}

/** Bytes of the array of pending bits: whole quadwords. */
export function msixPbaSize(vectors: number): number {
  return Math.ceil(vectors / 64) * 8;
}

export interface MsixPlace {
  readonly vectors: number;
  /** Index of the BAR that holds both. */
  readonly bar: number;
  /** Offsets in the BAR, multiples of 8. */
  readonly tableOffset: number;
  readonly pbaOffset: number;
}

/**
 * The events behind the vectors: whoever has an interrupt for a vector signals its event, masked or not. Calls come from any thread,
 * one at a time.
 */
export interface VectorEvents {
  /** From now on each signal of the vector's event, and one that waits already, sends the message. Also to change it. */
  connect(vector: number, msi: Msi): void;
  /** From now on its signals wait. */
  disconnect(vector: number): void;
  /** Does a signal wait? */
  pending(vector: number): boolean;
}

/**
 * Message-signalled interrupts of a function (PCI Local Bus 3.0, 6.8.2): table, pending bits and capability. A vector that is
 * masked is disconnected from its event, and the signals that wait there are its pending bit.
 */
export class Msix {
  readonly #vectors: number;
  readonly #state: DeviceState;
  readonly #table: Int32Array;
  readonly #tableBytes: Uint8Array;
  /** For each vector the message it is connected to, as in the table; in place of vector control, whether it is. */
  readonly #connected: Int32Array;
  readonly #config: ConfigSpace;
  readonly #capability: number;
  readonly #events: VectorEvents;
  readonly #control = new Uint8Array(1);

  /**
   * `range` has msixStateSize() bytes. Adds the capability; `onControl` is called when the guest has written it. Throws RangeError
   * for a place that cannot be.
   */
  constructor(
    range: SharedRange,
    config: ConfigSpace,
    place: MsixPlace,
    events: VectorEvents,
    onControl: () => void = () => {},
  ) {
    const { vectors, bar, tableOffset, pbaOffset } = place;
    if (!(vectors >= 1 && vectors <= MAX_VECTORS) || ((tableOffset | pbaOffset) & 7) !== 0) {
      throw new RangeError(`MSI-X: ${vectors} vectors, table at ${tableOffset}, pending bits at ${pbaOffset}`);
    }
    this.#vectors = vectors;
    this.#state = new DeviceState(range, WORDS_SIZE);
    const table = range.offset + WORDS_SIZE;
    this.#table = new Int32Array(range.buffer, table, vectors * 4);
    this.#tableBytes = new Uint8Array(range.buffer, table, vectors * ENTRY_SIZE);
    this.#connected = new Int32Array(range.buffer, table + vectors * ENTRY_SIZE, vectors * 4);
    this.#config = config;
    this.#events = events;
    const body = new Uint8Array(10);
    const view = new DataView(body.buffer);
    view.setUint16(0, vectors - 1, true);
    view.setUint32(2, tableOffset | bar, true);
    view.setUint32(6, pbaOffset | bar, true);
    const writable = Uint8Array.of(0, ENABLE | FUNCTION_MASK, 0, 0, 0, 0, 0, 0, 0, 0);
    const afterWrite = (): void => {
      this.#state.locked(() => this.#connectAll());
      onControl();
    };
    this.#capability = config.addCapability({ id: CAPABILITY_MSIX, body, writable, afterWrite });
  }

  /** Power-on state, all vectors masked: once, before any other call in any thread. */
  reset(): void {
    this.#state.words.fill(0);
    this.#table.fill(0);
    this.#connected.fill(0);
    for (let vector = 0; vector < this.#vectors; vector++) this.#table[vector * 4 + VECTOR_CONTROL] = VECTOR_MASKED;
  }

  /** Does the guest take messages in place of INTx? */
  get enabled(): boolean {
    return (this.#readControl() & ENABLE) !== 0;
  }

  /** A guest's read in the table; past its end zeros. */
  readTable(offset: number, data: Uint8Array): void {
    this.#state.locked(() => {
      for (let i = 0; i < data.length; i++) data[i] = this.#tableBytes[offset + i] ?? 0;
    });
  }

  writeTable(offset: number, data: Uint8Array): void {
    this.#state.locked(() => {
      const end = Math.min(offset + data.length, this.#tableBytes.length);
      for (let at = offset; at < end; at++) {
        const value = data[at - offset] as number;
        // Of vector control only the mask bit exists.
        if ((at & 12) !== VECTOR_CONTROL * 4) this.#tableBytes[at] = value;
        else if ((at & 3) === 0) this.#tableBytes[at] = value & VECTOR_MASKED;
      }
      const control = this.#readControl();
      for (let vector = Math.floor(offset / ENTRY_SIZE); vector * ENTRY_SIZE < end; vector++) {
        this.#connectOne(vector, control);
      }
    });
  }

  /** A guest's read of pending bits. They cannot be written. */
  readPba(offset: number, data: Uint8Array): void {
    this.#state.locked(() => {
      for (let i = 0; i < data.length; i++) {
        let bits = 0;
        for (let bit = 0; bit < 8; bit++) if (this.#isPending((offset + i) * 8 + bit)) bits |= 1 << bit;
        data[i] = bits;
      }
    });
  }

  #isPending(vector: number): boolean {
    if (vector >= this.#vectors || this.#connected[vector * 4 + VECTOR_CONTROL] === 1) return false;
    return this.#events.pending(vector);
  }

  #connectAll(): void {
    const control = this.#readControl();
    for (let vector = 0; vector < this.#vectors; vector++) this.#connectOne(vector, control);
  }

  /** Brings a vector's event to where the guest wants it. */
  #connectOne(vector: number, control: number): void {
    const at = vector * 4;
    const masked =
      (control & (ENABLE | FUNCTION_MASK)) !== ENABLE ||
      ((this.#table[at + VECTOR_CONTROL] as number) & VECTOR_MASKED) !== 0;
    const connected = this.#connected[at + VECTOR_CONTROL] === 1;
    if (masked) {
      if (connected) this.#events.disconnect(vector);
      this.#connected[at + VECTOR_CONTROL] = 0;
      return;
    }
    const message = this.#table.subarray(at, at + VECTOR_CONTROL);
    if (connected && message.every((word, i) => word === this.#connected[at + i])) return;
    this.#connected.set(message, at);
    this.#connected[at + VECTOR_CONTROL] = 1;
    const word = (index: number): number => (message[index] as number) >>> 0;
    this.#events.connect(vector, {
      address: (BigInt(word(ADDRESS_HIGH)) << 32n) | BigInt(word(ADDRESS_LOW)),
      data: word(DATA),
    });
  }

  #readControl(): number {
    this.#config.peek(this.#capability + CONTROL_HIGH, this.#control);
    return this.#control[0] as number;
  }
}
