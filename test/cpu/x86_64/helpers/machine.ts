// A processor's state and the helpers over it, without an engine: tests set registers and tables, call a helper as a
// handler would, and look at what it left.

import { readFileSync } from 'node:fs';
import * as L from '../../../../src/cpu/x86_64/layout.ts';

type Helper = (...args: (number | bigint)[]) => number;

/** Guest memory of the machine, in bytes. */
const RAM_SIZE = 0x400000;

const helpersModule = new WebAssembly.Module(readFileSync(new URL('../../../../build/helpers.wasm', import.meta.url)));

/** Fixed places in guest memory. */
export const GDT = 0x1000;
export const IDT = 0x2000;
export const TSS = 0x3000;
export const LDT = 0x3800;
export const TSS2 = 0x4000;
export const PML4 = 0x10000;

/** Selectors of the GDT that protected() makes. */
export const CODE0 = 0x08;
export const DATA0 = 0x10;
export const CODE3 = 0x18;
export const DATA3 = 0x20;
/** 64-bit code, levels 0 and 3. */
export const LONG0 = 0x28;
export const LONG3 = 0x30;
export const TSS_SELECTOR = 0x40;
/** Free for the test, 16 bytes each. */
export const FREE = 0x60;
export const FREE2 = 0x70;
export const FREE3 = 0x80;

/** First word of access rights in a descriptor: present code and data. */
export const CODE = 0x9b;
export const DATA = 0x93;

export class Machine {
  readonly memory = new WebAssembly.Memory({ initial: (L.RAM_BASE + RAM_SIZE) / 65536, maximum: 65536 });
  readonly view: DataView;
  readonly helpers: Record<string, Helper>;
  /** What the host was asked, in order. */
  readonly hostCalls: string[] = [];
  /** Values of the host's MSRs. */
  readonly hostMsrs = new Map<number, bigint>();
  tsc = 1000n;
  /** Answer to writes of host MSRs and of CR8. */
  hostAnswer = 1;

  constructor() {
    this.view = new DataView(this.memory.buffer);
    const host: Record<string, (...args: number[]) => number | undefined> = {
      host_tsc: () => {
        this.set64(L.HOST_VALUE, this.tsc);
        return undefined;
      },
      host_cr8: (write = 0) => {
        this.hostCalls.push(`cr8 ${write} ${this.get64(L.HOST_VALUE)}`);
        if (!write) this.set64(L.HOST_VALUE, 5n);
        return this.hostAnswer;
      },
      host_rdmsr: (index = 0) => {
        const value = this.hostMsrs.get(index >>> 0);
        this.set64(L.HOST_VALUE, value ?? 0n);
        return value === undefined ? 0 : 1;
      },
      host_wrmsr: (index = 0) => {
        if (!this.hostMsrs.has(index >>> 0)) return 0;
        this.hostMsrs.set(index >>> 0, this.get64(L.HOST_VALUE));
        return this.hostAnswer;
      },
    };
    // The other callbacks (devices, log) are not met by these tests: memory is all RAM.
    for (const { module, name } of WebAssembly.Module.imports(helpersModule)) {
      if (module === 'host') {
        host[name] ??= () => {
          throw new Error(`${name} was called`);
        };
      }
    }
    const instance = new WebAssembly.Instance(helpersModule, { env: { memory: this.memory }, host } as never);
    this.helpers = instance.exports as unknown as Record<string, Helper>;
    this.set32(L.SLOT_COUNT, 1);
    this.set64(L.SLOTS + L.SLOT_O_START, 0n);
    this.set64(L.SLOTS + L.SLOT_O_SIZE, BigInt(RAM_SIZE));
    this.set32(L.SLOTS + L.SLOT_O_HOST, L.RAM_BASE);
    this.cpuid([
      [0, 0, 0xd, 0, 0, 0],
      [1, 0, 0x306a9, 0x100800, (1 << 17) | (1 << 26), 0x078bfbff],
      [7, 0, 0, 0x3 | (1 << 7) | (1 << 10) | (1 << 20), 1 << 2, (1 << 26) | (1 << 29)],
      [0xd, 0, 7, 0, 832, 0],
      [0xd, 1, 0, 0, 0, 0],
      [0xd, 2, 256, 576, 0, 0],
      [0x80000000, 0, 0x80000008, 0, 0, 0],
      [0x80000001, 0, 0, 0, 0, (1 << 11) | (1 << 20) | (1 << 29)],
      [0x80000008, 0, 0x3024, 0, 0, 0],
    ]);
    this.call('reset_state', 0);
  }

