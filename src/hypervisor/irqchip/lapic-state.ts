import { signalEvent } from '../../host/eventfd.ts';
import type { SharedRange } from '../../host/shared-state.ts';
import * as A from './lapic-registers.ts';

// After the register page: Int32 words, then doubles.
const REQUESTS = 0x400 >> 2;
const SIPI_VECTOR = REQUESTS + 1;
const BASE_LOW = REQUESTS + 2;
const BASE_HIGH = REQUESTS + 3;
const ESR_PENDING = REQUESTS + 4;
const LOWEST_COUNT = REQUESTS + 5;
const TSC_DEADLINE_LOW = REQUESTS + 6;
const TSC_DEADLINE_HIGH = REQUESTS + 7;
const TSC_OFFSET_LOW = REQUESTS + 8;
const TSC_OFFSET_HIGH = REQUESTS + 9;
const WAKE_FD = REQUESTS + 10;
const TIMER_DEADLINE = 0x440 >> 3;

/** Bytes of one local APIC's shared state. */
export const LAPIC_STATE_SIZE = 0x480;

/**
 * State of one local APIC as every thread sees it. Posting (`accept`, `request`) is for any thread and takes no lock;
 * all else that changes state is for the thread of the vCPU that owns the APIC (see lapic.ts).
 */
export class LapicState {
  readonly vcpuId: number;
  /** View of the state; a halted vCPU waits on `words[requestIndex]`. */
  readonly words: Int32Array;
  readonly requestIndex = REQUESTS;
  readonly #doubles: Float64Array;

  constructor(vcpuId: number, range: SharedRange) {
    this.vcpuId = vcpuId;
    this.words = new Int32Array(range.buffer, range.offset, LAPIC_STATE_SIZE / 4);
    this.#doubles = new Float64Array(range.buffer, range.offset, LAPIC_STATE_SIZE / 8);
  }

  /** Register at an xAPIC offset, as a u32. */
  register(offset: number): number {
    return Atomics.load(this.words, offset >> 2) >>> 0;
  }

  setRegister(offset: number, value: number): void {
    Atomics.store(this.words, offset >> 2, value | 0);
  }

  get baseLow(): number {
    return Atomics.load(this.words, BASE_LOW) >>> 0;
  }

  get baseHigh(): number {
    return Atomics.load(this.words, BASE_HIGH) >>> 0;
  }

  setBase(low: number, high: number): void {
    Atomics.store(this.words, BASE_HIGH, high | 0);
    Atomics.store(this.words, BASE_LOW, low | 0);
  }

  /** IA32_APIC_BASE.EN. */
  get hardwareEnabled(): boolean {
    return (this.baseLow & A.APIC_BASE_ENABLE) !== 0;
  }

  get softwareEnabled(): boolean {
    return (this.register(A.APIC_SPIV) & A.SPIV_APIC_ENABLED) !== 0;
  }

  get x2apic(): boolean {
    return (this.baseLow & A.APIC_BASE_X2APIC) !== 0;
  }

  /** APIC ID in the current mode's width. */
  get apicId(): number {
    const id = this.register(A.APIC_ID);
    return this.x2apic ? id : id >>> 24;
  }

  // ---- Timer and TSC: the owner's, but kept here so that all of the state is in one place ------------------------------

  /** When the timer fires, ns of the machine's clock; Infinity: never. */
  get timerDeadline(): number {
    return this.#doubles[TIMER_DEADLINE] as number;
  }

  set timerDeadline(time: number) {
    this.#doubles[TIMER_DEADLINE] = time;
  }

  get tscDeadlineLow(): number {
    return (this.words[TSC_DEADLINE_LOW] as number) >>> 0;
  }

  get tscDeadlineHigh(): number {
    return (this.words[TSC_DEADLINE_HIGH] as number) >>> 0;
  }

  setTscDeadline(low: number, high: number): void {
    this.words[TSC_DEADLINE_LOW] = low;
    this.words[TSC_DEADLINE_HIGH] = high;
  }

  get tscOffsetLow(): number {
    return (this.words[TSC_OFFSET_LOW] as number) >>> 0;
  }

  get tscOffsetHigh(): number {
    return (this.words[TSC_OFFSET_HIGH] as number) >>> 0;
  }

  setTscOffset(low: number, high: number): void {
    this.words[TSC_OFFSET_LOW] = low;
    this.words[TSC_OFFSET_HIGH] = high;
  }

  // ---- 256-bit vectors -------------------------------------------------------------------------------------------------

