import type { Clock } from '../../host/clock.ts';
import * as A from './lapic-registers.ts';
import type { LapicState } from './lapic-state.ts';
import { LapicTimer } from './lapic-timer.ts';
import type { MessageBus } from './message-bus.ts';

/** What the local APIC needs of the chip around it. */
export interface LapicSurroundings {
  readonly clock: Clock;
  /** Rate of the host's counter that the guest's TSC follows, Hz. */
  readonly tscHz: number;
  /** Width of a guest-physical address, bits. */
  readonly physicalAddressBits: number;
  readonly messages: MessageBus;
  /** The end of a level-triggered interrupt, for the I/O APIC. */
  endOfInterrupt(vector: number): void;
}

/** Bits of each register that a write can set; x2APIC refuses the others. */
const WRITABLE = new Map<number, number>([
  [A.APIC_TPR, 0xff],
  [A.APIC_SPIV, 0xff | A.SPIV_APIC_ENABLED | A.SPIV_FOCUS_DISABLED | A.SPIV_SUPPRESS_EOI],
  [A.APIC_LVTT, 0xff | A.LVT_MASKED | A.LVT_TIMER_MODE],
  [A.APIC_LVTTHMR, 0x7ff | A.LVT_MASKED],
  [A.APIC_LVTPC, 0x7ff | A.LVT_MASKED],
  [A.APIC_LVT0, 0x7ff | 0x2000 | A.LVT_LEVEL | A.LVT_MASKED],
  [A.APIC_LVT1, 0x7ff | 0x2000 | A.LVT_LEVEL | A.LVT_MASKED],
  [A.APIC_LVTERR, 0xff | A.LVT_MASKED],
  [A.APIC_TMICT, 0xffff_ffff],
  [A.APIC_TDCR, 0xb],
]);
const LVT_ENTRIES = [A.APIC_LVTT, A.APIC_LVTTHMR, A.APIC_LVTPC, A.APIC_LVT0, A.APIC_LVT1, A.APIC_LVTERR];
/** Delivery status and remote IRR: Linux writes them when it shuts down. */
const LVT_READ_ONLY = 0x5000;
/** ICR bits of a command: vector, modes, destination mode, level, trigger, shorthand. */
const ICR_WRITABLE = 0xccfff;
const ICR_DELIVERY_STATUS = 0x1000;

/** Registers without state of their own here: in xAPIC mode they read as 0, in x2APIC mode they do not exist. */
const XAPIC_ONLY = [A.APIC_APR, A.APIC_RRD, A.APIC_DFR, A.APIC_ICR2];
const READABLE = new Set<number>([
  ...XAPIC_ONLY,
  ...WRITABLE.keys(),
  ...[A.APIC_ID, A.APIC_LVR, A.APIC_PPR, A.APIC_LDR, A.APIC_ESR, A.APIC_ICR, A.APIC_TMCCT],
  ...Array.from({ length: 24 }, (_, word) => A.APIC_ISR + word * 16),
]);

/** The local APIC for its vCPU: registers, priorities, timer. Used by that vCPU's thread only. */
export class Lapic {
  readonly state: LapicState;
  readonly timer: LapicTimer;
  readonly #surroundings: LapicSurroundings;

  constructor(state: LapicState, surroundings: LapicSurroundings) {
    this.state = state;
    this.timer = new LapicTimer(state, surroundings.clock, surroundings.tscHz);
    this.#surroundings = surroundings;
  }

  /** Reset of the processor: xAPIC mode at the default base. */
  powerOn(): void {
    const bsp = this.state.vcpuId === 0 ? A.APIC_BASE_BSP : 0;
    this.state.setBase(0xfee0_0000 | A.APIC_BASE_ENABLE | bsp, 0);
    this.state.setRegister(A.APIC_ID, this.state.vcpuId << 24);
    this.reset();
  }