  /** Fills the CPUID table with rows of leaf, subleaf, EAX, EBX, ECX, EDX; leaves 4, 7, 0xB and 0xD have subleaves. */
  cpuid(rows: readonly (readonly [number, number, number, number, number, number])[]): void {
    this.set32(L.CPUID_TABLE, rows.length);
    rows.forEach(([leaf, subleaf, eax, ebx, ecx, edx], index) => {
      const flags = [4, 7, 0xb, 0xd].includes(leaf) ? 1 : 0;
      [leaf, subleaf, flags, eax, ebx, ecx, edx].forEach((value, field) => {
        this.set32(L.CPUID_ENTRIES + index * L.CPUID_ENTRY + field * 4, value);
      });
    });
  }

  call(name: string, ...args: (number | bigint)[]): number {
    const helper = this.helpers[name];
    if (typeof helper !== 'function') throw new Error(`no helper ${name}`);
    return helper(...args);
  }

  // ---- State -------------------------------------------------------------------------------------------------------
  get32(address: number): number {
    return this.view.getUint32(address, true);
  }

  set32(address: number, value: number): void {
    this.view.setUint32(address, value, true);
  }

  get64(address: number): bigint {
    return this.view.getBigUint64(address, true);
  }

  set64(address: number, value: bigint): void {
    this.view.setBigUint64(address, BigInt.asUintN(64, value), true);
  }

  get rflags(): number {
    return this.call('get_rflags') >>> 0;
  }

  set rflags(value: number) {
    this.call('set_rflags', value);
    this.call('update_mode');
  }

  get cpl(): number {
    return this.get32(L.CPL);
  }

  selector(segment: number): number {
    return this.get32(segment + L.SEG_O_SELECTOR);
  }

  attr(segment: number): number {
    return this.get32(segment + L.SEG_O_ATTR);
  }

  segment(segment: number, selector: number, base: bigint, limit: number, attr: number): void {
    this.set64(segment + L.SEG_O_BASE, base);
    this.set32(segment + L.SEG_O_LIMIT, limit);
    this.set32(segment + L.SEG_O_ATTR, attr);
    this.set32(segment + L.SEG_O_SELECTOR, selector);
  }

  /** The exception that the last helper raised: `#13(0x10)`, or `#6` without an error code. */
  get raised(): string {
    const vector = this.get32(L.EXC_VECTOR);
    return this.get32(L.EXC_FLAGS) & 1 ? `#${vector}(0x${this.get32(L.EXC_ERROR).toString(16)})` : `#${vector}`;
  }

  /** Status of a helper, with what it raised: `fault #13(0x0)`. */
  outcome(name: string, ...args: (number | bigint)[]): string {
    const status = this.call(name, ...args);
    const names = ['ok', 'fault', 'jump', 'exit', 'next'];
    return status === L.STATUS_FAULT ? `fault ${this.raised}` : (names[status] ?? `status ${status}`);
  }

  // ---- Guest memory ------------------------------------------------------------------------------------------------
  read(address: number, size: 1 | 2 | 4 | 8): bigint {
    const at = L.RAM_BASE + address;
    if (size === 8) return this.view.getBigUint64(at, true);
    if (size === 4) return BigInt(this.view.getUint32(at, true));
    return BigInt(size === 2 ? this.view.getUint16(at, true) : this.view.getUint8(at));
  }

  write(address: number, size: 1 | 2 | 4 | 8, value: number | bigint): void {
    const at = L.RAM_BASE + address;
    const bits = BigInt.asUintN(size * 8, BigInt(value));
    if (size === 8) this.view.setBigUint64(at, bits, true);
    else if (size === 4) this.view.setUint32(at, Number(bits), true);
    else if (size === 2) this.view.setUint16(at, Number(bits), true);
    else this.view.setUint8(at, Number(bits));
  }

  /** Words of `size` bytes from `address` up, as hexadecimal. */
  words(address: number, size: 2 | 4 | 8, count: number): string[] {
    return Array.from({ length: count }, (_, i) => this.read(address + i * size, size).toString(16));
  }

  /** A segment descriptor; `access` is type, S, DPL, P; `flags` AVL, L, D/B, G (bits 0 to 3). */
  descriptor(address: number, base: number, limit: number, access: number, flags: number): void {
    const low = (limit & 0xffff) + (base & 0xffff) * 0x10000;
    const high = ((base >>> 16) & 0xff) | (access << 8) | (limit & 0xf0000) | (flags << 20) | (base & 0xff000000);
    this.write(address, 4, low >>> 0);
    this.write(address + 4, 4, high >>> 0);
  }

  /** A gate; its `access` is type, DPL, P; `count` parameters or IST. */
  gate(address: number, selector: number, offset: bigint, access: number, count = 0): void {
    this.write(address, 4, BigInt(selector) * 0x10000n + (offset & 0xffffn));
    this.write(address + 4, 4, (offset & 0xffff0000n) | BigInt((access << 8) | count));
  }

