// The memory of one virtual CPU of the built-in machine: where everything lives in its WebAssembly memory.
//
// This file is read by two compilers: TypeScript (decoder, emitter, Vcpu) and AssemblyScript (helpers/). So it holds
// nothing but `export const NAME = <integer expression>;`: the one source of every address and record offset.
// All addresses are byte offsets in the vCPU's WebAssembly memory ("host offsets"). Guest RAM is mapped into the same
// memory from RAM_BASE on; everything below belongs to this vCPU alone.

// ---- The map -------------------------------------------------------------------------------------------------------
/**
 * Registers and all other fixed state; below 64 KiB so that a decoded record can name a register in 16 bits. Flags and general
 * registers are at its beginning: up to 0x7f an address is a displacement of one byte in x86 hosts' code, not four.
 */
export const STATE = 0x0;
export const STATE_END = 0x10000;
/** AssemblyScript's static data (asc --memoryBase). */
export const HELPER_DATA = 0x10000;
export const HELPER_DATA_END = 0x100000;
/** Three TLBs, one for each MMU mode, TLB_SIZE bytes each. */
export const TLB = 0x100000;
/** A TLB of TLB_SIZE bytes that is always empty: alignment checks are in force, and every access goes the long way. */
export const TLB_EMPTY = 0x1c0000;
/** Hash table of decoded blocks: sets of BLOCK_SET bytes. */
export const BLOCK_HASH = 0x200000;
export const BLOCK_HASH_END = 0x600000;
/** Where jumps went lately: JUMP_CACHE_ENTRIES entries of JUMP_CACHE_ENTRY bytes, 64-bit mode alone. */
export const JUMP_CACHE = 0x600000;
/** One u32 for each 4 KiB page of RAM: head of the list of nodes for code decoded from it, 0 if none. */
export const CODE_PAGES = 0x800000;
export const CODE_PAGES_END = 0xc00000;
/**
 * u16 for each page of a memory slot that has SLOT_O_WRITES: devices count up when they have written to the page. A file is
 * mapped here.
 */
export const DEVICE_WRITES = 0xd00000;
export const DEVICE_WRITES_SIZE = 0x200000;
/** u16 for each page of this memory: what its count was when the first block was decoded from it. */
export const DEVICE_WRITES_SEEN = 0xf00000;
/** CPUID table: see CPUID_*. */
export const CPUID_TABLE = 0xc00000;
/** Decoded records, block headers and page nodes: a bump arena. */
export const ARENA = 0x1100000;
/** Records of single-stepped instructions and of code that is not kept. */
export const ARENA_TRANSIENT = 0x7fffc00;
export const ARENA_END = 0x8000000;
/** Guest memory: everything above belongs to memory slots. */
export const RAM_BASE = 0x8000000;
/** WebAssembly pages (64 KiB) of the whole memory. */
export const MEMORY_PAGES = 65536;

// ---- General registers ---------------------------------------------------------------------------------------------
/** Sixteen general registers of 8 bytes, in encoding order: RAX RCX RDX RBX RSP RBP RSI RDI R8..R15. */
export const GPR = 0x20;
export const RAX = 0x20;
export const RCX = 0x28;
export const RDX = 0x30;
export const RBX = 0x38;
export const RSP = 0x40;
export const RBP = 0x48;
export const RSI = 0x50;
export const RDI = 0x58;
/** Always zero: the base, index or segment base of an address that has none. */
export const ZERO = 0x1080;
/** u64. Value of the instruction pointer at offset 0 of the current code page (page's linear address - CS.base). */
export const IP_PAGE = 0x1088;
/** u64. Instruction pointer. True outside run(), in helpers called with `sync`, and when a fault is delivered. */
export const RIP = 0x1090;
/** u64. Pointer to the instruction after the current one: set with RIP for helpers called with `sync`. */
export const NEXT_RIP = 0x1098;

