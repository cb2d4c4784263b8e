import type { Lapic } from './lapic.ts';
import * as A from './lapic-registers.ts';
import type { PcChips } from './pc-chips.ts';

/** What other threads asked of a vCPU. */
export interface CpuRequests {
  /** INIT: reset the processor and wait for a start-up IPI (the bootstrap processor: run from the reset vector). */
  init: boolean;
  /** Start-up IPI: run from this number * 4096, if the processor waits for one. */
  sipi: number | undefined;
  nmi: boolean;
  /** Interrupts or timers may have changed: a port of the 8254 was written, say. */
  changed: boolean;
  /** Leave run(). */
  kick: boolean;
}

/** The interrupt chip as one vCPU's thread sees it. */
export class CpuInterrupts {
  readonly #lapic: Lapic;
  readonly #chips: PcChips;
  readonly #servesTimer: boolean;
  readonly #requests: CpuRequests = { init: false, sipi: undefined, nmi: false, changed: false, kick: false };

  /** `servesTimer`: the 8254 is this vCPU's to advance, too. One vCPU does it. */
  constructor(lapic: Lapic, chips: PcChips, servesTimer: boolean) {
    this.#lapic = lapic;
    this.#chips = chips;
    this.#servesTimer = servesTimer;
  }

  // ---- Interrupts ------------------------------------------------------------------------------------------------------------------

  /** Vector to deliver when the processor lets interrupts in, the 8259's before the local APIC's; -1: none. */
  pendingVector(): number {
    const { pic } = this.#chips;
    const vector = this.#extInt() ? this.#chips.locked(() => (pic.output ? pic.peek() : -1)) : -1;
    return vector < 0 ? this.#lapic.pendingVector() : vector;
  }

  /** Takes that interrupt: it is in service now. -1: it has gone in the meantime. */
  acknowledge(): number {
    const vector = this.#extInt() ? this.#chips.takeExternal() : -1;
    return vector < 0 ? this.#lapic.acknowledge() : vector;
  }

  /** Takes all requests that were posted. The object is overwritten by the next call. */
  takeRequests(): CpuRequests {
    const requests = this.#requests;
    const bits = this.pollRequests() === 0 ? 0 : this.#lapic.state.takeRequests();
    requests.init = (bits & A.REQUEST_INIT) !== 0;
    requests.sipi = (bits & A.REQUEST_SIPI) !== 0 ? this.#lapic.state.sipiVector : undefined;
    requests.nmi = (bits & A.REQUEST_NMI) !== 0;
    requests.changed = (bits & A.REQUEST_INTERRUPT) !== 0;
    requests.kick = (bits & A.REQUEST_KICK) !== 0;
    return requests;
  }

