import { closeDescriptor } from '../../host/descriptor.ts';
import { EAGAIN, EFAULT, EINTR, ENOMEM, errnoName, errnoText } from '../../host/errno.ts';
import { ioctl, type Request } from '../../host/ioctl.ts';
import { blockKickSignal, takeKicks } from '../../host/kick-signal.ts';
import { deviceWindow, unmapFrom } from '../../host/memory.ts';
import { allocate, get, set } from '../../host/struct.ts';
import { threadId } from '../../host/threads.ts';
import type { CpuidEntry, DebugRegs, Exit, GuestDebug, MpState, Regs, Sregs, Vcpu } from '../hypervisor.ts';
import { call } from './call.ts';
import { writeCpuid } from './cpuid.ts';
import { RunPage } from './exits.ts';
import { describeRegisters, explainExit } from './explain.ts';
import { encodeGuestDebug } from './guest-debug.ts';
import * as I from './ioctls.ts';
import * as R from './registers.ts';
import type { SplitIrqchip } from './split-irqchip.ts';
import * as S from './structs.ts';
import type { VcpuTable } from './vcpu-table.ts';

/** KVM's local APIC timer counts nanoseconds. */
const APIC_HZ = 1_000_000_000;
const RFLAGS_RF = 1n << 16n;
const CR0_NE = 1n << 5n;
/** Bits 0 to 3: a breakpoint or watchpoint was met. */
const DR6_POINTS = 0xfn;
/** Extended control register 0. */
const XCR0 = 0;
/** Exits at most in which an abandoned instruction asks for more data. */
const ABANDONED_EXITS = 64;

/** What a machine tells its vCPUs. */
export interface VcpuSurroundings {
  /** The machine's descriptor. */
  readonly vm: number;
  readonly table: VcpuTable;
  /** Bytes of the memory that a vCPU shares with the kernel. */
  readonly runSize: number;
  /** Bytes of a vCPU's XSAVE area; more than 4096 only where KVM has KVM_GET_XSAVE2. */
  readonly xsaveSize: number;
  /** The chips that are not the kernel's, if the interrupt chip is split. */
  readonly split: SplitIrqchip | undefined;
}

/** The vCPU that the 8259 interrupts. */
export const EXTERNAL_VCPU = 0;

/** A vCPU of KVM. */
export class KvmVcpu implements Vcpu {
  readonly id: number;
  readonly tscHz: number;
  readonly apicHz = APIC_HZ;
  readonly #around: VcpuSurroundings;
  readonly #fd: number;
  readonly #window: Uint8Array<ArrayBuffer>;
  readonly #page: RunPage;
  /** An instruction that was to be completed left the kernel once more: run() has this exit to tell. */
  #waiting = false;
  /** The guest stands at a breakpoint that the next run() goes past. */
  #atBreakpoint = false;
  #debug: GuestDebug = { singleStep: false, breakpoints: [], watchpoints: [] };
  /** The processor is as after INIT, and KVM on AMD has forgotten its nested page tables. */
  #wasShutDown = false;
  #closed = false;

