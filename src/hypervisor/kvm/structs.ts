/** The structures of Linux's KVM interface on x86-64 (uapi linux/kvm.h and asm/kvm.h), as far as they are used. */
import { type Field, type FieldType, struct } from '../../host/struct.ts';

/** Fields of one type, one after the other. */
function row<const N extends string, const T extends FieldType>(
  start: number,
  type: T,
  bytes: number,
  names: readonly N[],
): Record<N, readonly [number, T]> {
  return Object.fromEntries(names.map((name, i): [string, Field] => [name, [start + i * bytes, type]])) as Record<
    N,
    readonly [number, T]
  >;
}

// ---- Machine ---------------------------------------------------------------------------------------------------------
export const kvm_userspace_memory_region = struct('kvm_userspace_memory_region', 32, {
  slot: [0, 'u32'],
  flags: [4, 'u32'],
  guest_phys_addr: [8, 'u64'],
  memory_size: [16, 'u64'],
  userspace_addr: [24, 'u64'],
});

export const kvm_pit_config = struct('kvm_pit_config', 64, { flags: [0, 'u32'] });

export const kvm_enable_cap = struct('kvm_enable_cap', 104, {
  cap: [0, 'u32'],
  flags: [4, 'u32'],
  args: [8, 'u64', 4],
});

export const kvm_irq_level = struct('kvm_irq_level', 8, { irq: [0, 'u32'], level: [4, 'u32'] });

export const kvm_msi = struct('kvm_msi', 32, {
  address_lo: [0, 'u32'],
  address_hi: [4, 'u32'],
  data: [8, 'u32'],
  flags: [12, 'u32'],
});

export const kvm_irq_routing = struct('kvm_irq_routing', 8, { nr: [0, 'u32'], flags: [4, 'u32'] });

export const kvm_irq_routing_entry = struct('kvm_irq_routing_entry', 48, {
  gsi: [0, 'u32'],
  type: [4, 'u32'],
  flags: [8, 'u32'],
  'u.irqchip.irqchip': [16, 'u32'],
  'u.irqchip.pin': [20, 'u32'],
  'u.msi.address_lo': [16, 'u32'],
  'u.msi.address_hi': [20, 'u32'],
  'u.msi.data': [24, 'u32'],
});

export const kvm_irqfd = struct('kvm_irqfd', 32, {
  fd: [0, 'u32'],
  gsi: [4, 'u32'],
  flags: [8, 'u32'],
  resamplefd: [12, 'u32'],
});

export const kvm_ioeventfd = struct('kvm_ioeventfd', 64, {
  datamatch: [0, 'u64'],
  addr: [8, 'u64'],
  len: [16, 'u32'],
  fd: [20, 's32'],
  flags: [24, 'u32'],
});

// ---- Registers -------------------------------------------------------------------------------------------------------
export const kvm_regs = struct(
  'kvm_regs',
  144,
  row(0, 'u64', 8, [
    'rax',
    'rbx',
    'rcx',
    'rdx',
    'rsi',
    'rdi',
    'rsp',
    'rbp',
    'r8',
    'r9',
    'r10',
    'r11',
    'r12',
    'r13',
    'r14',
    'r15',
    'rip',
    'rflags',
  ]),
);

export const kvm_segment = struct('kvm_segment', 24, {
  base: [0, 'u64'],
  limit: [8, 'u32'],
  selector: [12, 'u16'],
  ...row(14, 'u8', 1, ['type', 'present', 'dpl', 'db', 's', 'l', 'g', 'avl', 'unusable']),
});

export const kvm_dtable = struct('kvm_dtable', 16, { base: [0, 'u64'], limit: [8, 'u16'] });

