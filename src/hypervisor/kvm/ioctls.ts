/** The ioctls of KVM that are used, by the kernel's names (uapi linux/kvm.h). */
import { ioctlRequests } from '../../host/ioctl.ts';
import * as S from './structs.ts';

const { io, ior, iow, iowr } = ioctlRequests(0xae);

// ---- /dev/kvm ----------------------------------------------------------------------------------------------------------
export const KVM_GET_API_VERSION = io('KVM_GET_API_VERSION', 0x00);
export const KVM_CREATE_VM = io('KVM_CREATE_VM', 0x01);
export const KVM_CHECK_EXTENSION = io('KVM_CHECK_EXTENSION', 0x03);
export const KVM_GET_VCPU_MMAP_SIZE = io('KVM_GET_VCPU_MMAP_SIZE', 0x04);
export const KVM_GET_SUPPORTED_CPUID = iowr('KVM_GET_SUPPORTED_CPUID', 0x05, S.kvm_cpuid2);

// ---- A machine ---------------------------------------------------------------------------------------------------------
export const KVM_CREATE_VCPU = io('KVM_CREATE_VCPU', 0x41);
export const KVM_SET_USER_MEMORY_REGION = iow('KVM_SET_USER_MEMORY_REGION', 0x46, S.kvm_userspace_memory_region);
export const KVM_SET_TSS_ADDR = io('KVM_SET_TSS_ADDR', 0x47);
export const KVM_SET_IDENTITY_MAP_ADDR = iow('KVM_SET_IDENTITY_MAP_ADDR', 0x48, { size: 8 });
export const KVM_ENABLE_CAP = iow('KVM_ENABLE_CAP', 0xa3, S.kvm_enable_cap);
export const KVM_CREATE_IRQCHIP = io('KVM_CREATE_IRQCHIP', 0x60);
export const KVM_IRQ_LINE = iow('KVM_IRQ_LINE', 0x61, S.kvm_irq_level);
export const KVM_SET_GSI_ROUTING = iow('KVM_SET_GSI_ROUTING', 0x6a, S.kvm_irq_routing);
export const KVM_IRQFD = iow('KVM_IRQFD', 0x76, S.kvm_irqfd);
export const KVM_CREATE_PIT2 = iow('KVM_CREATE_PIT2', 0x77, S.kvm_pit_config);
export const KVM_IOEVENTFD = iow('KVM_IOEVENTFD', 0x79, S.kvm_ioeventfd);
export const KVM_SIGNAL_MSI = iow('KVM_SIGNAL_MSI', 0xa5, S.kvm_msi);

// ---- A vCPU ------------------------------------------------------------------------------------------------------------
export const KVM_RUN = io('KVM_RUN', 0x80);
export const KVM_GET_REGS = ior('KVM_GET_REGS', 0x81, S.kvm_regs);
export const KVM_SET_REGS = iow('KVM_SET_REGS', 0x82, S.kvm_regs);
export const KVM_GET_SREGS = ior('KVM_GET_SREGS', 0x83, S.kvm_sregs);
export const KVM_SET_SREGS = iow('KVM_SET_SREGS', 0x84, S.kvm_sregs);
export const KVM_INTERRUPT = iow('KVM_INTERRUPT', 0x86, S.kvm_interrupt);
export const KVM_TRANSLATE = iowr('KVM_TRANSLATE', 0x85, S.kvm_translation);
export const KVM_GET_MSRS = iowr('KVM_GET_MSRS', 0x88, S.kvm_msrs);
export const KVM_SET_MSRS = iow('KVM_SET_MSRS', 0x89, S.kvm_msrs);
export const KVM_SET_SIGNAL_MASK = iow('KVM_SET_SIGNAL_MASK', 0x8b, S.kvm_signal_mask);
export const KVM_GET_LAPIC = ior('KVM_GET_LAPIC', 0x8e, S.kvm_lapic_state);
export const KVM_SET_LAPIC = iow('KVM_SET_LAPIC', 0x8f, S.kvm_lapic_state);
export const KVM_SET_CPUID2 = iow('KVM_SET_CPUID2', 0x90, S.kvm_cpuid2);
export const KVM_GET_MP_STATE = ior('KVM_GET_MP_STATE', 0x98, S.kvm_mp_state);
export const KVM_SET_MP_STATE = iow('KVM_SET_MP_STATE', 0x99, S.kvm_mp_state);
export const KVM_NMI = io('KVM_NMI', 0x9a);
export const KVM_SET_GUEST_DEBUG = iow('KVM_SET_GUEST_DEBUG', 0x9b, S.kvm_guest_debug);
export const KVM_GET_VCPU_EVENTS = ior('KVM_GET_VCPU_EVENTS', 0x9f, S.kvm_vcpu_events);
export const KVM_SET_VCPU_EVENTS = iow('KVM_SET_VCPU_EVENTS', 0xa0, S.kvm_vcpu_events);
export const KVM_GET_DEBUGREGS = ior('KVM_GET_DEBUGREGS', 0xa1, S.kvm_debugregs);
export const KVM_SET_DEBUGREGS = iow('KVM_SET_DEBUGREGS', 0xa2, S.kvm_debugregs);
export const KVM_GET_TSC_KHZ = io('KVM_GET_TSC_KHZ', 0xa3);
export const KVM_GET_XSAVE = ior('KVM_GET_XSAVE', 0xa4, S.kvm_xsave);
export const KVM_SET_XSAVE = iow('KVM_SET_XSAVE', 0xa5, S.kvm_xsave);
export const KVM_GET_XCRS = ior('KVM_GET_XCRS', 0xa6, S.kvm_xcrs);
export const KVM_SET_XCRS = iow('KVM_SET_XCRS', 0xa7, S.kvm_xcrs);
export const KVM_KVMCLOCK_CTRL = io('KVM_KVMCLOCK_CTRL', 0xad);
export const KVM_GET_XSAVE2 = ior('KVM_GET_XSAVE2', 0xcf, S.kvm_xsave);