  /** Makes the vCPU, which then belongs to the calling thread. Throws KvmError, OsError; nothing stays open. */
  constructor(id: number, around: VcpuSurroundings) {
    this.id = id;
    this.#around = around;
    this.#fd = call(`vCPU ${id} cannot be made`, around.vm, I.KVM_CREATE_VCPU, id);
    let window: Uint8Array<ArrayBuffer> | undefined;
    try {
      window = deviceWindow(this.#fd, around.runSize);
      this.#window = window;
      this.#page = new RunPage(window);
      this.tscHz = call("the TSC's frequency cannot be asked for", this.#fd, I.KVM_GET_TSC_KHZ) * 1000;
      this.#setSignalMask();
    } catch (error) {
      if (window) unmapFrom(window.buffer, 0, around.runSize);
      closeDescriptor(this.#fd);
      throw error;
    }
    around.table.opened(id, this.#fd, threadId());
  }

  /** Outside of KVM_RUN the kick waits; inside it is let through. */
  #setSignalMask(): void {
    const view = allocate(S.kvm_signal_mask, 8);
    set(S.kvm_signal_mask, view, 'len', 8);
    view.setBigUint64(S.kvm_signal_mask.fields.sigset[0], blockKickSignal(), true);
    this.#call('the signals that interrupt a vCPU cannot be set', I.KVM_SET_SIGNAL_MASK, view);
  }

  #call(what: string, request: Request, argument: number | NodeJS.ArrayBufferView = 0): number {
    return call(`vCPU ${this.id}: ${what}`, this.#fd, request, argument);
  }

  // ---- Running ---------------------------------------------------------------------------------------------------------
  run(): Exit {
    const page = this.#page;
    if (page.hasMore) return page.next();
    if (this.#atBreakpoint) this.#passBreakpoint();
    const { table, split } = this.#around;
    for (;;) {
      if (this.#waiting) {
        this.#waiting = false;
      } else {
        if (split !== undefined && this.id === EXTERNAL_VCPU) this.#offerExternal(split);
        if (table.isKicked(this.id)) page.immediateExit = true;
        const result = ioctl(this.#fd, I.KVM_RUN.number, 0);
        if (result < 0) {
          const exit = this.#left(-result);
          if (exit) return exit;
          continue;
        }
      }
      let exit = page.access() ?? this.#event();
      while (exit && split?.answer(exit) === true) exit = page.hasMore ? page.next() : undefined;
      if (exit) return exit;
    }
  }

  /** Gives the processor the 8259's interrupt if it takes one now, else asks to be told when it does. */
  #offerExternal(split: SplitIrqchip): void {
    const page = this.#page;
    page.requestInterruptWindow = split.asksForExternal && !page.readyForInterrupt;
    if (!split.asksForExternal || !page.readyForInterrupt) return;
    const vector = split.takeExternal();
    if (vector < 0) return;
    const view = allocate(S.kvm_interrupt);
    set(S.kvm_interrupt, view, 'irq', vector);
    this.#call('an interrupt cannot be given to it', I.KVM_INTERRUPT, view);
  }

  /** KVM_RUN came back without an exit. */
  #left(errno: number): Exit | undefined {
    const page = this.#page;
    page.immediateExit = false;
    page.completion = 'complete';
    // A vCPU that waits for INIT or SIPI comes back with EAGAIN when something has happened to it.
    if (errno === EAGAIN) return undefined;
    if (errno === EINTR) {
      // Signals before the word: whoever kicks after this look has its signal still waiting.
      takeKicks();
      return this.#around.table.takeKick(this.id) ? { kind: 'interrupted' } : undefined;
    }
    const why =
      errno === EFAULT || errno === ENOMEM
        ? `guest memory cannot be had: the host is out of memory, or of huge pages (${errnoName(errno)})`
        : `KVM_RUN: ${errnoText(errno)} (${errnoName(errno)})`;
    return this.#failure(why);
  }

  #event(): Exit | undefined {
    const ended = this.#page.endOfInterrupt;
    if (ended !== undefined) {
      this.#around.split?.endOfInterrupt(ended);
      return undefined;
    }
    const exit = this.#page.event();
    if (exit?.kind === 'unexplained') return this.#failure(explainExit(this.#page.view));
    if (exit?.kind === 'shutdown') this.#wasShutDown = true;
    if (exit?.kind === 'debug')
      this.#atBreakpoint = this.#debug.breakpoints.length > 0 && (exit.dr6 & DR6_POINTS) !== 0n;
    return exit;
  }

  #failure(why: string): Exit {
    let where: string;
    try {
      where = describeRegisters(this.getRegs(), this.getSregs());
    } catch (error) {
      where = (error as Error).message;
    }
    return { kind: 'internal-error', message: `${why}; ${where}` };
  }

  /** With the resume flag the breakpoint at the next instruction is not met again. */
  #passBreakpoint(): void {
    this.#atBreakpoint = false;
    const regs = this.getRegs();
    if (this.#debug.breakpoints.includes(regs.rip)) this.setRegs({ ...regs, rflags: regs.rflags | RFLAGS_RF });
  }

  /**
   * Lets the kernel take the last step of a write that was handed out: until then, the registers are those before it.
   * An instruction whose read has no data yet stays as it is.
   */
  #settle(): void {
    const page = this.#page;
    if (page.completion === 'write' && !page.hasMore) this.#complete();
  }

