/**
 * What a processor below Vivarium must offer, in KVM's shape. `kvm/` forwards to the kernel, `soft/` is the built-in
 * machine. Nothing above this folder knows which one runs.
 *
 * Threads: a Vm is made by the main thread and shared with others: `share()` gives a message for a Worker, in which
 * `attach()` of the same hypervisor makes another object for the same machine. A Vcpu belongs to the thread that made it.
 */

/** Guest memory that several threads and processes can map. */
export interface MemoryRegion {
  /** memfd (or other file) that holds the bytes. */
  readonly fd: number;
  /** Bytes, a multiple of 4096. */
  readonly size: number;
}

export interface MemorySlot {
  readonly slot: number;
  /** Guest-physical start, page-aligned. */
  readonly guestAddress: number;
  /** Bytes, page-aligned; 0 removes the slot. */
  readonly size: number;
  /** Where the bytes are: a descriptor and the offset in it. */
  readonly fd: number;
  readonly fdOffset: number;
  readonly readOnly?: boolean;
  /**
   * A file with a count of 16 bits for each page of `fd`, from its first on: devices count up when they have written to a page. A
   * processor that keeps what it has decoded needs it.
   */
  readonly deviceWrites?: number;
}

/** An event that threads and processes signal and wait for: an eventfd on Linux. */
export interface HostEvent {
  readonly fd: number;
}

export interface Msi {
  readonly address: bigint;
  readonly data: number;
}

/** Where an interrupt line (GSI) goes. */
export type IrqRoute =
  | {
      readonly gsi: number;
      readonly kind: 'irqchip';
      readonly chip: 'pic-master' | 'pic-slave' | 'ioapic';
      readonly pin: number;
    }
  | { readonly gsi: number; readonly kind: 'msi'; readonly msi: Msi };

export interface IoEventAddress {
  readonly space: 'pio' | 'mmio';
  readonly address: number;
  /** 0 (any), 1, 2, 4 or 8 bytes. */
  readonly length: number;
  /** The event fires only when this value is written; absent: always. */
  readonly dataMatch?: bigint;
}

