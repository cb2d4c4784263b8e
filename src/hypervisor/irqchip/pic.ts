import type { SharedRange } from '../../host/shared-state.ts';

/** Bytes of the pair's shared state. */
export const PIC_STATE_SIZE = 192;

// Int32 words of one chip.
const IRR = 0;
const IMR = 1;
const ISR = 2;
/** Levels of the inputs. */
const LINES = 3;
/** Input of the highest priority. */
const FIRST = 4;
/** ICW2: vector of input 0. */
const VECTOR_BASE = 5;
/** Next ICW to be written to the data port: 2, 3, 4; 0 outside initialisation. */
const NEXT_ICW = 6;
const ICW1_VALUE = 7;
const READ_ISR = 8;
const POLL = 9;
const SPECIAL_MASK = 10;
const AUTO_EOI = 11;
const ROTATE_ON_AUTO_EOI = 12;
const SPECIAL_FULLY_NESTED = 13;
/** Edge/level control: 1 is level-triggered. */
const ELCR = 14;
const CHIP_WORDS = 16;
/** After both chips: level of the master's INT output. */
const OUTPUT = 2 * CHIP_WORDS;

const MASTER = 0;
const SLAVE = 1;
const CASCADE = 2;
const CASCADE_BIT = 1 << CASCADE;
/** Inputs that the system board keeps edge-triggered: timer, keyboard, cascade; RTC, coprocessor. */
const ELCR_WRITABLE = [0xf8, 0xde] as const;

/** Two cascaded 8259A interrupt controllers. Every call but `output` needs the interrupt chip's lock held. */
export class PicPair {
  readonly #words: Int32Array;
  readonly #onOutput: (level: boolean) => void;

  /** `onOutput` hears each change of the INT output. */
  constructor(range: SharedRange, onOutput: (level: boolean) => void) {
    this.#words = new Int32Array(range.buffer, range.offset, PIC_STATE_SIZE / 4);
    this.#onOutput = onOutput;
  }

  /** Level of the INT output; may be read without the lock. */
  get output(): boolean {
    return Atomics.load(this.#words, OUTPUT) !== 0;
  }

  /** Level of an input, 0 to 15; input 2 is the cascade and has no line. */
  setLine(input: number, level: boolean): void {
    if (input === CASCADE) return;
    const chip = input >> 3;
    const bit = 1 << (input & 7);
    const lines = this.#get(chip, LINES);
    if (level) {
      const edge = (lines & bit) === 0;
      if (edge || (this.#get(chip, ELCR) & bit) !== 0) this.#set(chip, IRR, this.#get(chip, IRR) | bit);
      this.#set(chip, LINES, lines | bit);
    } else {
      // A request by edge stays though its line falls: devices pulse their lines.
      if ((this.#get(chip, ELCR) & bit) !== 0) this.#set(chip, IRR, this.#get(chip, IRR) & ~bit);
      this.#set(chip, LINES, lines & ~bit);
    }
    this.#update();
  }

  /** The processor's interrupt acknowledge cycle: the vector, spurious (input 7) when the request has gone. */
  acknowledge(): number {
    const input = this.#take(MASTER);
    let vector = this.#get(MASTER, VECTOR_BASE) + (input & 7);
    if (input === CASCADE) vector = this.#get(SLAVE, VECTOR_BASE) + (this.#take(SLAVE) & 7);
    this.#update();
    return vector;
  }

  /** Vector that acknowledge() would give. */
  peek(): number {
    const input = this.#request(MASTER);
    if (input === CASCADE) return this.#get(SLAVE, VECTOR_BASE) + (this.#request(SLAVE) & 7);
    return this.#get(MASTER, VECTOR_BASE) + (input & 7);
  }

  /** A byte read at 0x20, 0x21, 0xa0, 0xa1, 0x4d0 or 0x4d1. */
  read(port: number): number {
    if ((port & ~1) === 0x4d0) return this.#get(port & 1, ELCR);
    const chip = port >= 0xa0 ? SLAVE : MASTER;
    if (this.#get(chip, POLL) !== 0) {
      this.#set(chip, POLL, 0);
      const input = this.#take(chip);
      this.#update();
      return input < 0 ? 0 : 0x80 | input;
    }
    if ((port & 1) !== 0) return this.#get(chip, IMR);
    return this.#get(chip, this.#get(chip, READ_ISR) !== 0 ? ISR : IRR);
  }

  /** A byte written to one of those ports. */
  write(port: number, value: number): void {
    if ((port & ~1) === 0x4d0) {
      this.#writeElcr(port & 1, value);
    } else {
      const chip = port >= 0xa0 ? SLAVE : MASTER;
      if ((port & 1) !== 0) this.#writeData(chip, value);
      else if ((value & 0x10) !== 0) this.#initialise(chip, value);
      else if ((value & 0x08) !== 0) this.#writeOcw3(chip, value);
      else this.#writeOcw2(chip, value);
    }
    this.#update();
  }

  #writeElcr(chip: number, value: number): void {
    const elcr = value & (ELCR_WRITABLE[chip] as number);
    this.#set(chip, ELCR, elcr);
    // Requests of level-triggered inputs are the levels of their lines.
    this.#set(chip, IRR, (this.#get(chip, IRR) & ~elcr) | (this.#get(chip, LINES) & elcr));
  }

  /** ICW1. */
  #initialise(chip: number, value: number): void {
    const elcr = this.#get(chip, ELCR);
    const lines = this.#get(chip, LINES);
    for (let word = 0; word < ELCR; word++) this.#set(chip, word, 0);
    this.#set(chip, LINES, lines);
    this.#set(chip, IRR, lines & elcr);
    this.#set(chip, ICW1_VALUE, value);
    this.#set(chip, NEXT_ICW, 2);
  }

  #writeData(chip: number, value: number): void {
    const icw1 = this.#get(chip, ICW1_VALUE);
    const afterIcw3 = (icw1 & 1) !== 0 ? 4 : 0;
    switch (this.#get(chip, NEXT_ICW)) {
      case 2:
        this.#set(chip, VECTOR_BASE, value & 0xf8);
        this.#set(chip, NEXT_ICW, (icw1 & 2) !== 0 ? afterIcw3 : 3);
        return;
      case 3:
        // The cascade is wired: master's input 2, slave's identity 2.
        this.#set(chip, NEXT_ICW, afterIcw3);
        return;
      case 4:
        this.#set(chip, SPECIAL_FULLY_NESTED, value & 0x10);
        this.#set(chip, AUTO_EOI, value & 0x02);
        this.#set(chip, NEXT_ICW, 0);
        return;
      default:
        this.#set(chip, IMR, value);
    }
  }

  #writeOcw3(chip: number, value: number): void {
    this.#set(chip, POLL, value & 4);
    if ((value & 2) !== 0) this.#set(chip, READ_ISR, value & 1);
    if ((value & 0x40) !== 0) this.#set(chip, SPECIAL_MASK, value & 0x20);
  }

  #writeOcw2(chip: number, value: number): void {
    const input = value & 7;
    switch (value >> 5) {
      case 0:
        this.#set(chip, ROTATE_ON_AUTO_EOI, 0);
        return;
      case 4:
        this.#set(chip, ROTATE_ON_AUTO_EOI, 1);
        return;
      case 1:
      case 5: {
        let served = this.#get(chip, ISR);
        if (this.#get(chip, SPECIAL_MASK) !== 0) served &= ~this.#get(chip, IMR);
        if (served !== 0) this.#endOfInterrupt(chip, this.#first(chip, served), value >> 5 === 5);
        return;
      }
      case 3:
      case 7:
        this.#endOfInterrupt(chip, input, value >> 5 === 7);
        return;
      case 6:
        this.#set(chip, FIRST, (input + 1) & 7);
        return;
      default:
      // 2: no operation.
    }
  }

  #endOfInterrupt(chip: number, input: number, rotate: boolean): void {
    this.#set(chip, ISR, this.#get(chip, ISR) & ~(1 << input));
    if (rotate) this.#set(chip, FIRST, (input + 1) & 7);
  }

