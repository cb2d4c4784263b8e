import { littleEndian } from '../../../asm/encoder.ts';
import * as L from '../../../native/layout.ts';
import { nativeIsAmd } from '../../../native/native-target.ts';
import { chooseAddress, chooseTarget, type EncodedAddress } from './addressing.ts';
import { CaseBuilder, RSP } from './case-builder.ts';
import { undefinedMask } from './flags.ts';
import { fillFloating } from './floating.ts';
import type { Form } from './form.ts';
import { KINDS } from './kinds.ts';
import type { Random } from './random.ts';
import type { Exits } from './target.ts';

/** Flags that cases start with at random: CF PF AF ZF SF OF, DF; IF and the fixed bit are set. */
const ARITHMETIC = 0x8d5;
const DF = 0x400;
const ALWAYS = 0x202;

/** A batch: inputs and code in two buffers that any target can take, and what comparing needs. */
export interface Batch {
  readonly cases: Uint8Array<ArrayBuffer>;
  readonly code: Uint8Array<ArrayBuffer>;
  /** Bytes of each instruction. */
  readonly lengths: Uint8Array;
  /** Flags to leave out of the comparison; after a fault. */
  readonly undefinedFlags: Uint32Array;
  readonly undefinedOnFault: Uint32Array;
  /** Non-zero: either of two operands may be the one that faults. */
  readonly eitherFaults: Uint8Array;
  /** Non-zero: memory is not compared after a fault. */
  readonly memoryOnFault: Uint8Array;
  /** Non-zero: RIP is not compared after a fault. */
  readonly ripOnFault: Uint8Array;
}

export function newBatch(): Batch {
  return {
    cases: new Uint8Array(L.MAX_CASES * L.CASE_SIZE),
    code: new Uint8Array(L.CODE_SIZE),
    lengths: new Uint8Array(L.MAX_CASES),
    undefinedFlags: new Uint32Array(L.MAX_CASES),
    undefinedOnFault: new Uint32Array(L.MAX_CASES),
    eitherFaults: new Uint8Array(L.MAX_CASES),
    memoryOnFault: new Uint8Array(L.MAX_CASES),
    ripOnFault: new Uint8Array(L.MAX_CASES),
  };
}

/** Registers, flags and memory at random. */
export function fillState(c: CaseBuilder): void {
  const { random, view, words, form } = c;
  c.bytes.fill(0);
  view.setBigUint64(L.CASE_CODE, BigInt(c.code), true);
  const df = form.kind === 'string' ? (random.oneIn(2) ? DF : 0) : random.oneIn(16) ? DF : 0;
  view.setUint32(L.CASE_RFLAGS, ALWAYS | (random.u32() & ARITHMETIC) | df, true);
  for (let i = 0; i < 16; i++) c.set(i, random.operand());
  // Canonical: a paravirtual kernel cannot return from an interrupt to another one.
  c.set(RSP, BigInt.asUintN(64, BigInt.asIntN(48, random.operand())));
  for (let i = 0; i < L.CASE_MEMORY_SIZE / 4; i++) words[L.CASE_MEMORY / 4 + i] = random.u32();
  if (random.oneIn(4)) {
    for (let i = 0; i < L.CASE_MEMORY_SIZE; i += 8) view.setBigUint64(L.CASE_MEMORY + i, random.operand(), true);
  }
  if (form.floating) fillFloating(c);
}

const isByte = (size: number): boolean => size === 1;

interface Registers {
  /** ModRM.reg or the opcode's register. */
  reg: number;
  rm: number;
  /** REX must be there, must not be there (AH to BH), or does not matter. */
  rexNeeded: boolean;
  rexBarred: boolean;
}

function chooseRegisters(c: CaseBuilder): Registers {
  const { random, form } = c;
  let rexNeeded = false;
  let rexBarred = false;
  const choose = (place: string): number => {
    const operand = form.operands.find(
      (o) => o.place === place || (place === 'E' && (o.place === 'R' || o.place === 'E')),
    );
    if (place !== 'X' && (operand === undefined || !isByte(operand.size))) {
      // A result of 64 bits would make RSP what a paravirtual kernel cannot return to: an interrupt then ends the process.
      const barred = operand?.size === 8 ? RSP : undefined;
      let register = random.below(16);
      while (register === barred) register = random.below(16);
      return register;
    }
    // A byte register: with REX one of sixteen low bytes; without it AL to BL and AH to BH.
    if (rexBarred || (!rexNeeded && random.oneIn(2))) {
      const register = random.below(8);
      if (register > 3) rexBarred = true;
      return register;
    }
    const register = random.below(16);
    if (register > 3) rexNeeded = true;
    return register;
  };
  const legacyOnly = (place: string): boolean => form.operands.some((o) => o.place === place);
  let reg = c.reg;
  if (reg === undefined) {
    if (legacyOnly('P')) reg = random.below(8);
    else reg = choose(form.plus ? 'Z' : 'G');
  }
  let rm = random.below(16);
  if (form.rm === 'register') rm = legacyOnly('Q') || legacyOnly('N') ? random.below(8) : choose('E');
  if (rexBarred && (reg > 7 || rm > 7)) {
    reg &= 7;
    rm &= 7;
  }
  return { reg, rm, rexNeeded, rexBarred };
}

