import type { Clock } from '../../host/clock.ts';
import * as A from './lapic-registers.ts';
import type { LapicState } from './lapic-state.ts';

/** The timer counts at 1 GHz before division, as KVM's does: one nanosecond a bus cycle. */
export const LAPIC_BUS_HZ = 1_000_000_000;
/** Shortest period that is kept, ns: a guest that asks for less would only keep its own processor in this code. */
const MIN_PERIOD = 200_000;

/** Timer of one local APIC. Used by the owning vCPU's thread only. */
export class LapicTimer {
  readonly #state: LapicState;
  readonly #clock: Clock;
  readonly #tscPerNs: number;

  /** `tscHz`: rate of the host's counter, which the guest's TSC follows at an offset. */
  constructor(state: LapicState, clock: Clock, tscHz: number) {
    this.#state = state;
    this.#clock = clock;
    this.#tscPerNs = tscHz / 1e9;
  }

  /** When advance() has something to do, ns; Infinity: never. */
  nextDeadline(): number {
    // A masked timer runs on, but nobody need be woken for it.
    return (this.#state.register(A.APIC_LVTT) & A.LVT_MASKED) !== 0 ? Infinity : this.#state.timerDeadline;
  }

  /** Fires the timer if it is due. */
  advance(now: number): void {
    const deadline = this.#state.timerDeadline;
    if (now < deadline) return;
    const lvt = this.#state.register(A.APIC_LVTT);
    if ((lvt & A.LVT_TIMER_MODE) === A.LVT_TIMER_PERIODIC) {
      const period = this.#period();
      // Periods that were missed merge into one interrupt; the phase stays.
      this.#state.timerDeadline = deadline + (Math.floor((now - deadline) / period) + 1) * period;
    } else {
      this.#state.timerDeadline = Infinity;
      this.#state.setTscDeadline(0, 0);
    }
    if ((lvt & A.LVT_MASKED) === 0) this.#state.accept(A.DELIVERY_FIXED, lvt & 0xff, false);
  }

  /** Stops it, as a reset does. */
  stop(): void {
    this.#state.timerDeadline = Infinity;
    this.#state.setTscDeadline(0, 0);
  }

  /** A write of the initial count. */
  start(count: number): void {
    if (this.#tscMode) return;
    this.#state.setRegister(A.APIC_TMICT, count);
    this.#state.timerDeadline =
      count === 0 ? Infinity : this.#clock.now() + (this.#periodic ? this.#period() : count * this.#divisor());
  }

  /** Continues from `current` after a restore of the registers. */
  resume(current: number): void {
    if (this.#tscMode || current === 0) return;
    this.#state.timerDeadline = this.#clock.now() + current * this.#divisor();
  }

  currentCount(): number {
    const now = this.#clock.now();
    this.advance(now);
    const deadline = this.#state.timerDeadline;
    if (this.#tscMode || deadline === Infinity) return 0;
    return Math.min(Math.ceil((deadline - now) / this.#divisor()), 0xffff_ffff);
  }

  /** A write of the timer's LVT entry. */
  setLvt(value: number): void {
    this.advance(this.#clock.now());
    const wasTsc = this.#tscMode;
    this.#state.setRegister(A.APIC_LVTT, value);
    // SDM: a switch to or from TSC-deadline mode disarms the timer.
    if (wasTsc !== this.#tscMode) {
      this.#state.setRegister(A.APIC_TMICT, 0);
      this.stop();
    }
  }

  /** A write of the divide configuration: what is left of the count goes on at the new rate. */
  setDivide(value: number): void {
    const now = this.#clock.now();
    this.advance(now);
    const before = this.#divisor();
    this.#state.setRegister(A.APIC_TDCR, value);
    if (!this.#tscMode) {
      this.#state.timerDeadline = now + (this.#state.timerDeadline - now) * (this.#divisor() / before);
    }
  }

  /** A write of IA32_TSC_DEADLINE: arms, or disarms with 0; ignored in the other modes. */
  setTscDeadline(low: number, high: number): void {
    if (!this.#tscMode) return;
    this.#state.setTscDeadline(low, high);
    this.#arm();
  }

  /** The guest's TSC is the host's plus this 64-bit offset from now on. */
  setTscOffset(low: number, high: number): void {
    if (low === this.#state.tscOffsetLow && high === this.#state.tscOffsetHigh) return;
    this.#state.setTscOffset(low, high);
    if (this.#tscMode) this.#arm();
  }

  #arm(): void {
    const low = this.#state.tscDeadlineLow;
    const high = this.#state.tscDeadlineHigh;
    if (low === 0 && high === 0) {
      this.#state.timerDeadline = Infinity;
      return;
    }
    const now = this.#clock.now();
    const host = Math.floor(now * this.#tscPerNs);
    // 64-bit arithmetic in halves: the offset may be any 64-bit number.
    const guestLow = (host % 0x1_0000_0000) + this.#state.tscOffsetLow;
    const carry = guestLow >= 0x1_0000_0000 ? 1 : 0;
    const guestHigh = (Math.floor(host / 0x1_0000_0000) + this.#state.tscOffsetHigh + carry) % 0x1_0000_0000;
    const left = (high - guestHigh) * 0x1_0000_0000 + (low - (guestLow % 0x1_0000_0000));
    // Due already: it fires at the next look, which is at once.
    this.#state.timerDeadline = left > 0 ? now + Math.ceil(left / this.#tscPerNs) : now;
  }

  get #periodic(): boolean {
    return (this.#state.register(A.APIC_LVTT) & A.LVT_TIMER_MODE) === A.LVT_TIMER_PERIODIC;
  }

  get #tscMode(): boolean {
    return (this.#state.register(A.APIC_LVTT) & A.LVT_TIMER_TSC_DEADLINE) !== 0;
  }

  /** Nanoseconds a count. */
  #divisor(): number {
    const tdcr = this.#state.register(A.APIC_TDCR);
    return 1 << ((((tdcr & 3) | ((tdcr & 8) >> 1)) + 1) & 7);
  }

  /** Nanoseconds; at least MIN_PERIOD, also for a count of 0. */
  #period(): number {
    return Math.max(this.#state.register(A.APIC_TMICT) * this.#divisor(), MIN_PERIOD);
  }
}