  /** INIT: everything but mode, base and ID. */
  reset(): void {
    for (let offset = A.APIC_TPR; offset < A.LAPIC_REGISTERS_SIZE; offset += 16) this.state.setRegister(offset, 0);
    for (const entry of LVT_ENTRIES) this.state.setRegister(entry, A.LVT_MASKED);
    this.state.setRegister(A.APIC_LVR, A.APIC_VERSION);
    this.state.setRegister(A.APIC_SPIV, 0xff);
    this.state.setRegister(A.APIC_DFR, A.DFR_FLAT);
    if (this.state.x2apic) this.#setX2apicIds();
    this.state.takeErrors();
    this.timer.stop();
  }

  // ---- Interrupts ------------------------------------------------------------------------------------------------------

  /** Vector of the highest interrupt that the priorities let through; -1: none. */
  pendingVector(): number {
    const { state } = this;
    const vector = state.highest(A.APIC_IRR);
    if (vector < 0 || !state.hardwareEnabled) return -1;
    return (vector & 0xf0) > (state.processorPriority() & 0xf0) ? vector : -1;
  }

  /** Moves that interrupt from request to service; -1 when there is none. */
  acknowledge(): number {
    const vector = this.pendingVector();
    if (vector >= 0) {
      this.state.setBit(A.APIC_ISR, vector);
      this.state.clearBit(A.APIC_IRR, vector);
    }
    return vector;
  }

  endOfInterrupt(): void {
    const { state } = this;
    const vector = state.highest(A.APIC_ISR);
    if (vector < 0) return;
    state.clearBit(A.APIC_ISR, vector);
    const suppressed = (state.register(A.APIC_SPIV) & A.SPIV_SUPPRESS_EOI) !== 0;
    if (state.testBit(A.APIC_TMR, vector) && !suppressed) this.#surroundings.endOfInterrupt(vector);
  }

  /** TPR's high half, as CR8 shows it. */
  get cr8(): number {
    return (this.state.register(A.APIC_TPR) >> 4) & 0xf;
  }

  set cr8(value: number) {
    this.state.setRegister(A.APIC_TPR, (value & 0xf) << 4);
  }

  // ---- xAPIC: memory ----------------------------------------------------------------------------------------------------

  /** A read of up to 32 bits at `offset` in the register page. Registers are 32 bits wide, 16 bytes apart. */
  mmioRead(offset: number): number {
    const within = offset & 0xf;
    if (within >= 4) return 0;
    const register = offset & 0xff0;
    if (!READABLE.has(register)) {
      if (register !== A.APIC_EOI) this.state.reportError(A.ESR_ILLEGAL_REGISTER);
      return 0;
    }
    return this.#read(register) >>> (within * 8);
  }

  /** A 32-bit write. Others than aligned ones are ignored, as the SDM leaves them undefined. */
  mmioWrite(offset: number, value: number): void {
    if ((offset & 0xf) !== 0) return;
    const register = offset & 0xff0;
    const { state } = this;
    switch (register) {
      case A.APIC_ID:
        state.setRegister(A.APIC_ID, value & 0xff00_0000);
        return;
      case A.APIC_EOI:
        this.endOfInterrupt();
        return;
      case A.APIC_LDR:
        state.setRegister(A.APIC_LDR, value & 0xff00_0000);
        return;
      case A.APIC_DFR:
        state.setRegister(A.APIC_DFR, value | 0x0fff_ffff);
        return;
      case A.APIC_ESR:
        state.setRegister(A.APIC_ESR, state.takeErrors());
        return;
      case A.APIC_ICR2:
        state.setRegister(A.APIC_ICR2, value & 0xff00_0000);
        return;
      case A.APIC_ICR:
        this.#command(value & ICR_WRITABLE, state.register(A.APIC_ICR2) >>> 24);
        return;
      default: {
        const mask = WRITABLE.get(register);
        if (mask !== undefined) this.#write(register, value & mask);
        else if (!READABLE.has(register)) state.reportError(A.ESR_ILLEGAL_REGISTER);
      }
    }
  }

  // ---- x2APIC: MSRs -----------------------------------------------------------------------------------------------------

