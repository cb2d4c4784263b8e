import type { Clock } from '../host/clock.ts';
import type { BusDevice } from './bus.ts';
import { DeviceState, type LineCallback, type SharedRange } from './device-state.ts';
import * as T from './rtc-time.ts';

const WORDS_SIZE = 64;
const DOUBLES_SIZE = 64;
const RAM_SIZE = 128;
export const CMOS_STATE_SIZE = WORDS_SIZE + DOUBLES_SIZE + RAM_SIZE;

const REG_A = 10;
const REG_B = 11;
const REG_C = 12;
const REG_D = 13;

/** Register A: update in progress. */
const UIP = 0x80;
/** Divider in operation, 1024 Hz: what firmware leaves. */
const REG_A_RESET = 0x26;
const REG_B_SET = 0x80;
const PIE = 0x40;
const AIE = 0x20;
const UIE = 0x10;
const IRQF = 0x80;
const PF = 0x40;
const AF = 0x20;
const UF = 0x10;
/** Register D: the battery is good. */
const VRT = 0x80;

/** Milliseconds before a new second during which UIP is set. */
const UPDATE_TIME = 2;
/** Longest time to a deadline, ns: the host's wall clock may be set in the meantime. */
const LONGEST_WAIT = 60e9;

// Words of state.
const W_INDEX = 1;
const W_FLAGS = 2;
const W_LINE = 3;
// Doubles.
/** Guest's time minus the host's, ms. */
const D_OFFSET = 0;
/** Last second and last periodic tick that have been seen to. */
const D_SECOND = 1;
const D_TICK = 2;
const D_DEADLINE = 3;

export interface CmosSurroundings {
  readonly clock: Clock;
  /** Host's time, milliseconds since 1970. */
  readonly wallTime: () => number;
  readonly interrupt: LineCallback;
  /** nextDeadline() may have become earlier: whoever sleeps until then must look again. */
  readonly onDeadline: () => void;
}

/** MC146818 real-time clock and 128 bytes of CMOS memory, at ports 0x70 (index) and 0x71 (data). Time is UTC. */
export class Cmos implements BusDevice {
  readonly #state: DeviceState;
  readonly #doubles: Float64Array;
  readonly #ram: Uint8Array;
  readonly #around: CmosSurroundings;

  constructor(range: SharedRange, around: CmosSurroundings) {
    this.#state = new DeviceState(range, WORDS_SIZE);
    this.#doubles = new Float64Array(range.buffer, range.offset + WORDS_SIZE, DOUBLES_SIZE / 8);
    this.#ram = new Uint8Array(range.buffer, range.offset + WORDS_SIZE + DOUBLES_SIZE, RAM_SIZE);
    this.#around = around;
  }

  /** Power-on state: once, before any other call in any thread. */
  reset(): void {
    this.#state.words.fill(0);
    this.#doubles.fill(0);
    this.#ram.fill(0);
    this.#ram[REG_A] = REG_A_RESET;
    this.#ram[REG_B] = T.REG_B_24H;
    this.#restart();
  }

  /** When advance() has an interrupt to raise, ns of the clock; Infinity: never. */
  nextDeadline(): number {
    return this.#doubles[D_DEADLINE] as number;
  }

