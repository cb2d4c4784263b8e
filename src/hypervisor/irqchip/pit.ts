import type { Clock } from '../../host/clock.ts';
import type { SharedRange } from '../../host/shared-state.ts';
import { PIT_CHANNEL_DOUBLES, PIT_CHANNEL_WORDS, PitChannel } from './pit-channel.ts';

const CHANNELS = 3;
/** Int32 words of the whole: channels, then port 0x61. */
const WORDS = CHANNELS * PIT_CHANNEL_WORDS + 16;
const PORT_61 = CHANNELS * PIT_CHANNEL_WORDS;
/** After the channels' doubles. */
const DEADLINE = CHANNELS * PIT_CHANNEL_DOUBLES;
const LAST_SERVICE = DEADLINE + 1;
/** Bytes of shared state. */
export const PIT_STATE_SIZE = WORDS * 4 + 128;

/** Shortest time between two interrupts, ns: a guest that asks for less would only keep its own processor here. */
const MIN_INTERVAL = 100_000;
/** Half a period of the refresh request that port 0x61 shows, ns. */
const REFRESH_TOGGLE = 15_085;

const GATE_2 = 0x01;
const SPEAKER = 0x02;
const REFRESH = 0x10;
const OUT_2 = 0x20;

/**
 * The 8254 at ports 0x40 to 0x43 and system control port B (0x61), which holds the gate of channel 2. Every call but
 * nextDeadline() needs the interrupt chip's lock held.
 */
export class Pit {
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #channels: readonly PitChannel[];
  readonly #clock: Clock;
  readonly #pulse: () => void;

  /** `pulse` raises and lowers the line of channel 0. */
  constructor(range: SharedRange, clock: Clock, pulse: () => void) {
    this.#words = new Int32Array(range.buffer, range.offset, WORDS);
    this.#doubles = new Float64Array(range.buffer, range.offset + WORDS * 4, 16);
    this.#channels = Array.from({ length: CHANNELS }, (_, i) => {
      const words = this.#words.subarray(i * PIT_CHANNEL_WORDS, (i + 1) * PIT_CHANNEL_WORDS);
      return new PitChannel(words, this.#doubles.subarray(i * PIT_CHANNEL_DOUBLES, (i + 1) * PIT_CHANNEL_DOUBLES));
    });
    this.#clock = clock;
    this.#pulse = pulse;
  }

  reset(): void {
    for (const [i, channel] of this.#channels.entries()) channel.reset(i !== 2);
    this.#words[PORT_61] = 0;
    this.#doubles[LAST_SERVICE] = -MIN_INTERVAL;
    this.#schedule();
  }

  /** When channel 0 interrupts next, ns; Infinity: never. */
  nextDeadline(): number {
    return this.#doubles[DEADLINE] as number;
  }

  /** Interrupts if channel 0's output has risen. Edges that were missed merge into one. */
  advance(now: number): void {
    if (now < this.nextDeadline()) return;
    if (this.#channel(0).takeEdges(now)) {
      this.#doubles[LAST_SERVICE] = now;
      this.#pulse();
    }
    this.#schedule();
  }

  /** A byte read at 0x40 to 0x43 or 0x61. */
  read(port: number): number {
    const now = this.#clock.now();
    if (port === 0x61) {
      const refresh = Math.floor(now / REFRESH_TOGGLE) % 2 === 0 ? 0 : REFRESH;
      return (this.#words[PORT_61] as number) | refresh | (this.#channel(2).output(now) ? OUT_2 : 0);
    }
    // The control word cannot be read.
    return port === 0x43 ? 0 : this.#channel(port & 3).read(now);
  }

  /** A byte written to one of those ports. Returns true when channel 0's deadline may have changed. */
  write(port: number, value: number): boolean {
    const now = this.#clock.now();
    if (port === 0x61) {
      this.#words[PORT_61] = value & (GATE_2 | SPEAKER);
      this.#channel(2).setGate((value & GATE_2) !== 0, now);
      return false;
    }
    if (port !== 0x43) {
      this.#channel(port & 3).write(value, now);
      if (port === 0x40) this.#schedule();
      return port === 0x40;
    }
    const select = value >> 6;
    if (select === 3) {
      this.#readBack(value, now);
      return false;
    }
    if ((value & 0x30) === 0) {
      this.#channel(select).latchCount(now);
      return false;
    }
    this.#channel(select).control(value);
    if (select === 0) this.#schedule();
    return select === 0;
  }

  #readBack(value: number, now: number): void {
    for (let i = 0; i < CHANNELS; i++) {
      if ((value & (2 << i)) === 0) continue;
      if ((value & 0x20) === 0) this.#channel(i).latchCount(now);
      if ((value & 0x10) === 0) this.#channel(i).latchStatus(now);
    }
  }

  #schedule(): void {
    const earliest = (this.#doubles[LAST_SERVICE] as number) + MIN_INTERVAL;
    this.#doubles[DEADLINE] = Math.max(this.#channel(0).nextEdge(), earliest);
  }

  #channel(index: number): PitChannel {
    return this.#channels[index] as PitChannel;
  }
}
