// The built-in processor's state in the shapes of the hypervisor interface.

import * as L from '../../cpu/x86_64/layout.ts';
import type { DebugRegs, DescriptorTable, Regs, Segment, Sregs } from '../hypervisor.ts';

const GPR_NAMES = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rsp',
  'rbp',
  'rsi',
  'rdi',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
] as const;
const SEGMENTS = [
  ['es', 0],
  ['cs', 1],
  ['ss', 2],
  ['ds', 3],
  ['fs', 4],
  ['gs', 5],
  ['ldt', 6],
  ['tr', 7],
] as const;

export function readGeneral(view: DataView, rflags: number): Regs {
  const regs = {} as Regs;
  GPR_NAMES.forEach((name, i) => {
    regs[name] = view.getBigUint64(L.GPR + i * 8, true);
  });
  regs.rip = view.getBigUint64(L.RIP, true);
  regs.rflags = BigInt(rflags >>> 0);
  return regs;
}

export function writeGeneral(view: DataView, regs: Regs): void {
  GPR_NAMES.forEach((name, i) => {
    view.setBigUint64(L.GPR + i * 8, regs[name], true);
  });
  view.setBigUint64(L.RIP, regs.rip, true);
}

function readSegment(view: DataView, index: number): Segment {
  const at = L.SEG + index * L.SEG_SIZE;
  const attr = view.getUint32(at + L.SEG_O_ATTR, true);
  return {
    base: view.getBigUint64(at + L.SEG_O_BASE, true),
    limit: view.getUint32(at + L.SEG_O_LIMIT, true),
    selector: view.getUint32(at + L.SEG_O_SELECTOR, true),
    type: attr & 15,
    s: (attr & L.ATTR_S) !== 0,
    dpl: (attr >> 5) & 3,
    present: (attr & L.ATTR_P) !== 0,
    avl: (attr & 0x1000) !== 0,
    l: (attr & L.ATTR_L) !== 0,
    db: (attr & L.ATTR_DB) !== 0,
    g: (attr & L.ATTR_G) !== 0,
    unusable: (attr & L.ATTR_UNUSABLE) !== 0,
  };
}

function writeSegment(view: DataView, index: number, segment: Segment): void {
  const at = L.SEG + index * L.SEG_SIZE;
  const flag = (set: boolean, bit: number): number => (set ? bit : 0);
  const attr =
    (segment.type & 15) |
    flag(segment.s, L.ATTR_S) |
    ((segment.dpl & 3) << 5) |
    flag(segment.present, L.ATTR_P) |
    flag(segment.avl, 0x1000) |
    flag(segment.l, L.ATTR_L) |
    flag(segment.db, L.ATTR_DB) |
    flag(segment.g, L.ATTR_G) |
    flag(segment.unusable, L.ATTR_UNUSABLE);
  view.setBigUint64(at + L.SEG_O_BASE, segment.base, true);
  view.setUint32(at + L.SEG_O_LIMIT, segment.limit, true);
  view.setUint32(at + L.SEG_O_ATTR, attr, true);
  view.setUint32(at + L.SEG_O_SELECTOR, segment.selector & 0xffff, true);
}

const table = (view: DataView, at: number): DescriptorTable => ({
  base: view.getBigUint64(at, true),
  limit: view.getUint32(at + 8, true),
});

/** All but cr8 and apicBase, which are the local APIC's. */
export function readSpecial(view: DataView): Omit<Sregs, 'cr8' | 'apicBase'> {
  const segments = {} as Record<(typeof SEGMENTS)[number][0], Segment>;
  for (const [name, index] of SEGMENTS) segments[name] = readSegment(view, index);
  return {
    ...segments,
    gdt: table(view, L.GDTR_BASE),
    idt: table(view, L.IDTR_BASE),
    cr0: view.getBigUint64(L.CR0, true),
    cr2: view.getBigUint64(L.CR2, true),
    cr3: view.getBigUint64(L.CR3, true),
    cr4: view.getBigUint64(L.CR4, true),
    efer: view.getBigUint64(L.EFER, true),
  };
}

export function writeSpecial(view: DataView, sregs: Sregs): void {
  for (const [name, index] of SEGMENTS) writeSegment(view, index, sregs[name]);
  for (const [at, value] of [
    [L.GDTR_BASE, sregs.gdt],
    [L.IDTR_BASE, sregs.idt],
  ] as const) {
    view.setBigUint64(at, value.base, true);
    view.setUint32(at + 8, value.limit & 0xffff, true);
  }
  view.setBigUint64(L.CR0, sregs.cr0, true);
  view.setBigUint64(L.CR2, sregs.cr2, true);
  view.setBigUint64(L.CR3, sregs.cr3, true);
  view.setBigUint64(L.CR4, sregs.cr4, true);
  view.setBigUint64(L.EFER, sregs.efer, true);
}

const dr = (index: number): number => L.DR + index * 8;

export function readDebug(view: DataView): DebugRegs {
  const read = (index: number): bigint => view.getBigUint64(dr(index), true);
  return {
    db: [read(0), read(1), read(2), read(3)],
    dr6: view.getBigUint64(L.DR6, true),
    dr7: view.getBigUint64(L.DR7, true),
  };
}

export function writeDebug(view: DataView, regs: DebugRegs): void {
  regs.db.forEach((value, index) => {
    view.setBigUint64(dr(index), value, true);
  });
  view.setBigUint64(L.DR6, regs.dr6, true);
  view.setBigUint64(L.DR7, regs.dr7, true);
}
