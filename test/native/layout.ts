/**
 * Memory of the instruction tests. The same machine code (runner.ts) runs the same cases at the same linear addresses in
 * two worlds: natively in this process, and at CPL 3 in a bare guest. All addresses are below 2^31.
 */

/** A range of linear addresses with its rights; what lies between ranges is not mapped. */
export interface Range {
  readonly start: number;
  /** Bytes, a multiple of 4096. */
  readonly size: number;
  readonly write: boolean;
  readonly execute: boolean;
}

/** Far from where a process has its program and its heap. */
export const BASE = 0x60000000;
/** Machine code of the runner and of what enters it. */
export const RUNNER = 0x60000000;
/** Variables of the runner. */
export const STATE = 0x60004000;
/** Stack of signal handlers; a frame with all vector state takes about 12 KiB. */
export const SIGNAL_STACK = 0x60005000;
export const SIGNAL_STACK_SIZE = 0x8000;
/** Stack of the runner itself. */
export const STACK = 0x6000d000;
export const STACK_END = 0x6000e000;
/** A page with nothing mapped before and behind it. */
export const EDGE = 0x60010000;
/** A page that can be read only, nothing mapped around it. */
export const READ_ONLY = 0x60012000;
/** The cases' instructions: CODE_SLOT bytes each. */
export const CODE = 0x60100000;
/** Cases; see CASE_*. */
export const CASES = 0x60400000;

export const MAX_CASES = 4096;
/** Not a divisor of 4096: some instructions cross pages. */
export const CODE_SLOT = 72;
/** In a slot: where a taken branch goes. */
export const CODE_TAKEN = 56;
export const CODE_SIZE = 0x48000;

// ---- A case --------------------------------------------------------------------------------------------------------
export const CASE_SIZE = 0xa00;
/** u64. Address of the first instruction. */
export const CASE_CODE = 0x000;
/** u32. USE_* bits. */
export const CASE_USE = 0x008;
/** u64. */
export const CASE_RFLAGS = 0x010;
/** Sixteen u64 in encoding order. */
export const CASE_GPR = 0x020;
/** Everything from here to CASE_OUT_END is a result. u32: EXIT_*. */
export const CASE_OUT = 0x0c0;
export const CASE_OUT_VECTOR = 0x0c4;
/** u64 each: error code, CR2 (page faults only), RIP. */
export const CASE_OUT_ERROR = 0x0c8;
export const CASE_OUT_CR2 = 0x0d0;
export const CASE_OUT_RIP = 0x0d8;
export const CASE_OUT_RFLAGS = 0x0e0;
export const CASE_OUT_GPR = 0x100;
export const CASE_OUT_END = 0x180;
/** Last 64 bytes of the EDGE page, before and after. */
export const CASE_EDGE = 0x180;
export const CASE_EDGE_OUT = 0x1c0;
/** FXSAVE64 areas, before and after. */
export const CASE_FX = 0x200;
export const CASE_FX_OUT = 0x400;
/** Memory of the case, changed in place. */
export const CASE_MEMORY = 0x600;
export const CASE_MEMORY_SIZE = 0x200;
/** Upper halves of YMM0 to 15, before and after. */
export const CASE_YMM = 0x800;
export const CASE_YMM_OUT = 0x900;

/** Load and save CASE_FX; copy CASE_EDGE in and out; load and save CASE_YMM. */
export const USE_FX = 1;
export const USE_EDGE = 2;
export const USE_YMM = 4;

/** The instruction ended; went to its branch target; raised an exception. */
export const EXIT_NEXT = 0;
export const EXIT_TAKEN = 1;
export const EXIT_FAULT = 2;

// ---- Variables of the runner (u64 each) ------------------------------------------------------------------------------
export const S_CASE = STATE;
export const S_LEFT = STATE + 0x08;
/** Non-zero between the jump to a case's code and its exit. */
export const S_ACTIVE = STATE + 0x10;
export const S_TARGET = STATE + 0x18;
/** RSP of a case that a signal ended. */
export const S_RSP = STATE + 0x20;
export const S_RBX = STATE + 0x28;
export const S_OUTER_RSP = STATE + 0x30;
/** u32 each. */
export const S_MXCSR = STATE + 0x38;
export const S_FCW = STATE + 0x3c;
export const S_OLD_MASK = STATE + 0x40;
export const S_BATCH_MASK = STATE + 0x48;
/** stack_t (24 bytes). */
export const S_OLD_ALTSTACK = STATE + 0x50;
export const S_ALTSTACK = STATE + 0x70;
/** struct kernel_sigaction (32 bytes): ours, the default, and one for each signal number before us. */
export const S_ACTION = STATE + 0x90;
export const S_DEFAULT_ACTION = STATE + 0xb0;
export const S_OLD_ACTIONS = STATE + 0x100;
/** u32: what the loops of cases count down. */
export const S_LOOP = STATE + 0x800;

const EDGE_BYTES = 64;
/** Address of the EDGE page's last bytes. */
export const EDGE_WINDOW = EDGE + 0x1000 - EDGE_BYTES;
export const EDGE_WINDOW_SIZE = EDGE_BYTES;

export const RANGES: readonly Range[] = [
  { start: RUNNER, size: 0x4000, write: false, execute: true },
  { start: STATE, size: STACK_END - STATE, write: true, execute: false },
  { start: EDGE, size: 0x1000, write: true, execute: false },
  { start: READ_ONLY, size: 0x1000, write: false, execute: false },
  { start: CODE, size: CODE_SIZE, write: false, execute: true },
  { start: CASES, size: MAX_CASES * CASE_SIZE, write: true, execute: false },
];
