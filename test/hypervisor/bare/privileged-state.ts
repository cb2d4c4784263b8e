// What a case of privileged code leaves.

import type { Segment } from '../../../src/hypervisor/hypervisor.ts';
import type { BareMachine } from './machine.ts';
import * as M from './map.ts';
import { type Case, OPERANDS } from './privileged-cases.ts';

const RF = 0x10000;
const TSS_BUSY = 2;

/**
 * Of a segment that cannot be used nothing else counts: what a null selector leaves there differs by the maker. KVM on AMD's processors
 * makes the granularity up, by the limit.
 */
const segment = (of: Segment): unknown => (of.unusable || of.selector < 4 ? of.selector : { ...of, g: undefined });

/** Bytes by their places, but for zeros. */
function bytes(machine: BareMachine, from: number, size: number): Record<string, number> {
  const found: Record<string, number> = {};
  for (let at = from; at < from + size; at++) {
    const byte = machine.memory.readU8(at);
    if (byte !== 0) found[at.toString(16)] = byte;
  }
  return found;
}

/** All that a case leaves, where the processors are alike: KVM calls every TSS busy, and QEMU's emulation sets no RF in frames. */
export function stateAfter(machine: BareMachine, { program, options }: Case): unknown {
  const outcome = machine.run(program, options);
  if (outcome.kind === 'exit') return outcome.exit.kind;
  const { apicBase: _, ...sregs } = machine.vcpu.getSregs();
  const isReal = (sregs.cr0 & M.CR0_PE) === 0n;
  const segments = (['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'ldt'] as const).map((name) => [
    name,
    isReal ? sregs[name].base : segment(sregs[name]),
  ]);
  return {
    ...outcome,
    ...(outcome.kind === 'fault' && { fault: { ...outcome.fault, rflags: outcome.fault.rflags & ~RF } }),
    ...sregs,
    ...Object.fromEntries(segments),
    tr: segment({ ...sregs.tr, type: sregs.tr.type | TSS_BUSY }),
    debug: machine.vcpu.getDebugRegs(),
    gdt: bytes(machine, M.GDT, 0x100),
    pages: bytes(machine, M.PT + (M.DATA >> 12) * 8, 8),
    operands: bytes(machine, OPERANDS, 16),
  };
}
