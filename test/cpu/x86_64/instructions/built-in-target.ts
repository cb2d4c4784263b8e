// The built-in processor as a target: the runner and the cases at CPL 3, and below them a kernel that is nothing but
// fault handlers.

import { findBlock } from '../../../../src/cpu/x86_64/decode/block-hash.ts';
import { compile } from '../../../../src/cpu/x86_64/jit/compile.ts';
import * as L from '../../../../src/cpu/x86_64/layout.ts';
import { Processor } from '../../../../src/cpu/x86_64/processor.ts';
import { type Assembler, absolute, assemble, at } from '../../../asm/assembler.ts';
import * as N from '../../../native/layout.ts';
import { machineCode } from '../../../native/machine-code.ts';
import { readOnlyBytes } from '../../../native/native-target.ts';
import type { InstructionTarget } from './target.ts';

/** Guest-physical: first the cases' world, from N.BASE on; behind it the system's. */
const SYSTEM = 0xe00000;
const SYSTEM_SIZE = 0x20000;
const SYSTEM_LINEAR = 0x70000000;
const PML4 = SYSTEM;
const PDPT = SYSTEM + 0x1000;
/** Of the second GiB. */
const DIRECTORY = SYSTEM + 0x2000;
/** Seven tables for the cases' 14 MiB, one for the system. */
const TABLES = SYSTEM + 0x3000;
const SYSTEM_TABLE = SYSTEM + 0xa000;
const GDT = SYSTEM_LINEAR + 0xb000;
const IDT = SYSTEM_LINEAR + 0xc000;
const TSS = SYSTEM_LINEAR + 0xd000;
const STACK = SYSTEM_LINEAR + 0x10000;
const HANDLERS = SYSTEM_LINEAR + 0x11000;

const KERNEL_CODE = 0x08;
const USER_DATA = 0x1b;
const USER_CODE = 0x23;
const TSS_SELECTOR = 0x28;
/** Vectors that come with an error code. */
const WITH_ERROR = new Set([8, 10, 11, 12, 13, 14, 17]);
const PAGE_FAULT = 14;
const TF = 0x100;
/** Of a case and the runner around it, more than any takes. */
const MOST_INSTRUCTIONS = 10_000;
const P = 1;
const W = 2;
const U = 4;
const NX = 1n << 63n;

/** Handlers at the labels `vector0` to `vector31`: store the fault in its case and go on at `exit_fault`. */
function handlers(a: Assembler): void {
  for (let vector = 0; vector < 32; vector++) {
    a.label(`vector${vector}`);
    if (!WITH_ERROR.has(vector)) a.push(0);
    a.push(vector);
    a.jmp('common');
  }
  a.label('common');
  a.cmp(absolute(N.S_ACTIVE, 4), 0);
  a.jcc('e', 'stop');
  a.push('rax');
  a.push('rcx');
  a.mov('rcx', absolute(N.S_CASE));
  a.mov('rax', at('rsp', 16));
  a.mov(at('rcx', N.CASE_OUT_VECTOR), 'eax');
  a.cmp('eax', PAGE_FAULT);
  a.jcc('ne', 'no_cr2');
  a.mov('rax', 'cr2');
  a.mov(at('rcx', N.CASE_OUT_CR2), 'rax');
  a.label('no_cr2');
  a.mov('rax', at('rsp', 24));
  a.mov(at('rcx', N.CASE_OUT_ERROR), 'rax');
  a.mov('rax', at('rsp', 32));
  a.mov(at('rcx', N.CASE_OUT_RIP), 'rax');
  a.mov('eax', machineCode().labels.get('exit_fault') as number);
  a.mov(at('rsp', 32), 'rax');
  a.and(at('rsp', 48, 4), ~TF);
  a.pop('rcx');
  a.pop('rax');
  a.add('rsp', 16);
  a.iret(8);
  // The runner has returned to an address that CPL 3 cannot use.
  a.label('stop');
  a.hlt();
}

export class BuiltInTarget implements InstructionTarget {
  readonly name: string;
  readonly cases: Uint8Array<ArrayBuffer>;
  readonly code: Uint8Array<ArrayBuffer>;
  readonly #cpu: Processor;
  readonly #translated: boolean;