  /** Register of MSR 0x800 to 0x8ff: low half; undefined: #GP. Only the ICR has a high half, see x2apicHigh(). */
  x2apicRead(index: number): number | undefined {
    const register = (index - A.MSR_X2APIC_START) << 4;
    if (!this.#inX2apicMode || !READABLE.has(register) || XAPIC_ONLY.includes(register)) return undefined;
    return this.#read(register);
  }

  /** High half of the ICR. */
  get icrHigh(): number {
    return this.state.register(A.APIC_ICR2);
  }

  /** A write of MSR 0x800 to 0x8ff. Returns false for #GP. */
  x2apicWrite(index: number, low: number, high: number): boolean {
    if (!this.#inX2apicMode) return false;
    const register = (index - A.MSR_X2APIC_START) << 4;
    if (register === A.APIC_ICR) {
      // Delivery status does not exist here; software that writes it is let off, as processors do.
      if ((low & ~(ICR_WRITABLE | ICR_DELIVERY_STATUS)) !== 0) return false;
      this.state.setRegister(A.APIC_ICR2, high);
      this.#command(low & ICR_WRITABLE, high >>> 0);
      return true;
    }
    if (high !== 0) return false;
    switch (register) {
      case A.APIC_EOI:
        if (low !== 0) return false;
        this.endOfInterrupt();
        return true;
      case A.APIC_ESR:
        if (low !== 0) return false;
        this.state.setRegister(A.APIC_ESR, this.state.takeErrors());
        return true;
      case A.APIC_SELF_IPI:
        if ((low & ~0xff) !== 0) return false;
        this.#sendToSelf(low);
        return true;
      default: {
        const mask = WRITABLE.get(register);
        if (mask === undefined) return false;
        const ignored = LVT_ENTRIES.includes(register) ? LVT_READ_ONLY : 0;
        if ((low & ~(mask | ignored)) !== 0) return false;
        this.#write(register, (low & mask) >>> 0);
        return true;
      }
    }
  }

  // ---- IA32_APIC_BASE -----------------------------------------------------------------------------------------------------

  /** A write of IA32_APIC_BASE by the guest. Returns false for #GP: reserved bits, or a change of mode that is none. */
  writeBase(low: number, high: number): boolean {
    const bits = this.#surroundings.physicalAddressBits;
    const reservedHigh = bits >= 64 ? 0 : ~(2 ** (bits - 32) - 1);
    if ((low & 0x2ff) !== 0 || (high & reservedHigh) !== 0) return false;
    const enable = (low & A.APIC_BASE_ENABLE) !== 0;
    const extend = (low & A.APIC_BASE_X2APIC) !== 0;
    const { state } = this;
    if (extend && (!enable || !state.hardwareEnabled)) return false;
    if (state.x2apic && enable && !extend) return false;
    const wasEnabled = state.hardwareEnabled;
    const wasX2apic = state.x2apic;
    state.setBase(low, high);
    if (extend && !wasX2apic) {
      this.#setX2apicIds();
    } else if (enable !== wasEnabled) {
      state.setRegister(A.APIC_ID, state.vcpuId << 24);
      this.reset();
    }
    return true;
  }

  // ---- State, KVM_GET_LAPIC -------------------------------------------------------------------------------------------------

  /** The register page's first 1 KiB. */
  save(): Uint8Array {
    const { state } = this;
    const bytes = new Uint8Array(A.LAPIC_REGISTERS_SIZE);
    const view = new DataView(bytes.buffer);
    for (let offset = 0; offset < A.LAPIC_REGISTERS_SIZE; offset += 16) {
      view.setUint32(offset, state.register(offset), true);
    }
    view.setUint32(A.APIC_PPR, state.processorPriority(), true);
    view.setUint32(A.APIC_TMCCT, this.timer.currentCount(), true);
    return bytes;
  }

  /** Takes registers as save() gave them; the timer goes on from its current count. Throws RangeError on a wrong length. */
  restore(bytes: Uint8Array): void {
    if (bytes.length !== A.LAPIC_REGISTERS_SIZE) throw new RangeError(`local APIC state is ${bytes.length} bytes long`);
    const { state } = this;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const deadlineLow = state.tscDeadlineLow;
    const deadlineHigh = state.tscDeadlineHigh;
    for (let offset = 0; offset < A.LAPIC_REGISTERS_SIZE; offset += 16) {
      const mask = WRITABLE.get(offset) ?? 0xffff_ffff;
      state.setRegister(offset, view.getUint32(offset, true) & mask);
    }
    state.setRegister(A.APIC_LVR, A.APIC_VERSION);
    state.setRegister(A.APIC_DFR, view.getUint32(A.APIC_DFR, true) | 0x0fff_ffff);
    if (state.x2apic) this.#setX2apicIds();
    this.timer.stop();
    this.timer.resume(view.getUint32(A.APIC_TMCCT, true));
    this.timer.setTscDeadline(deadlineLow, deadlineHigh);
    state.request(A.REQUEST_INTERRUPT);
  }

  // ---- Within -----------------------------------------------------------------------------------------------------------------

  get #inX2apicMode(): boolean {
    return this.state.x2apic && this.state.hardwareEnabled;
  }

  #setX2apicIds(): void {
    const id = this.state.vcpuId;
    this.state.setRegister(A.APIC_ID, id);
    this.state.setRegister(A.APIC_LDR, ((id >>> 4) << 16) | (1 << (id & 0xf)));
  }