  /** A 16-byte gate of IA-32e mode. */
  gate64(address: number, selector: number, offset: bigint, access: number, ist = 0): void {
    this.gate(address, selector, offset, access, ist);
    this.write(address + 8, 8, offset >> 32n);
  }

  // ---- Modes -------------------------------------------------------------------------------------------------------
  /** 32-bit protected mode without paging, flat segments at `level`, a 32-bit TSS with stack 0 at 0x8000. */
  protected(level: 0 | 3 = 0): this {
    const flat = (index: number, access: number, flags: number): void =>
      this.descriptor(GDT + index, 0, 0xfffff, access, flags);
    flat(CODE0, 0x9b, 0xc);
    flat(DATA0, 0x93, 0xc);
    flat(CODE3, 0xfb, 0xc);
    flat(DATA3, 0xf3, 0xc);
    flat(LONG0, 0x9b, 0xa);
    flat(LONG3, 0xfb, 0xa);
    this.descriptor(GDT + TSS_SELECTOR, TSS, 0x2ff, 0x8b, 0);
    this.set64(L.GDTR_BASE, BigInt(GDT));
    this.set32(L.GDTR_LIMIT, 0x7ff);
    this.set64(L.IDTR_BASE, BigInt(IDT));
    this.set32(L.IDTR_LIMIT, 0x7ff);
    this.write(TSS + 4, 4, 0x8000);
    this.write(TSS + 8, 2, DATA0);
    this.write(TSS + 0x66, 2, 0x88);
    this.set64(L.CR0, 0x11n);
    this.segment(L.SEG_TR, TSS_SELECTOR, BigInt(TSS), 0x2ff, 0x8b);
    this.segment(L.SEG_LDTR, 0, 0n, 0, L.ATTR_UNUSABLE);
    this.level(level);
    return this;
  }

  /** Flat 32-bit segments at a privilege level. */
  level(level: 0 | 3): void {
    const dpl = level << 5;
    const rpl = level;
    this.segment(L.SEG_CS, (level ? CODE3 : CODE0) | rpl, 0n, 0xffffffff, 0xc09b | dpl);
    for (const segment of [L.SEG_SS, L.SEG_DS, L.SEG_ES, L.SEG_FS, L.SEG_GS]) {
      this.segment(segment, (level ? DATA3 : DATA0) | rpl, 0n, 0xffffffff, 0xc093 | dpl);
    }
    this.set64(L.RSP, level ? 0x7000n : 0x9000n);
    this.set64(L.RIP, 0x5000n);
    this.set64(L.NEXT_RIP, 0x5002n);
    this.call('update_mode');
  }

  /** 64-bit mode at `level`; the first 1 GiB mapped to itself for all levels, a 64-bit TSS with RSP0 at 0x8000. */
  long(level: 0 | 3 = 0): this {
    this.protected(0);
    this.write(PML4, 8, PML4 + 0x1000 + 7);
    this.write(PML4 + 0x1000, 8, PML4 + 0x2000 + 7);
    for (let i = 0; i < 512; i++) this.write(PML4 + 0x2000 + i * 8, 8, i * 0x200000 + 0x87);
    this.write(TSS + 4, 8, 0x8000);
    this.set32(L.IDTR_LIMIT, 0xfff);
    this.set64(L.CR3, BigInt(PML4));
    this.set64(L.CR4, 0x620n);
    this.set64(L.EFER, 0xd01n);
    this.set64(L.CR0, 0x80000011n);
    this.segment(L.SEG_CS, (level ? LONG3 : LONG0) | level, 0n, 0xffffffff, 0xa09b | (level << 5));
    this.segment(L.SEG_SS, (level ? DATA3 : DATA0) | level, 0n, 0xffffffff, 0xc093 | (level << 5));
    this.set64(L.RSP, level ? 0x7000n : 0x9000n);
    this.call('tlb_flush', 1);
    this.call('update_mode');
    return this;
  }

  /** Virtual-8086 mode at 0x2000:0x100, stack 0x3000:0x200, over protected(). */
  v86(iopl: number): this {
    this.protected(0);
    this.write(IDT, 8, 0);
    for (const [segment, selector] of [
      [L.SEG_CS, 0x2000],
      [L.SEG_SS, 0x3000],
      [L.SEG_DS, 0x2100],
      [L.SEG_ES, 0x2200],
      [L.SEG_FS, 0x2300],
      [L.SEG_GS, 0x2400],
    ] as const) {
      this.segment(segment, selector, BigInt(selector << 4), 0xffff, 0xf3);
    }
    this.set64(L.RIP, 0x100n);
    this.set64(L.NEXT_RIP, 0x102n);
    this.set64(L.RSP, 0x200n);
    this.rflags = L.FLAG_VM | L.FLAG_IF | (iopl << 12) | 2;
    return this;
  }
}
