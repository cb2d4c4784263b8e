// Bits of the control, debug and model-specific registers and of descriptors (SDM volume 3, sections 2.5, 3.4.5, 17.2).

export const CR0_PE = 0x1;
export const CR0_MP = 0x2;
export const CR0_EM = 0x4;
export const CR0_TS = 0x8;
export const CR0_ET = 0x10;
export const CR0_NE = 0x20;
export const CR0_WP = 0x10000;
export const CR0_AM = 0x40000;
export const CR0_NW = 0x20000000;
export const CR0_CD = 0x40000000;
export const CR0_PG: u32 = 0x80000000;

export const CR4_VME = 0x1;
export const CR4_PVI = 0x2;
export const CR4_TSD = 0x4;
export const CR4_DE = 0x8;
export const CR4_PSE = 0x10;
export const CR4_PAE = 0x20;
export const CR4_MCE = 0x40;
export const CR4_PGE = 0x80;
export const CR4_PCE = 0x100;
export const CR4_OSFXSR = 0x200;
export const CR4_OSXMMEXCPT = 0x400;
export const CR4_UMIP = 0x800;
export const CR4_FSGSBASE = 0x10000;
export const CR4_PCIDE = 0x20000;
export const CR4_OSXSAVE = 0x40000;
/** XCR0's components that AVX needs: SSE and AVX. */
export const XCR0_AVX = 6;
export const CR4_SMEP = 0x100000;
export const CR4_SMAP = 0x200000;

export const EFER_SCE = 0x1;
export const EFER_LME = 0x100;
export const EFER_LMA = 0x400;
export const EFER_NXE = 0x800;

/** DR6: B0..B3; access to a debug register (GD), single step, task switch. */
export const DR6_B = 0xf;
export const DR6_BD = 0x2000;
export const DR6_BS = 0x4000;
export const DR6_BT = 0x8000;
/** DR6 bits that always read as 1. */
export const DR6_FIXED = 0xffff0ff0;
export const DR7_GD = 0x2000;
/** DR7: L0, G0 .. L3, G3. */
export const DR7_ENABLES = 0xff;
export const DR7_FIXED = 0x400;

/** Vectors of exceptions. */
export const DE: u32 = 0;
export const DB: u32 = 1;
export const NMI: u32 = 2;
export const BP: u32 = 3;
export const OF: u32 = 4;
export const BR: u32 = 5;
export const UD: u32 = 6;
export const NM: u32 = 7;
export const DF: u32 = 8;
export const TS: u32 = 10;
export const NP: u32 = 11;
export const SS: u32 = 12;
export const GP: u32 = 13;
export const PF: u32 = 14;
export const AC: u32 = 17;

/** High word of a descriptor. */
export const DESC_ACCESSED = 0x100;
/** Data: writable. Code: readable. */
export const DESC_RW = 0x200;
/** Data: expand down. Code: conforming. */
export const DESC_CONFORMING = 0x400;
export const DESC_CODE = 0x800;
export const DESC_S = 0x1000;
export const DESC_P = 0x8000;
export const DESC_L = 0x200000;
export const DESC_DB = 0x400000;
export const DESC_G = 0x800000;

/** Types of system descriptors. */
export const TYPE_TSS16 = 1;
export const TYPE_LDT = 2;
export const TYPE_TSS16_BUSY = 3;
export const TYPE_CALL_GATE16 = 4;
export const TYPE_TASK_GATE = 5;
export const TYPE_INTERRUPT_GATE16 = 6;
export const TYPE_TRAP_GATE16 = 7;
export const TYPE_TSS32 = 9;
export const TYPE_TSS32_BUSY = 11;
export const TYPE_CALL_GATE32 = 12;
export const TYPE_INTERRUPT_GATE32 = 14;
export const TYPE_TRAP_GATE32 = 15;

/** Index of a segment register, as in SEG. */
export const INDEX_ES = 0;
export const INDEX_CS = 1;
export const INDEX_SS = 2;
export const INDEX_DS = 3;
export const INDEX_FS = 4;
export const INDEX_GS = 5;
export const INDEX_LDTR = 6;
export const INDEX_TR = 7;

/** Access rights of flat segments, as SYSCALL and its like load them; DPL is to be added. */
export const ATTR_FLAT_CODE64 = 0xa09b;
export const ATTR_FLAT_CODE32 = 0xc09b;
export const ATTR_FLAT_DATA = 0xc093;
/** Segments of virtual-8086 mode. */
export const ATTR_V86 = 0xf3;
