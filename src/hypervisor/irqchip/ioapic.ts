import type { SharedRange } from '../../host/shared-state.ts';
import { DELIVERY_LOWEST } from './lapic-registers.ts';
import type { InterruptMessage } from './message-bus.ts';

export const IOAPIC_PINS = 24;
/** Bytes of shared state. */
export const IOAPIC_STATE_SIZE = 256;

// Memory-mapped registers (82093AA, and the EOI register of version 0x20).
const IOREGSEL = 0x00;
const IOWIN = 0x10;
const EOIR = 0x40;
// Indirect registers.
const IOAPICID = 0x00;
const IOAPICVER = 0x01;
const IOAPICARB = 0x02;
const IOREDTBL = 0x10;
const VERSION = 0x20 | ((IOAPIC_PINS - 1) << 16);

// Redirection entry, low half.
const DEST_LOGICAL = 0x800;
const REMOTE_IRR = 0x4000;
const LEVEL = 0x8000;
const MASKED = 0x10000;
/** All but delivery status and remote IRR. */
const ENTRY_WRITABLE = 0x1afff;

// Int32 words.
const SELECT = 0;
const ID = 1;
const LINES = 2;
const ENTRIES = 8;

/** The I/O APIC. Every call needs the interrupt chip's lock held. */
export class IoApic {
  readonly #words: Int32Array;
  readonly #send: (message: InterruptMessage) => boolean;
  readonly #redirected: (() => void) | undefined;

  /** `send` returns false when no local APIC took the message; `redirected` hears when what a pin sends has changed. */
  constructor(range: SharedRange, send: (message: InterruptMessage) => boolean, redirected?: () => void) {
    this.#words = new Int32Array(range.buffer, range.offset, IOAPIC_STATE_SIZE / 4);
    this.#send = send;
    this.#redirected = redirected;
  }

  reset(): void {
    this.#words.fill(0);
    for (let pin = 0; pin < IOAPIC_PINS; pin++) this.#words[ENTRIES + pin * 2] = MASKED;
  }

  /** Level of a pin, true: asserted. A pin's polarity is a matter of wires that do not exist here. */
  setPin(pin: number, level: boolean): void {
    const bit = 1 << pin;
    const lines = this.#get(LINES);
    const rising = level && (lines & bit) === 0;
    this.#words[LINES] = level ? lines | bit : lines & ~bit;
    if (rising) this.#deliver(pin);
  }

  /** The end of a level-triggered interrupt: pins whose lines are still up interrupt again. */
  endOfInterrupt(vector: number): void {
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      const entry = this.#entry(pin);
      if ((entry & 0xff) !== vector || (entry & REMOTE_IRR) === 0) continue;
      this.#words[ENTRIES + pin * 2] = entry & ~REMOTE_IRR;
      this.#deliverLevel(pin);
    }
  }

  /** A 32-bit read at `offset` in its page. */
  read(offset: number): number {
    if (offset === IOREGSEL) return this.#get(SELECT);
    if (offset !== IOWIN) return 0;
    const index = this.#get(SELECT);
    switch (index) {
      case IOAPICID:
      case IOAPICARB:
        return this.#get(ID);
      case IOAPICVER:
        return VERSION;
      default:
        return isEntry(index) ? this.#get(ENTRIES + index - IOREDTBL) >>> 0 : 0;
    }
  }

  /** A 32-bit write. */
  write(offset: number, value: number): void {
    if (offset === IOREGSEL) this.#words[SELECT] = value & 0xff;
    else if (offset === EOIR) this.endOfInterrupt(value & 0xff);
    else if (offset === IOWIN) this.#writeIndirect(this.#get(SELECT), value);
  }

  #writeIndirect(index: number, value: number): void {
    if (index === IOAPICID) {
      this.#words[ID] = value & 0x0f00_0000;
      return;
    }
    if (!isEntry(index)) return;
    const word = ENTRIES + index - IOREDTBL;
    if ((index & 1) !== 0) {
      this.#setEntry(word, value & 0xff00_0000);
      return;
    }
    let entry = (value & ENTRY_WRITABLE) | (this.#get(word) & REMOTE_IRR);
    // Guests drop a stuck remote IRR by a turn through edge-triggered mode.
    if ((entry & LEVEL) === 0) entry &= ~REMOTE_IRR;
    this.#setEntry(word, entry);
    this.#deliverLevel((index - IOREDTBL) >> 1);
  }

  /** Half of a redirection entry. */
  #setEntry(word: number, value: number): void {
    const changed = (this.#get(word) ^ value) & ~(MASKED | REMOTE_IRR);
    this.#words[word] = value;
    if (changed !== 0) this.#redirected?.();
  }

  /** Delivers if the pin is level-triggered, up, and not being served. */
  #deliverLevel(pin: number): void {
    if ((this.#entry(pin) & LEVEL) !== 0 && (this.#get(LINES) & (1 << pin)) !== 0) this.#deliver(pin);
  }

  #deliver(pin: number): void {
    const entry = this.#entry(pin);
    const level = (entry & LEVEL) !== 0;
    // An edge on a masked pin is lost.
    if ((entry & MASKED) !== 0 || (level && (entry & REMOTE_IRR) !== 0)) return;
    const message = this.message(pin);
    const taken = this.#send(message);
    // Other modes have no end of interrupt that would clear it.
    if (taken && level && message.mode <= DELIVERY_LOWEST) this.#words[ENTRIES + pin * 2] = entry | REMOTE_IRR;
  }

  /** What a pin sends, by its redirection entry. */
  message(pin: number): InterruptMessage {
    const entry = this.#entry(pin);
    return {
      destination: this.#get(ENTRIES + pin * 2 + 1) >>> 24,
      logical: (entry & DEST_LOGICAL) !== 0,
      // ExtINT means the 8259's wire, which reaches the processors through LINT0.
      mode: (entry >> 8) & 7,
      vector: entry & 0xff,
      level: (entry & LEVEL) !== 0,
      wide: false,
    };
  }

  #entry(pin: number): number {
    return this.#get(ENTRIES + pin * 2);
  }

  #get(word: number): number {
    return this.#words[word] as number;
  }
}

function isEntry(index: number): boolean {
  return index >= IOREDTBL && index < IOREDTBL + IOAPIC_PINS * 2;
}