  /** Ends whatever instruction is unfinished, with the data that is there: its registers are about to be replaced. */
  #abandon(): void {
    const page = this.#page;
    for (let exits = 0; page.completion !== 'complete' && exits < ABANDONED_EXITS; exits++) {
      while (page.hasMore) page.next();
      this.#complete();
      if (!this.#waiting) break;
      this.#waiting = false;
      if (!page.access()) break;
    }
    page.drop();
    this.#waiting = false;
    this.#atBreakpoint = false;
  }

  #complete(): void {
    const page = this.#page;
    if (this.#waiting) return;
    page.immediateExit = true;
    const result = ioctl(this.#fd, I.KVM_RUN.number, 0);
    page.immediateExit = false;
    if (result >= 0) this.#waiting = true;
    else page.completion = 'complete';
  }

  // ---- Registers -------------------------------------------------------------------------------------------------------
  getRegs(): Regs {
    this.#settle();
    const view = allocate(S.kvm_regs);
    this.#call('its registers cannot be read', I.KVM_GET_REGS, view);
    return R.readGeneral(view);
  }

  setRegs(regs: Regs): void {
    this.#abandon();
    const view = allocate(S.kvm_regs);
    R.writeGeneral(view, regs);
    this.#call('its registers cannot be set', I.KVM_SET_REGS, view);
  }

  getSregs(): Sregs {
    this.#settle();
    const view = allocate(S.kvm_sregs);
    this.#call('its special registers cannot be read', I.KVM_GET_SREGS, view);
    return R.readSpecial(view);
  }

  setSregs(sregs: Sregs): void {
    this.#abandon();
    const view = allocate(S.kvm_sregs);
    const what = 'its special registers cannot be set';
    if (this.#wasShutDown) {
      // A change of CR0 makes KVM set up its page tables again.
      R.writeSpecial(view, { ...sregs, cr0: sregs.cr0 ^ CR0_NE });
      this.#call(what, I.KVM_SET_SREGS, view);
      this.#wasShutDown = false;
    }
    R.writeSpecial(view, sregs);
    this.#call(what, I.KVM_SET_SREGS, view);
  }

  #msr(index: number, value: bigint): DataView {
    const view = allocate(S.kvm_msrs, S.kvm_msr_entry.size);
    set(S.kvm_msrs, view, 'nmsrs', 1);
    set(S.kvm_msr_entry, view, 'index', index, S.kvm_msrs.size);
    set(S.kvm_msr_entry, view, 'data', value, S.kvm_msrs.size);
    return view;
  }

  getMsr(index: number): bigint {
    this.#settle();
    const view = this.#msr(index, 0n);
    // Says how many of the MSRs it has read.
    if (this.#call('an MSR cannot be read', I.KVM_GET_MSRS, view) !== 1) {
      throw new RangeError(`MSR 0x${index.toString(16)} is not there`);
    }
    return get(S.kvm_msr_entry, view, 'data', S.kvm_msrs.size);
  }

  setMsr(index: number, value: bigint): void {
    this.#abandon();
    if (this.#call('an MSR cannot be set', I.KVM_SET_MSRS, this.#msr(index, value)) !== 1) {
      throw new RangeError(`MSR 0x${index.toString(16)} is not there or refuses the value`);
    }
  }