export interface CpuidEntry {
  readonly leaf: number;
  /** Absent: the leaf has no subleaves. */
  readonly subleaf?: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** General registers, KVM_GET_REGS. */
export interface Regs {
  rax: bigint;
  rbx: bigint;
  rcx: bigint;
  rdx: bigint;
  rsi: bigint;
  rdi: bigint;
  rsp: bigint;
  rbp: bigint;
  r8: bigint;
  r9: bigint;
  r10: bigint;
  r11: bigint;
  r12: bigint;
  r13: bigint;
  r14: bigint;
  r15: bigint;
  rip: bigint;
  rflags: bigint;
}

/** A segment register, KVM's struct kvm_segment. */
export interface Segment {
  base: bigint;
  /** In bytes, granularity applied. */
  limit: number;
  selector: number;
  type: number;
  present: boolean;
  dpl: number;
  db: boolean;
  s: boolean;
  l: boolean;
  g: boolean;
  avl: boolean;
  unusable: boolean;
}

export interface DescriptorTable {
  base: bigint;
  limit: number;
}

/** Special registers, KVM_GET_SREGS. */
export interface Sregs {
  cs: Segment;
  ds: Segment;
  es: Segment;
  fs: Segment;
  gs: Segment;
  ss: Segment;
  tr: Segment;
  ldt: Segment;
  gdt: DescriptorTable;
  idt: DescriptorTable;
  cr0: bigint;
  cr2: bigint;
  cr3: bigint;
  cr4: bigint;
  cr8: bigint;
  efer: bigint;
  apicBase: bigint;
}

export interface DebugRegs {
  db: [bigint, bigint, bigint, bigint];
  dr6: bigint;
  dr7: bigint;
}

export type MpState = 'runnable' | 'uninitialized' | 'init-received' | 'halted' | 'sipi-received';

/** Why run() came back. The object is the Vcpu's own and is overwritten by the next run(). */
export type Exit =
  /** Fill `data` (length 1, 2 or 4) before the next run(); left alone, it is what the processor reads from an empty bus. */
  | { readonly kind: 'io-in'; readonly port: number; readonly data: Uint8Array }
  | { readonly kind: 'io-out'; readonly port: number; readonly data: Uint8Array }
  /** Fill `data` (length 1 to 8) before the next run(). */
  | { readonly kind: 'mmio-read'; readonly address: number; readonly data: Uint8Array }
  | { readonly kind: 'mmio-write'; readonly address: number; readonly data: Uint8Array }
  /** HLT, only where the interrupt chip is not the hypervisor's. */
  | { readonly kind: 'hlt' }
  /** Triple fault. */
  | { readonly kind: 'shutdown' }
  | { readonly kind: 'system-event'; readonly event: 'shutdown' | 'reset' | 'crash' }
  /** kick() was called. */
  | { readonly kind: 'interrupted' }
  /** Asked for by setGuestDebug(), at the linear address `address`: DR6's bit n: data breakpoint n, BS: single step. */
  | { readonly kind: 'debug'; readonly address: bigint; readonly dr6: bigint }
  /** The processor cannot go on; `message` says why, in words. */
  | { readonly kind: 'internal-error'; readonly message: string };

export interface GuestDebug {
  /** One instruction for each run(); a vCPU that is not halted takes no interrupts meanwhile. */
  readonly singleStep: boolean;
  /** Execution breakpoints, linear addresses. run() after an exit for one goes on behind it. */
  readonly breakpoints: readonly bigint[];
  /** Data breakpoints: linear address, length 1, 2, 4, 8. */
  readonly watchpoints: readonly {
    readonly address: bigint;
    readonly length: number;
    readonly kind: 'write' | 'access';
  }[];
}

/** Where a vCPU is in its guest. */
export interface GuestPlace {
  /** RIP. */
  readonly ip: bigint;
  /** Privilege level 3. */
  readonly user: boolean;
  readonly cr3: bigint;
}

/** What a vCPU is to tell of itself while it runs. Only the built-in processor can. */
export interface VcpuInsight {
  /** Count also what costs something to count. */
  readonly counting?: boolean;
  /** Called every `samplePeriod` nanoseconds or somewhat later, with the clock's time; without a place when it was halted. */
  readonly sample?: (time: number, place: GuestPlace | undefined) => void;
  readonly samplePeriod?: number;
  /** Time counts instructions: lets what is outside of the hypervisor do what is due at `now`; returns when there is more to do, in
   * nanoseconds of the clock. */
  readonly advance?: (now: number) => number;
  /** Compare translated code with the interpreter as it runs; called with a line or more about each difference. */
  readonly mismatch?: (report: string) => void;
}

export interface Vcpu {
  readonly id: number;
  /** Frequency of the TSC, Hz. */
  readonly tscHz: number;
  /** Frequency of the local APIC timer's input at divide configuration 1, Hz. */
  readonly apicHz: number;
  getRegs(): Regs;
  setRegs(regs: Regs): void;
  getSregs(): Sregs;
  setSregs(sregs: Sregs): void;
  getMsr(index: number): bigint;
  /** Throws where the processor would raise #GP. */
  setMsr(index: number, value: bigint): void;
  setCpuid(entries: readonly CpuidEntry[]): void;
  /** XSAVE area, standard form (legacy region, header, components). */
  getXsave(): Uint8Array;
  setXsave(area: Uint8Array): void;
  getXcr0(): bigint;
  setXcr0(value: bigint): void;
  getDebugRegs(): DebugRegs;
  setDebugRegs(regs: DebugRegs): void;
  /** Local APIC registers, 1 KiB as KVM_GET_LAPIC lays them out. */
  getLapic(): Uint8Array;
  setLapic(registers: Uint8Array): void;
  getMpState(): MpState;
  setMpState(state: MpState): void;
  setGuestDebug(debug: GuestDebug): void;
  /** Linear to guest-physical address by the guest's current page tables; undefined where nothing is mapped. */
  translate(linear: bigint): number | undefined;
  /** Queues a non-maskable interrupt. */
  nmi(): void;
  /** Tells a guest with KVM's clock that it stood still, so that its watchdogs do not take the time for a hang. */
  notePause(): void;
  run(): Exit;
  /** What the processor has done since it was made, names and numbers in the order to read them in; names that end in "ms" are times. */
  counts(): Readonly<Record<string, number>>;
  close(): void;
}

export interface Vm {
  /** Adds, moves or removes (size 0) a slot. */
  setMemorySlot(slot: MemorySlot): void;
  /** Level of an interrupt line. */
  setIrqLine(gsi: number, level: boolean): void;
  signalMsi(msi: Msi): void;
  setGsiRouting(routes: readonly IrqRoute[]): void;
  registerIoEvent(event: HostEvent, where: IoEventAddress): void;
  unregisterIoEvent(event: HostEvent, where: IoEventAddress): void;
  /** A signal of `event` raises the line (edge; with `resample`, level until the guest's EOI, which signals `resample`). */
  registerIrqfd(event: HostEvent, gsi: number, resample?: HostEvent): void;
  unregisterIrqfd(event: HostEvent, gsi: number): void;
  createVcpu(id: number, insight?: VcpuInsight): Vcpu;
  /** Makes run() of the vCPU in whatever thread come back with `interrupted`, now or at its next call. */
  kick(vcpuId: number): void;
  /** A message (structured clone) from which `attach()` in another thread makes a Vm for the same machine. */
  share(): VmShare;
  close(): void;
}

export interface VmShare {
  readonly hypervisor: 'kvm' | 'soft';
  readonly data: unknown;
}

export interface VmOptions {
  /** vCPUs that will be made, ids 0 to count - 1. */
  readonly vcpuCount: number;
  /** Of the interrupt chip only the local APICs are the kernel's (KVM_CAP_SPLIT_IRQCHIP). KVM alone has such a thing. */
  readonly splitIrqchip?: boolean;
  /** Time counts instructions, and the one vCPU sets this clock (SharedClock's buffer). Only the built-in processor can. */
  readonly instructionClock?: SharedArrayBuffer | undefined;
}

export interface Hypervisor {
  readonly name: 'kvm' | 'soft';
  /** Gets what a vCPU's thread needs: createVcpu() is faster then. */
  load?(): void;
  /** What the processor can announce to a guest; the caller edits it and gives it to setCpuid(). */
  supportedCpuid(): CpuidEntry[];
  /** Most bytes of guest memory it can map. */
  readonly maxMemory: number;
  readonly maxVcpus: number;
  /** Its processors keep what they have decoded: they need MemorySlot.deviceWrites. */
  readonly keepsDecoded: boolean;
  createVm(options: VmOptions): Vm;
  attach(share: VmShare): Vm;
}