// ---- Flags (lazy) --------------------------------------------------------------------------------------------------
/** u32. One of CC_KIND_*: how the six arithmetic flags follow from CC_RES, CC_A and CC_B. */
export const CC_KIND = 0x0;
/** u32. RFLAGS without the six arithmetic flags; bit 1 always set. */
export const FLAGS = 0x4;
/** i64. Result, sign-extended from the operand size. */
export const CC_RES = 0x8;
/** i64. First operand (sign-extended), or flags bits: see CC_KIND_*. */
export const CC_A = 0x10;
/** i64. Second operand (sign-extended). */
export const CC_B = 0x18;
/** All six flags are in CC_A, at their RFLAGS positions. */
export const CC_KIND_FLAGS = 0;
/** ZF, SF, PF from CC_RES (PF from its low byte); CF, OF, AF in CC_A at their RFLAGS positions. */
export const CC_KIND_RES = 1;
/** CC_RES = CC_A + CC_B (+ carry): carries = (A & B) | ((A | B) & ~RES); CF is bit 63, AF bit 3; OF = bit 63 of (A ^ RES) & (B ^ RES). */
export const CC_KIND_ADD = 2;
/** CC_RES = CC_A - CC_B (- borrow): borrows = (~A & B) | ((~A | B) & RES); CF is bit 63, AF bit 3; OF = bit 63 of (A ^ B) & (A ^ RES). */
export const CC_KIND_SUB = 3;

export const FLAG_CF = 0x1;
export const FLAG_PF = 0x4;
export const FLAG_AF = 0x10;
export const FLAG_ZF = 0x40;
export const FLAG_SF = 0x80;
export const FLAG_TF = 0x100;
export const FLAG_IF = 0x200;
export const FLAG_DF = 0x400;
export const FLAG_OF = 0x800;
export const FLAG_IOPL = 0x3000;
export const FLAG_NT = 0x4000;
export const FLAG_RF = 0x10000;
export const FLAG_VM = 0x20000;
export const FLAG_AC = 0x40000;
export const FLAG_VIF = 0x80000;
export const FLAG_VIP = 0x100000;
export const FLAG_ID = 0x200000;
/** CF PF AF ZF SF OF. */
export const FLAGS_ARITH = 0x8d5;

// ---- Segments ------------------------------------------------------------------------------------------------------
/** Eight segment registers of SEG_SIZE bytes: ES CS SS DS FS GS LDTR TR. */
export const SEG = 0x1100;
export const SEG_SIZE = 32;
/** u64. */
export const SEG_O_BASE = 0;
/** u32. In bytes, granularity applied. */
export const SEG_O_LIMIT = 8;
/** u32. Access rights as in VMX: type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, D/B 14, G 15, unusable (null) 16. */
export const SEG_O_ATTR = 12;
/** u32. */
export const SEG_O_SELECTOR = 16;
export const SEG_ES = 0x1100;
export const SEG_CS = 0x1120;
export const SEG_SS = 0x1140;
export const SEG_DS = 0x1160;
export const SEG_FS = 0x1180;
export const SEG_GS = 0x11a0;
export const SEG_LDTR = 0x11c0;
export const SEG_TR = 0x11e0;
export const ATTR_S = 0x10;
export const ATTR_P = 0x80;
export const ATTR_L = 0x2000;
export const ATTR_DB = 0x4000;
export const ATTR_G = 0x8000;
export const ATTR_UNUSABLE = 0x10000;
export const GDTR_BASE = 0x1200;
export const GDTR_LIMIT = 0x1208;
export const IDTR_BASE = 0x1210;
export const IDTR_LIMIT = 0x1218;

// ---- Control, debug, model-specific registers (u64 each) -------------------------------------------------------------
export const CR0 = 0x1220;
export const CR2 = 0x1228;
export const CR3 = 0x1230;
export const CR4 = 0x1238;
export const EFER = 0x1240;
export const XCR0 = 0x1248;
/** DR0..DR7, 8 bytes each (4 and 5 unused). */
export const DR = 0x1250;
export const DR6 = 0x1280;
export const DR7 = 0x1288;
export const MSR_STAR = 0x1290;
export const MSR_LSTAR = 0x1298;
export const MSR_CSTAR = 0x12a0;
export const MSR_SFMASK = 0x12a8;
export const MSR_KERNEL_GS_BASE = 0x12b0;
export const MSR_SYSENTER_CS = 0x12b8;
export const MSR_SYSENTER_ESP = 0x12c0;
export const MSR_SYSENTER_EIP = 0x12c8;
export const MSR_TSC_AUX = 0x12d0;
export const MSR_PAT = 0x12d8;
export const MSR_MISC_ENABLE = 0x12e0;
/** The TSC as the guest sees it = host's counter + TSC_OFFSET. */
export const TSC_OFFSET = 0x12e8;
/** IA32_APIC_BASE. */
export const MSR_APIC_BASE = 0x12f0;
export const MSR_XSS = 0x12f8;