  /** `at-once`: cases run in translated code. */
  constructor(translation: 'none' | 'at-once') {
    this.name = `built-in, translation: ${translation}`;
    this.#translated = translation !== 'none';
    const none = (): never => {
      throw new Error('no device is here');
    };
    this.#cpu = new Processor(
      {
        mmio: none,
        pio: none,
        readMsr: none,
        writeMsr: none,
        tsc: none,
        cr8: () => {},
        log: () => {},
        breakpoints: new Set<bigint>(),
      },
      translation === 'none' ? 'none' : compile,
    );
    const at = (linear: number, size: number): Uint8Array<ArrayBuffer> =>
      this.#cpu.bytes.subarray(L.RAM_BASE + linear - N.BASE, L.RAM_BASE + linear - N.BASE + size);
    this.cases = at(N.CASES, N.MAX_CASES * N.CASE_SIZE);
    this.code = at(N.CODE, N.CODE_SIZE);
    at(N.RUNNER, 0x4000).set(machineCode().bytes);
    at(N.READ_ONLY, 0x1000).set(readOnlyBytes());
    this.#cpu.helpers.reset_state(0);
    this.#makeSystem();
  }

  #set64(address: number, value: number | bigint): void {
    this.#cpu.view.setBigUint64(address, BigInt(value), true);
  }

  #read64(linear: number): bigint {
    return this.#cpu.view.getBigUint64(L.RAM_BASE + linear - N.BASE, true);
  }

  #makeSystem(): void {
    const { view, bytes } = this.#cpu;
    view.setUint32(L.SLOT_COUNT, 1, true);
    this.#set64(L.SLOTS + L.SLOT_O_START, 0);
    this.#set64(L.SLOTS + L.SLOT_O_SIZE, SYSTEM + SYSTEM_SIZE);
    view.setUint32(L.SLOTS + L.SLOT_O_HOST, L.RAM_BASE, true);

    const physical = (address: number): number => L.RAM_BASE + address;
    this.#set64(physical(PML4), PDPT | P | W | U);
    this.#set64(physical(PDPT + 8), DIRECTORY | P | W | U);
    for (let i = 0; i < 7; i++) {
      this.#set64(physical(DIRECTORY + ((N.BASE >> 21) & 511) * 8 + i * 8), (TABLES + i * 0x1000) | P | W | U);
    }
    for (const { start, size, write, execute } of N.RANGES) {
      for (let page = start - N.BASE; page < start - N.BASE + size; page += 0x1000) {
        const entry = BigInt(page | P | U | (write ? W : 0)) | (execute ? 0n : NX);
        this.#set64(physical(TABLES + (page >> 12) * 8), entry);
      }
    }
    this.#set64(physical(DIRECTORY + ((SYSTEM_LINEAR >> 21) & 511) * 8), SYSTEM_TABLE | P | W);
    for (let page = 0; page < SYSTEM_SIZE; page += 0x1000) {
      this.#set64(physical(SYSTEM_TABLE + (page >> 12) * 8), (SYSTEM + page) | P | W);
    }

    const system = (linear: number): number => physical(SYSTEM + linear - SYSTEM_LINEAR);
    [0n, 0x00af9b000000ffffn, 0x00cf93000000ffffn, 0x00cff3000000ffffn, 0x00affb000000ffffn].forEach((entry, i) => {
      this.#set64(system(GDT + i * 8), entry);
    });
    this.#set64(system(TSS + 4), STACK);
    // The I/O map would be behind the limit: no port is open.
    view.setUint16(system(TSS + 0x66), 0x68, true);
    const { bytes: code, labels } = assemble(HANDLERS, 64, handlers);
    bytes.set(code, system(HANDLERS));
    for (let vector = 0; vector < 32; vector++) {
      const handler = BigInt(labels.get(`vector${vector}`) as number);
      const dpl = vector === 3 || vector === 4 ? 3n : 0n;
      const attributes = 0x8en | (dpl << 5n);
      const low = (handler & 0xffffn) | (BigInt(KERNEL_CODE) << 16n) | (attributes << 40n);
      this.#set64(system(IDT + vector * 16), low | ((handler & 0xffff0000n) << 32n));
    }

    this.#set64(L.GDTR_BASE, GDT);
    view.setUint32(L.GDTR_LIMIT, 0xff, true);
    this.#set64(L.IDTR_BASE, IDT);
    view.setUint32(L.IDTR_LIMIT, 0x1ff, true);
    this.#set64(L.SEG_TR + L.SEG_O_BASE, TSS);
    view.setUint32(L.SEG_TR + L.SEG_O_LIMIT, 0x67, true);
    view.setUint32(L.SEG_TR + L.SEG_O_ATTR, 0x8b, true);
    view.setUint32(L.SEG_TR + L.SEG_O_SELECTOR, TSS_SELECTOR, true);
    this.#set64(L.CR3, PML4);
    // PAE, OSFXSR, OSXMMEXCPT, OSXSAVE.
    this.#set64(L.CR4, 0x40620);
    this.#set64(L.XCR0, 7);
    this.#set64(L.EFER, 0xd00);
    this.#set64(L.CR0, 0x80010033);
  }

  run(count: number): void {
    if (!this.#translated) {
      this.#cpu.forgetCode();
      this.#pass(count, 10_000);
      return;
    }
    // Once instruction by instruction, so that all code is sampled and translated; then the same in translated code.
    const input = this.cases.slice(0, count * N.CASE_SIZE);
    this.#cpu.forgetCode();
    this.#pass(count, 0);
    this.cases.set(input);
    this.#pass(count, 10_000);
  }

  /** Runs the cases from the first on, `budget` instructions between two samples. */
  #pass(count: number, budget: number): void {
    const { view, helpers } = this.#cpu;
    for (let segment = L.SEG_ES; segment <= L.SEG_GS; segment += L.SEG_SIZE) {
      view.setUint32(segment + L.SEG_O_LIMIT, 0xffffffff, true);
      view.setUint32(segment + L.SEG_O_ATTR, segment === L.SEG_CS ? 0xa0fb : 0xc0f3, true);
      view.setUint32(segment + L.SEG_O_SELECTOR, segment === L.SEG_CS ? USER_CODE : USER_DATA, true);
      this.#set64(segment + L.SEG_O_BASE, 0);
    }
    helpers.set_rflags(0x202);
    view.setUint32(L.ACTIVITY, 0, true);
    helpers.update_mode();
    helpers.tlb_flush(1);
    const stack = N.SIGNAL_STACK + N.SIGNAL_STACK_SIZE - 64;
    this.#set64(L.RAM_BASE + stack - N.BASE, SYSTEM_LINEAR);
    this.#set64(L.GPR + 4 * 8, stack);
    this.#set64(L.GPR + 7 * 8, N.CASES);
    this.#set64(L.GPR + 6 * 8, count);
    this.#set64(L.RIP, machineCode().labels.get('runner') as number);
    view.setUint32(L.RAM_BASE + N.S_ACTIVE - N.BASE, 0, true);
    this.#cpu.bytes.fill(0, L.RAM_BASE + N.EDGE - N.BASE, L.RAM_BASE + N.EDGE - N.BASE + 0x1000);
    const most = count * MOST_INSTRUCTIONS;
    this.#cpu.sampleInterval = budget;
    for (let run = 0; run < most; run += Math.max(budget, 1)) {
      const reason = this.#cpu.run(budget);
      if (reason === L.EXIT_HLT) return;
      if (reason !== L.EXIT_BUDGET) throw new Error(`the cases end with exit ${reason}`);
    }
    const now = view.getBigUint64(L.RIP, true).toString(16);
    throw new Error(`the cases do not end: at 0x${now}, case 0x${this.#read64(N.S_CASE).toString(16)}`);
  }

  /** Number of the handler that goes on at a linear address of the cases' world. */
  handlerAt(linear: number): number {
    const { view } = this.#cpu;
    const host = L.RAM_BASE + linear - N.BASE;
    const record = findBlock(view, host, view.getUint32(L.MODE, true));
    if (record === undefined) throw new Error(`no block is at 0x${linear.toString(16)}`);
    return view.getUint16(record + L.R_HANDLER, true);
  }

  close(): void {}
}
