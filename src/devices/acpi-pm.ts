import type { Clock } from '../host/clock.ts';
import type { BusDevice } from './bus.ts';
import { DeviceState, type LineCallback, type SharedRange } from './device-state.ts';
import type { MachineExit } from './machine-exit.ts';
import {
  ACPI_GPE0_PORT,
  ACPI_PM_PORT,
  ACPI_PM_TMR_PORT,
  ACPI_PM1A_CNT_PORT,
  ACPI_PM1A_EVT_PORT,
  ACPI_S5_SLP_TYP,
} from './pc-map.ts';

export const ACPI_PM_STATE_SIZE = 64;
/** Rate of the PM timer, Hz. */
export const PM_TIMER_HZ = 3_579_545;
/** The timer's top bit changes this often, in ticks (32-bit timer). */
const TOGGLE_TICKS = 2 ** 31;

// Offsets in the block.
const PM1_EVT = ACPI_PM1A_EVT_PORT - ACPI_PM_PORT;
const PM1_CNT = ACPI_PM1A_CNT_PORT - ACPI_PM_PORT;
const PM_TMR = ACPI_PM_TMR_PORT - ACPI_PM_PORT;
const GPE0 = ACPI_GPE0_PORT - ACPI_PM_PORT;

/** PM1 status and enable. */
const TMR = 0x0001;
const GBL = 0x0020;
const PWRBTN = 0x0100;
const RTC = 0x0400;
const WAK = 0x8000;
const STATUS_BITS = TMR | 0x0010 | GBL | PWRBTN | RTC | WAK;
const ENABLE_BITS = TMR | GBL | PWRBTN | RTC;

/** PM1 control. */
const SCI_EN = 0x0001;
const SLP_TYP_SHIFT = 10;
const SLP_EN = 0x2000;
/** BM_RLD and SLP_TYP; GBL_RLS asks for a firmware that is not there. */
const CONTROL_BITS = 0x1c02;

// Words of state.
const W_STATUS = 1;
const W_ENABLE = 2;
const W_CONTROL = 3;
const W_GPE_STATUS = 4;
const W_GPE_ENABLE = 5;
/** Changes of the timer's top bit that have been seen to. */
const W_TOGGLES = 6;
const W_LINE = 7;

export interface AcpiPmSurroundings {
  readonly clock: Clock;
  readonly sci: LineCallback;
  readonly exit: MachineExit;
  /** nextDeadline() may have become earlier: whoever sleeps until then must look again. */
  readonly onDeadline: () => void;
}

/** ACPI fixed hardware: PM1a event and control blocks, PM timer, GPE0 (ACPI 6.4, 4.8). ACPI mode is always on. */
export class AcpiPm implements BusDevice {
  readonly #state: DeviceState;
  readonly #clock: Clock;
  readonly #sci: LineCallback;
  readonly #exit: MachineExit;
  readonly #onDeadline: () => void;

  /** `range` has ACPI_PM_STATE_SIZE bytes. */
  constructor(range: SharedRange, { clock, sci, exit, onDeadline }: AcpiPmSurroundings) {
    this.#state = new DeviceState(range, ACPI_PM_STATE_SIZE);
    this.#clock = clock;
    this.#sci = sci;
    this.#exit = exit;
    this.#onDeadline = onDeadline;
  }

  /** Power-on state: once, before any other call in any thread. */
  reset(): void {
    this.#state.words.fill(0);
  }

  /** A person presses the power button: the guest is asked to shut down. */
  pressPowerButton(): void {
    this.#state.locked(() => this.#raise(PWRBTN));
  }