  #read(register: number): number {
    if (register === A.APIC_PPR) return this.state.processorPriority();
    if (register === A.APIC_TMCCT) return this.timer.currentCount();
    return this.state.register(register);
  }

  #write(register: number, value: number): void {
    const { state } = this;
    if (LVT_ENTRIES.includes(register) && !state.softwareEnabled) value |= A.LVT_MASKED;
    switch (register) {
      case A.APIC_LVTT:
        this.timer.setLvt(value);
        return;
      case A.APIC_TMICT:
        this.timer.start(value >>> 0);
        return;
      case A.APIC_TDCR:
        this.timer.setDivide(value);
        return;
      case A.APIC_SPIV:
        state.setRegister(register, value);
        if ((value & A.SPIV_APIC_ENABLED) === 0) {
          for (const entry of LVT_ENTRIES) this.#write(entry, state.register(entry));
        }
        return;
      default:
        state.setRegister(register, value);
    }
  }

  /** A write of the ICR's low half: sends an interprocessor interrupt. */
  #command(icr: number, destination: number): void {
    const { messages } = this.#surroundings;
    this.state.setRegister(A.APIC_ICR, icr);
    const mode = (icr >> 8) & 7;
    const vector = icr & 0xff;
    if (mode <= A.DELIVERY_LOWEST && vector < 16) {
      this.state.reportError(A.ESR_SEND_ILLEGAL_VECTOR);
      return;
    }
    // INIT level de-assert only set arbitration IDs on processors of long ago.
    if (mode === A.DELIVERY_INIT && (icr & (A.ICR_TRIGGER_LEVEL | A.ICR_LEVEL_ASSERT)) === A.ICR_TRIGGER_LEVEL) return;
    switch ((icr >> 18) & 3) {
      case 0:
        messages.send({
          destination,
          logical: (icr & A.ICR_DEST_LOGICAL) !== 0,
          mode,
          vector,
          // Whatever the ICR says, interprocessor interrupts are edge-triggered.
          level: false,
          wide: this.state.x2apic,
        });
        return;
      case 1:
        // SDM: with the shorthand "self" only fixed delivery is valid.
        if (mode === A.DELIVERY_FIXED) this.#sendToSelf(vector);
        return;
      case 2:
        messages.broadcast(mode, vector, undefined);
        return;
      default:
        messages.broadcast(mode, vector, this.state);
    }
  }

  #sendToSelf(vector: number): void {
    if (vector < 16) this.state.reportError(A.ESR_SEND_ILLEGAL_VECTOR);
    else this.state.accept(A.DELIVERY_FIXED, vector, false);
  }
}