// ---- Derived state: recomputed by update_mode() whenever CR0, CR4, EFER, RFLAGS.VM/AC, CS, SS or CPL change ------------
/** u32, 0..3. */
export const CPL = 0x1300;
/** u32. Part of a block's key: MODE_* bits. */
export const MODE = 0x1304;
/** u32. Host offset of the TLB of the current MMU mode. */
export const TLB_BASE = 0x1308;
/** u32. MMU_KERNEL, MMU_USER or MMU_KERNEL_AC. */
export const MMU_MODE = 0x130c;
/** Code segment's default size: 0 = 16 bit, 1 = 32 bit, 2 = 64 bit. */
export const MODE_CODE_MASK = 3;
export const MODE_CODE16 = 0;
export const MODE_CODE32 = 1;
export const MODE_CODE64 = 2;
/** SS.B: 32-bit stack pointer (never set in 64-bit mode). */
export const MODE_STACK32 = 4;
/** Real mode or virtual-8086 mode. */
export const MODE_REAL = 8;
/** Decode one instruction to a block, for single-step, shadows and restarts; never stored in the hash. */
export const MODE_STEP = 16;
/** Debug registers or RFLAGS.TF want a look at each instruction. */
export const MODE_DEBUG = 32;
/** CS.limit is not the usual one, 4 GiB or in 16-bit code 64 KiB: blocks decoded elsewhere may reach beyond it. */
export const MODE_LIMITED = 64;
/** SSE instructions raise #UD or #NM; those of AVX do. */
export const MODE_NO_SSE = 128;
export const MODE_NO_AVX = 256;
/** CPL < 3 without SMAP's bar (SMAP off, or AC set is MMU_KERNEL_AC). */
export const MMU_KERNEL = 0;
export const MMU_USER = 1;
/** CPL < 3, CR4.SMAP and RFLAGS.AC set: user pages are open. */
export const MMU_KERNEL_AC = 2;

// ---- Exceptions ------------------------------------------------------------------------------------------------------
/** u32. Vector of the exception that a helper raised. */
export const EXC_VECTOR = 0x1310;
/** u32. Error code. */
export const EXC_ERROR = 0x1314;
/** u32. Bit 0: has an error code. */
export const EXC_FLAGS = 0x1318;
/** u64. CR2's value-to-be for a page fault; DR6 bits to be set for #DB. */
export const EXC_ADDRESS = 0x1320;
/** u32. 1 after STI, MOV SS, POP SS: interrupts wait for the next instruction's end (bit 0: STI, bit 1: MOV SS also bars debug traps). */
export const SHADOW = 0x1328;
/** u32. Non-zero: an interrupt waits for RFLAGS.IF; set by run() between entries; STI, POPF, IRET that set IF leave when they see it. */
export const IRQ_PENDING = 0x132c;
/** u32. 0 running, 1 halted, 2 waiting for SIPI, 3 shut down. */
export const ACTIVITY = 0x1330;
/** u32. NMIs barred until IRET. */
export const NMI_BLOCKED = 0x1334;

