/** Operands of the test assembler: registers by name, memory, numbers. */

const LEGACY_64 = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi'];
const LEGACY_32 = ['eax', 'ecx', 'edx', 'ebx', 'esp', 'ebp', 'esi', 'edi'];
const LEGACY_16 = ['ax', 'cx', 'dx', 'bx', 'sp', 'bp', 'si', 'di'];
const LEGACY_8 = ['al', 'cl', 'dl', 'bl', 'ah', 'ch', 'dh', 'bh'];
const SEGMENTS = ['es', 'cs', 'ss', 'ds', 'fs', 'gs'];

export type RegisterKind = 'general' | 'segment' | 'control' | 'debug' | 'xmm' | 'ymm';

export interface Register {
  readonly name: string;
  readonly kind: RegisterKind;
  /** The number in ModRM and REX. */
  readonly number: number;
  /** Bytes. */
  readonly size: number;
  /** SPL, BPL, SIL, DIL: bytes that need a REX prefix. */
  readonly needsRex: boolean;
}

const registers = new Map<string, Register>();

function define(names: readonly string[], kind: RegisterKind, size: number, first = 0, needsRex = false): void {
  names.forEach((name, i) => {
    registers.set(name, { name, kind, number: first + i, size, needsRex });
  });
}

const numbered = (prefix: string, from: number, to: number, suffix = ''): string[] =>
  Array.from({ length: to - from + 1 }, (_, i) => `${prefix}${from + i}${suffix}`);

define(LEGACY_64, 'general', 8);
define(LEGACY_32, 'general', 4);
define(LEGACY_16, 'general', 2);
define(LEGACY_8, 'general', 1);
define(['spl', 'bpl', 'sil', 'dil'], 'general', 1, 4, true);
define(numbered('r', 8, 15), 'general', 8, 8);
define(numbered('r', 8, 15, 'd'), 'general', 4, 8);
define(numbered('r', 8, 15, 'w'), 'general', 2, 8);
define(numbered('r', 8, 15, 'b'), 'general', 1, 8);
define(SEGMENTS, 'segment', 2);
define(numbered('cr', 0, 15), 'control', 8);
define(numbered('dr', 0, 7), 'debug', 8);
define(numbered('xmm', 0, 15), 'xmm', 16);
define(numbered('ymm', 0, 15), 'ymm', 32);

/** A memory operand. */
export interface Memory {
  readonly base?: string;
  readonly index?: string;
  readonly scale?: 1 | 2 | 4 | 8;
  /** Displacement; without base and index the whole (low 32-bit) address. */
  readonly disp?: number;
  /** Segment override. */
  readonly segment?: string;
  /** Bytes, where no register operand tells. */
  readonly size?: number;
}

export type Operand = string | number | bigint | Memory;

/** The register of a name; throws when there is none. */
export function register(name: string): Register {
  const found = registers.get(name);
  if (found === undefined) throw new Error(`no register ${name}`);
  return found;
}

export const isRegister = (operand: Operand | undefined): operand is string => typeof operand === 'string';
export const isMemory = (operand: Operand | undefined): operand is Memory => typeof operand === 'object';
export const isImmediate = (operand: Operand | undefined): operand is number | bigint =>
  typeof operand === 'number' || typeof operand === 'bigint';

/** `[base + disp]`. */
export function at(base: string, disp = 0, size?: number): Memory {
  return size === undefined ? { base, disp } : { base, disp, size };
}

/** `[disp]`: an absolute address below 2^31. */
export function absolute(disp: number, size?: number): Memory {
  return size === undefined ? { disp } : { disp, size };
}