/** Segments and tables have their own descriptions: here is where each starts. */
export const kvm_sregs = struct('kvm_sregs', 312, {
  ...row(0, 'u64', 24, ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt']),
  ...row(192, 'u64', 16, ['gdt', 'idt']),
  ...row(224, 'u64', 8, ['cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer', 'apic_base']),
  interrupt_bitmap: [280, 'u64', 4],
});

export const kvm_debugregs = struct('kvm_debugregs', 128, {
  db: [0, 'u64', 4],
  dr6: [32, 'u64'],
  dr7: [40, 'u64'],
  flags: [48, 'u64'],
});

export const kvm_guest_debug = struct('kvm_guest_debug', 72, {
  control: [0, 'u32'],
  'arch.debugreg': [8, 'u64', 8],
});

export const kvm_msrs = struct('kvm_msrs', 8, { nmsrs: [0, 'u32'] });
export const kvm_msr_entry = struct('kvm_msr_entry', 16, { index: [0, 'u32'], data: [8, 'u64'] });

export const kvm_cpuid2 = struct('kvm_cpuid2', 8, { nent: [0, 'u32'] });
export const kvm_cpuid_entry2 = struct(
  'kvm_cpuid_entry2',
  40,
  row(0, 'u32', 4, ['function', 'index', 'flags', 'eax', 'ebx', 'ecx', 'edx']),
);

export const kvm_lapic_state = struct('kvm_lapic_state', 1024, { regs: [0, 'u8', 1024] });
export const kvm_mp_state = struct('kvm_mp_state', 4, { mp_state: [0, 'u32'] });
export const kvm_xsave = struct('kvm_xsave', 4096, { region: [0, 'u32', 1024] });
export const kvm_xcrs = struct('kvm_xcrs', 392, { nr_xcrs: [0, 'u32'], flags: [4, 'u32'], xcrs: [8, 'u32'] });
export const kvm_xcr = struct('kvm_xcr', 16, { xcr: [0, 'u32'], value: [8, 'u64'] });

export const kvm_translation = struct('kvm_translation', 24, {
  linear_address: [0, 'u64'],
  physical_address: [8, 'u64'],
  valid: [16, 'u8'],
});

export const kvm_vcpu_events = struct('kvm_vcpu_events', 64, {
  'exception.injected': [0, 'u8'],
  'exception.pending': [3, 'u8'],
  'interrupt.injected': [8, 'u8'],
  'interrupt.shadow': [11, 'u8'],
  'nmi.injected': [12, 'u8'],
  'nmi.pending': [13, 'u8'],
  'nmi.masked': [14, 'u8'],
  flags: [20, 'u32'],
});

export const kvm_interrupt = struct('kvm_interrupt', 4, { irq: [0, 'u32'] });

/** Its array of bytes holds the kernel's own signal set, 8 bytes. */
export const kvm_signal_mask = struct('kvm_signal_mask', 4, { len: [0, 'u32'], sigset: [4, 'u8'] });

// ---- Running ---------------------------------------------------------------------------------------------------------
export const kvm_run = struct('kvm_run', 2352, {
  request_interrupt_window: [0, 'u8'],
  immediate_exit: [1, 'u8'],
  exit_reason: [8, 'u32'],
  ready_for_interrupt_injection: [12, 'u8'],
  'hw.hardware_exit_reason': [32, 'u64'],
  'fail_entry.hardware_entry_failure_reason': [32, 'u64'],
  'fail_entry.cpu': [40, 'u32'],
  'io.direction': [32, 'u8'],
  'io.size': [33, 'u8'],
  'io.port': [34, 'u16'],
  'io.count': [36, 'u32'],
  'io.data_offset': [40, 'u64'],
  'debug.arch.exception': [32, 'u32'],
  'debug.arch.pc': [40, 'u64'],
  'debug.arch.dr6': [48, 'u64'],
  'debug.arch.dr7': [56, 'u64'],
  'mmio.phys_addr': [32, 'u64'],
  'mmio.data': [40, 'u8', 8],
  'mmio.len': [48, 'u32'],
  'mmio.is_write': [52, 'u8'],
  'internal.suberror': [32, 'u32'],
  'internal.ndata': [36, 'u32'],
  'internal.data': [40, 'u64', 16],
  'emulation_failure.flags': [40, 'u64'],
  'emulation_failure.insn_size': [48, 'u8'],
  'emulation_failure.insn_bytes': [49, 'u8', 15],
  'system_event.type': [32, 'u32'],
  'eoi.vector': [32, 'u8'],
});
