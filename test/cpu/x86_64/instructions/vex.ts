// Cases of VEX instructions on vectors: the encodings are made from the instruction table's lines, and all cases of a
// batch run the same code, so that it is decoded (and translated) once.

import type { Line } from '../../../../src/cpu/x86_64/semantics/index.ts';
import { littleEndian } from '../../../asm/encoder.ts';
import * as N from '../../../native/layout.ts';
import { double, FX_MXCSR, single } from './floating.ts';
import type { Random } from './random.ts';
import type { Exits } from './target.ts';

const FX_XMM = 160;
const MASKS = 0x1f80;
const PREFIXES = ['none', '66', 'F3', 'F2'];
const RBX = 3;
const RSP = 4;
const RDI = 7;

/** One encoding of a line. */
export interface VexCode {
  readonly bytes: readonly number[];
  /** Vector registers that it reads or writes. */
  readonly vectors: readonly number[];
  readonly memory: boolean;
  /** VEX.vvvv, and the register of VSIB indices. */
  readonly vvvv: number;
  readonly indices: number | undefined;
}

/** A vector line of VEX: with VEX, and a vector operand or none at all. */
export function isVexVector({ encoding }: Line): boolean {
  return encoding.vex && (encoding.vexVector || (encoding.map === 1 && encoding.opcode === 0x77));
}

/** Encodes a line with registers at random, often the same ones; `size` 16 or 32 where VEX.L counts. */
export function encodeVex(line: Line, size: number, memory: boolean, random: Random): VexCode {
  const { encoding } = line;
  const { operands } = encoding;
  const has = (places: string): boolean => operands.some(({ place }) => places.includes(place) && place.length === 1);
  const few = [random.below(16), random.below(16), random.below(16)];
  const vector = (): number => random.pick(few);
  const general = (): number => random.pick([0, 1, 2, 6, 7, 8, 9, 15]);
  const reg = encoding.digit ?? (has('G') ? general() : vector());
  const vvvv = has('H') ? vector() : 0;
  const rm = has('WU') ? vector() : general();
  const mask = vector();
  // The registers of a gather must differ, else it is undefined: seldom.
  const indices = encoding.vsib ? random.below(16) : undefined;
  const vectors = [vvvv, mask, ...(has('V') ? [reg] : []), ...(has('WU') && !memory ? [rm] : []), indices ?? 0, 0];
  const l = encoding.vexL === 'any' ? (size === 32 ? 1 : size === 16 ? 0 : random.below(2)) : encoding.vexL;
  const w = encoding.w === 'any' ? (size === 8 ? 1 : size === 4 ? 0 : Number(random.oneIn(4))) : encoding.w;
  const pp = PREFIXES.indexOf(encoding.prefix);
  const b = !memory && rm > 7 ? 1 : 0;
  const x = indices !== undefined && indices > 7 ? 1 : 0;
  const r = reg > 7 ? 1 : 0;
  const tail = (w << 7) | ((~vvvv & 15) << 3) | (l << 2) | pp;
  const short = encoding.map === 1 && w === 0 && !b && !x && random.oneIn(2);
  const bytes = short
    ? [0xc5, tail | (r ? 0 : 0x80)]
    : [0xc4, (r ? 0 : 0x80) | (x ? 0 : 0x40) | (b ? 0 : 0x20) | encoding.map, tail];
  bytes.push(encoding.opcode);
  if (encoding.hasModrm) {
    const field = (reg & 7) << 3;
    if (!memory) bytes.push(0xc0 | field | (rm & 7));
    else if (indices !== undefined) bytes.push(0x04 | field, (random.below(4) << 6) | ((indices & 7) << 3) | RBX);
    else bytes.push(0x43 | field, 0);
  }
  if (has('L')) bytes.push((mask << 4) | random.below(16));
  if (has('I')) bytes.push(random.below(256));
  return { bytes, vectors, memory, vvvv, indices };
}

/** Sixteen bytes of floats or integers. */
function fill(view: DataView, at: number, style: number, random: Random): void {
  switch (style) {
    case 0:
      for (let i = 0; i < 16; i += 8) view.setBigUint64(at + i, BigInt.asUintN(64, double(random)), true);
      break;
    case 1:
      for (let i = 0; i < 16; i += 4) view.setUint32(at + i, single(random), true);
      break;
    case 2:
      for (let i = 0; i < 16; i += 8) view.setBigUint64(at + i, random.operand(), true);
      break;
    default:
      for (let i = 0; i < 16; i += 4) view.setUint32(at + i, random.u32(), true);
  }
}

/** Usual with PE up (where arithmetic is native) half of the times, else anything. */
function mxcsr(random: Random): number {
  if (random.oneIn(2)) return MASKS | 0x20 | (random.u32() & 0x1f);
  return (random.below(4) << 13) | (random.oneIn(2) ? MASKS : random.u32() & MASKS) | (random.u32() & 0x807f);
}