  advance(now: number): void {
    if (now < this.nextDeadline()) return;
    this.#state.locked(() => {
      this.#catchUp();
      this.#schedule();
    });
  }

  /** Offset 0 is the index register, 1 the data. Wider accesses are as many accesses of one byte. */
  read(offset: number, data: Uint8Array): void {
    this.#state.locked(() => {
      for (let i = 0; i < data.length; i++) {
        data[i] = offset + i === 0 ? this.#state.get(W_INDEX) : offset + i === 1 ? this.#readRegister() : 0xff;
      }
    });
  }

  write(offset: number, data: Uint8Array): void {
    const before = this.nextDeadline();
    this.#state.locked(() => {
      for (let i = 0; i < data.length; i++) {
        // Bit 7 masks NMI, which nothing here raises.
        if (offset + i === 0) this.#state.set(W_INDEX, (data[i] as number) & 0x7f);
        else if (offset + i === 1) this.#writeRegister(data[i] as number);
      }
    });
    if (this.nextDeadline() < before) this.#around.onDeadline();
  }

  #readRegister(): number {
    const index = this.#state.get(W_INDEX);
    if (isClock(index)) {
      if (!this.#stopped) T.encodeTime(this.#time(), this.#ram[REG_B] as number, this.#ram);
      return this.#ram[index] as number;
    }
    switch (index) {
      case REG_A: {
        const updating = !this.#stopped && modulo(this.#time(), 1000) >= 1000 - UPDATE_TIME;
        return (this.#ram[REG_A] as number) | (updating ? UIP : 0);
      }
      case REG_C: {
        this.#catchUp();
        const flags = this.#state.get(W_FLAGS);
        this.#state.set(W_FLAGS, 0);
        this.#updateLine();
        this.#schedule();
        return flags | ((flags & (this.#ram[REG_B] as number) & (PF | AF | UF)) !== 0 ? IRQF : 0);
      }
      case REG_D:
        return VRT;
      default:
        return this.#ram[index] as number;
    }
  }

  #writeRegister(value: number): void {
    const index = this.#state.get(W_INDEX);
    const ram = this.#ram;
    if (isClock(index)) {
      if (!this.#stopped) T.encodeTime(this.#time(), ram[REG_B] as number, ram);
      ram[index] = value;
      if (!this.#stopped) this.#setTime();
      return;
    }
    switch (index) {
      case REG_A:
        this.#catchUp();
        ram[REG_A] = value & ~UIP;
        this.#restart();
        return;
      case REG_B:
        this.#writeB(value);
        return;
      case REG_C:
      case REG_D:
        return;
      default:
        ram[index] = value;
        // The alarm registers are storage too, but they move the alarm.
        if (index < REG_A) this.#schedule();
    }
  }

  #writeB(value: number): void {
    const ram = this.#ram;
    this.#catchUp();
    const wasStopped = this.#stopped;
    const stops = (value & REG_B_SET) !== 0;
    if (stops && !wasStopped) T.encodeTime(this.#time(), ram[REG_B] as number, ram);
    // While time stands still there are no updates to tell.
    ram[REG_B] = stops ? value & ~UIE : value;
    if (!stops && wasStopped) this.#setTime();
    this.#restart();
    this.#updateLine();
  }

  // ---- Time ----------------------------------------------------------------------------------------------------------------

  get #stopped(): boolean {
    return ((this.#ram[REG_B] as number) & REG_B_SET) !== 0;
  }

  /** Guest's time, ms since 1970. */
  #time(): number {
    return this.#around.wallTime() + (this.#doubles[D_OFFSET] as number);
  }

  /** The clock registers are the time now. */
  #setTime(): void {
    const time = T.decodeTime(this.#ram, this.#ram[REG_B] as number);
    this.#doubles[D_OFFSET] = time - this.#around.wallTime();
    this.#restart();
  }

  /** Periodic interrupts a second, 0: none. */
  #rate(): number {
    const select = (this.#ram[REG_A] as number) & 0xf;
    if (select === 0) return 0;
    return 32_768 >> (select < 3 ? select + 6 : select - 1);
  }

  /** Forgets what was missed: what happens from now on counts. */
  #restart(): void {
    this.#doubles[D_SECOND] = Math.floor(this.#time() / 1000);
    this.#doubles[D_TICK] = Math.floor((this.#around.clock.now() * this.#rate()) / 1e9);
    this.#schedule();
  }

  /** Sets the flags of register C for what happened since the last call. */
  #catchUp(): void {
    let flags = this.#state.get(W_FLAGS);
    const registerB = this.#ram[REG_B] as number;
    const tick = Math.floor((this.#around.clock.now() * this.#rate()) / 1e9);
    if (tick > (this.#doubles[D_TICK] as number)) flags |= PF;
    this.#doubles[D_TICK] = tick;
    const second = Math.floor(this.#time() / 1000);
    const last = this.#doubles[D_SECOND] as number;
    if (!this.#stopped && second !== last) {
      flags |= UF;
      if (T.nextAlarm(last, this.#ram, registerB) <= second) flags |= AF;
      this.#doubles[D_SECOND] = second;
    }
    this.#state.set(W_FLAGS, flags);
    this.#updateLine();
  }

  #schedule(): void {
    const registerB = this.#ram[REG_B] as number;
    const enabled = registerB & ~this.#state.get(W_FLAGS);
    const now = this.#around.clock.now();
    let deadline = Infinity;
    if ((enabled & PIE) !== 0 && this.#rate() !== 0) {
      deadline = Math.ceil((((this.#doubles[D_TICK] as number) + 1) * 1e9) / this.#rate());
    }
    if (!this.#stopped) {
      const last = this.#doubles[D_SECOND] as number;
      let second = (enabled & UIE) !== 0 ? last + 1 : Infinity;
      if ((enabled & AIE) !== 0) second = Math.min(second, T.nextAlarm(last, this.#ram, registerB));
      if (second !== Infinity) {
        const wait = Math.min(Math.max(second * 1000 - this.#time(), 0) * 1e6, LONGEST_WAIT);
        deadline = Math.min(deadline, now + wait);
      }
    }
    this.#doubles[D_DEADLINE] = deadline;
  }

  #updateLine(): void {
    const level = (this.#state.get(W_FLAGS) & (this.#ram[REG_B] as number) & (PF | AF | UF)) !== 0;
    if (level === (this.#state.get(W_LINE) !== 0)) return;
    this.#state.set(W_LINE, level ? 1 : 0);
    this.#around.interrupt(level);
  }
}

/** Registers that show the time. */
function isClock(index: number): boolean {
  return (index <= T.RTC_YEAR && (index >= T.RTC_DAY_OF_WEEK || (index & 1) === 0)) || index === T.RTC_CENTURY;
}

function modulo(value: number, divisor: number): number {
  return ((value % divisor) + divisor) % divisor;
}
