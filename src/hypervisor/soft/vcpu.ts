import * as L from '../../cpu/x86_64/layout.ts';
import { Processor } from '../../cpu/x86_64/processor.ts';
import { AwakeWait } from '../../host/awake-wait.ts';
import { type Clock, SharedClock } from '../../host/clock.ts';
import type {
  CpuidEntry,
  DebugRegs,
  Exit,
  GuestDebug,
  MpState,
  Regs,
  Sregs,
  Vcpu,
  VcpuInsight,
} from '../hypervisor.ts';
import type { CpuInterrupts } from '../irqchip/irqchip.ts';
import { AnswerWatch } from './answer-watch.ts';
import { describeCounts } from './counts.ts';
import { TSC_HZ } from './cpuid.ts';
import { InstructionTime } from './instruction-time.ts';
import type { IoEventTable } from './io-events.ts';
import type { IrqfdSet } from './irqfd-set.ts';
import * as K from './kvm-clock.ts';
import * as R from './registers.ts';
import { SlotMap, type SlotTable } from './slots.ts';
import { Stepper } from './stepper.ts';
import { readXsave, writeXsave } from './xsave.ts';

/** Longest sleep of a halted vCPU, milliseconds: requests wake it at once, this bounds the rest. */
const LONGEST_SLEEP = 1000;

const ACTIVITY_RUNNING = 0;
const ACTIVITY_HALTED = 1;
const ACTIVITY_WAIT_SIPI = 2;

/** What an access that nobody answers reads, each byte. */
const NOBODY = 0xff;
/** IO_RESUME: INS starts again, with its data. */
const RESUME_INS = 3;

const MSR_OK = 1;
const MSR_FAULT = 0;
/** Done, and an interrupt may have become deliverable. */
const MSR_RECHECK = 2;
const MSR_TSC = 0x10;
const MSR_APIC_BASE = 0x1b;
const MSR_TSC_DEADLINE = 0x6e0;
const TWO_32 = 2 ** 32;

/** What the machine gives its vCPUs. */
export interface VcpuSurroundings {
  readonly slots: SlotTable;
  readonly ioEvents: IoEventTable;
  readonly interrupts: CpuInterrupts;
  /** Events that are interrupts, and what makes them so. One vCPU has them. */
  readonly irqfds?: { readonly set: IrqfdSet; raise(gsi: number): void };
  readonly clock: Clock;
  /** Host wall-clock time at the clock's 0, nanoseconds since 1970. */
  readonly wallClockOrigin: number;
  /** Ports and addresses that the interrupt chip answers itself: true when it did. */
  pio(port: number, data: Uint8Array, write: boolean): boolean;
  mmio(address: number, data: Uint8Array, write: boolean): boolean;
  readonly insight: VcpuInsight;
}

/** A vCPU of the built-in machine. */
export class SoftVcpu implements Vcpu {
  readonly id: number;
  readonly tscHz = TSC_HZ;
  readonly apicHz = TSC_HZ;
  readonly #around: VcpuSurroundings;
  readonly #irq: CpuInterrupts;
  readonly #irqfds: VcpuSurroundings['irqfds'];
  readonly #answers = new AnswerWatch();
  readonly #awake = new AwakeWait();
  readonly #cpu: Processor;
  readonly #view: DataView<ArrayBuffer>;
  readonly #slots: SlotMap;
  /** Where time counts instructions. */
  readonly #time: InstructionTime | undefined;
  #slotVersion = -1;
  /** Data bytes of an exit, by size. */
  readonly #data: Uint8Array[];
  readonly #ioView: DataView;
  #nextDeadline = 0;
  readonly #stepper: Stepper;
  /** The exit handed out was a read that the next run() finishes. */
  #unfinished: 'none' | 'io-in' | 'mmio-read' = 'none';
  #nmi = false;
  /** When the next sample is due, nanoseconds of the clock. */
  #nextSample = Number.POSITIVE_INFINITY;
  /** Time spent in HLT, milliseconds. */
  #haltedTime = 0;
  #wallClockMsr = 0n;
  #systemTimeMsr = 0n;

