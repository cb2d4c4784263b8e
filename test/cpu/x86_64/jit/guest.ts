// A 64-bit kernel without a system: code in global pages of the upper half, as kernels have it, the same memory at its
// physical addresses as well, and a processor that translates whatever it samples.

import assert from 'node:assert/strict';
import { compile } from '../../../../src/cpu/x86_64/jit/compile.ts';
import type { Compile } from '../../../../src/cpu/x86_64/jit/translator.ts';
import * as L from '../../../../src/cpu/x86_64/layout.ts';
import { Processor } from '../../../../src/cpu/x86_64/processor.ts';
import { type Assembler, assemble } from '../../../asm/assembler.ts';

const RAM_SIZE = 0x400000;
export const PML4 = 0x10000;
export const PDPT = 0x11000;
export const DIRECTORY = 0x12000;
/** Entries of 4 KiB pages, for all of the memory. */
export const TABLES = 0x13000;
const STACK = 0xf000;
export const DATA = 0x20000;
/** Where code is assembled: physical. It runs at UPPER + this. */
export const CODE = 0x100000;
export const UPPER = 0xffffffff80000000n;
const PRESENT_WRITE_GLOBAL = 0x103;

const none = (): never => {
  throw new Error('no device is here');
};

/** Where things are that a guest does not see. */
export interface Surroundings {
  /** Bytes of the arena that are used already. */
  readonly gap?: number;
  /** The code's third page is mapped from this physical address. */
  readonly third?: number;
}

export class Guest {
  readonly cpu: Processor;
  readonly labels: ReadonlyMap<string, number>;

  constructor(
    translation: 'none' | 'at-once' | 'beside' | Compile,
    program: (a: Assembler) => void,
    mostRegions?: number,
    { gap = 0, third = CODE + 0x2000 }: Surroundings = {},
  ) {
    this.cpu = new Processor(
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
      typeof translation === 'function'
        ? translation
        : { none: 'none' as const, 'at-once': compile, beside: 'thread' as const }[translation],
      { counting: true },
      mostRegions,
    );
    const { view, helpers } = this.cpu;
    const set64 = (at: number, value: bigint | number): void => view.setBigUint64(at, BigInt(value), true);
    helpers.reset_state(0);
    view.setUint32(L.SLOT_COUNT, 1, true);
    set64(L.SLOTS + L.SLOT_O_START, 0);
    set64(L.SLOTS + L.SLOT_O_SIZE, RAM_SIZE);
    view.setUint32(L.SLOTS + L.SLOT_O_HOST, L.RAM_BASE, true);
    const entry = (at: number, value: number): void => set64(L.RAM_BASE + at, value);
    entry(PML4, PDPT | 3);
    entry(PML4 + 511 * 8, PDPT | 3);
    entry(PDPT, DIRECTORY | 3);
    entry(PDPT + 510 * 8, DIRECTORY | 3);
    for (let i = 0; i < 2; i++) entry(DIRECTORY + i * 8, (TABLES + i * 0x1000) | 3);
    for (let page = 0; page < RAM_SIZE; page += 0x1000) entry(TABLES + (page >> 12) * 8, page | PRESENT_WRITE_GLOBAL);
    set64(L.CR3, PML4);
    set64(L.CR4, 0x6a0);
    set64(L.EFER, 0xd00);
    set64(L.CR0, 0x80010033);
    view.setUint32(L.SEG_CS + L.SEG_O_ATTR, 0xa09b, true);
    view.setUint32(L.SEG_SS + L.SEG_O_ATTR, 0xc093, true);
    for (const segment of [L.SEG_CS, L.SEG_SS, L.SEG_DS, L.SEG_ES]) set64(segment + L.SEG_O_BASE, 0);
    helpers.set_rflags(2);
    helpers.update_mode();
    helpers.tlb_flush(1);
    set64(L.RSP, STACK);
    set64(L.RIP, UPPER + BigInt(CODE));
    const { bytes, labels } = assemble(CODE, 64, program);
    this.cpu.bytes.set(bytes, L.RAM_BASE + CODE);
    this.cpu.bytes.copyWithin(L.RAM_BASE + third, L.RAM_BASE + CODE + 0x2000, L.RAM_BASE + CODE + 0x3000);
    entry(TABLES + ((CODE >> 12) + 2) * 8, third | PRESENT_WRITE_GLOBAL);
    view.setUint32(L.ARENA_NEXT, view.getUint32(L.ARENA_NEXT, true) + gap, true);
    this.labels = labels;
  }

  /** Runs to HLT, with a sample every `interval` instructions; gives RAX. */
  run(interval: number): bigint {
    this.cpu.sampleInterval = interval;
    for (let i = 0; i < 10_000_000; i++) {
      const reason = this.cpu.run(interval);
      if (reason === L.EXIT_HLT) return this.cpu.view.getBigUint64(L.RAX, true);
      assert.equal(reason, L.EXIT_BUDGET);
    }
    assert.fail(`the guest does not end: at 0x${this.cpu.view.getBigUint64(L.RIP, true).toString(16)}`);
  }

  /** Registers, flags, and what the guest has written to its data. */
  get state(): string {
    const { view, helpers, bytes } = this.cpu;
    const registers = Array.from({ length: 16 }, (_, i) => view.getBigUint64(L.GPR + i * 8, true).toString(16));
    const data = Buffer.from(bytes.subarray(L.RAM_BASE + DATA, L.RAM_BASE + DATA + 0x1000)).toString('hex');
    return `${registers.join(' ')} ${helpers.get_rflags().toString(16)} ${data}`;
  }
}