  /** REQUEST_* bits without taking them: one load. */
  pollRequests(): number {
    return Atomics.load(this.#lapic.state.words, this.#lapic.state.requestIndex);
  }

  /** Sleeps until a request is posted, at most `milliseconds` (fractions count). Comes back at once if one is there. */
  wait(milliseconds: number): void {
    Atomics.wait(this.#lapic.state.words, this.#lapic.state.requestIndex, 0, milliseconds);
  }

  /** The same by a system call, `sleep`, which ends when the eventfd `wakeFd` is signalled. */
  waitIn(wakeFd: number, sleep: () => void): void {
    const { state } = this.#lapic;
    state.wakeFd = wakeFd;
    if (this.pollRequests() === 0) sleep();
    state.wakeFd = 0;
  }

  /** INIT: the local APIC's part of it. */
  reset(): void {
    this.#lapic.reset();
  }

  // ---- Time --------------------------------------------------------------------------------------------------------------------------

  /** When advance() must be called next, ns of the machine's clock; Infinity: no timer runs. */
  nextDeadline(): number {
    const timer = this.#lapic.timer.nextDeadline();
    return this.#servesTimer ? Math.min(timer, this.#chips.pit.nextDeadline()) : timer;
  }

  /** Fires the timers that are due. */
  advance(now: number): void {
    this.#lapic.timer.advance(now);
    if (this.#servesTimer) this.#chips.advance(now);
  }

  /** The guest's TSC is the host's counter plus this 64-bit offset. */
  setTscOffset(offset: bigint): void {
    this.#lapic.timer.setTscOffset(lowHalf(offset), highHalf(offset));
  }

  // ---- Registers ---------------------------------------------------------------------------------------------------------------------

  /** Guest-physical address of the register page; Infinity where there is none: APIC disabled, or in x2APIC mode. */
  get apicPage(): number {
    const { state } = this.#lapic;
    const low = state.baseLow;
    if ((low & (A.APIC_BASE_ENABLE | A.APIC_BASE_X2APIC)) !== A.APIC_BASE_ENABLE) return Infinity;
    return state.baseHigh * 0x1_0000_0000 + ((low & 0xffff_f000) >>> 0);
  }

  /** A read of up to 32 bits. */
  mmioRead(offset: number): number {
    return this.#lapic.mmioRead(offset) >>> 0;
  }

  /** A 32-bit write. Look at pendingVector() and nextDeadline() again after it, as after every write of an MSR or CR8. */
  mmioWrite(offset: number, value: number): void {
    this.#lapic.mmioWrite(offset, value);
  }

  /** An MSR of the local APIC: IA32_TSC_DEADLINE, x2APIC's 0x800 to 0x8ff. undefined: #GP, or not the APIC's. */
  msrRead(index: number): bigint | undefined {
    const { state } = this.#lapic;
    if (index === A.MSR_IA32_TSC_DEADLINE) return fromHalves(state.tscDeadlineLow, state.tscDeadlineHigh);
    if (!isX2apicMsr(index)) return undefined;
    const low = this.#lapic.x2apicRead(index);
    if (low === undefined) return undefined;
    return index === MSR_X2APIC_ICR ? fromHalves(low, this.#lapic.icrHigh) : BigInt(low >>> 0);
  }

  /** Returns false for #GP, or an MSR that is not the local APIC's. */
  msrWrite(index: number, value: bigint): boolean {
    const low = lowHalf(value);
    const high = highHalf(value);
    if (index === A.MSR_IA32_TSC_DEADLINE) {
      this.writeTscDeadline(low, high);
      return true;
    }
    return isX2apicMsr(index) && this.#lapic.x2apicWrite(index, low, high);
  }

  /** IA32_TSC_DEADLINE from u32 halves, for those who have them: guests write it at every change of their timers. */
  writeTscDeadline(low: number, high: number): void {
    this.#lapic.timer.setTscDeadline(low, high);
  }

  get cr8(): number {
    return this.#lapic.cr8;
  }

  set cr8(value: number) {
    this.#lapic.cr8 = value;
  }

  /** IA32_APIC_BASE. */
  get apicBase(): bigint {
    return fromHalves(this.#lapic.state.baseLow, this.#lapic.state.baseHigh);
  }

  /** Sets it from outside, as KVM_SET_SREGS does: a value that breaks the rules is ignored. */
  set apicBase(value: bigint) {
    const low = lowHalf(value);
    // From "disabled" to x2APIC mode leads through xAPIC mode.
    if ((low & A.APIC_BASE_X2APIC) !== 0) this.#lapic.writeBase(low & ~A.APIC_BASE_X2APIC, highHalf(value));
    this.#lapic.writeBase(low, highHalf(value));
  }

  /** A write by the guest. Returns false for #GP. */
  writeBase(value: bigint): boolean {
    return this.#lapic.writeBase(lowHalf(value), highHalf(value));
  }

  /** KVM_GET_LAPIC: 1 KiB. */
  save(): Uint8Array {
    return this.#lapic.save();
  }

  /** KVM_SET_LAPIC; RangeError if it is not 1 KiB long. */
  restore(registers: Uint8Array): void {
    this.#lapic.restore(registers);
  }

  // ---- Within ------------------------------------------------------------------------------------------------------------------------

  /** Does the 8259 ask, and does LINT0 (or the bare INTR pin of a disabled APIC) let it through? */
  #extInt(): boolean {
    if (!this.#chips.pic.output) return false;
    const { state } = this.#lapic;
    if (!state.hardwareEnabled) return true;
    return (state.register(A.APIC_LVT0) & (A.LVT_MASKED | 0x700)) === A.DELIVERY_EXTINT << 8;
  }
}

const MSR_X2APIC_ICR = A.MSR_X2APIC_START + (A.APIC_ICR >> 4);

function isX2apicMsr(index: number): boolean {
  return index >= A.MSR_X2APIC_START && index < A.MSR_X2APIC_END;
}

function lowHalf(value: bigint): number {
  return Number(value & 0xffff_ffffn);
}

function highHalf(value: bigint): number {
  return Number((value >> 32n) & 0xffff_ffffn);
}

function fromHalves(low: number, high: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}
