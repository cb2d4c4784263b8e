/** Rate of the 8254's input clock, Hz. */
export const PIT_HZ = 1_193_182;

/** Int32 words of one channel. */
export const PIT_CHANNEL_WORDS = 16;
const MODE = 0;
const BCD = 1;
/** Access: 1 low byte, 2 high byte, 3 low then high. */
const ACCESS = 2;
/** Low byte of a count that is half written, or -1. */
const WRITE_LOW = 3;
/** The next read gives the high byte. */
const READ_HIGH = 4;
const LATCHED = 5;
const LATCH_VALUE = 6;
const STATUS_LATCHED = 7;
const STATUS_VALUE = 8;
/** Initial count, 1 to 65536; 0: none written since the control word. */
const COUNT = 9;
const GATE = 10;
/** Modes 1 and 5: the gate has started the counter. */
const TRIGGERED = 11;

/** Doubles of one channel. */
export const PIT_CHANNEL_DOUBLES = 4;
/** Time the count was loaded, ns. */
const START = 0;
/** Ticks done when the gate stopped the counter; -1: it runs. */
const FROZEN = 1;
/** Rising edges of OUT that have been seen to. */
const SEEN_EDGES = 2;

/** One counter of an 8254: its value and output follow from the time it was started. */
export class PitChannel {
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;

  constructor(words: Int32Array, doubles: Float64Array) {
    this.#words = words;
    this.#doubles = doubles;
  }

  reset(gate: boolean): void {
    this.#words.fill(0);
    this.#doubles.fill(0);
    this.#set(ACCESS, 3);
    this.#set(WRITE_LOW, -1);
    this.#set(GATE, gate ? 1 : 0);
    this.#doubles[FROZEN] = -1;
  }

  // ---- Ports ---------------------------------------------------------------------------------------------------------------

  /** A control word that names this channel (not a latch command): the counter waits for its count. */
  control(value: number): void {
    const mode = (value >> 1) & 7;
    // Modes 6 and 7 are 2 and 3.
    this.#set(MODE, mode > 5 ? mode - 4 : mode);
    this.#set(BCD, value & 1);
    this.#set(ACCESS, (value >> 4) & 3);
    this.#set(WRITE_LOW, -1);
    this.#set(READ_HIGH, 0);
    this.#set(LATCHED, 0);
    this.#set(STATUS_LATCHED, 0);
    this.#set(COUNT, 0);
    this.#set(TRIGGERED, 0);
  }