  /** Acknowledges the chip's own request: its input; -1: there is none. */
  #take(chip: number): number {
    const input = this.#request(chip);
    if (input < 0) return -1;
    const bit = 1 << input;
    if ((this.#get(chip, ELCR) & bit) === 0) this.#set(chip, IRR, this.#get(chip, IRR) & ~bit);
    if (this.#get(chip, AUTO_EOI) === 0) this.#set(chip, ISR, this.#get(chip, ISR) | bit);
    else if (this.#get(chip, ROTATE_ON_AUTO_EOI) !== 0) this.#set(chip, FIRST, (input + 1) & 7);
    return input;
  }

  /** Input that the chip asks to be served, -1: none. */
  #request(chip: number): number {
    const mask = this.#get(chip, IMR);
    const wanted = this.#get(chip, IRR) & ~mask;
    if (wanted === 0) return -1;
    let served = this.#get(chip, ISR);
    // Special mask mode: a masked level in service holds nobody back.
    if (this.#get(chip, SPECIAL_MASK) !== 0) served &= ~mask;
    // In special fully nested mode the slave may interrupt its own service.
    if (chip === MASTER && this.#get(chip, SPECIAL_FULLY_NESTED) !== 0) served &= ~CASCADE_BIT;
    const input = this.#first(chip, wanted);
    if (served === 0) return input;
    return this.#rank(chip, input) < this.#rank(chip, this.#first(chip, served)) ? input : -1;
  }

  /** Set bit of highest priority; `bits` is not 0. */
  #first(chip: number, bits: number): number {
    const first = this.#get(chip, FIRST);
    for (let rank = 0; rank < 8; rank++) if (((bits >> ((first + rank) & 7)) & 1) !== 0) return (first + rank) & 7;
    return 7;
  }

  /** 0 is the highest priority. */
  #rank(chip: number, input: number): number {
    return (input - this.#get(chip, FIRST)) & 7;
  }

  /** Slave's output to the master's input, master's output to the processor. */
  #update(): void {
    const irr = this.#get(MASTER, IRR);
    this.#set(MASTER, IRR, this.#request(SLAVE) >= 0 ? irr | CASCADE_BIT : irr & ~CASCADE_BIT);
    const output = this.#request(MASTER) >= 0;
    if (output === this.output) return;
    Atomics.store(this.#words, OUTPUT, output ? 1 : 0);
    this.#onOutput(output);
  }

  #get(chip: number, word: number): number {
    return this.#words[chip * CHIP_WORDS + word] as number;
  }

  #set(chip: number, word: number, value: number): void {
    this.#words[chip * CHIP_WORDS + word] = value;
  }
}
