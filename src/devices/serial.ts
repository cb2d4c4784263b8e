import { DeviceState, type LineCallback, type SharedRange } from './device-state.ts';

/** Bytes of one port's shared state. */
export const SERIAL_STATE_SIZE = 128 + 1024;

// Registers (16550A). With LCR.DLAB, 0 and 1 are the divisor.
const RBR_THR = 0;
const IER = 1;
const IIR_FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;
const REGISTERS = 8;

const IER_RDA = 0x01;
const IER_THRE = 0x02;
const IER_RLS = 0x04;
const IER_MSI = 0x08;

const IIR_NONE = 0x01;
const IIR_MSI = 0x00;
const IIR_THRE = 0x02;
const IIR_RDA = 0x04;
const IIR_RLS = 0x06;
const IIR_TIMEOUT = 0x0c;
const IIR_FIFO = 0xc0;

const FCR_ENABLE = 0x01;
const FCR_CLEAR_RX = 0x02;

const LCR_DLAB = 0x80;
const MCR_LOOP = 0x10;
const MCR_RTS = 0x02;
const MCR_OUT2 = 0x08;

const LSR_DR = 0x01;
const LSR_OE = 0x02;
const LSR_BI = 0x10;
const LSR_THRE = 0x20;
const LSR_TEMT = 0x40;

/** Received bytes before the interrupt, by FCR bits 6-7. */
const TRIGGER_LEVELS = [1, 4, 8, 14] as const;
const FIFO_SIZE = 16;

// Words of state.
const W_IER = 1;
const W_FCR = 2;
const W_LCR = 3;
const W_MCR = 4;
/** Error bits of LSR that wait to be read. */
const W_LINE_ERRORS = 5;
/** Delta bits of MSR. */
const W_DELTAS = 6;
const W_SCR = 7;
const W_DIVISOR = 8;
/** The transmitter has run empty since this was last told. */
const W_THRE_PENDING = 9;
/** Input on the line, not yet received: bytes ever taken out and put in, modulo 2^32. */
const W_HEAD = 10;
const W_TAIL = 11;
const W_LINE = 12;
/** Changes whenever input leaves the line: what waitForSpace() waits for. */
const W_TAKEN = 13;
/** Bytes in the receive FIFO. */
const W_FIFO_COUNT = 14;
const FIFO_OFFSET = 64;
const QUEUE_OFFSET = 128;
const QUEUE_SIZE = SERIAL_STATE_SIZE - QUEUE_OFFSET;

/** Clear to send, data set ready, carrier: what a connected terminal shows. */
const CONNECTED = 0xb0;

export interface SerialCallbacks {
  /** Bytes that the guest sends, valid during the call. Called without the device's lock. Absent: they go nowhere. */
  readonly output?: ((bytes: Uint8Array) => void) | undefined;
  readonly interrupt: LineCallback;
}

/**
 * A 16550A. The line has no speed: what the guest writes is sent at once, and the receive FIFO is filled from the
 * line as fast as the guest empties it; so a receiver that holds less than its trigger level has timed out already.
 * The other end of the line honours flow control: it sends while the guest asserts RTS or takes receive interrupts.
 * So input that is there before the guest's driver starts waits, and is not lost when the driver empties the FIFO.
 */
export class Serial {
  readonly #state: DeviceState;
  readonly #fifo: Uint8Array;
  readonly #queue: Uint8Array;
  readonly #callbacks: SerialCallbacks;
  readonly #byte = new Uint8Array(1);

  constructor(range: SharedRange, callbacks: SerialCallbacks) {
    this.#state = new DeviceState(range, FIFO_OFFSET);
    this.#fifo = new Uint8Array(range.buffer, range.offset + FIFO_OFFSET, FIFO_SIZE);
    this.#queue = new Uint8Array(range.buffer, range.offset + QUEUE_OFFSET, QUEUE_SIZE);
    this.#callbacks = callbacks;
  }

  /** Power-on state: once, before any other call in any thread. */
  reset(): void {
    this.#state.words.fill(0);
    this.#state.set(W_LCR, 3);
    this.#state.set(W_MCR, MCR_OUT2);
    this.#state.set(W_DIVISOR, 12);
    this.#state.set(W_THRE_PENDING, 1);
  }