// ---- Exits -----------------------------------------------------------------------------------------------------------
/** u32. EXIT_*. */
export const EXIT_REASON = 0x1340;
/** u32: bytes of one access, 1, 2, 4 or 8. */
export const IO_SIZE = 0x1344;
/** u64: port, or guest-physical address. */
export const IO_ADDRESS = 0x1348;
/** 8 bytes, little-endian: data out, or filled before the next run() for data in. */
export const IO_DATA = 0x1350;
/** u32. Completed MMIO reads waiting to be replayed by the restarted instruction; u32 of how many it has taken. */
export const MMIO_DONE = 0x1358;
export const MMIO_TAKEN = 0x135c;
/** Eight entries of 8 bytes: data of completed MMIO reads. */
export const MMIO_READS = 0x1360;
/** u32. Number of device writes posted by the current instruction and not yet handed out (exit follows at its end). */
export const MMIO_POSTED = 0x13a0;
/** u32. For an IN or INS that left: what to do with IO_DATA at the next entry: 0 nothing, 1 IN to the accumulator, 2 MMIO read restart, 3 INS restart. */
export const IO_RESUME = 0x13a4;
/** u64. Value of the instruction counter (instructions retired before the current entry). */
export const ICOUNT = 0x13a8;
/** i32. Budget left when run() returned. */
export const BUDGET = 0x13b0;
/** u32. Record executing when a fault was taken; for EXIT_BUDGET the record to go on with (below 16: not known). */
export const LAST_RECORD = 0x13b4;
/** Posted MMIO writes: up to 8 entries of 24 bytes {address u64, data u64, size u32, pad u32}. */
export const MMIO_WRITES = 0x13c0;
/** 64 bytes, 16-aligned: data of accesses that cross a page or touch a device on their way to or from registers. */
export const SCRATCH = 0x1480;
/** u64. Value returned by host callbacks (rdmsr, tsc). */
export const HOST_VALUE = 0x14c0;
/** Pending commit of a slow store through SCRATCH: u64 linear address, u32 size. */
export const COMMIT_ADDRESS = 0x14c8;
export const COMMIT_SIZE = 0x14d0;
/** u32. Next free byte of the arena. */
export const ARENA_NEXT = 0x14d4;
/** u32. Times that the arena was emptied: a record address is good only within one generation. */
export const ARENA_GENERATION = 0x14d8;
/** u32. What a slow access that returned 0 wants: STATUS_FAULT or STATUS_EXIT. And STATUS_* that a region's helper gave, for HANDLER_AFTER. */
export const LEAVE_STATUS = 0x14e0;
/** u32. Non-zero: ea_slow() raised; LEAVE_STATUS says how to leave. */
export const EA_FAILED = 0x14e4;
/**
 * u32: how often regions have left an instruction to the interpreter with no TLB miss since the time before, and the entry's record of the one that
 * was last.
 */
export const COUNT_LEFT = 0x14e8;
export const LEFT_REGION = 0x14ec;
/** u32: entry's record of a region that was left with all of the state stored, which HANDLER_LEFT takes for LEFT_REGION. */
export const LEAVING_REGION = 0x14f0;
/** u32: COUNT_TLB_MISSES when a region was last left. */
export const LEFT_TLB_MISSES = 0x14f4;

/** Budget used up: time to look at clocks and requests. */
export const EXIT_BUDGET = 0;
export const EXIT_IO_IN = 1;
export const EXIT_IO_OUT = 2;
export const EXIT_MMIO_READ = 3;
export const EXIT_MMIO_WRITE = 4;
export const EXIT_HLT = 5;
/** Triple fault. */
export const EXIT_SHUTDOWN = 6;
/** IF was set while IRQ_PENDING: deliver and come back. */
export const EXIT_IRQ_WINDOW = 7;
/** Breakpoint or single step for the debugger. */
export const EXIT_DEBUG = 8;
/** Code was found outside of memory slots, or the emulator met something it cannot do (message in the log). */
export const EXIT_INTERNAL_ERROR = 9;

// ---- Counters (u64 each) -----------------------------------------------------------------------------------------------
export const COUNT_TLB_MISSES = 0x1500;
export const COUNT_TLB_FLUSHES = 0x1508;
export const COUNT_INVALIDATED_BLOCKS = 0x1510;
export const COUNT_EXCEPTIONS = 0x1518;
export const COUNT_INTERRUPTS = 0x1520;
export const COUNT_LOOKUPS = 0x1528;
/** Instructions that regions ran; counted only by regions that were translated for it. */
export const COUNT_TRANSLATED = 0x1540;