/** Random immediates, or what the kind asked for. */
function immediateBytes(c: CaseBuilder): number[] {
  const { form, random } = c;
  const out: number[] = [];
  form.immediates.forEach((size, i) => {
    const given = i === 0 ? c.immediate : undefined;
    const value = given ?? random.operand();
    if (i === 0) c.count = Number(value & 0xffn);
    out.push(...littleEndian(BigInt.asUintN(size * 8, value), size));
  });
  return out;
}

/** The instruction's bytes; sets registers for its address. */
export function encodeInstruction(c: CaseBuilder): number[] {
  const { form, random } = c;
  const { reg, rm, rexNeeded, rexBarred } = chooseRegisters(c);
  let address: EncodedAddress | undefined;
  if (form.rm === 'memory') {
    const target = chooseTarget(c, form.memorySize);
    // Without REX no extended register may be in the address: try until it is so.
    const before = c.pinned;
    do {
      c.pinned = before;
      address = chooseAddress(c, target);
    } while (rexBarred && address.rex !== 0);
    c.onOperand?.({ address: target });
  } else if (form.rm === 'register') {
    c.onOperand?.({ register: rm });
  }
  const out: number[] = [];
  if (form.lock) out.push(0xf0);
  if (address?.segment !== undefined) out.push(address.segment);
  if (address?.addr32 === true || c.addr32) out.push(0x67);
  if (form.size === 2) out.push(0x66);
  if (form.repeat !== undefined) out.push(form.repeat);
  if (form.mandatory !== undefined) out.push(form.mandatory);
  let rex = rexNeeded ? 0x40 : 0;
  if (form.size === 8 && !form.default64) rex |= 0x48;
  const usesReg = form.digit === undefined && form.modrm === undefined && !form.plus && form.rm !== undefined;
  if (usesReg && reg > 7) rex |= 0x44;
  if (form.plus && reg > 7) rex |= 0x41;
  if (form.rm === 'register' && rm > 7) rex |= 0x41;
  if (address !== undefined && address.rex !== 0) rex |= 0x40 | address.rex;
  // A REX prefix without effect.
  if (rex === 0 && !rexBarred && !form.operands.some((o) => isByte(o.size)) && random.oneIn(16)) rex = 0x40;
  if (rex !== 0) out.push(rex);
  out.push(...form.opcode);
  if (form.plus) out.push((out.pop() as number) | (reg & 7));
  const immediates = immediateBytes(c);
  if (form.modrm !== undefined) {
    out.push(form.modrm);
  } else if (form.rm !== undefined) {
    const field = ((form.digit ?? reg) & 7) << 3;
    if (address === undefined) {
      out.push(0xc0 | field | (rm & 7));
    } else {
      out.push(address.modrm | field);
      if (address.sib !== undefined) out.push(address.sib);
      const next = c.code + out.length + address.dispSize + immediates.length;
      const disp = address.ripRelative ? address.disp - next : address.disp;
      if (address.dispSize > 0) out.push(...littleEndian(disp, address.dispSize));
    }
  }
  out.push(...immediates);
  return KINDS[form.kind ?? '']?.finish?.(c, out) ?? out;
}

/** Makes case `index` of a batch. */
export function generate(batch: Batch, index: number, form: Form, random: Random, exits: Exits): void {
  const c = new CaseBuilder(random, form, index, batch.cases);
  fillState(c);
  const kind = form.kind === undefined ? undefined : KINDS[form.kind];
  if (form.kind !== undefined && kind === undefined) throw new Error(`no kind ${form.kind}`);
  if (form.memorySize > 1) c.alignment = Math.min(form.memorySize, 16);
  kind?.prepare?.(c);
  const bytes = encodeInstruction(c);
  const jump = (from: number, to: number): number[] => [0xe9, ...littleEndian(to - (from + 5), 4)];
  const slot = index * L.CODE_SLOT;
  batch.code.fill(0xcc, slot, slot + L.CODE_SLOT);
  batch.code.set([...bytes, ...jump(c.code + bytes.length, exits.next)], slot);
  batch.code.set(jump(c.code + L.CODE_TAKEN, exits.taken), slot + L.CODE_TAKEN);
  batch.lengths[index] = bytes.length;
  const size = form.operands[0]?.size ?? form.size;
  batch.undefinedFlags[index] = undefinedMask(form.undefinedFlags, c.count, size);
  // Where a repeated comparison faults, AMD's flags are the last iteration's; ours and Intel's are as before it.
  const comparison = form.repeat !== undefined && /^(cmps|scas)/.test(form.mnemonic);
  batch.undefinedOnFault[index] = comparison && nativeIsAmd() ? ARITHMETIC : 0;
  // CMPS reads RSI's operand first on AMD.
  batch.eitherFaults[index] = form.mnemonic.startsWith('cmps') && nativeIsAmd() ? 1 : 0;
  // AMD's CALL looks at its target before it writes to the stack, Intel's and ours after that.
  batch.memoryOnFault[index] = form.mnemonic === 'call' && nativeIsAmd() ? 1 : 0;
  // A hypervisor on AMD that intercepts INT1 sees it before it moves RIP, and some raise the exception there.
  batch.ripOnFault[index] = form.mnemonic === 'int1' && nativeIsAmd() ? 1 : 0;
  if (!c.isPinned(RSP) && kind?.usesStack === true) throw new Error(`${form.name}: RSP is not set`);
}