  setCpuid(entries: readonly CpuidEntry[]): void {
    writeCpuid(this.#fd, entries);
  }

  getXsave(): Uint8Array {
    this.#settle();
    const { xsaveSize } = this.#around;
    const area = new Uint8Array(xsaveSize);
    const request = xsaveSize > S.kvm_xsave.size ? I.KVM_GET_XSAVE2 : I.KVM_GET_XSAVE;
    this.#call('its XSAVE area cannot be read', request, area);
    return area;
  }

  setXsave(area: Uint8Array): void {
    this.#abandon();
    const whole = new Uint8Array(this.#around.xsaveSize);
    whole.set(area.subarray(0, whole.length));
    this.#call('its XSAVE area cannot be set', I.KVM_SET_XSAVE, whole);
  }

  getXcr0(): bigint {
    const view = allocate(S.kvm_xcrs);
    this.#call('XCR0 cannot be read', I.KVM_GET_XCRS, view);
    // No XSAVE, no register: x87 state is always on.
    return get(S.kvm_xcrs, view, 'nr_xcrs') === 0 ? 1n : get(S.kvm_xcr, view, 'value', S.kvm_xcrs.fields.xcrs[0]);
  }

  setXcr0(value: bigint): void {
    const view = allocate(S.kvm_xcrs);
    set(S.kvm_xcrs, view, 'nr_xcrs', 1);
    set(S.kvm_xcr, view, 'xcr', XCR0, S.kvm_xcrs.fields.xcrs[0]);
    set(S.kvm_xcr, view, 'value', value, S.kvm_xcrs.fields.xcrs[0]);
    this.#call('XCR0 cannot be set', I.KVM_SET_XCRS, view);
  }

  getDebugRegs(): DebugRegs {
    this.#settle();
    const view = allocate(S.kvm_debugregs);
    this.#call('its debug registers cannot be read', I.KVM_GET_DEBUGREGS, view);
    return R.readDebug(view);
  }

  setDebugRegs(regs: DebugRegs): void {
    this.#abandon();
    const view = allocate(S.kvm_debugregs);
    R.writeDebug(view, regs);
    this.#call('its debug registers cannot be set', I.KVM_SET_DEBUGREGS, view);
  }

  getLapic(): Uint8Array {
    this.#settle();
    const registers = new Uint8Array(S.kvm_lapic_state.size);
    this.#call('its local APIC cannot be read', I.KVM_GET_LAPIC, registers);
    return registers;
  }

  setLapic(registers: Uint8Array): void {
    if (registers.length !== S.kvm_lapic_state.size) {
      throw new RangeError(
        `the registers of a local APIC are ${S.kvm_lapic_state.size} bytes, not ${registers.length}`,
      );
    }
    this.#call('its local APIC cannot be set', I.KVM_SET_LAPIC, registers);
  }

  getMpState(): MpState {
    this.#settle();
    const view = allocate(S.kvm_mp_state);
    this.#call('its state cannot be read', I.KVM_GET_MP_STATE, view);
    return R.mpStateName(get(S.kvm_mp_state, view, 'mp_state'));
  }

  setMpState(state: MpState): void {
    const view = allocate(S.kvm_mp_state);
    set(S.kvm_mp_state, view, 'mp_state', R.mpStateNumber(state));
    this.#call('its state cannot be set', I.KVM_SET_MP_STATE, view);
  }

  setGuestDebug(debug: GuestDebug): void {
    const view = encodeGuestDebug(debug);
    this.#settle();
    this.#call('breakpoints cannot be set', I.KVM_SET_GUEST_DEBUG, view);
    this.#debug = debug;
  }

  translate(linear: bigint): number | undefined {
    const view = allocate(S.kvm_translation);
    set(S.kvm_translation, view, 'linear_address', BigInt.asUintN(64, linear));
    this.#call('an address cannot be translated', I.KVM_TRANSLATE, view);
    if (get(S.kvm_translation, view, 'valid') === 0) return undefined;
    return Number(get(S.kvm_translation, view, 'physical_address'));
  }

  nmi(): void {
    this.#call('an interrupt cannot be queued', I.KVM_NMI);
  }

  /** The kernel keeps that to itself. */
  counts(): Readonly<Record<string, number>> {
    return {};
  }

  notePause(): void {
    // A guest that does not use the clock is refused (EINVAL): it has nowhere to be told.
    ioctl(this.#fd, I.KVM_KVMCLOCK_CTRL.number, 0);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // The kernel keeps a vCPU, and with it the machine, as long as its memory is mapped.
    unmapFrom(this.#window.buffer, 0, this.#around.runSize);
    const fd = this.#around.table.takeDescriptor(this.id);
    if (fd !== undefined) closeDescriptor(fd);
  }
}
