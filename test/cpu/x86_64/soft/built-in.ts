// The built-in processor, running single instructions in 64-bit mode from the same starts as native.ts.

import * as L from '../../../../src/cpu/x86_64/layout.ts';
import { Processor } from '../../../../src/cpu/x86_64/processor.ts';
import type { End, Start } from './native.ts';

const GDT = 0x1000;
const IDT = 0x2000;
const HANDLER = 0x3000;
const PML4 = 0x10000;
const MEMORY = 0x9000;
const CODE = 0x20000;
/** Bytes between instructions. */
const SLOT = 32;
const RAM_SIZE = 0x400000;
const SELECTOR = 8;
const HLT = 0xf4;

/** CR4: PAE, OSFXSR, OSXMMEXCPT. CR0: PG, ET, NE, MP, PE. EFER: LMA, LME, SCE. */
const CR4 = 0x620n;
const CR0 = 0x80000033n;
const EFER = 0x501n;
const VECTORS = 32;

function refuse(what: string): never {
  throw new Error(`an instruction asked for ${what}`);
}

/** Runs instructions one at a time. */
export class BuiltIn {
  readonly #processor: Processor;
  readonly #view: DataView;
  #next = CODE;

  constructor() {
    this.#processor = new Processor(
      {
        mmio: () => refuse('a device'),
        pio: () => refuse('a port'),
        readMsr: () => refuse('an MSR'),
        writeMsr: () => refuse('an MSR'),
        tsc: () => refuse('the TSC'),
        cr8: () => refuse('CR8'),
        log: (code, value) => refuse(`the log: ${code}, ${value}`),
        breakpoints: new Set<bigint>(),
      },
      'none',
    );
    this.#view = this.#processor.view;
    this.#prepare();
  }

  #ram64(address: number, value: number | bigint): void {
    this.#view.setBigUint64(L.RAM_BASE + address, BigInt(value), true);
  }

  #set64(address: number, value: number | bigint): void {
    this.#view.setBigUint64(address, BigInt(value), true);
  }

  #segment(segment: number, selector: number, attr: number): void {
    const view = this.#view;
    this.#set64(segment + L.SEG_O_BASE, 0);
    view.setUint32(segment + L.SEG_O_LIMIT, 0xffffffff, true);
    view.setUint32(segment + L.SEG_O_ATTR, attr, true);
    view.setUint32(segment + L.SEG_O_SELECTOR, selector, true);
  }

  #prepare(): void {
    const view = this.#view;
    const { helpers } = this.#processor;
    view.setUint32(L.SLOT_COUNT, 1, true);
    this.#set64(L.SLOTS + L.SLOT_O_START, 0);
    this.#set64(L.SLOTS + L.SLOT_O_SIZE, RAM_SIZE);
    view.setUint32(L.SLOTS + L.SLOT_O_HOST, L.RAM_BASE, true);
    helpers.reset_state(0);
    this.#ram64(GDT + SELECTOR, 0x00af9b000000ffffn);
    this.#ram64(GDT + SELECTOR + 8, 0x00cf93000000ffffn);
    for (let vector = 0; vector < VECTORS; vector++) {
      this.#ram64(IDT + vector * 16, BigInt(HANDLER) | (BigInt(SELECTOR) << 16n) | (0x8en << 40n));
    }
    view.setUint8(L.RAM_BASE + HANDLER, HLT);
    this.#ram64(PML4, PML4 + 0x1003);
    this.#ram64(PML4 + 0x1000, PML4 + 0x2003);
    for (let i = 0; i < 512; i++) this.#ram64(PML4 + 0x2000 + i * 8, i * 0x200000 + 0x83);
    this.#set64(L.GDTR_BASE, GDT);
    view.setUint32(L.GDTR_LIMIT, 0xff, true);
    this.#set64(L.IDTR_BASE, IDT);
    view.setUint32(L.IDTR_LIMIT, VECTORS * 16 - 1, true);
    this.#set64(L.CR3, PML4);
    this.#set64(L.CR4, CR4);
    this.#set64(L.EFER, EFER);
    this.#set64(L.CR0, CR0);
    this.#segment(L.SEG_CS, SELECTOR, 0xa09b);
    for (const segment of [L.SEG_SS, L.SEG_DS, L.SEG_ES]) this.#segment(segment, SELECTOR + 8, 0xc093);
    helpers.tlb_flush(1);
    helpers.update_mode();
  }

  /** Runs one instruction over all starts. */
  run(instruction: readonly number[], starts: readonly Start[]): End[] {
    const code = this.#next;
    this.#next += SLOT;
    [...instruction, HLT].forEach((byte, i) => {
      this.#view.setUint8(L.RAM_BASE + code + i, byte);
    });
    return starts.map((start) => this.#one(code, start));
  }

  #one(code: number, start: Start): End {
    const view = this.#view;
    const { helpers } = this.#processor;
    const get = (address: number): bigint => view.getBigUint64(address, true);
    const half = (i: number): number => L.XMM + (i >> 1) * L.XMM_SIZE + (i & 1) * 8;
    this.#set64(L.RAX, start.rax ?? 0n);
    this.#set64(L.RCX, start.rcx ?? 0n);
    this.#set64(L.RDX, start.rdx ?? 0n);
    this.#set64(L.FPR, start.rax ?? 0n);
    this.#set64(L.FPR + 16, start.rcx ?? 0n);
    const memory = MEMORY + (start.memory ?? 0);
    this.#set64(L.RBX, memory);
    this.#ram64(memory, start.xmm[2]);
    this.#ram64(memory + 8, start.xmm[3]);
    this.#set64(L.RSP, 0x8000);
    this.#set64(L.RIP, code);
    view.setUint32(L.MXCSR, start.mxcsr ?? 0x1f80, true);
    view.setUint32(L.ACTIVITY, 0, true);
    start.xmm.forEach((value, i) => {
      this.#set64(half(i), value);
    });
    helpers.set_rflags(2);
    const exit = this.#processor.run(1000);
    if (exit !== L.EXIT_HLT) throw new Error(`exit ${exit} at ${get(L.RIP).toString(16)}`);
    const fault = get(L.RIP) === BigInt(HANDLER + 1);
    return {
      mxcsr: view.getUint32(L.MXCSR, true),
      xmm: [get(half(0)), get(half(1)), get(half(2)), get(half(3))],
      mm: [get(L.FPR), get(L.FPR + 16)],
      rax: get(L.RAX),
      rcx: get(L.RCX),
      rflags: helpers.get_rflags(),
      memory: [get(L.RAM_BASE + memory), get(L.RAM_BASE + memory + 8)],
      vector: fault ? view.getUint32(L.EXC_VECTOR, true) : -1,
    };
  }
}