// ---- x87, MMX, SSE -------------------------------------------------------------------------------------------------------
/** Eight physical registers R0..R7 of 16 bytes: significand u64, then sign and exponent u16. MMi is R_i's significand; ST(i) is R_((TOP+i)&7). */
export const FPR = 0x1600;
/** u32 each. FSW holds TOP in bits 11-13; FTW is the full two-bit tag word. */
export const FCW = 0x1680;
export const FSW = 0x1684;
export const FTW = 0x1688;
/** u32: 11-bit opcode; u64 instruction and data pointers. FCS and FDS: u32. */
export const FOP = 0x168c;
export const FIP = 0x1690;
export const FDP = 0x1698;
export const FCS = 0x16a0;
export const FDS = 0x16a4;
/** u32. */
export const MXCSR = 0x16a8;
/** Of MXCSR the masks, rounding, DAZ, FTZ and the inexact flag; their value when arithmetic can be native. */
export const FLOAT_CONTROLS = 0xffe0;
export const FLOAT_USUAL = 0x1fa0;
/** Up to 32 bytes each: operands of soft_lanes_*, the first one then the results. */
export const FLOAT_A = 0x1560;
export const FLOAT_B = 0x1580;
/** What soft_lanes_* does. */
export const LANES_ADD = 0;
export const LANES_SUB = 1;
export const LANES_MUL = 2;
export const LANES_DIV = 3;
/** Of B. */
export const LANES_SQRT = 4;
/** Even lanes subtract. */
export const LANES_ADDSUB = 5;
export const LANES_MIN = 6;
export const LANES_MAX = 7;
export const LANES_CMP = 8;
/** Both operands as they are compared. */
export const LANES_UCOMI = 9;
export const LANES_COMI = 10;
/** Beside a status: something is denormal, or MXCSR is not usual. See semantics/float.ts. */
export const LANES_ODD = 0x100;
/** Sixteen vector registers of 64 bytes each (XMM in the low 16, YMM in the low 32). */
export const XMM = 0x1800;
export const XMM_SIZE = 64;

// ---- Memory slots ----------------------------------------------------------------------------------------------------------
/** u32: how many entries SLOTS has. */
export const SLOT_COUNT = 0x1d00;
/** Up to 64 entries of 32 bytes, any order, none overlapping: u64 guest-physical start, u64 size, u32 host offset, u32 flags (1 = read-only). All page-aligned. */
export const SLOTS = 0x1d10;
export const SLOT_SIZE = 32;
export const SLOT_O_START = 0;
export const SLOT_O_SIZE = 8;
export const SLOT_O_HOST = 16;
export const SLOT_O_FLAGS = 20;
/** u32. Address of the first page's count in DEVICE_WRITES; 0: devices do not tell. */
export const SLOT_O_WRITES = 24;
export const SLOTS_MAX = 64;

// ---- TLB -------------------------------------------------------------------------------------------------------------------
export const TLB_ENTRIES = 8192;
export const TLB_ENTRY = 32;
/** Bytes of one TLB. */
export const TLB_SIZE = 262144;
/** i64 tags: linear page address (low 12 bits zero) when the access may go the short way, else TLB_INVALID. */
export const TLB_O_READ = 0;
export const TLB_O_WRITE = 8;
export const TLB_O_EXEC = 16;
/** u32: host offset = (low 32 bits of the linear address + addend) modulo 2^32. */
export const TLB_O_ADDEND = 24;
/** u32: TLB_GLOBAL, TLB_LARGE. */
export const TLB_O_FLAGS = 28;
/** Of a global page. */
export const TLB_GLOBAL = 1;
/** Part of a page larger than 4 KiB. */
export const TLB_LARGE = 2;
/** No linear page address: low bits set. */
export const TLB_INVALID = -1;