  /** Highest set bit of ISR, TMR or IRR (`offset` of the first word); -1 when empty. */
  highest(offset: number): number {
    for (let word = 7; word >= 0; word--) {
      const bits = Atomics.load(this.words, (offset >> 2) + word * 4);
      if (bits !== 0) return word * 32 + 31 - Math.clz32(bits);
    }
    return -1;
  }

  testBit(offset: number, vector: number): boolean {
    return (Atomics.load(this.words, (offset >> 2) + (vector >> 5) * 4) & (1 << (vector & 31))) !== 0;
  }

  setBit(offset: number, vector: number): void {
    Atomics.or(this.words, (offset >> 2) + (vector >> 5) * 4, 1 << (vector & 31));
  }

  clearBit(offset: number, vector: number): void {
    Atomics.and(this.words, (offset >> 2) + (vector >> 5) * 4, ~(1 << (vector & 31)));
  }

  /** Processor priority: the higher of the task priority and the interrupt in service. */
  processorPriority(): number {
    const tpr = this.register(A.APIC_TPR) & 0xff;
    const inService = Math.max(this.highest(A.APIC_ISR), 0) & 0xf0;
    return (tpr & 0xf0) >= inService ? tpr : inService;
  }

  /** Counts interrupts that came by lowest priority, to spread them among equals. */
  get lowestPriorityCount(): number {
    return Atomics.load(this.words, LOWEST_COUNT);
  }

  // ---- Posting, from any thread ------------------------------------------------------------------------------------------

  /** Sets REQUEST_* bits and wakes the vCPU where it sleeps. */
  request(bits: number): void {
    Atomics.or(this.words, REQUESTS, bits);
    Atomics.notify(this.words, REQUESTS);
    const wakeFd = Atomics.load(this.words, WAKE_FD);
    if (wakeFd !== 0) signalEvent(wakeFd);
  }

  /** The eventfd that wakes the vCPU, while it sleeps in a system call; else 0. Set it before a last look at the requests. */
  set wakeFd(fd: number) {
    Atomics.store(this.words, WAKE_FD, fd);
  }

  /** Takes all pending REQUEST_* bits. */
  takeRequests(): number {
    return Atomics.exchange(this.words, REQUESTS, 0);
  }

  get sipiVector(): number {
    return Atomics.load(this.words, SIPI_VECTOR);
  }

  /** An interrupt message arrives. Returns false when this APIC does not take it. */
  accept(mode: number, vector: number, level: boolean): boolean {
    if (!this.hardwareEnabled) return false;
    switch (mode) {
      case A.DELIVERY_FIXED:
      case A.DELIVERY_LOWEST:
        if (!this.softwareEnabled) return false;
        if (vector < 16) {
          this.reportError(A.ESR_RECEIVED_ILLEGAL_VECTOR);
          return false;
        }
        if (mode === A.DELIVERY_LOWEST) Atomics.add(this.words, LOWEST_COUNT, 1);
        // The trigger mode is known before the request is seen.
        if (level) this.setBit(A.APIC_TMR, vector);
        else this.clearBit(A.APIC_TMR, vector);
        this.setBit(A.APIC_IRR, vector);
        this.request(A.REQUEST_INTERRUPT);
        return true;
      case A.DELIVERY_NMI:
        this.request(A.REQUEST_NMI);
        return true;
      case A.DELIVERY_INIT:
        this.request(A.REQUEST_INIT);
        return true;
      case A.DELIVERY_STARTUP:
        Atomics.store(this.words, SIPI_VECTOR, vector);
        this.request(A.REQUEST_SIPI);
        return true;
      default:
        // SMI: there is no system-management mode. ExtINT reaches a processor through LINT0 alone.
        return false;
    }
  }

  /** A local interrupt (LVT entry at `offset`) fires. */
  deliverLocal(offset: number): void {
    const lvt = this.register(offset);
    if ((lvt & A.LVT_MASKED) === 0) this.accept((lvt >> 8) & 7, lvt & 0xff, false);
  }

  /** Collects ESR_* bits until the guest latches them, and fires the error interrupt. */
  reportError(bits: number): void {
    const before = Atomics.or(this.words, ESR_PENDING, bits);
    const lvt = this.register(A.APIC_LVTERR);
    // An illegal vector in the error entry itself must not report without end.
    if ((before & bits) !== bits && (lvt & A.LVT_MASKED) === 0 && (lvt & 0xff) >= 16) {
      this.accept(A.DELIVERY_FIXED, lvt & 0xff, false);
    }
  }

  takeErrors(): number {
    return Atomics.exchange(this.words, ESR_PENDING, 0);
  }
}
