/** Why KVM cannot go on with a guest, in words. */

import { get } from '../../host/struct.ts';
import type { Regs, Sregs } from '../hypervisor.ts';
import * as K from './constants.ts';
import { kvm_run } from './structs.ts';

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

const INTERNAL: Readonly<Record<number, string>> = {
  [K.KVM_INTERNAL_ERROR_EMULATION]: 'KVM cannot emulate an instruction',
  [K.KVM_INTERNAL_ERROR_SIMUL_EX]: 'two exceptions at once, which KVM cannot combine',
  [K.KVM_INTERNAL_ERROR_DELIVERY_EV]: 'an exit in the middle of the delivery of an interrupt or exception',
  [K.KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON]: "an exit of the processor that the host's KVM does not know",
};

/** Exits that Vivarium asks for nowhere. */
const UNEXPECTED: Readonly<Record<number, string>> = {
  1: 'EXCEPTION',
  3: 'HYPERCALL',
  11: 'SET_TPR',
  12: 'TPR_ACCESS',
  16: 'NMI',
  24: 'SYSTEM_EVENT',
  26: 'IOAPIC_EOI',
  27: 'HYPERV',
  29: 'X86_RDMSR',
  30: 'X86_WRMSR',
  31: 'DIRTY_RING_FULL',
  33: 'X86_BUS_LOCK',
  34: 'XEN',
  37: 'NOTIFY',
  39: 'MEMORY_FAULT',
};

/** VMX "entry failure" of a guest state that the processor refuses: bit 31 and basic reason 33 (SDM 3C, 26.8). */
const VMX_INVALID_GUEST_STATE = 0x80000021n;
/** SVM's VMEXIT_INVALID. */
const SVM_INVALID = 0xffffffffffffffffn;

/** One line on the exit that struct kvm_run tells of. */
export function explainExit(view: DataView): string {
  const reason = get(kvm_run, view, 'exit_reason');
  switch (reason) {
    case K.KVM_EXIT_FAIL_ENTRY:
      return explainFailedEntry(get(kvm_run, view, 'fail_entry.hardware_entry_failure_reason'));
    case K.KVM_EXIT_INTERNAL_ERROR:
      return explainInternalError(view);
    case K.KVM_EXIT_UNKNOWN:
      return `the processor left the guest for a reason that KVM does not know, ${hex(get(kvm_run, view, 'hw.hardware_exit_reason'))}`;
    default:
      return `KVM left the guest with exit ${reason}${UNEXPECTED[reason] === undefined ? '' : ` (${UNEXPECTED[reason]})`}, which was not asked for`;
  }
}

function explainFailedEntry(reason: bigint): string {
  const invalid = reason === VMX_INVALID_GUEST_STATE || reason === SVM_INVALID;
  const why = invalid ? 'its registers are a combination that the processor refuses' : 'the processor refuses it';
  return `the guest cannot be entered: ${why} (reason ${hex(reason)})`;
}

function explainInternalError(view: DataView): string {
  const suberror = get(kvm_run, view, 'internal.suberror');
  const what = INTERNAL[suberror] ?? `an error inside KVM, number ${suberror}`;
  return suberror === K.KVM_INTERNAL_ERROR_EMULATION ? `${what}${instructionBytes(view)}` : `${what}${errorData(view)}`;
}

/** KVM_CAP_EXIT_ON_EMULATION_FAILURE is newer than the exit: the bytes are there only where the flags say so. */
function instructionBytes(view: DataView): string {
  const words = get(kvm_run, view, 'internal.ndata');
  const flags = words >= 1 ? get(kvm_run, view, 'emulation_failure.flags') : 0n;
  if ((flags & BigInt(K.KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) === 0n || words < 3) return '';
  const size = Math.min(get(kvm_run, view, 'emulation_failure.insn_size'), 15);
  const bytes = Array.from({ length: size }, (_, i) => get(kvm_run, view, 'emulation_failure.insn_bytes', 0, i));
  return `, bytes ${bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(' ')}`;
}

function errorData(view: DataView): string {
  const words = Math.min(get(kvm_run, view, 'internal.ndata'), 16);
  if (words === 0) return '';
  const data = Array.from({ length: words }, (_, i) => hex(get(kvm_run, view, 'internal.data', 0, i)));
  return ` (${data.join(', ')})`;
}

/** Where the processor was, in one line. */
export function describeRegisters(regs: Regs, sregs: Sregs): string {
  const general = ['rip', 'rsp', 'rflags', 'rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi'] as const;
  const special = ['cr0', 'cr2', 'cr3', 'cr4', 'efer'] as const;
  return [
    ...general.map((name) => `${name} ${hex(regs[name])}`),
    `cs ${hex(sregs.cs.selector)}`,
    ...special.map((name) => `${name} ${hex(sregs[name])}`),
  ].join(', ');
}