/** Where a memory operand of at most 32 bytes is: seldom at the end of a page with nothing behind it, or read-only. */
function place(memory: number, gather: boolean, random: Random): number {
  if (random.oneIn(12)) return N.EDGE + 0x1000 - random.below(gather ? 64 : 40);
  if (random.oneIn(32)) return N.READ_ONLY + 0x100 + random.below(64);
  const aligned = memory + 128 + 32 * random.below(8);
  return random.oneIn(3) ? aligned + random.below(32) : aligned;
}

/** Makes lanes of one of three registers the negated product of the others', or nearly: sums that cancel. */
function cancel(view: DataView, registers: readonly number[], random: Random): void {
  const [x, y, z] = registers as [number, number, number];
  const wide = random.oneIn(2);
  for (const base of [N.CASE_FX + FX_XMM, N.CASE_YMM]) {
    for (let i = 0; i < 16; i += wide ? 8 : 4) {
      const at = (register: number): number => base + register * 16 + i;
      if (wide) {
        view.setFloat64(at(z), -view.getFloat64(at(x), true) * view.getFloat64(at(y), true), true);
        const nudged = view.getBigUint64(at(z), true) + BigInt(random.between(-1, 1));
        view.setBigUint64(at(z), BigInt.asUintN(64, nudged), true);
      } else {
        view.setFloat32(at(z), -view.getFloat32(at(x), true) * view.getFloat32(at(y), true), true);
        view.setUint32(at(z), view.getUint32(at(z), true) + random.between(-1, 1), true);
      }
    }
  }
}

/** Puts an instruction into a slot. */
export function setCode(code: Uint8Array, slot: number, bytes: readonly number[], exits: Exits): void {
  const at = slot * N.CODE_SLOT;
  code.fill(0xcc, at, at + N.CODE_SLOT);
  code.set([...bytes, 0xe9, ...littleEndian(exits.next - (N.CODE + at + bytes.length + 5), 4)], at);
}

/** Makes case `index`: state at random for the code in `slot`. */
export function makeCase(
  cases: Uint8Array<ArrayBuffer>,
  index: number,
  slot: number,
  code: VexCode,
  kind: 'fused' | 'by RDI' | undefined,
  random: Random,
): void {
  const offset = cases.byteOffset + index * N.CASE_SIZE;
  const view = new DataView(cases.buffer, offset, N.CASE_SIZE);
  new Uint8Array(cases.buffer, offset, N.CASE_SIZE).fill(0);
  view.setBigUint64(N.CASE_CODE, BigInt(N.CODE + slot * N.CODE_SLOT), true);
  view.setUint32(N.CASE_USE, N.USE_FX | N.USE_YMM | N.USE_EDGE, true);
  view.setUint32(N.CASE_RFLAGS, 0x202 | (random.u32() & 0x8d5), true);
  for (let i = 0; i < 16; i++) if (i !== RSP) view.setBigUint64(N.CASE_GPR + i * 8, random.operand(), true);
  view.setBigUint64(N.CASE_GPR + RSP * 8, BigInt(N.STACK_END - 64), true);
  view.setUint16(N.CASE_FX, 0x37f, true);
  view.setUint32(N.CASE_FX + FX_MXCSR, mxcsr(random), true);
  const style = random.below(4);
  for (const register of new Set(code.vectors)) {
    fill(view, N.CASE_FX + FX_XMM + register * 16, style, random);
    fill(view, N.CASE_YMM + register * 16, style, random);
  }
  if (kind === 'fused' && random.oneIn(3))
    cancel(
      view,
      [0, 1, 2].map(() => random.pick(code.vectors)),
      random,
    );
  const memory = N.CASES + index * N.CASE_SIZE + N.CASE_MEMORY;
  if (kind === 'by RDI') view.setBigUint64(N.CASE_GPR + RDI * 8, BigInt(memory + 64), true);
  if (!code.memory) return;
  const address = place(memory, code.indices !== undefined, random);
  view.setBigUint64(N.CASE_GPR + RBX * 8, BigInt(address), true);
  const own = address >= memory && address < memory + N.CASE_MEMORY_SIZE;
  const from = own ? (address - memory) & ~15 : 0;
  for (let at = Math.max(from - 64, 0); at < Math.min(from + 96, N.CASE_MEMORY_SIZE); at += 16)
    fill(view, N.CASE_MEMORY + at, style, random);
  for (let i = 0; i < 64; i += 16) fill(view, N.CASE_EDGE + i, style, random);
  if (code.indices === undefined) return;
  // Small numbers: quadwords where the opcode is odd.
  const wide = ((code.bytes[3] as number) & 1) === 1;
  for (const base of [N.CASE_FX + FX_XMM, N.CASE_YMM]) {
    for (let i = 0; i < 16; i += wide ? 8 : 4) {
      const at = base + code.indices * 16 + i;
      if (wide) view.setBigInt64(at, BigInt(random.between(-15, 15)), true);
      else view.setInt32(at, random.between(-15, 15), true);
    }
  }
}
