import { E2BIG } from '../../host/errno.ts';
import { allocate, get, set } from '../../host/struct.ts';
import type { CpuidEntry } from '../hypervisor.ts';
import { call, KvmError } from './call.ts';
import { KVM_CAP_TSC_DEADLINE_TIMER, KVM_CPUID_FLAG_SIGNIFCANT_INDEX } from './constants.ts';
import { capability } from './device.ts';
import { KVM_GET_SUPPORTED_CPUID, KVM_SET_CPUID2 } from './ioctls.ts';
import { kvm_cpuid_entry2, kvm_cpuid2 } from './structs.ts';

/** KVM takes no more (KVM_MAX_CPUID_ENTRIES). */
const MAX_ENTRIES = 256;
const FIRST_TRY = 100;

const LEAF_FEATURES = 1;
const ECX_TSC_DEADLINE = 1 << 24;

/** What KVM can announce to a guest of this host. */
export function readSupportedCpuid(kvm: number): CpuidEntry[] {
  const entries = readEntries(kvm);
  // It depends on the kernel's local APICs, which all our guests have: kernels tell it apart, and newer ones here, too.
  if (capability(kvm, KVM_CAP_TSC_DEADLINE_TIMER) === 0) return entries;
  return entries.map((entry) =>
    entry.leaf === LEAF_FEATURES ? { ...entry, ecx: (entry.ecx | ECX_TSC_DEADLINE) >>> 0 } : entry,
  );
}

function readEntries(kvm: number): CpuidEntry[] {
  for (let entries = FIRST_TRY; ; entries = MAX_ENTRIES) {
    const view = allocate(kvm_cpuid2, entries * kvm_cpuid_entry2.size);
    set(kvm_cpuid2, view, 'nent', entries);
    try {
      call("the processor's features cannot be asked for", kvm, KVM_GET_SUPPORTED_CPUID, view);
    } catch (error) {
      if (error instanceof KvmError && error.errno === E2BIG && entries < MAX_ENTRIES) continue;
      throw error;
    }
    return Array.from({ length: Math.min(get(kvm_cpuid2, view, 'nent'), entries) }, (_, i) => readEntry(view, i));
  }
}

const entryAt = (index: number): number => kvm_cpuid2.size + index * kvm_cpuid_entry2.size;

function readEntry(view: DataView, index: number): CpuidEntry {
  const at = entryAt(index);
  const field = (name: keyof typeof kvm_cpuid_entry2.fields): number => get(kvm_cpuid_entry2, view, name, at);
  const entry = {
    leaf: field('function'),
    eax: field('eax'),
    ebx: field('ebx'),
    ecx: field('ecx'),
    edx: field('edx'),
  };
  const hasSubleaves = (field('flags') & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) !== 0;
  return hasSubleaves ? { ...entry, subleaf: field('index') } : entry;
}

/** Sets what a vCPU announces. Throws KvmError. */
export function writeCpuid(vcpu: number, entries: readonly CpuidEntry[]): void {
  const view = allocate(kvm_cpuid2, entries.length * kvm_cpuid_entry2.size);
  set(kvm_cpuid2, view, 'nent', entries.length);
  for (const [i, entry] of entries.entries()) {
    const at = entryAt(i);
    set(kvm_cpuid_entry2, view, 'function', entry.leaf, at);
    set(kvm_cpuid_entry2, view, 'index', entry.subleaf ?? 0, at);
    set(kvm_cpuid_entry2, view, 'flags', entry.subleaf === undefined ? 0 : KVM_CPUID_FLAG_SIGNIFCANT_INDEX, at);
    for (const name of ['eax', 'ebx', 'ecx', 'edx'] as const) set(kvm_cpuid_entry2, view, name, entry[name], at);
  }
  call("the processor's features cannot be set", vcpu, KVM_SET_CPUID2, view);
}
