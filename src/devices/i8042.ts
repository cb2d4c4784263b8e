import type { BusDevice } from './bus.ts';
import { DeviceState, type SharedRange } from './device-state.ts';
import type { MachineExit } from './machine-exit.ts';

export const I8042_STATE_SIZE = 64;

/** Offsets from port 0x60. */
const DATA = 0;
const COMMAND = 4;

const STATUS_OBF = 0x01;
/** System flag: self-test passed. */
const STATUS_SYS = 0x04;
/** The last write went to the command port. */
const STATUS_CMD = 0x08;
/** Keyboard not locked. */
const STATUS_KEYLOCK = 0x10;
/** The output buffer holds a byte of the auxiliary port. */
const STATUS_AUX = 0x20;

const CMD_READ_CTR = 0x20;
const CMD_WRITE_CTR = 0x60;
const CMD_AUX_DISABLE = 0xa7;
const CMD_AUX_ENABLE = 0xa8;
const CMD_AUX_TEST = 0xa9;
const CMD_SELF_TEST = 0xaa;
const CMD_KBD_TEST = 0xab;
const CMD_KBD_DISABLE = 0xad;
const CMD_KBD_ENABLE = 0xae;
const CMD_READ_INPUT = 0xc0;
const CMD_READ_OUTPUT = 0xd0;
const CMD_WRITE_OUTPUT = 0xd1;
const CMD_KBD_LOOP = 0xd2;
const CMD_AUX_LOOP = 0xd3;
/** 0xf0 to 0xff pulse the output lines whose bits are 0; line 0 is the processor's reset. */
const CMD_PULSE = 0xf0;

const CTR_KBD_DISABLE = 0x10;
const CTR_AUX_DISABLE = 0x20;
/** Output port: bit 0 is the reset line (active low), bit 1 the A20 gate. */
const OUTPUT_RESET = 0x01;
const OUTPUT_AT_REST = 0x03;

// Words of state.
const W_STATUS = 1;
const W_CTR = 2;
const W_BUFFER = 3;
/** Command whose data byte is awaited, 0: none. */
const W_AWAITING = 4;

/**
 * The 8042 keyboard controller with nothing plugged in: it tests itself, keeps its command byte, and resets the machine.
 * It raises no interrupts: a byte in its output buffer only ever answers a command that software waits for.
 */
export class I8042 implements BusDevice {
  readonly #state: DeviceState;
  readonly #exit: MachineExit;

  constructor(range: SharedRange, exit: MachineExit) {
    this.#state = new DeviceState(range, I8042_STATE_SIZE);
    this.#exit = exit;
  }

  /** Power-on state: once, before any other call in any thread. */
  reset(): void {
    this.#state.words.fill(0);
    this.#state.set(W_STATUS, STATUS_KEYLOCK);
    this.#state.set(W_CTR, CTR_KBD_DISABLE | CTR_AUX_DISABLE);
  }

  /** Offset 0 is port 0x60, offset 4 port 0x64; a wider read gives the register's byte and zeros. */
  read(offset: number, data: Uint8Array): void {
    data.fill(0);
    this.#state.locked(() => {
      if (offset === COMMAND) {
        data[0] = this.#state.get(W_STATUS);
      } else if (offset === DATA) {
        data[0] = this.#state.get(W_BUFFER);
        this.#state.set(W_STATUS, this.#state.get(W_STATUS) & ~(STATUS_OBF | STATUS_AUX));
      }
    });
  }

  write(offset: number, data: Uint8Array): void {
    const value = data[0] ?? 0;
    const reset = this.#state.locked(() => {
      if (offset === COMMAND) return this.#command(value);
      return offset === DATA ? this.#data(value) : false;
    });
    if (reset) this.#exit.report({ kind: 'reset' });
  }

  /** Returns true when the reset line was pulled. */
  #command(command: number): boolean {
    const state = this.#state;
    state.set(W_STATUS, state.get(W_STATUS) | STATUS_CMD);
    state.set(W_AWAITING, 0);
    switch (command) {
      case CMD_READ_CTR:
        this.#answer(state.get(W_CTR));
        return false;
      case CMD_AUX_DISABLE:
        state.set(W_CTR, state.get(W_CTR) | CTR_AUX_DISABLE);
        return false;
      case CMD_AUX_ENABLE:
        state.set(W_CTR, state.get(W_CTR) & ~CTR_AUX_DISABLE);
        return false;
      case CMD_KBD_DISABLE:
        state.set(W_CTR, state.get(W_CTR) | CTR_KBD_DISABLE);
        return false;
      case CMD_KBD_ENABLE:
        state.set(W_CTR, state.get(W_CTR) & ~CTR_KBD_DISABLE);
        return false;
      case CMD_SELF_TEST:
        state.set(W_STATUS, state.get(W_STATUS) | STATUS_SYS);
        this.#answer(0x55);
        return false;
      case CMD_AUX_TEST:
      case CMD_KBD_TEST:
        this.#answer(0);
        return false;
      case CMD_READ_INPUT:
        this.#answer(0x80);
        return false;
      case CMD_READ_OUTPUT:
        this.#answer(OUTPUT_AT_REST);
        return false;
      case CMD_WRITE_CTR:
      case CMD_WRITE_OUTPUT:
      case CMD_KBD_LOOP:
      case CMD_AUX_LOOP:
        state.set(W_AWAITING, command);
        return false;
      default:
        return command >= CMD_PULSE && (command & 1) === 0;
    }
  }

  #data(value: number): boolean {
    const state = this.#state;
    const command = state.get(W_AWAITING);
    state.set(W_AWAITING, 0);
    state.set(W_STATUS, state.get(W_STATUS) & ~STATUS_CMD);
    switch (command) {
      case CMD_WRITE_CTR:
        state.set(W_CTR, value & 0x7f);
        return false;
      case CMD_WRITE_OUTPUT:
        return (value & OUTPUT_RESET) === 0;
      case CMD_KBD_LOOP:
        this.#answer(value);
        return false;
      case CMD_AUX_LOOP:
        this.#answer(value);
        state.set(W_STATUS, state.get(W_STATUS) | STATUS_AUX);
        return false;
      default:
        // For a keyboard that is not there: no answer.
        return false;
    }
  }

  #answer(value: number): void {
    this.#state.set(W_BUFFER, value);
    this.#state.set(W_STATUS, (this.#state.get(W_STATUS) & ~STATUS_AUX) | STATUS_OBF);
  }
}