  /** When the PM timer's interrupt is due, ns; Infinity while the guest does not want it. */
  nextDeadline(): number {
    if ((this.#state.get(W_ENABLE) & TMR) === 0 || (this.#state.get(W_STATUS) & TMR) !== 0) return Infinity;
    return Math.ceil(((this.#state.get(W_TOGGLES) + 1) * TOGGLE_TICKS * 1e9) / PM_TIMER_HZ);
  }

  advance(now: number): void {
    this.#state.locked(() => this.#updateTimer(now));
  }

  /** Bytes are read one by one; the timer is taken once, so that its bytes belong together. */
  read(offset: number, data: Uint8Array): void {
    const now = this.#clock.now();
    this.#state.locked(() => {
      this.#updateTimer(now);
      const timer = ticks(now) % 2 ** 32;
      for (let i = 0; i < data.length; i++) data[i] = this.#readByte(offset + i, timer);
    });
  }

  write(offset: number, data: Uint8Array): void {
    const now = this.#clock.now();
    const before = this.nextDeadline();
    const off = this.#state.locked(() => {
      this.#updateTimer(now);
      let sleep = false;
      for (let i = 0; i < data.length; i++) sleep = this.#writeByte(offset + i, data[i] as number) || sleep;
      this.#updateLine();
      return sleep && ((this.#state.get(W_CONTROL) >> SLP_TYP_SHIFT) & 7) === ACPI_S5_SLP_TYP;
    });
    if (this.nextDeadline() < before) this.#onDeadline();
    if (off) this.#exit.report({ kind: 'power-off' });
  }

  #readByte(offset: number, timer: number): number {
    const state = this.#state;
    const high = (offset & 1) * 8;
    if (offset >= PM_TMR && offset < PM_TMR + 4) return (timer >>> ((offset - PM_TMR) * 8)) & 0xff;
    switch (offset & ~1) {
      case PM1_EVT:
        return (state.get(W_STATUS) >> high) & 0xff;
      case PM1_EVT + 2:
        return (state.get(W_ENABLE) >> high) & 0xff;
      case PM1_CNT:
        return ((state.get(W_CONTROL) | SCI_EN) >> high) & 0xff;
      case GPE0:
        return (state.get(W_GPE_STATUS) >> high) & 0xff;
      case GPE0 + 2:
        return (state.get(W_GPE_ENABLE) >> high) & 0xff;
      default:
        return 0;
    }
  }

  /** Returns true when the byte sets SLP_EN. */
  #writeByte(offset: number, byte: number): boolean {
    const state = this.#state;
    const shift = (offset & 1) * 8;
    const value = byte << shift;
    const keep = ~(0xff << shift);
    switch (offset & ~1) {
      case PM1_EVT:
        // Status bits are cleared by writing 1.
        state.set(W_STATUS, state.get(W_STATUS) & ~value);
        return false;
      case PM1_EVT + 2:
        state.set(W_ENABLE, (state.get(W_ENABLE) & keep) | (value & ENABLE_BITS));
        return false;
      case PM1_CNT:
        state.set(W_CONTROL, (state.get(W_CONTROL) & keep) | (value & CONTROL_BITS));
        return (value & SLP_EN) !== 0;
      case GPE0:
        state.set(W_GPE_STATUS, state.get(W_GPE_STATUS) & ~value);
        return false;
      case GPE0 + 2:
        state.set(W_GPE_ENABLE, (state.get(W_GPE_ENABLE) & keep) | value);
        return false;
      default:
        return false;
    }
  }

  #raise(bits: number): void {
    this.#state.set(W_STATUS, (this.#state.get(W_STATUS) | bits) & STATUS_BITS);
    this.#updateLine();
  }

  #updateTimer(now: number): void {
    const toggles = Math.floor(ticks(now) / TOGGLE_TICKS);
    // Another thread may have looked at the clock later, and been here first.
    if (toggles <= this.#state.get(W_TOGGLES)) return;
    this.#state.set(W_TOGGLES, toggles);
    this.#raise(TMR);
  }

  #updateLine(): void {
    const state = this.#state;
    const pending =
      (state.get(W_STATUS) & state.get(W_ENABLE)) !== 0 || (state.get(W_GPE_STATUS) & state.get(W_GPE_ENABLE)) !== 0;
    if (pending === (state.get(W_LINE) !== 0)) return;
    state.set(W_LINE, pending ? 1 : 0);
    this.#sci(pending);
  }
}

function ticks(now: number): number {
  // A little is added so that a time computed from a tick gives that tick again.
  return Math.floor((now * PM_TIMER_HZ) / 1e9 + 1e-6);
}
