import { Lock, type SharedRange } from '../host/shared-state.ts';

/** Lines below this can be shared. */
const LINES = 24;
/** Most devices on one line. */
const MAX_SOURCES = 32;
export const IRQ_LINES_STATE_SIZE = 64 + LINES * 4;

const FIRST_LINE = 16;

/** Interrupt lines that several devices pull: a line is up while any of them holds it. */
export class IrqLines {
  readonly #words: Int32Array;
  readonly #lock: Lock;
  readonly #setIrqLine: (gsi: number, level: boolean) => void;
  /** Sources given out so far, by line: the same in every thread, as every thread builds the same devices. */
  readonly #sources = new Array<number>(LINES).fill(0);

  constructor(range: SharedRange, setIrqLine: (gsi: number, level: boolean) => void) {
    this.#words = new Int32Array(range.buffer, range.offset, IRQ_LINES_STATE_SIZE / 4);
    this.#lock = new Lock(this.#words, 0);
    this.#setIrqLine = setIrqLine;
  }

  /** All lines down: once, before any other call in any thread. */
  reset(): void {
    this.#words.fill(0);
  }

  /** One more device on a line: the function that sets its level. Throws RangeError when the line can take no more. */
  connect(gsi: number): (level: boolean) => void {
    const source = this.#sources[gsi];
    if (source === undefined || source >= MAX_SOURCES) throw new RangeError(`line ${gsi} takes no more devices`);
    this.#sources[gsi] = source + 1;
    return (level) => this.#set(gsi, 1 << source, level);
  }

  #set(gsi: number, bit: number, level: boolean): void {
    this.#lock.acquire();
    try {
      const before = this.#words[FIRST_LINE + gsi] as number;
      const after = level ? before | bit : before & ~bit;
      this.#words[FIRST_LINE + gsi] = after;
      // Told with the lock held: two threads must not tell in the wrong order.
      if ((before !== 0) !== (after !== 0)) this.#setIrqLine(gsi, after !== 0);
    } finally {
      this.#lock.release();
    }
  }
}
