/** The interface's register sets in KVM's structures, and back. */

import { get, set } from '../../host/struct.ts';
import type { DebugRegs, DescriptorTable, MpState, Regs, Segment, Sregs } from '../hypervisor.ts';
import * as K from './constants.ts';
import { kvm_debugregs, kvm_dtable, kvm_regs, kvm_segment, kvm_sregs } from './structs.ts';

const GENERAL = Object.keys(kvm_regs.fields) as (keyof typeof kvm_regs.fields)[];
const SEGMENTS = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt'] as const;
const TABLES = ['gdt', 'idt'] as const;
const CONTROL = ['cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer'] as const;
const FLAGS = ['present', 'db', 's', 'l', 'g', 'avl', 'unusable'] as const;
const NUMBERS = ['limit', 'selector', 'type', 'dpl'] as const;

export function readGeneral(view: DataView): Regs {
  return Object.fromEntries(GENERAL.map((name) => [name, get(kvm_regs, view, name)])) as unknown as Regs;
}

export function writeGeneral(view: DataView, regs: Regs): void {
  for (const name of GENERAL) set(kvm_regs, view, name, regs[name]);
}

function readSegment(view: DataView, at: number): Segment {
  const segment = { base: get(kvm_segment, view, 'base', at) } as Segment;
  for (const name of NUMBERS) segment[name] = get(kvm_segment, view, name, at);
  for (const name of FLAGS) segment[name] = get(kvm_segment, view, name, at) !== 0;
  return segment;
}

function writeSegment(view: DataView, at: number, segment: Segment): void {
  set(kvm_segment, view, 'base', segment.base, at);
  for (const name of NUMBERS) set(kvm_segment, view, name, segment[name], at);
  for (const name of FLAGS) set(kvm_segment, view, name, segment[name] ? 1 : 0, at);
}

export function readSpecial(view: DataView): Sregs {
  const sregs = { apicBase: get(kvm_sregs, view, 'apic_base') } as Sregs;
  for (const name of SEGMENTS) sregs[name] = readSegment(view, kvm_sregs.fields[name][0]);
  for (const name of TABLES) sregs[name] = readTable(view, kvm_sregs.fields[name][0]);
  for (const name of CONTROL) sregs[name] = get(kvm_sregs, view, name);
  return sregs;
}

const readTable = (view: DataView, at: number): DescriptorTable => ({
  base: get(kvm_dtable, view, 'base', at),
  limit: get(kvm_dtable, view, 'limit', at),
});

/** All but the bitmap of an interrupt in delivery, which stays 0: it is for hypervisors without an interrupt chip. */
export function writeSpecial(view: DataView, sregs: Sregs): void {
  for (const name of SEGMENTS) writeSegment(view, kvm_sregs.fields[name][0], sregs[name]);
  for (const name of TABLES) {
    const at = kvm_sregs.fields[name][0];
    set(kvm_dtable, view, 'base', sregs[name].base, at);
    set(kvm_dtable, view, 'limit', sregs[name].limit, at);
  }
  for (const name of CONTROL) set(kvm_sregs, view, name, sregs[name]);
  set(kvm_sregs, view, 'apic_base', sregs.apicBase);
}

export function readDebug(view: DataView): DebugRegs {
  const db = (index: number): bigint => get(kvm_debugregs, view, 'db', 0, index);
  return {
    db: [db(0), db(1), db(2), db(3)],
    dr6: get(kvm_debugregs, view, 'dr6'),
    dr7: get(kvm_debugregs, view, 'dr7'),
  };
}

export function writeDebug(view: DataView, regs: DebugRegs): void {
  for (const [index, value] of regs.db.entries()) set(kvm_debugregs, view, 'db', value, 0, index);
  set(kvm_debugregs, view, 'dr6', regs.dr6);
  set(kvm_debugregs, view, 'dr7', regs.dr7);
}

const MP_STATES: readonly (readonly [number, MpState])[] = [
  [K.KVM_MP_STATE_RUNNABLE, 'runnable'],
  [K.KVM_MP_STATE_UNINITIALIZED, 'uninitialized'],
  [K.KVM_MP_STATE_INIT_RECEIVED, 'init-received'],
  [K.KVM_MP_STATE_HALTED, 'halted'],
  [K.KVM_MP_STATE_SIPI_RECEIVED, 'sipi-received'],
];

/** States that KVM adds to the five are variants of the running one (AP reset hold, suspended). */
export function mpStateName(number: number): MpState {
  return MP_STATES.find(([value]) => value === number)?.[1] ?? 'runnable';
}

export function mpStateNumber(state: MpState): number {
  return MP_STATES.find(([, name]) => name === state)?.[0] as number;
}
