/** Names and fields of the local APIC (Intel SDM volume 3, chapter "APIC"). Offsets are xAPIC's, in bytes. */

/** Bytes of the register page that holds state: KVM_APIC_REG_SIZE. */
export const LAPIC_REGISTERS_SIZE = 0x400;

export const APIC_ID = 0x20;
export const APIC_LVR = 0x30;
export const APIC_TPR = 0x80;
export const APIC_APR = 0x90;
export const APIC_PPR = 0xa0;
export const APIC_EOI = 0xb0;
export const APIC_RRD = 0xc0;
export const APIC_LDR = 0xd0;
export const APIC_DFR = 0xe0;
export const APIC_SPIV = 0xf0;
export const APIC_ISR = 0x100;
export const APIC_TMR = 0x180;
export const APIC_IRR = 0x200;
export const APIC_ESR = 0x280;
export const APIC_ICR = 0x300;
export const APIC_ICR2 = 0x310;
export const APIC_LVTT = 0x320;
export const APIC_LVTTHMR = 0x330;
export const APIC_LVTPC = 0x340;
export const APIC_LVT0 = 0x350;
export const APIC_LVT1 = 0x360;
export const APIC_LVTERR = 0x370;
export const APIC_TMICT = 0x380;
export const APIC_TMCCT = 0x390;
export const APIC_TDCR = 0x3e0;
/** x2APIC only: MSR 0x83f. */
export const APIC_SELF_IPI = 0x3f0;

/** Version 0x14, six local vector table entries, EOI broadcast can be suppressed. */
export const APIC_VERSION = 0x14 | (5 << 16) | (1 << 24);

export const SPIV_APIC_ENABLED = 0x100;
export const SPIV_FOCUS_DISABLED = 0x200;
export const SPIV_SUPPRESS_EOI = 0x1000;

export const DELIVERY_FIXED = 0;
export const DELIVERY_LOWEST = 1;
export const DELIVERY_SMI = 2;
export const DELIVERY_NMI = 4;
export const DELIVERY_INIT = 5;
/** In the ICR; in the local vector table and the I/O APIC, 7 is ExtINT. */
export const DELIVERY_STARTUP = 6;
export const DELIVERY_EXTINT = 7;

export const LVT_MASKED = 0x10000;
export const LVT_LEVEL = 0x8000;
export const LVT_REMOTE_IRR = 0x4000;
export const LVT_TIMER_MODE = 0x60000;
export const LVT_TIMER_ONESHOT = 0;
export const LVT_TIMER_PERIODIC = 0x20000;
export const LVT_TIMER_TSC_DEADLINE = 0x40000;

export const ICR_DEST_LOGICAL = 0x800;
export const ICR_LEVEL_ASSERT = 0x4000;
export const ICR_TRIGGER_LEVEL = 0x8000;

export const ESR_SEND_ILLEGAL_VECTOR = 0x20;
export const ESR_RECEIVED_ILLEGAL_VECTOR = 0x40;
export const ESR_ILLEGAL_REGISTER = 0x80;

export const DFR_FLAT = 0xffff_ffff;

export const MSR_IA32_TSC_DEADLINE = 0x6e0;
/** x2APIC: MSR 0x800 + offset / 16. */
export const MSR_X2APIC_START = 0x800;
export const MSR_X2APIC_END = 0x900;

export const APIC_BASE_BSP = 0x100;
export const APIC_BASE_X2APIC = 0x400;
export const APIC_BASE_ENABLE = 0x800;

/** Bits of a vCPU's request word. */
/** Look at pendingVector() and nextDeadline() again. */
export const REQUEST_INTERRUPT = 1;
export const REQUEST_INIT = 2;
/** Start-up IPI. */
export const REQUEST_SIPI = 4;
export const REQUEST_NMI = 8;
/** Leave run(). */
export const REQUEST_KICK = 16;
