// A machine for bare guests: one vCPU, 16 MiB, tables for every mode, handlers that report each exception to the test.

import assert from 'node:assert/strict';
import { SharedRegion } from '../../../src/host/memory.ts';
import { GuestMemory } from '../../../src/hypervisor/guest-memory.ts';
import type { Exit, Hypervisor, Regs, Segment, Sregs, Vcpu, Vm } from '../../../src/hypervisor/hypervisor.ts';
import { type Assembler, assemble } from '../../asm/assembler.ts';
import { isLab } from './hypervisors.ts';
import * as M from './map.ts';
import { Watchdog } from './watchdog.ts';

export type Mode = 'real' | 'protected16' | 'protected32' | 'compat' | 'long';

/** Of a TSS's type. */
const TSS_BUSY = 2;
/** Exits of one run at most. */
const MAX_EXITS = 10_000;

/** Vectors whose exceptions push an error code. */
const WITH_ERROR = new Set([8, 10, 11, 12, 13, 14, 17, 21]);

/** The frame that an exception or interrupt left. Stack pointer and SS only where they were pushed. */
export interface Fault {
  readonly vector: number;
  readonly error: number | undefined;
  readonly rip: number;
  readonly cs: number;
  readonly rflags: number;
  readonly rsp: number | undefined;
  readonly ss: number | undefined;
  readonly cr2: bigint;
  /** Stack pointer in the handler, at the frame's first word (error code or RIP). */
  readonly frame: number;
}

export type Outcome =
  | { readonly kind: 'done'; readonly value: number; readonly regs: Regs }
  | { readonly kind: 'fault'; readonly fault: Fault; readonly regs: Regs }
  | { readonly kind: 'exit'; readonly exit: Exit; readonly regs: Regs };

export interface RunOptions {
  readonly mode?: Mode;
  /** Privilege level of the code; 1 to 3 need descriptors of that level: long, protected32 and compat have them for 3. */
  readonly cpl?: 0 | 3;
  readonly regs?: Partial<Regs>;
  readonly cr0?: bigint;
  readonly cr4?: bigint;
  readonly efer?: bigint;
  /** RFLAGS at the start. */
  readonly rflags?: bigint;
  /** Changes tables in memory and special registers before the start. */
  readonly before?: (sregs: Sregs, machine: BareMachine) => void;
  /** Changes the vCPU when all is set, before its first instruction. */
  readonly start?: () => void;
  /** Answers exits that are neither the end nor a fault; true: go on. */
  readonly on?: (exit: Exit) => boolean;
  /** Handles an exception: true: go on (the handler returns to what the frame says now). */
  readonly onFault?: (fault: Fault) => boolean;
}

const DESCRIPTORS: readonly (readonly [selector: number, access: number, flags: number])[] = [
  [M.CODE32, 0x9b, 0xc],
  [M.DATA32, 0x93, 0xc],
  [M.CODE32_3, 0xfb, 0xc],
  [M.DATA32_3, 0xf3, 0xc],
  [M.CODE64, 0x9b, 0xa],
  [M.SYSRET_CODE32, 0xfb, 0xc],
  [M.SYSRET_DATA, 0xf3, 0xc],
  [M.CODE64_3, 0xfb, 0xa],
  [M.CODE16, 0x9b, 0x0],
  [M.DATA16, 0x93, 0x0],
];

export class BareMachine {
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly memory: GuestMemory;
  readonly #region: SharedRegion;
  /** Counts of what devices have written, a page each. */
  readonly #writes: SharedRegion;
  readonly #counts: Uint16Array;
  readonly #watchdog: Watchdog;
  readonly #initial: { readonly regs: Regs; readonly sregs: Sregs };
  labels: ReadonlyMap<string, number> = new Map();
  #gateBits: 16 | 32 | 64 = 64;