// ---- Decoded blocks ----------------------------------------------------------------------------------------------------------
/** Bytes of one decoded instruction. */
export const RECORD = 32;
/** u16 table index of the handler. */
export const R_HANDLER = 0;
/** u16 state address of the register operand (ModRM.reg; for 8-bit AH..BH the address of the second byte). */
export const R_REG = 2;
/** u16 state address of the ModRM.rm register, or the base register (ZERO if none, IP_PAGE if RIP-relative). */
export const R_RM = 4;
/** u16 state address of the index register, ZERO if none. */
export const R_INDEX = 6;
/** u16 state address of the segment base that is added: ZERO, or a segment register's entry. In legacy modes and addr32 always a segment register's entry. */
export const R_SEG = 8;
/** u8: bits 0 and 1 the index's scale; SCALE_* bits, which as a shift count of 64 bits mean nothing. */
export const R_SCALE = 10;
/** A direct branch. */
export const SCALE_BRANCH = 0x80;
/** The instruction also uses the stack, by the stack pointer. */
export const SCALE_STACK = 0x40;
/** u8 length of the instruction in bytes. */
export const R_LEN = 11;
/** u16 offset of the instruction's first byte in its code page. */
export const R_OFFSET = 12;
/** u8 prefixes and address form: RP_* bits. */
export const R_PREFIX = 14;
/** u8 instructions in the block up to and including this one. */
export const R_COUNT = 15;
/** i64 displacement (RIP-relative: already relative to IP_PAGE). For branches: u32 record of the target in the same page (0: not linked). */
export const R_DISP = 16;
/** For branches: u32 record of the target in another page, good while R_FAR_KEY (u64) is JUMP_EPOCH and MODE. */
export const R_FAR = 20;
export const R_FAR_KEY = 2;
/** i64 immediate, sign-extended; for branches the target's offset relative to IP_PAGE. */
export const R_IMM = 24;
/** u16 state address of the register in VEX.vvvv (VEX instructions have at most 8 bits of immediate). */
export const R_VVVV = 28;
/** Address size 64 (none of these), 32, 16. */
export const RP_ADDR32 = 1;
export const RP_ADDR16 = 2;
export const RP_REP = 4;
export const RP_REPNE = 8;
export const RP_LOCK = 16;
/** The address is relative to SS by default or override (faults are #SS). */
export const RP_STACK = 32;
/** Operand size 16 / 64 where the handler does not tell. */
export const RP_OP16 = 64;
export const RP_OP64 = 128;

/** u32 host offset of the first byte (0: empty), u32 first record. */
export const BLOCK_HASH_ENTRY = 8;
export const BLOCK_O_RECORD = 4;
/** Bytes of the entries among which a block is: that of its host offset * BLOCK_HASH_FACTOR >> BLOCK_HASH_SHIFT, of 65,536. */
export const BLOCK_SET = 64;
export const BLOCK_HASH_FACTOR = 0x9e3779b1;
export const BLOCK_HASH_SHIFT = 16;

/** Node of a code page's list (32 bytes, in the arena). */
export const NODE = 32;
/** u32 next node. */
export const NODE_NEXT = 0;
/** u32 host offset of the first byte of the range, u32 its length. */
export const NODE_START = 4;
export const NODE_LENGTH = 8;
/** u32 first record, u16 number of records. */
export const NODE_RECORDS = 12;
export const NODE_COUNT = 16;
/** u16: handler of the first record, where a region stands in its place. */
export const NODE_ORIGINAL = 18;
/** u32 address of the block's hash entry (0: none). */
export const NODE_HASH = 20;
/** u32 how often the block was looked up or met by a sample, for the translator, from HEAT_START on. */
export const NODE_HEAT = 24;
/** u32 MODE of the block. */
export const NODE_MODE = 28;

/** Handler that looks the instruction up again: what a stale record is overwritten with. */
export const HANDLER_STALE = 0;

// ---- CPUID table -----------------------------------------------------------------------------------------------------------
/** At CPUID_TABLE: u32 count, pad to 16; then entries of 32 bytes: u32 leaf, subleaf, flags (1: subleaf significant), eax, ebx, ecx, edx, pad. */
export const CPUID_ENTRIES = 0xc00010;
export const CPUID_ENTRY = 32;

// ---- Status of a helper that can end or divert an instruction ----------------------------------------------------------------
/** Done: go on with the next record. */
export const STATUS_OK = 0;
/** An exception is in EXC_*; the instruction changed nothing (or, for repeated strings, only whole iterations). */
export const STATUS_FAULT = 1;
/** Done; RIP holds where to go on (mode may have changed). */
export const STATUS_JUMP = 2;
/** Leave run(): EXIT_REASON is set, RIP is where to go on. */
export const STATUS_EXIT = 3;
/** Done; go on at NEXT_RIP through a look-up (mode, mapping or code may have changed). */
export const STATUS_NEXT = 4;