  /** A byte of the count. */
  write(value: number, now: number): void {
    const access = this.#get(ACCESS);
    if (access === 1) this.#load(value, now);
    else if (access === 2) this.#load(value << 8, now);
    else if (this.#get(WRITE_LOW) < 0) this.#set(WRITE_LOW, value);
    else {
      const low = this.#get(WRITE_LOW);
      this.#set(WRITE_LOW, -1);
      this.#load((value << 8) | low, now);
    }
  }

  /** A byte of the status or count, latched or live. */
  read(now: number): number {
    if (this.#get(STATUS_LATCHED) !== 0) {
      this.#set(STATUS_LATCHED, 0);
      return this.#get(STATUS_VALUE);
    }
    const value = this.#get(LATCHED) !== 0 ? this.#get(LATCH_VALUE) : this.#reading(now);
    const access = this.#get(ACCESS);
    const high = access === 2 || (access === 3 && this.#get(READ_HIGH) !== 0);
    if (access === 3) this.#set(READ_HIGH, high ? 0 : 1);
    if (access !== 3 || high) this.#set(LATCHED, 0);
    return high ? value >> 8 : value & 0xff;
  }

  latchCount(now: number): void {
    if (this.#get(LATCHED) !== 0) return;
    this.#set(LATCHED, 1);
    this.#set(LATCH_VALUE, this.#reading(now));
  }

  latchStatus(now: number): void {
    if (this.#get(STATUS_LATCHED) !== 0) return;
    const status =
      (this.output(now) ? 0x80 : 0) |
      (this.#get(COUNT) === 0 ? 0x40 : 0) |
      (this.#get(ACCESS) << 4) |
      (this.#get(MODE) << 1) |
      this.#get(BCD);
    this.#set(STATUS_LATCHED, 1);
    this.#set(STATUS_VALUE, status);
  }

  get gate(): boolean {
    return this.#get(GATE) !== 0;
  }

  setGate(level: boolean, now: number): void {
    if (level === this.gate) return;
    const mode = this.#get(MODE);
    const ticks = this.#ticks(now);
    this.#set(GATE, level ? 1 : 0);
    if (mode === 0 || mode === 4) {
      if (!level) {
        this.#doubles[FROZEN] = ticks;
      } else {
        this.#doubles[START] = now - ((this.#doubles[FROZEN] as number) * 1e9) / PIT_HZ;
        this.#doubles[FROZEN] = -1;
      }
    } else if (level) {
      this.#set(TRIGGERED, 1);
      this.#start(now);
    }
  }

  // ---- Counting --------------------------------------------------------------------------------------------------------------

  /** Level of OUT. */
  output(now: number): boolean {
    const mode = this.#get(MODE);
    const count = this.#get(COUNT);
    if (count === 0) return mode !== 0;
    const ticks = this.#ticks(now);
    switch (mode) {
      case 0:
        return ticks >= count;
      case 1:
        return this.#get(TRIGGERED) === 0 || ticks >= count;
      case 2:
        return !this.gate || ticks % count !== count - 1;
      case 3:
        return !this.gate || ticks % count < Math.ceil(count / 2);
      case 4:
        return ticks !== count;
      default:
        return this.#get(TRIGGERED) === 0 || ticks !== count;
    }
  }

  /** Were there rising edges of OUT since the last call? */
  takeEdges(now: number): boolean {
    const edges = this.#edges(this.#ticks(now));
    if (edges <= (this.#doubles[SEEN_EDGES] as number)) return false;
    this.#doubles[SEEN_EDGES] = edges;
    return true;
  }

  /** Time of the next rising edge that takeEdges() has not seen, ns; Infinity: none to come. */
  nextEdge(): number {
    const count = this.#get(COUNT);
    if (!this.#counting || (this.#doubles[FROZEN] as number) >= 0) return Infinity;
    const seen = this.#doubles[SEEN_EDGES] as number;
    const mode = this.#get(MODE);
    let ticks: number;
    if (mode === 2 || mode === 3) ticks = (seen + 1) * count;
    else if (seen > 0) return Infinity;
    else ticks = mode < 2 ? count : count + 1;
    return Math.ceil((this.#doubles[START] as number) + (ticks * 1e9) / PIT_HZ);
  }

  /** Rising edges of OUT in the first `ticks`. */
  #edges(ticks: number): number {
    if (!this.#counting) return 0;
    const count = this.#get(COUNT);
    switch (this.#get(MODE)) {
      case 0:
      case 1:
        return ticks >= count ? 1 : 0;
      case 2:
      case 3:
        return Math.floor(ticks / count);
      default:
        return ticks > count ? 1 : 0;
    }
  }

  /** A count is loaded, and the gate lets it run or has started it. */
  get #counting(): boolean {
    if (this.#get(COUNT) === 0) return false;
    const mode = this.#get(MODE);
    if (mode === 1 || mode === 5) return this.#get(TRIGGERED) !== 0;
    return mode === 0 || mode === 4 || this.gate;
  }

  #load(value: number, now: number): void {
    const count = this.#get(BCD) !== 0 ? fromBcd(value) || 10_000 : value || 0x10000;
    this.#set(COUNT, count);
    const mode = this.#get(MODE);
    // Modes 1 and 5 take the count at the next rising edge of the gate.
    if (mode !== 1 && mode !== 5) this.#start(now);
    if ((mode === 0 || mode === 4) && !this.gate) this.#doubles[FROZEN] = 0;
  }

  #start(now: number): void {
    this.#doubles[START] = now;
    this.#doubles[FROZEN] = -1;
    this.#doubles[SEEN_EDGES] = 0;
  }

  /** Whole ticks since the start. */
  #ticks(now: number): number {
    const frozen = this.#doubles[FROZEN] as number;
    // A little is added so that a time computed from a tick gives that tick again.
    return frozen >= 0 ? frozen : Math.floor(((now - (this.#doubles[START] as number)) * PIT_HZ) / 1e9 + 1e-6);
  }

  /** The 16 bits of the counter as they read. */
  #reading(now: number): number {
    const count = this.#get(COUNT);
    if (!this.#counting) return this.#encode(count);
    const ticks = this.#ticks(now);
    switch (this.#get(MODE)) {
      case 2:
        return this.#encode(count - (ticks % count));
      case 3:
        return this.#encode(count - ((2 * ticks) % count));
      default:
        return this.#encode(count - ticks);
    }
  }

  #encode(value: number): number {
    if (this.#get(BCD) === 0) return value & 0xffff;
    return toBcd(((value % 10_000) + 10_000) % 10_000);
  }

  #get(word: number): number {
    return this.#words[word] as number;
  }

  #set(word: number, value: number): void {
    this.#words[word] = value;
  }
}

function fromBcd(value: number): number {
  return (value >> 12) * 1000 + ((value >> 8) & 15) * 100 + ((value >> 4) & 15) * 10 + (value & 15);
}

function toBcd(value: number): number {
  const digit = (divisor: number): number => Math.floor(value / divisor) % 10;
  return (digit(1000) << 12) | (digit(100) << 8) | (digit(10) << 4) | digit(1);
}