  constructor(hypervisor: Hypervisor) {
    this.#region = SharedRegion.create(M.RAM_SIZE);
    this.#writes = SharedRegion.create((M.RAM_SIZE / 4096) * 2);
    this.#counts = new Uint16Array(this.#writes.window().buffer);
    this.vm = hypervisor.createVm({ vcpuCount: 1 });
    const { fd } = this.#region;
    const deviceWrites = this.#writes.fd;
    this.vm.setMemorySlot({ slot: 0, guestAddress: 0, size: M.RAM_SIZE, fd, fdOffset: 0, deviceWrites });
    this.memory = new GuestMemory([{ guestAddress: 0, bytes: this.#region.window() }]);
    this.vcpu = this.vm.createVcpu(0);
    this.vcpu.setCpuid(hypervisor.supportedCpuid());
    this.#initial = { regs: this.vcpu.getRegs(), sregs: this.vcpu.getSregs() };
    this.#watchdog = new Watchdog(this.vm);
  }

  close(): void {
    this.#watchdog.close();
    this.vcpu.close();
    this.vm.close();
    this.#region.close();
    this.#writes.close();
  }

  /** Writes to memory as a device does, inside one page. */
  deviceWrite(address: number, bytes: Uint8Array): void {
    this.memory.write(address, bytes);
    this.#counts[address >>> 12]! += 1;
  }

  address(label: string): number {
    const address = this.labels.get(label);
    assert.ok(address !== undefined, `no label ${label}`);
    return address;
  }

  /** Assembles `program` for M.CODE (or `origin`), in `mode`, and runs it to its end. */
  run(program: (a: Assembler) => void, options: RunOptions = {}): Outcome {
    const mode = options.mode ?? 'long';
    this.#reset(mode);
    const low = mode === 'real' || mode === 'protected16';
    const origin = low ? LOW_CODE : M.CODE;
    const bits = mode === 'long' ? 64 : low ? 16 : 32;
    const { bytes, labels } = assemble(origin, bits, (a) => {
      program(a);
      a.label('end_of_program');
    });
    this.labels = labels;
    this.memory.write(origin, bytes);
    const sregs = this.#sregs(mode, options);
    options.before?.(sregs, this);
    const vcpu = this.vcpu;
    vcpu.setSregs(sregs);
    vcpu.setDebugRegs({ db: [0n, 0n, 0n, 0n], dr6: 0xffff0ff0n, dr7: 0x400n });
    vcpu.setMpState('runnable');
    // The program lies where another was: decoded code is forgotten.
    vcpu.setGuestDebug({ singleStep: false, breakpoints: [], watchpoints: [] });
    const rsp = low ? 0x7000n : BigInt(options.cpl === 3 ? M.STACK3 : M.STACK);
    vcpu.setRegs({ ...this.#initial.regs, rip: BigInt(origin), rsp, rflags: options.rflags ?? 2n, ...options.regs });
    options.start?.();
    return this.resume(options);
  }

  /** Goes on after an exit. */
  resume(options: RunOptions = {}): Outcome {
    for (let exits = 0; ; exits++) {
      assert.ok(exits < MAX_EXITS, 'the guest loops');
      this.#watchdog.start();
      const exit = this.vcpu.run();
      this.#watchdog.stop();
      if (exit.kind === 'io-out' && exit.port === M.PORT_DONE) {
        return {
          kind: 'done',
          value: new DataView(exit.data.buffer, exit.data.byteOffset).getUint8(0),
          regs: this.vcpu.getRegs(),
        };
      }
      if (exit.kind === 'io-out' && exit.port === M.PORT_FAULT) {
        const fault = this.#fault();
        if (options.onFault?.(fault) === true) continue;
        return { kind: 'fault', fault, regs: this.vcpu.getRegs() };
      }
      if (options.on?.(exit) === true) continue;
      return { kind: 'exit', exit, regs: this.vcpu.getRegs() };
    }
  }

  // ---- Tables -----------------------------------------------------------------------------------------------------------

  /** A segment descriptor of 8 bytes: access byte (P, DPL, S, type) and flags (G, D/B, L, AVL). */
  descriptor(selector: number, base: number, limit: number, access: number, flags: number): void {
    const low = (limit & 0xffff) | ((base & 0xffff) << 16);
    const high = ((base >>> 16) & 0xff) | (access << 8) | (limit & 0xf0000) | (flags << 20) | (base & 0xff000000);
    this.memory.writeU32(M.GDT + (selector & ~7), low >>> 0);
    this.memory.writeU32(M.GDT + (selector & ~7) + 4, high >>> 0);
  }

  /** The upper half of a system descriptor in long mode. */
  upper(selector: number, base: number | bigint): void {
    this.memory.writeU64(M.GDT + (selector & ~7) + 8, BigInt.asUintN(64, BigInt(base)) >> 32n);
  }

  /** A call gate (or, at an address of the IDT, an interrupt or trap gate). `access` holds P, DPL, type; `extra` IST or parameters. */
  gate(at: number, selector: number, offset: number, access: number, extra = 0): void {
    this.memory.writeU32(at, ((offset & 0xffff) | (selector << 16)) >>> 0);
    this.memory.writeU32(at + 4, ((extra & 0xff) | (access << 8) | (offset & 0xffff0000)) >>> 0);
  }

  /** Replaces a vector's gate by one of other access rights or IST, to the same handler. */
  vector(vector: number, access: number, ist = 0, selector?: number): void {
    const size = this.#gateBits === 64 ? 16 : 8;
    const code = selector ?? (this.#gateBits === 64 ? M.CODE64 : this.#gateBits === 32 ? M.CODE32 : M.CODE16);
    this.gate(M.IDT + vector * size, code, M.HANDLERS + vector * 16, access, ist);
  }

  /** Page table entry of a page in the first 2 MiB. */
  page(linear: number, flags: number | bigint, physical = linear): void {
    this.memory.writeU64(M.PT + (linear >>> 12) * 8, BigInt(physical) | BigInt(flags));
  }

  pageEntry(linear: number): bigint {
    return this.memory.readU64(M.PT + (linear >>> 12) * 8);
  }

  #reset(mode: Mode): void {
    const memory = this.memory;
    memory.fill(0, 0x100000, 0);
    for (const [selector, access, flags] of DESCRIPTORS)
      this.descriptor(selector, 0, flags === 0 ? 0xffff : 0xfffff, access, flags);
    this.#gateBits = mode === 'real' || mode === 'protected16' ? 16 : mode === 'protected32' ? 32 : 64;
    this.#handlers(mode);
    this.#taskState();
    // Everything is open to the user, so that a test closes what it tries; 1 GiB around DEVICE, too.
    memory.writeU64(M.PML4, BigInt(M.PDPT | M.P | M.W | M.U));
    memory.writeU64(M.PDPT, BigInt(M.PD | M.P | M.W | M.U));
    memory.writeU64(M.PDPT + 24, 0xc000_0000n | BigInt(M.P | M.W | M.U | M.PS));
    memory.writeU64(M.PD, BigInt(M.PT | M.P | M.W | M.U));
    for (let i = 1; i < 8; i++) memory.writeU64(M.PD + i * 8, BigInt((i << 21) | M.P | M.W | M.U | M.PS));
    for (let i = 0; i < 512; i++) this.page(i << 12, M.P | M.W | M.U);
  }

  /** Handlers push the vector (and 0 for an error code that the processor does not push) and tell the test. */
  #handlers(mode: Mode): void {
    const real = mode === 'real';
    for (let vector = 0; vector < 256; vector++) {
      const at = M.HANDLERS + vector * 16;
      const { bytes } = assemble(at, this.#gateBits, (a) => {
        if (real || !WITH_ERROR.has(vector)) a.db(0x6a, 0);
        // PUSH of a byte is sign-extended: the test looks at the low byte.
        a.db(0x6a, vector);
        a.out(M.PORT_FAULT, 'al');
        // Goes on when the test says so.
        const slots = this.#gateBits / 4;
        if (this.#gateBits === 64) a.lea('rsp', { base: 'rsp', disp: slots });
        else a.add(this.#gateBits === 32 ? 'esp' : 'sp', slots);
        a.iret();
      });
      this.memory.write(at, bytes);
      if (real) {
        this.memory.writeU16(vector * 4, at);
        this.memory.writeU16(vector * 4 + 2, 0);
      } else {
        this.vector(vector, this.#gateBits === 16 ? 0x86 | 0x60 : 0x8e | 0x60);
      }
    }
  }

  #taskState(): void {
    const { memory } = this;
    this.descriptor(M.TSS_SELECTOR, M.TSS, M.TSS_LIMIT, 0x8b, 0);
    this.descriptor(M.LDT_SELECTOR, M.LDT, 0xff, 0x82, 0);
    if (this.#gateBits === 64) {
      [M.STACK0, M.STACK1, M.STACK2].forEach((stack, i) => memory.writeU64(M.TSS + 4 + i * 8, BigInt(stack)));
      memory.writeU64(M.TSS + 0x24, BigInt(M.STACK_IST));
    } else {
      [M.STACK0, M.STACK1, M.STACK2].forEach((stack, level) => {
        memory.writeU32(M.TSS + 4 + level * 8, stack);
        memory.writeU32(M.TSS + 8 + level * 8, M.DATA32 | level);
      });
    }
    memory.writeU16(M.TSS + 0x66, M.IO_BITMAP);
    memory.fill(M.TSS + M.IO_BITMAP, 0x2000, 0xff);
  }

  #segment(selector: number): Segment {
    const at = M.GDT + (selector & ~7);
    const low = this.memory.readU32(at);
    const high = this.memory.readU32(at + 4);
    const g = (high & 0x800000) !== 0;
    const limit = (low & 0xffff) | (high & 0xf0000);
    return {
      base: BigInt(((low >>> 16) | ((high & 0xff) << 16) | (high & 0xff000000)) >>> 0),
      limit: (g ? (limit << 12) | 0xfff : limit) >>> 0,
      selector,
      type: (high >> 8) & 15,
      s: (high & 0x1000) !== 0,
      dpl: (high >> 13) & 3,
      present: (high & 0x8000) !== 0,
      avl: (high & 0x100000) !== 0,
      l: (high & 0x200000) !== 0,
      db: (high & 0x400000) !== 0,
      g,
      unusable: selector === 0,
    };
  }

  #sregs(mode: Mode, options: RunOptions): Sregs {
    const sregs = structuredClone(this.#initial.sregs);
    const user = options.cpl === 3;
    sregs.cr2 = 0n;
    sregs.cr8 = 0n;
    sregs.cr3 = BigInt(M.PML4);
    sregs.gdt = { base: BigInt(M.GDT), limit: M.GDT_LIMIT };
    if (mode === 'real') {
      for (const name of ['cs', 'ds', 'es', 'fs', 'gs', 'ss'] as const) {
        Object.assign(sregs[name], { base: 0n, selector: 0, limit: 0xffff });
      }
      sregs.idt = { base: 0n, limit: 0x3ff };
      sregs.cr0 = options.cr0 ?? M.CR0_ET | M.CR0_NE;
      sregs.cr4 = options.cr4 ?? 0n;
      sregs.efer = options.efer ?? 0n;
      return sregs;
    }
    const [code, data] = {
      protected16: [M.CODE16, M.DATA16],
      protected32: user ? [M.CODE32_3, M.DATA32_3] : [M.CODE32, M.DATA32],
      compat: user ? [M.CODE32_3, M.DATA32_3] : [M.CODE32, M.DATA32],
      long: user ? [M.CODE64_3, M.DATA32_3] : [M.CODE64, M.DATA32],
    }[mode] as [number, number];
    sregs.cs = this.#segment(code);
    for (const name of ['ds', 'es', 'fs', 'gs', 'ss'] as const) sregs[name] = this.#segment(data);
    sregs.tr = this.#segment(M.TSS_SELECTOR);
    // QEMU's emulation ends at a change of level of 32-bit code when the type says busy, as it does.
    if (isLab) sregs.tr.type &= ~TSS_BUSY;
    sregs.ldt = this.#segment(M.LDT_SELECTOR);
    sregs.idt = { base: BigInt(M.IDT), limit: 0xfff };
    const long = mode === 'long' || mode === 'compat';
    const protection = M.CR0_PE | M.CR0_ET | M.CR0_NE | M.CR0_MP;
    sregs.cr0 = options.cr0 ?? (long ? protection | M.CR0_PG | M.CR0_WP : protection);
    sregs.cr4 = options.cr4 ?? (long ? M.CR4_PAE | M.CR4_OSFXSR | M.CR4_OSXMMEXCPT : M.CR4_OSFXSR);
    sregs.efer = options.efer ?? (long ? M.EFER_LME | M.EFER_LMA | M.EFER_NXE | M.EFER_SCE : 0n);
    return sregs;
  }

  /** The frame of the handler that is running. */
  #fault(): Fault {
    const size = this.#gateBits / 8;
    const regs = this.vcpu.getRegs();
    const sregs = this.vcpu.getSregs();
    const stack = Number(sregs.ss.base) + (size === 2 ? Number(regs.rsp & 0xffffn) : Number(regs.rsp));
    const word = (index: number): number => {
      const at = stack + index * size;
      if (size === 8) return Number(this.memory.readU64(at));
      return size === 4 ? this.memory.readU32(at) : this.memory.readU16(at);
    };
    const vector = this.memory.readU8(stack);
    const hasError = WITH_ERROR.has(vector) && sregs.cr0 % 2n === 1n;
    const cs = word(3) & 0xffff;
    const outer = size === 8 || (word(4) & 0x20000) !== 0 || (cs & 3) > (sregs.cs.selector & 3);
    const real = sregs.cr0 % 2n === 0n;
    return {
      vector,
      error: hasError ? word(1) : undefined,
      rip: word(2),
      cs,
      rflags: word(4),
      rsp: outer && !real ? word(5) : undefined,
      ss: outer && !real ? word(6) & 0xffff : undefined,
      cr2: sregs.cr2,
      frame: stack + (hasError ? 1 : 2) * size,
    };
  }
}

/** Where code of 16-bit modes is: below 64 KiB. */
export const LOW_CODE = 0x7c00;

/** What a program that ends with PORT_DONE does last. */
export function done(a: Assembler): void {
  a.out(M.PORT_DONE, 'al');
}

export function expectDone(outcome: Outcome, value?: number): Regs {
  assert.equal(outcome.kind, 'done', describe(outcome));
  if (outcome.kind === 'done' && value !== undefined) assert.equal(outcome.value, value);
  return outcome.regs;
}

export function expectFault(outcome: Outcome, vector: number, error?: number): Fault {
  assert.equal(outcome.kind, 'fault', describe(outcome));
  const { fault } = outcome as { fault: Fault };
  const found = { vector: fault.vector, error: fault.error };
  assert.deepEqual(found, { vector, error }, describe(outcome));
  return fault;
}

export function expectExit<K extends Exit['kind']>(outcome: Outcome, kind: K): Extract<Exit, { kind: K }> {
  assert.equal(outcome.kind === 'exit' ? outcome.exit.kind : outcome.kind, kind, describe(outcome));
  return (outcome as { exit: Exit }).exit as Extract<Exit, { kind: K }>;
}

/** An outcome in words, for messages of failed tests. */
export function describe(outcome: Outcome): string {
  const hex = (value: number | bigint | undefined): string =>
    value === undefined ? 'none' : `0x${value.toString(16)}`;
  const rip = `rip ${hex(outcome.regs.rip)} rax ${hex(outcome.regs.rax)} rsp ${hex(outcome.regs.rsp)}`;
  if (outcome.kind === 'done') return `done ${hex(outcome.value)}, ${rip}`;
  if (outcome.kind === 'fault') {
    const { vector, error, cr2, cs } = outcome.fault;
    return `fault ${vector} error ${hex(error)} at ${hex(cs)}:${hex(outcome.fault.rip)} cr2 ${hex(cr2)}, ${rip}`;
  }
  return `exit ${JSON.stringify(outcome.exit, (_, v) => (typeof v === 'bigint' ? hex(v) : v))}, ${rip}`;
}
