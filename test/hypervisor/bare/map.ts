// Where things lie in the memory of a bare guest, and its selectors.

export const RAM_SIZE = 0x1000000;

export const GDT = 0x1000;
export const IDT = 0x2000;
export const TSS = 0x3000;
/** I/O permission bitmap's offset in the TSS, and its end. */
export const IO_BITMAP = 0x68;
export const TSS_LIMIT = IO_BITMAP + 0x2000;
export const LDT = 0x6000;
export const TSS2 = 0x6800;
/** Handlers of exceptions, 16 bytes a vector. */
export const HANDLERS = 0x8000;
export const PML4 = 0x10000;
export const PDPT = 0x11000;
export const PD = 0x12000;
/** Page table of the first 2 MiB. */
export const PT = 0x13000;
/** Two pages for data that tests fault on. */
export const DATA = 0x20000;
export const CODE = 0x40000;
/** Ends of stacks: the tests', level 0's in the TSS, IST1's. */
export const STACK = 0x70000;
export const STACK0 = 0x74000;
export const STACK_IST = 0x78000;
/** Level 1's and 2's. */
export const STACK1 = 0x7a000;
export const STACK2 = 0x7c000;
export const STACK3 = 0x7e000;

/** Linear addresses that no page table maps. */
export const UNMAPPED = 0x8000_0000;
/** Guest-physical address of a device that is the test's. */
export const DEVICE = 0xd000_0000;

export const CODE32 = 0x08;
export const DATA32 = 0x10;
export const CODE32_3 = 0x18 | 3;
export const DATA32_3 = 0x20 | 3;
export const CODE64 = 0x28;
/** SYSRET's order: 32-bit code, data, 64-bit code. */
export const SYSRET_CODE32 = 0x30 | 3;
export const SYSRET_DATA = 0x38 | 3;
export const CODE64_3 = 0x40 | 3;
export const CODE16 = 0x48;
export const DATA16 = 0x50;
/** 16 bytes. */
export const TSS_SELECTOR = 0x60;
export const LDT_SELECTOR = 0x70;
/** Free for the test, 16 bytes each. */
export const FREE = 0x80;
export const FREE2 = 0x90;
export const FREE3 = 0xa0;
export const FREE4 = 0xb0;
export const GDT_LIMIT = 0xff;

/** Ports by which a guest talks to the test. */
export const PORT_DONE = 0xf4;
export const PORT_FAULT = 0xf5;

export const P = 1;
export const W = 2;
export const U = 4;
export const A = 0x20;
export const D = 0x40;
export const PS = 0x80;
export const G = 0x100;
export const NX = 1n << 63n;

export const CR0_PE = 1n;
export const CR0_MP = 2n;
export const CR0_EM = 4n;
export const CR0_TS = 8n;
export const CR0_ET = 0x10n;
export const CR0_NE = 0x20n;
export const CR0_WP = 0x10000n;
export const CR0_AM = 0x40000n;
export const CR0_PG = 0x80000000n;
export const CR4_VME = 1n;
export const CR4_TSD = 4n;
export const CR4_DE = 8n;
export const CR4_PSE = 0x10n;
export const CR4_PAE = 0x20n;
export const CR4_PGE = 0x80n;
export const CR4_OSFXSR = 0x200n;
export const CR4_OSXMMEXCPT = 0x400n;
export const CR4_UMIP = 0x800n;
export const CR4_FSGSBASE = 0x10000n;
export const CR4_PCIDE = 0x20000n;
export const CR4_OSXSAVE = 0x40000n;
export const CR4_SMEP = 0x100000n;
export const CR4_SMAP = 0x200000n;
export const EFER_SCE = 1n;
export const EFER_LME = 0x100n;
export const EFER_LMA = 0x400n;
export const EFER_NXE = 0x800n;