  /** Queues input for the guest, from any thread. Returns how many bytes it took: the rest must come again later. */
  queueInput(bytes: Uint8Array): number {
    return this.#state.locked(() => {
      const tail = this.#state.get(W_TAIL);
      const taken = Math.min(bytes.length, QUEUE_SIZE - this.#queued());
      for (let i = 0; i < taken; i++) this.#queue[((tail + i) >>> 0) % QUEUE_SIZE] = bytes[i] as number;
      this.#state.set(W_TAIL, (tail + taken) | 0);
      this.#update();
      return taken;
    });
  }

  /** Resolves when there is room for input again. */
  async waitForSpace(): Promise<void> {
    for (;;) {
      const seen = Atomics.load(this.#state.words, W_TAKEN);
      if (this.#state.locked(() => this.#queued()) < QUEUE_SIZE) return;
      await Atomics.waitAsync(this.#state.words, W_TAKEN, seen).value;
    }
  }

  /** Wider accesses are as many accesses of one byte. */
  read(offset: number, data: Uint8Array): void {
    this.#state.locked(() => {
      for (let i = 0; i < data.length && offset + i < REGISTERS; i++) data[i] = this.#readRegister(offset + i);
      this.#update();
    });
  }

  write(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length && offset + i < REGISTERS; i++) {
      const value = data[i] as number;
      const sent = this.#state.locked(() => {
        const send = this.#writeRegister(offset + i, value);
        this.#update();
        return send;
      });
      if (!sent) continue;
      this.#byte[0] = value;
      this.#callbacks.output?.(this.#byte);
    }
  }

  #readRegister(register: number): number {
    const state = this.#state;
    const dlab = (state.get(W_LCR) & LCR_DLAB) !== 0;
    switch (register) {
      case RBR_THR:
        return dlab ? state.get(W_DIVISOR) & 0xff : this.#take();
      case IER:
        return dlab ? state.get(W_DIVISOR) >> 8 : state.get(W_IER);
      case IIR_FCR: {
        const cause = this.#cause();
        if (cause === IIR_THRE) state.set(W_THRE_PENDING, 0);
        return cause | ((state.get(W_FCR) & FCR_ENABLE) !== 0 ? IIR_FIFO : 0);
      }
      case LCR:
        return state.get(W_LCR);
      case MCR:
        return state.get(W_MCR);
      case LSR: {
        const errors = state.get(W_LINE_ERRORS);
        state.set(W_LINE_ERRORS, 0);
        return LSR_THRE | LSR_TEMT | errors | (state.get(W_FIFO_COUNT) > 0 ? LSR_DR : 0);
      }
      case MSR: {
        const deltas = state.get(W_DELTAS);
        state.set(W_DELTAS, 0);
        return this.#modemLines() | deltas;
      }
      default:
        return state.get(W_SCR);
    }
  }

  /** Returns true when the byte goes out on the line. */
  #writeRegister(register: number, value: number): boolean {
    const state = this.#state;
    const dlab = (state.get(W_LCR) & LCR_DLAB) !== 0;
    switch (register) {
      case RBR_THR:
        if (dlab) {
          state.set(W_DIVISOR, (state.get(W_DIVISOR) & 0xff00) | value);
          return false;
        }
        state.set(W_THRE_PENDING, 1);
        if ((state.get(W_MCR) & MCR_LOOP) === 0) return true;
        this.#receive(value);
        return false;
      case IER:
        if (dlab) {
          state.set(W_DIVISOR, (state.get(W_DIVISOR) & 0xff) | (value << 8));
          return false;
        }
        // Enabling it while the transmitter is empty interrupts at once: Linux's probe counts on it.
        if ((value & IER_THRE) !== 0 && (state.get(W_IER) & IER_THRE) === 0) state.set(W_THRE_PENDING, 1);
        state.set(W_IER, value & 0x0f);
        return false;
      case IIR_FCR:
        // Turning the FIFO on or off empties it, as its own bit does.
        if ((value & FCR_CLEAR_RX) !== 0 || ((value ^ state.get(W_FCR)) & FCR_ENABLE) !== 0) this.#clearReceiver();
        state.set(W_FCR, (value & FCR_ENABLE) !== 0 ? value & 0xc9 : 0);
        return false;
      case LCR:
        if ((value & 0x40) !== 0 && (state.get(W_LCR) & 0x40) === 0) this.#breakLooped();
        state.set(W_LCR, value);
        return false;
      case MCR: {
        const before = this.#modemLines();
        state.set(W_MCR, value & 0x1f);
        this.#noteModemChange(before);
        return false;
      }
      case SCR:
        state.set(W_SCR, value);
        return false;
      default:
        // LSR and MSR are for factory tests.
        return false;
    }
  }

  /** In loopback the transmitter's break comes back to the receiver. */
  #breakLooped(): void {
    const state = this.#state;
    if ((state.get(W_MCR) & MCR_LOOP) === 0) return;
    state.set(W_LINE_ERRORS, state.get(W_LINE_ERRORS) | LSR_BI);
    this.#receive(0);
  }

  /** The upper half of MSR. In loopback the modem outputs are its inputs. */
  #modemLines(): number {
    const mcr = this.#state.get(W_MCR);
    if ((mcr & MCR_LOOP) === 0) return CONNECTED;
    // DTR -> DSR, RTS -> CTS, OUT1 -> RI, OUT2 -> DCD.
    return ((mcr & 1) << 5) | ((mcr & 2) << 3) | ((mcr & 4) << 4) | ((mcr & 8) << 4);
  }

  #noteModemChange(before: number): void {
    const now = this.#modemLines();
    // RI's delta bit tells its trailing edge only.
    const changed = ((before ^ now) & 0xb0) | (before & ~now & 0x40);
    this.#state.set(W_DELTAS, this.#state.get(W_DELTAS) | (changed >> 4));
  }

  // ---- Receiver ----------------------------------------------------------------------------------------------------------

  #fifoSize(): number {
    return (this.#state.get(W_FCR) & FCR_ENABLE) !== 0 ? FIFO_SIZE : 1;
  }

  #receive(value: number): void {
    const count = this.#state.get(W_FIFO_COUNT);
    if (count >= this.#fifoSize()) {
      this.#state.set(W_LINE_ERRORS, this.#state.get(W_LINE_ERRORS) | LSR_OE);
      return;
    }
    this.#fifo[count] = value;
    this.#state.set(W_FIFO_COUNT, count + 1);
  }

  #take(): number {
    const count = this.#state.get(W_FIFO_COUNT);
    if (count === 0) return 0;
    const value = this.#fifo[0] as number;
    this.#fifo.copyWithin(0, 1);
    this.#state.set(W_FIFO_COUNT, count - 1);
    return value;
  }

  #clearReceiver(): void {
    this.#state.set(W_FIFO_COUNT, 0);
    this.#state.set(W_LINE_ERRORS, 0);
  }

  /** Bytes on the line. */
  #queued(): number {
    return (this.#state.get(W_TAIL) - this.#state.get(W_HEAD)) | 0;
  }

  /** Moves bytes from the line to the FIFO, where the guest lets the other end send. */
  #fill(): void {
    const state = this.#state;
    const mcr = state.get(W_MCR);
    if ((mcr & MCR_LOOP) !== 0 || ((mcr & MCR_RTS) === 0 && (state.get(W_IER) & IER_RDA) === 0)) return;
    const head = state.get(W_HEAD);
    const count = Math.min(this.#queued(), this.#fifoSize() - state.get(W_FIFO_COUNT));
    if (count <= 0) return;
    for (let i = 0; i < count; i++) this.#receive(this.#queue[((head + i) >>> 0) % QUEUE_SIZE] as number);
    state.set(W_HEAD, (head + count) | 0);
    Atomics.add(state.words, W_TAKEN, 1);
    Atomics.notify(state.words, W_TAKEN);
  }

  // ---- Interrupts ----------------------------------------------------------------------------------------------------------

  /** IIR's cause, the most urgent first. */
  #cause(): number {
    const state = this.#state;
    const ier = state.get(W_IER);
    if ((ier & IER_RLS) !== 0 && state.get(W_LINE_ERRORS) !== 0) return IIR_RLS;
    const level = state.get(W_FIFO_COUNT);
    if ((ier & IER_RDA) !== 0 && level > 0) {
      const fcr = state.get(W_FCR);
      const trigger = (fcr & FCR_ENABLE) !== 0 ? (TRIGGER_LEVELS[fcr >> 6] as number) : 1;
      return level >= trigger ? IIR_RDA : IIR_TIMEOUT;
    }
    if ((ier & IER_THRE) !== 0 && state.get(W_THRE_PENDING) !== 0) return IIR_THRE;
    if ((ier & IER_MSI) !== 0 && state.get(W_DELTAS) !== 0) return IIR_MSI;
    return IIR_NONE;
  }

  #update(): void {
    this.#fill();
    // OUT2, which gates the interrupt on the PC, is not asked: some guests never set it. In loopback it is off its pin.
    const open = (this.#state.get(W_MCR) & MCR_LOOP) === 0;
    const level = open && this.#cause() !== IIR_NONE ? 1 : 0;
    if (level === this.#state.get(W_LINE)) return;
    this.#state.set(W_LINE, level);
    this.#callbacks.interrupt(level === 1);
  }
}
