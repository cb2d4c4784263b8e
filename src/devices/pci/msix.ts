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

/** Bytes of shared state for so many vectors. */
export function msixStateSize(vectors: number): number {
  return WORDS_SIZE + vectors * ENTRY_SIZE + msixPbaSize(vectors);
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

/** Message-signalled interrupts of a function (PCI Local Bus 3.0, 6.8.2): its table, pending bits and capability. */
export class Msix {
  readonly #vectors: number;
  readonly #state: DeviceState;
  readonly #table: Int32Array;
  readonly #tableBytes: Uint8Array;
  readonly #pending: Uint8Array;
  readonly #config: ConfigSpace;
  readonly #capability: number;
  readonly #send: (msi: Msi) => void;
  readonly #control = new Uint8Array(1);

  /** `range` has msixStateSize() bytes. Adds the capability. Throws RangeError for a place that cannot be. */
  constructor(range: SharedRange, config: ConfigSpace, place: MsixPlace, send: (msi: Msi) => void) {
    const { vectors, bar, tableOffset, pbaOffset } = place;
    if (!(vectors >= 1 && vectors <= MAX_VECTORS) || ((tableOffset | pbaOffset) & 7) !== 0) {
      throw new RangeError(`MSI-X: ${vectors} vectors, table at ${tableOffset}, pending bits at ${pbaOffset}`);
    }
    this.#vectors = vectors;
    this.#state = new DeviceState(range, WORDS_SIZE);
    const table = range.offset + WORDS_SIZE;
    this.#table = new Int32Array(range.buffer, table, vectors * 4);
    this.#tableBytes = new Uint8Array(range.buffer, table, vectors * ENTRY_SIZE);
    this.#pending = new Uint8Array(range.buffer, table + vectors * ENTRY_SIZE, msixPbaSize(vectors));
    this.#config = config;
    this.#send = send;
    const body = new Uint8Array(10);
    const view = new DataView(body.buffer);
    view.setUint16(0, vectors - 1, true);
    view.setUint32(2, tableOffset | bar, true);
    view.setUint32(6, pbaOffset | bar, true);
    const writable = Uint8Array.of(0, ENABLE | FUNCTION_MASK, 0, 0, 0, 0, 0, 0, 0, 0);
    this.#capability = config.addCapability({ id: CAPABILITY_MSIX, body, writable, afterWrite: () => this.#flush() });
  }

  /** Power-on state, all vectors masked: once, before any other call in any thread. */
  reset(): void {
    this.#state.words.fill(0);
    this.#tableBytes.fill(0);
    this.#pending.fill(0);
    for (let vector = 0; vector < this.#vectors; vector++) this.#table[vector * 4 + VECTOR_CONTROL] = VECTOR_MASKED;
  }

  /** Does the guest take messages in place of INTx? */
  get enabled(): boolean {
    return (this.#readControl() & ENABLE) !== 0;
  }

  /** Sends a vector's message, now or when it is unmasked. Vectors that do not exist, or while it is not enabled: nothing. */
  signal(vector: number): void {
    if (!Number.isInteger(vector) || vector < 0 || vector >= this.#vectors) return;
    this.#state.locked(() => {
      const control = this.#readControl();
      if ((control & ENABLE) === 0) return;
      if (this.#isMasked(vector, control)) this.#setPending(vector, true);
      else this.#sendVector(vector);
    });
  }

  /** A guest's read in the table; past its end zeros. */
  readTable(offset: number, data: Uint8Array): void {
    this.#state.locked(() => {
      for (let i = 0; i < data.length; i++) data[i] = this.#tableBytes[offset + i] ?? 0;
    });
  }

  writeTable(offset: number, data: Uint8Array): void {
    this.#state.locked(() => {
      for (let i = 0; i < data.length && offset + i < this.#tableBytes.length; i++) {
        const at = offset + i;
        const value = data[i] as number;
        // Of vector control only the mask bit exists.
        if ((at & 12) !== VECTOR_CONTROL * 4) this.#tableBytes[at] = value;
        else if ((at & 3) === 0) this.#tableBytes[at] = value & VECTOR_MASKED;
      }
      this.#sendPending();
    });
  }

  /** A guest's read of pending bits. They cannot be written. */
  readPba(offset: number, data: Uint8Array): void {
    this.#state.locked(() => {
      for (let i = 0; i < data.length; i++) data[i] = this.#pending[offset + i] ?? 0;
    });
  }

  #flush(): void {
    this.#state.locked(() => this.#sendPending());
  }

  #sendPending(): void {
    const control = this.#readControl();
    if ((control & ENABLE) === 0) return;
    for (let byte = 0; byte < this.#pending.length; byte++) {
      for (let bits = this.#pending[byte] as number, bit = 0; bits !== 0; bits >>= 1, bit++) {
        const vector = byte * 8 + bit;
        if ((bits & 1) === 0 || this.#isMasked(vector, control)) continue;
        this.#setPending(vector, false);
        this.#sendVector(vector);
      }
    }
  }

  #readControl(): number {
    this.#config.peek(this.#capability + CONTROL_HIGH, this.#control);
    return this.#control[0] as number;
  }

  #isMasked(vector: number, control: number): boolean {
    return (
      (control & FUNCTION_MASK) !== 0 || ((this.#table[vector * 4 + VECTOR_CONTROL] as number) & VECTOR_MASKED) !== 0
    );
  }

  #setPending(vector: number, pending: boolean): void {
    const bit = 1 << (vector & 7);
    const byte = this.#pending[vector >> 3] as number;
    this.#pending[vector >> 3] = pending ? byte | bit : byte & ~bit;
  }

  #sendVector(vector: number): void {
    const word = (index: number): number => (this.#table[vector * 4 + index] as number) >>> 0;
    this.#send({ address: (BigInt(word(ADDRESS_HIGH)) << 32n) | BigInt(word(ADDRESS_LOW)), data: word(DATA) });
  }
}