// ---- State of the privileged helpers (0x2800 to 0x2fff) --------------------------------------------------------------------
/** Four u64: the page-directory-pointer-table entries that PAE paging loads with CR3. */
export const PDPTE = 0x2800;
/** u64. SHADOW counts only while RIP is this: the instruction after STI, MOV SS, POP SS. */
export const SHADOW_RIP = 0x2820;
/** u32. DR6.B0..B3 of data breakpoints hit by the current instruction's accesses; debug_trap() takes it. */
export const DEBUG_HIT = 0x2828;
/** u64 each: MSRs without a meaning of their own. */
export const MSR_TSC_ADJUST = 0x2830;
export const MSR_BIOS_SIGN_ID = 0x2838;
export const MSR_MTRR_DEF_TYPE = 0x2840;
export const MSR_SPEC_CTRL = 0x2848;
/** Eleven u64: IA32_MTRR_FIX64K_00000, FIX16K_80000, _A0000, FIX4K_C0000 .. _F8000. */
export const MSR_MTRR_FIXED = 0x2850;
/** Eight pairs of u64: IA32_MTRR_PHYSBASEn, IA32_MTRR_PHYSMASKn. */
export const MSR_MTRR_VARIABLE = 0x28b0;
/** u32. Non-zero: RFLAGS.TF was set when the instruction began, and no event was delivered in it: debug_trap() traps. */
export const TRAP_ARMED = 0x2930;
/** FPU_AREA_SIZE bytes: an FXSAVE or XSAVE area, or an x87 environment, between registers and guest memory. */
export const FPU_AREA = 0x3000;
export const FPU_AREA_SIZE = 1024;
/** u32. Non-zero: decoded code was made stale; translated code that runs must be looked up again. */
export const CODE_STALE = 0x2934;
/** Data breakpoints of a debugger outside the guest: four u64 addresses, then u32 with R/W, LEN and enable bits as in DR7 (0: none). */
export const OUTER_DR = 0x2940;
export const OUTER_DR7 = 0x2960;
/** u32. Bit n: the one at OUTER_DR + 8 n was hit. */
export const OUTER_HIT = 0x2964;
/** u32 how many; first records of blocks that have been looked up HOT_LOOKUPS times. */
export const HOT_COUNT = 0x2968;
export const HOT_BLOCKS = 0x3400;
export const HOT_BLOCKS_MOST = 128;
/** So many look-ups make a block hot, if they are not too far apart. */
export const HOT_LOOKUPS = 256;
/** u32: what NODE_HEAT begins with. Its bits from 24 on say when the count began (the translator's spans). */
export const HEAT_START = 0x296c;
export const HEAT_COUNT = 0xffffff;
export const JUMP_CACHE_ENTRIES = 16384;
export const JUMP_CACHE_ENTRY = 32;
/** u64 RIP, u32 first record there, u32 heat (as NODE_HEAT), u64 JUMP_EPOCH and MODE when it was found. */
export const JUMP_O_RECORD = 8;
export const JUMP_O_HEAT = 12;
export const JUMP_O_KEY = 16;
/** u64: EPOCH_USER or EPOCH_KERNEL, by the MMU mode. With MODE in its low bits it says of a jump that was found before whether it is still right. */
export const JUMP_EPOCH = 0x2970;
/** u64 each: numbers of the last flush of user mode's TLB, and of the other modes' (for global pages in the upper half), from bit 16 on. */
export const EPOCH_USER = 0x2978;
export const EPOCH_KERNEL = 0x2980;
/** u64: the number before the next. */
export const EPOCH_LAST = 0x2988;
/** u32. Non-zero: host_page_written() is told of each page of RAM before the first store to it since the TLB was emptied. */
export const TELL_WRITES = 0x2a00;
/** u32. Non-zero: a repeated string instruction that is run alone (MODE_STEP) is not cut to one iteration. */
export const WHOLE_STRINGS = 0x2a04;
/** 12 vectors that tests of floats' lanes compare with (float-tests.ts). */
export const FLOAT_TESTS = 0x2a80;
