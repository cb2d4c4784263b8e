/** Bytes of one instruction: prefixes, REX, opcode, ModRM, SIB, displacement, immediate (SDM volume 2, chapter 2). */

import { isRegister, type Memory, type Register, register } from './operands.ts';

export type Bits = 16 | 32 | 64;

export interface Encoding {
  /** Operand size in bytes: 2, 4, 8 choose prefixes; 0 none. */
  readonly size: number;
  readonly opcode: readonly number[];
  /** Prefix that belongs to the opcode: 0x66, 0xf2, 0xf3. */
  readonly mandatory?: number;
  /** ModRM.reg. */
  readonly reg?: number;
  /** A byte register in ModRM.reg that needs REX. */
  readonly regNeedsRex?: boolean;
  /** ModRM.rm; absent: no ModRM. */
  readonly rm?: string | Memory;
  /** Register added to the last opcode byte. */
  readonly plus?: Register;
  readonly immediate?: { readonly value: number | bigint; readonly size: number };
  /** Operand size is 64 without REX.W in 64-bit mode. */
  readonly default64?: boolean;
}

const SEGMENT_PREFIX: Record<string, number> = { es: 0x26, cs: 0x2e, ss: 0x36, ds: 0x3e, fs: 0x64, gs: 0x65 };

/** Little-endian bytes of `value`, `size` of them; throws when it does not fit signed or unsigned. */
export function littleEndian(value: number | bigint, size: number): number[] {
  const wide = BigInt(value);
  const bits = BigInt(size * 8);
  if (wide < -(1n << (bits - 1n)) || wide >= 1n << bits) throw new RangeError(`${value} does not fit ${size} bytes`);
  const masked = BigInt.asUintN(size * 8, wide);
  return Array.from({ length: size }, (_, i) => Number((masked >> BigInt(i * 8)) & 0xffn));
}

const fits8 = (value: number): boolean => value >= -128 && value <= 127;

interface AddressForm {
  readonly addressSize: number;
  readonly modrm: number;
  readonly tail: readonly number[];
  readonly x: boolean;
  readonly b: boolean;
}

/** 16-bit addressing: a displacement alone, or one of SI, DI, BP, BX with a displacement. */
function address16(memory: Memory): AddressForm {
  const disp = littleEndian(memory.disp ?? 0, 2);
  if (memory.base === undefined) return { addressSize: 2, modrm: 0x06, tail: disp, x: false, b: false };
  const rm = { si: 4, di: 5, bp: 6, bx: 7 }[memory.base];
  if (rm === undefined || memory.index !== undefined) throw new Error('16-bit address form is not supported');
  return { addressSize: 2, modrm: 0x80 | rm, tail: disp, x: false, b: false };
}

function address(memory: Memory, bits: Bits): AddressForm {
  const base = memory.base === undefined ? undefined : register(memory.base);
  const index = memory.index === undefined ? undefined : register(memory.index);
  const addressSize = (base ?? index)?.size ?? bits / 8;
  if (addressSize === 2) return address16(memory);
  const disp = memory.disp ?? 0;
  const scale = Math.log2(memory.scale ?? 1);
  if (base === undefined) {
    // Mod 0 with SIB base 5 is disp32 alone; in 64-bit mode the plain form is relative to RIP, so SIB is always used.
    const sib = (scale << 6) | ((index === undefined ? 4 : index.number & 7) << 3) | 5;
    return { addressSize, modrm: 4, tail: [sib, ...littleEndian(disp, 4)], x: (index?.number ?? 0) > 7, b: false };
  }
  const mod = disp === 0 && (base.number & 7) !== 5 ? 0 : fits8(disp) ? 1 : 2;
  const displacement = mod === 0 ? [] : littleEndian(disp, mod === 1 ? 1 : 4);
  const needsSib = index !== undefined || (base.number & 7) === 4;
  if (index?.number === 4) throw new Error('RSP is no index');
  const sib = (scale << 6) | ((index === undefined ? 4 : index.number & 7) << 3) | (base.number & 7);
  return {
    addressSize,
    modrm: (mod << 6) | (needsSib ? 4 : base.number & 7),
    tail: [...(needsSib ? [sib] : []), ...displacement],
    x: (index?.number ?? 0) > 7,
    b: base.number > 7,
  };
}

/** The instruction's bytes in a code segment of `bits`. */
export function encode(bits: Bits, encoding: Encoding): number[] {
  const { size, rm, plus, immediate } = encoding;
  const out: number[] = [];
  let modrm: number | undefined;
  let tail: readonly number[] = [];
  let rex = 0;
  if (encoding.regNeedsRex === true || plus?.needsRex === true) rex |= 0x40;
  if (isRegister(rm)) {
    const r = register(rm);
    modrm = 0xc0 | (r.number & 7);
    if (r.number > 7) rex |= 0x41;
    if (r.needsRex) rex |= 0x40;
  } else if (rm !== undefined) {
    const form = address(rm, bits);
    modrm = form.modrm;
    tail = form.tail;
    if (form.x) rex |= 0x42;
    if (form.b) rex |= 0x41;
    if (rm.segment !== undefined) out.push(SEGMENT_PREFIX[rm.segment] as number);
    if (form.addressSize * 8 !== bits) out.push(0x67);
  }
  if (modrm !== undefined) {
    modrm |= ((encoding.reg ?? 0) & 7) << 3;
    if ((encoding.reg ?? 0) > 7) rex |= 0x44;
  }
  if (plus !== undefined && plus.number > 7) rex |= 0x41;
  if (size === 8 && encoding.default64 !== true) rex |= 0x48;
  if (bits === 16 ? size === 4 : size === 2) out.push(0x66);
  if (encoding.mandatory !== undefined) out.push(encoding.mandatory);
  if (rex !== 0) {
    if (bits !== 64) throw new Error('REX outside 64-bit mode');
    out.push(rex);
  }
  const opcode = [...encoding.opcode];
  if (plus !== undefined) opcode.push((opcode.pop() as number) | (plus.number & 7));
  out.push(...opcode);
  if (modrm !== undefined) out.push(modrm, ...tail);
  if (immediate !== undefined) out.push(...littleEndian(immediate.value, immediate.size));
  return out;
}