  constructor(id: number, around: VcpuSurroundings) {
    this.id = id;
    this.#around = around;
    this.#irq = around.interrupts;
    this.#irqfds = around.irqfds;
    if (around.insight.sample) this.#nextSample = 0;
    const breakpoints = new Set<bigint>();
    this.#cpu = new Processor(
      {
        mmio: (write) => !this.#time && this.#chipMmio(write),
        pio: (write) => !this.#time && around.pio(this.#view.getUint32(L.IO_ADDRESS, true), this.#bytesOf(), write),
        readMsr: (index) => this.#readMsr(index),
        writeMsr: (index) => this.#writeMsr(index),
        tsc: () => {
          this.#time?.sync();
          this.#setHostValue(around.clock.now());
        },
        ...(around.clock instanceof SharedClock && { random: () => (this.#time as InstructionTime).random() }),
        cr8: (write) => this.#cr8(write),
        log: () => {},
        breakpoints,
      },
      'thread',
      around.insight,
    );
    if (around.clock instanceof SharedClock) this.#time = new InstructionTime(this.#cpu, around.clock);
    this.#view = this.#cpu.view;
    this.#stepper = new Stepper(this.#cpu, breakpoints);
    this.#slots = new SlotMap(this.#cpu.memory.buffer as ArrayBuffer);
    this.#data = [1, 2, 4, 8].map((size) => this.#cpu.bytes.subarray(L.IO_DATA, L.IO_DATA + size));
    this.#ioView = new DataView(this.#cpu.memory.buffer as ArrayBuffer, L.IO_DATA, 8);
    this.#cpu.helpers.reset_state(0);
    this.#showApicBase();
    if (id !== 0) this.#activity = ACTIVITY_WAIT_SIPI;
  }

  // ---- Running ---------------------------------------------------------------------------------------------------------
  run(): Exit {
    this.#updateSlots();
    // A device may have set a timer.
    if (this.#time) this.#nextDeadline = 0;
    const waiting = this.#postedWrite() ?? this.#finishRead() ?? this.#stepper.due();
    if (waiting) return waiting;
    for (;;) {
      const exit = this.#requests();
      if (exit) return exit;
      this.#takeAnswers();
      const now = this.#around.clock.now();
      if (now >= this.#nextSample) this.#sample(now, true);
      if (now >= this.#nextDeadline) {
        this.#irq.advance(now);
        this.#nextDeadline = Math.min(this.#irq.nextDeadline(), this.#around.insight.advance?.(now) ?? Infinity);
      }
      if (this.#activity !== ACTIVITY_RUNNING && !this.#wakes()) {
        if (this.#activity === L.EXIT_SHUTDOWN) return { kind: 'shutdown' };
        this.#sleep(now);
        continue;
      }
      const stepped = this.#deliver();
      const reason = stepped ?? this.#runSome();
      if (reason === L.EXIT_BUDGET || reason === L.EXIT_IRQ_WINDOW) {
        const posted = this.#postedWrite();
        if (posted) return posted;
        this.#updateSlots();
        continue;
      }
      // Writes that were posted before the reason to leave come out first.
      const result = this.#exit(reason);
      if (result) return result;
    }
  }

  #runSome(): number {
    if (this.#stepper.active) return this.#stepper.step();
    if (!this.#time) return this.#cpu.run(this.#answers.nextPiece());
    return this.#time.run(this.#nextDeadline, () => this.#stepper.runWhole());
  }

  #exit(reason: number): Exit | undefined {
    const view = this.#view;
    switch (reason) {
      case L.EXIT_HLT:
        this.#answers.halted();
        return undefined;
      case L.EXIT_IO_IN:
        this.#unfinished = 'io-in';
        if (this.#time && this.#chipPort(false)) return this.#finishRead();
        return { kind: 'io-in', port: view.getUint32(L.IO_ADDRESS, true), data: this.#bytesOf().fill(NOBODY) };
      case L.EXIT_IO_OUT: {
        const port = view.getUint32(L.IO_ADDRESS, true);
        const size = view.getUint32(L.IO_SIZE, true);
        if (this.#signalled('pio', port, size)) return undefined;
        if (this.#time && this.#chipPort(true)) return undefined;
        return { kind: 'io-out', port, data: this.#bytesOf() };
      }
      case L.EXIT_MMIO_READ:
        this.#unfinished = 'mmio-read';
        if (this.#time && this.#chipMmio(false)) return this.#finishRead();
        return {
          kind: 'mmio-read',
          address: Number(view.getBigUint64(L.IO_ADDRESS, true)),
          data: this.#bytesOf().fill(NOBODY),
        };
      case L.EXIT_MMIO_WRITE:
        return this.#postedWrite();
      case L.EXIT_SHUTDOWN:
        return { kind: 'shutdown' };
      case L.EXIT_DEBUG:
        return this.#stepper.exit();
      default: {
        const rip = view.getBigUint64(L.RIP, true).toString(16);
        return { kind: 'internal-error', message: `the guest runs code outside of its memory, at 0x${rip}` };
      }
    }
  }

  #bytesOf(): Uint8Array {
    return this.#data[31 - Math.clz32(this.#view.getUint32(L.IO_SIZE, true))] as Uint8Array;
  }

  /** The oldest device write not handed out yet. */
  #postedWrite(): Exit | undefined {
    const view = this.#view;
    for (;;) {
      const count = view.getUint32(L.MMIO_POSTED, true);
      if (count === 0) return undefined;
      const address = Number(view.getBigUint64(L.MMIO_WRITES, true));
      const size = view.getUint32(L.MMIO_WRITES + 16, true);
      view.setBigUint64(L.IO_DATA, view.getBigUint64(L.MMIO_WRITES + 8, true), true);
      view.setUint32(L.IO_SIZE, size, true);
      this.#cpu.bytes.copyWithin(L.MMIO_WRITES, L.MMIO_WRITES + 24, L.MMIO_WRITES + 24 * count);
      view.setUint32(L.MMIO_POSTED, count - 1, true);
      if (this.#signalled('mmio', address, size)) continue;
      if (this.#time) {
        view.setBigUint64(L.IO_ADDRESS, BigInt(address), true);
        if (this.#chipMmio(true)) continue;
      }
      return { kind: 'mmio-write', address, data: this.#bytesOf() };
    }
  }

  /** A write was a notification: its event has been signalled. */
  #signalled(space: 'pio' | 'mmio', address: number, size: number): boolean {
    if (!this.#around.ioEvents.signal(space, address, size, this.#ioView)) return false;
    // Another vCPU takes the answer.
    if (this.#irqfds) this.#answers.notified();
    return true;
  }

  /** Completes the instruction whose read the last exit asked for. */
  #finishRead(): Exit | undefined {
    const view = this.#view;
    const unfinished = this.#unfinished;
    if (unfinished === 'none') return undefined;
    this.#unfinished = 'none';
    if (unfinished === 'io-in') {
      if (view.getUint32(L.IO_RESUME, true) === 1) this.#writeAccumulator();
      if (view.getUint32(L.IO_RESUME, true) !== RESUME_INS) {
        view.setUint32(L.IO_RESUME, 0, true);
        return undefined;
      }
    } else {
      const done = view.getUint32(L.MMIO_DONE, true);
      view.setBigUint64(L.MMIO_READS + done * 8, view.getBigUint64(L.IO_DATA, true), true);
      view.setUint32(L.MMIO_DONE, done + 1, true);
      view.setUint32(L.MMIO_TAKEN, 0, true);
    }
    const stepping = this.#stepper.active;
    let reason = this.#stepper.runOne();
    if (stepping) reason = this.#stepper.finish(reason);
    if (reason !== L.EXIT_MMIO_READ) {
      view.setUint32(L.MMIO_DONE, 0, true);
      view.setUint32(L.MMIO_TAKEN, 0, true);
    }
    if (reason === L.EXIT_BUDGET || reason === L.EXIT_IRQ_WINDOW) return this.#postedWrite();
    return this.#exit(reason);
  }

  /** The value of a port into AL, AX or EAX. */
  #writeAccumulator(): void {
    const view = this.#view;
    const size = view.getUint32(L.IO_SIZE, true);
    if (size === 1) view.setUint8(L.RAX, view.getUint8(L.IO_DATA));
    else if (size === 2) view.setUint16(L.RAX, view.getUint16(L.IO_DATA, true), true);
    else view.setBigUint64(L.RAX, BigInt(view.getUint32(L.IO_DATA, true)), true);
  }

  #updateSlots(): void {
    const { slots } = this.#around;
    if (slots.version === this.#slotVersion) return;
    this.#slotVersion = slots.version;
    this.#slots.update(slots.list());
    this.#cpu.forgetCode();
  }

  // ---- Requests, interrupts ----------------------------------------------------------------------------------------------
  get #activity(): number {
    return this.#view.getUint32(L.ACTIVITY, true);
  }

  set #activity(value: number) {
    this.#view.setUint32(L.ACTIVITY, value, true);
  }

  /** What other threads asked of this vCPU. */
  #requests(): Exit | undefined {
    const requests = this.#irq.takeRequests();
    if (requests.init) {
      this.#cpu.helpers.reset_state(1);
      this.#irq.reset();
      this.#showApicBase();
      this.#activity = this.id === 0 ? ACTIVITY_RUNNING : ACTIVITY_WAIT_SIPI;
    }
    if (requests.sipi !== undefined && this.#activity === ACTIVITY_WAIT_SIPI) {
      this.#cpu.helpers.sipi(requests.sipi);
      this.#activity = ACTIVITY_RUNNING;
    }
    if (requests.nmi) this.#nmi = true;
    if (requests.changed) this.#nextDeadline = 0;
    return requests.kick ? { kind: 'interrupted' } : undefined;
  }

  #interruptsOn(): boolean {
    return (this.#view.getUint32(L.FLAGS, true) & L.FLAG_IF) !== 0;
  }

  /** A halted vCPU has a reason to go on. */
  #wakes(): boolean {
    if (this.#activity !== ACTIVITY_HALTED) return false;
    return this.#nmi || (this.#interruptsOn() && this.#irq.pendingVector() >= 0);
  }

  /** Devices have sent interrupts, which the local APIC has now. */
  #takeAnswers(): boolean {
    if (!this.#irqfds?.set.used || !this.#irqfds.set.take(this.#irqfds.raise)) return false;
    this.#answers.answered();
    return true;
  }

  #sleep(now: number): void {
    if (this.#time && this.#nextDeadline !== Infinity) {
      this.#time.skipTo(this.#nextDeadline);
      return;
    }
    const milliseconds = Math.min((this.#nextDeadline - now) / 1e6, LONGEST_SLEEP);
    if (milliseconds <= 0) return;
    const start = performance.now();
    const set = this.#irqfds?.set;
    if (!set?.used) this.#irq.wait(milliseconds);
    else {
      this.#awake.wait(
        milliseconds * 1e6,
        () => this.#takeAnswers() || this.#irq.pollRequests() !== 0,
        () => this.#irq.waitIn(set.wakeFd, () => set.sleep(milliseconds)),
      );
    }
    this.#haltedTime += performance.now() - start;
    if (this.#nextSample !== Number.POSITIVE_INFINITY) this.#sample(this.#around.clock.now(), false);
  }

  /** Delivers what waits, if it can be; an exit reason if something had to run or went wrong. */
  #deliver(): number | undefined {
    const view = this.#view;
    const { helpers } = this.#cpu;
    if (this.#stepper.singleStep && this.#activity === ACTIVITY_RUNNING) return undefined;
    const vector = this.#irq.pendingVector();
    if (this.#nmi && helpers.nmi_interruptible()) {
      this.#nmi = false;
      return this.#inject(2, 1);
    }
    view.setUint32(L.IRQ_PENDING, vector >= 0 ? 1 : 0, true);
    if (vector < 0) return undefined;
    if (helpers.interruptible()) {
      const taken = this.#irq.acknowledge();
      view.setUint32(L.IRQ_PENDING, this.#irq.pendingVector() >= 0 ? 1 : 0, true);
      return taken >= 0 ? this.#inject(taken, 0) : undefined;
    }
    if (!this.#interruptsOn()) return undefined;
    // In the shadow of STI or MOV SS: one instruction first.
    return this.#stepper.step();
  }

  /** Takes an interrupt; an exit reason when that fails. */
  #inject(vector: number, kind: number): number | undefined {
    this.#activity = ACTIVITY_RUNNING;
    if (this.#cpu.helpers.deliver_interrupt(vector, kind) !== L.STATUS_EXIT)
      return this.#stepper.singleStep ? L.EXIT_DEBUG : undefined;
    return this.#view.getUint32(L.EXIT_REASON, true);
  }

  #sample(now: number, running: boolean): void {
    const { sample, samplePeriod } = this.#around.insight;
    const view = this.#view;
    const user = view.getUint32(L.CPL, true) === 3;
    sample?.(
      now,
      running ? { ip: view.getBigUint64(L.RIP, true), user, cr3: view.getBigUint64(L.CR3, true) } : undefined,
    );
    this.#nextSample = now + (samplePeriod ?? Number.POSITIVE_INFINITY);
  }

  counts(): Readonly<Record<string, number>> {
    return describeCounts(this.#cpu.counts(), this.#haltedTime);
  }

  // ---- Devices of the machine itself ----------------------------------------------------------------------------------------
  // Where time counts instructions, they are asked after the processor has left the guest: then it is known what time it is.
  #chipPort(write: boolean): boolean {
    const port = this.#view.getUint32(L.IO_ADDRESS, true);
    if (!this.#around.pio(port, this.#bytesOf(), write)) return false;
    this.#nextDeadline = 0;
    return true;
  }

  #chipMmio(write: boolean): boolean {
    const view = this.#view;
    const address = Number(view.getBigUint64(L.IO_ADDRESS, true));
    const page = this.#irq.apicPage;
    if (address >= page && address < page + 4096) {
      if (write) {
        this.#irq.mmioWrite(address - page, view.getUint32(L.IO_DATA, true));
        this.#nextDeadline = 0;
        if (this.#irq.pendingVector() >= 0) view.setUint32(L.IRQ_PENDING, 1, true);
      } else {
        view.setBigUint64(L.IO_DATA, BigInt(this.#irq.mmioRead(address - page) >>> 0), true);
      }
      return true;
    }
    return this.#around.mmio(address, this.#bytesOf(), write);
  }

  /** CPUID shows whether the local APIC is on. */
  #showApicBase(): void {
    this.#view.setBigUint64(L.MSR_APIC_BASE, this.#irq.apicBase, true);
  }

  #setHostValue(value: number): void {
    this.#view.setUint32(L.HOST_VALUE, value >>> 0, true);
    this.#view.setUint32(L.HOST_VALUE + 4, value / TWO_32, true);
  }

  #cr8(write: boolean): void {
    if (write) {
      this.#irq.cr8 = this.#view.getUint32(L.HOST_VALUE, true);
      if (this.#irq.pendingVector() >= 0) this.#view.setUint32(L.IRQ_PENDING, 1, true);
    } else {
      this.#setHostValue(this.#irq.cr8);
    }
  }

  #readMsr(index: number): number {
    this.#time?.sync();
    if (index === MSR_APIC_BASE) {
      this.#view.setBigUint64(L.HOST_VALUE, this.#irq.apicBase, true);
      return MSR_OK;
    }
    if (index === K.MSR_KVM_WALL_CLOCK || index === K.MSR_KVM_WALL_CLOCK_OLD) {
      this.#view.setBigUint64(L.HOST_VALUE, this.#wallClockMsr, true);
      return MSR_OK;
    }
    if (index === K.MSR_KVM_SYSTEM_TIME || index === K.MSR_KVM_SYSTEM_TIME_OLD) {
      this.#view.setBigUint64(L.HOST_VALUE, this.#systemTimeMsr, true);
      return MSR_OK;
    }
    const value = this.#irq.msrRead(index);
    if (value === undefined) return MSR_FAULT;
    this.#view.setBigUint64(L.HOST_VALUE, value, true);
    return MSR_OK;
  }

  #writeMsr(index: number): number {
    this.#time?.sync();
    const view = this.#view;
    const value = view.getBigUint64(L.HOST_VALUE, true);
    if (index === K.MSR_KVM_WALL_CLOCK || index === K.MSR_KVM_WALL_CLOCK_OLD) {
      this.#wallClockMsr = value;
      K.writeWallClock(this.#slots, Number(value), this.#around.wallClockOrigin);
      return MSR_OK;
    }
    if (index === K.MSR_KVM_SYSTEM_TIME || index === K.MSR_KVM_SYSTEM_TIME_OLD) {
      this.#systemTimeMsr = value;
      const now = this.#around.clock.now();
      const tsc = BigInt(Math.floor((now * TSC_HZ) / 1e9)) + view.getBigUint64(L.TSC_OFFSET, true);
      K.writeSystemTime(this.#slots, value, BigInt.asUintN(64, tsc), now);
      return MSR_OK;
    }
    if (index === MSR_TSC_DEADLINE) this.#irq.setTscOffset(view.getBigInt64(L.TSC_OFFSET, true));
    const done = index === MSR_APIC_BASE ? this.#irq.writeBase(value) : this.#irq.msrWrite(index, value);
    if (!done) return MSR_FAULT;
    this.#showApicBase();
    this.#nextDeadline = 0;
    if (this.#irq.pendingVector() < 0) return this.#time ? MSR_RECHECK : MSR_OK;
    view.setUint32(L.IRQ_PENDING, 1, true);
    return MSR_RECHECK;
  }

  // ---- State -------------------------------------------------------------------------------------------------------------
  getRegs(): Regs {
    return R.readGeneral(this.#view, this.#cpu.helpers.get_rflags());
  }

  setRegs(regs: Regs): void {
    R.writeGeneral(this.#view, regs);
    this.#cpu.helpers.set_rflags(Number(regs.rflags & 0xffffffffn));
    this.#cpu.helpers.update_mode();
  }

  getSregs(): Sregs {
    return { ...R.readSpecial(this.#view), cr8: BigInt(this.#irq.cr8), apicBase: this.#irq.apicBase };
  }

  setSregs(sregs: Sregs): void {
    R.writeSpecial(this.#view, sregs);
    this.#irq.cr8 = Number(sregs.cr8 & 15n);
    this.#irq.apicBase = sregs.apicBase;
    this.#showApicBase();
    this.#cpu.helpers.update_mode();
    this.#cpu.forgetTranslations();
  }

  getMsr(index: number): bigint {
    return this.#msrInstruction(index, undefined);
  }

  setMsr(index: number, value: bigint): void {
    this.#msrInstruction(index, value);
    // Set from outside, the TSC is as it always was: the guest has not adjusted it.
    if (index === MSR_TSC) this.#view.setBigUint64(L.MSR_TSC_ADJUST, 0n, true);
  }

  /** Runs RDMSR or WRMSR at privilege level 0 with registers of its own. */
  #msrInstruction(index: number, value: bigint | undefined): bigint {
    const view = this.#view;
    const saved = [L.RAX, L.RCX, L.RDX, L.CPL].map((at) => [at, view.getBigUint64(at, true)] as const);
    view.setUint32(L.CPL, 0, true);
    view.setBigUint64(L.RCX, BigInt(index >>> 0), true);
    view.setBigUint64(L.RAX, (value ?? 0n) & 0xffffffffn, true);
    view.setBigUint64(L.RDX, BigInt.asUintN(64, value ?? 0n) >> 32n, true);
    const status = value === undefined ? this.#cpu.helpers.rdmsr() : this.#cpu.helpers.wrmsr();
    const result = (view.getBigUint64(L.RDX, true) << 32n) | (view.getBigUint64(L.RAX, true) & 0xffffffffn);
    for (const [at, old] of saved) view.setBigUint64(at, old, true);
    this.#cpu.helpers.update_mode();
    if (status === L.STATUS_FAULT)
      throw new RangeError(`MSR 0x${index.toString(16)} is not there or refuses the value`);
    return result;
  }

  setCpuid(entries: readonly CpuidEntry[]): void {
    const view = this.#view;
    view.setUint32(L.CPUID_TABLE, entries.length, true);
    entries.forEach((entry, i) => {
      const at = L.CPUID_ENTRIES + i * L.CPUID_ENTRY;
      [
        entry.leaf,
        entry.subleaf ?? 0,
        entry.subleaf === undefined ? 0 : 1,
        entry.eax,
        entry.ebx,
        entry.ecx,
        entry.edx,
      ].forEach((word, n) => {
        view.setUint32(at + n * 4, word, true);
      });
    });
  }

  getXsave(): Uint8Array {
    return readXsave(this.#view);
  }

  setXsave(area: Uint8Array): void {
    writeXsave(this.#view, area);
  }

  getXcr0(): bigint {
    return this.#view.getBigUint64(L.XCR0, true);
  }

  setXcr0(value: bigint): void {
    this.#view.setBigUint64(L.XCR0, value, true);
    this.#cpu.helpers.update_mode();
  }

  setGuestDebug(debug: GuestDebug): void {
    this.#stepper.set(debug);
  }

  getDebugRegs(): DebugRegs {
    return R.readDebug(this.#view);
  }

  setDebugRegs(regs: DebugRegs): void {
    R.writeDebug(this.#view, regs);
    this.#cpu.helpers.update_mode();
    this.#cpu.forgetTranslations();
  }

  getLapic(): Uint8Array {
    return this.#irq.save();
  }

  setLapic(registers: Uint8Array): void {
    this.#irq.restore(registers);
    this.#nextDeadline = 0;
  }

  getMpState(): MpState {
    if (this.#activity === ACTIVITY_HALTED) return 'halted';
    return this.#activity === ACTIVITY_WAIT_SIPI ? 'init-received' : 'runnable';
  }

  setMpState(state: MpState): void {
    if (state === 'halted') this.#activity = ACTIVITY_HALTED;
    else this.#activity = state === 'runnable' ? ACTIVITY_RUNNING : ACTIVITY_WAIT_SIPI;
  }

  translate(linear: bigint): number | undefined {
    this.#updateSlots();
    const physical = BigInt.asUintN(64, this.#cpu.helpers.debug_translate(linear));
    return physical === 2n ** 64n - 1n ? undefined : Number(physical);
  }

  nmi(): void {
    this.#nmi = true;
  }

  notePause(): void {
    K.noteGuestStopped(this.#slots, this.#systemTimeMsr);
  }

  close(): void {
    this.#slots.update([]);
  }
}
