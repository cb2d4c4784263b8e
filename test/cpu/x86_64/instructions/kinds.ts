/**
 * What some instructions need of their state so that most cases do something: counts, divisors, stacks, strings,
 * branch targets. A form names its kind by `=kind` in its line.
 */

import { littleEndian } from '../../../asm/encoder.ts';
import * as L from '../../../native/layout.ts';
import { type CaseBuilder, RBP, RSP } from './case-builder.ts';

export interface Kind {
  /** Before the operands are chosen. */
  prepare?(c: CaseBuilder): void;
  /** May replace the instruction's bytes. */
  finish?(c: CaseBuilder, bytes: number[]): number[];
  readonly usesStack?: boolean;
}

const RAX = 0;
const RCX = 1;
const RDX = 2;
const RBX = 3;
const RSI = 6;
const RDI = 7;

/** Address of `below` free bytes under and `above` over it; rarely at the end of the edge page or where nothing is mapped. */
function stackPlace(c: CaseBuilder, below: number, above: number): number {
  const { random } = c;
  if (random.oneIn(24)) {
    c.useEdge();
    return L.EDGE + 0x1000 - random.below(above + 4);
  }
  if (random.oneIn(48)) return L.READ_ONLY + 0x800;
  const span = L.CASE_MEMORY_SIZE - below - above - 64;
  const offset = below + 32 + random.below(span);
  return c.memory + (random.oneIn(8) ? offset : offset & ~7);
}

function pinStack(c: CaseBuilder, below = 64, above = 64): number {
  const address = stackPlace(c, below, above);
  c.pin(RSP, random48(c) ?? address);
  return address;
}

/** Rarely a non-canonical address. */
function random48(c: CaseBuilder): bigint | undefined {
  return c.random.oneIn(100) ? 0x8000000000000000n : undefined;
}

const stack: Kind = { prepare: (c) => void pinStack(c), usesStack: true };

/** A near target: the slot's taken exit, rarely something that faults. */
function branchTarget(c: CaseBuilder): bigint {
  if (c.random.oneIn(32)) return c.random.pick([0x8000000000000000n, BigInt(L.CASES), BigInt(L.EDGE - 0x10)]);
  return BigInt(c.code + L.CODE_TAKEN);
}

/** Appends the displacement of a relative branch to the slot's taken exit. */
const relative =
  (size: number) =>
  (c: CaseBuilder, bytes: number[]): number[] => {
    const next = c.code + bytes.length + size;
    return [...bytes, ...littleEndian(c.code + L.CODE_TAKEN - next, size)];
  };

/** Source and destination of string instructions, with room for `count` elements in both directions. */
function prepareString(c: CaseBuilder): void {
  const { random, form } = c;
  const size = form.size === 0 ? 1 : form.size;
  const count = form.repeat === undefined ? 1 : random.below(9);
  c.addr32 = random.oneIn(6);
  // With 32-bit addresses processors differ in which upper halves they clear when no iteration is done.
  const wide = (value: number): bigint =>
    c.addr32 && count > 0 && (c.use & L.USE_EDGE) === 0
      ? BigInt(value) | (random.u64() & 0xffffffff00000000n)
      : BigInt(value);
  const place = (): number => {
    if (random.oneIn(24)) {
      c.useEdge();
      return L.EDGE + 0x1000 - random.below(size * 8);
    }
    return c.memory + 72 + random.below(L.CASE_MEMORY_SIZE - 2 * 72);
  };
  const source = place();
  // Near each other half the time: overlapping copies.
  const destination = random.oneIn(2) ? source + random.between(-16, 16) : place();
  c.pin(RSI, wide(source));
  c.pin(RDI, wide(destination));
  c.pin(RCX, form.repeat === undefined ? random.operand() : wide(count));
  // Comparisons that go on: equal bytes, at times.
  if (random.oneIn(2)) {
    const fill = random.below(2) === 0 ? 0 : random.below(256);
    c.bytes.fill(fill, L.CASE_MEMORY, L.CASE_MEMORY + L.CASE_MEMORY_SIZE);
    c.set(RAX, BigInt(fill) * 0x0101010101010101n);
    if (random.oneIn(2)) c.bytes[L.CASE_MEMORY + random.below(L.CASE_MEMORY_SIZE)] = random.below(256);
  }
}

/** Half of the time the accumulator equals the destination. */
function prepareCmpxchg(c: CaseBuilder): void {
  if (c.random.oneIn(2)) return;
  const size = c.form.operands[0]?.size as number;
  c.pinned |= 1 << RAX;
  c.changing |= 1 << RAX;
  c.onOperand = ({ register, address }) => {
    if (address !== undefined) c.setLow(RAX, size * 8, c.read(Number(address), size));
    else if (register !== undefined && !c.isPinned(register)) c.setLow(register, size * 8, c.get(RAX));
  };
}

function prepareCmpxchgPair(c: CaseBuilder): void {
  const size = c.form.memorySize / 2;
  c.alignment = c.form.memorySize;
  if (c.random.oneIn(2)) return;
  c.pinned |= (1 << RAX) | (1 << RDX);
  c.changing |= (1 << RAX) | (1 << RDX);
  c.onOperand = ({ address }) => {
    c.setLow(RAX, size * 8, c.read(Number(address), size));
    c.setLow(RDX, size * 8, c.read(Number(address) + size, size));
  };
}

/** A divisor and a dividend whose quotient fits, mostly. */
function prepareDivide(c: CaseBuilder): void {
  const { random, form } = c;
  const size = form.operands[0]?.size as number;
  const bits = size * 8;
  if (random.oneIn(5)) return;
  const signed = form.mnemonic === 'idiv';
  const dividend = random.oneIn(2) ? random.operand() : random.u64();
  if (size === 1) {
    const wide = signed ? BigInt.asIntN(8, dividend) * BigInt(random.between(1, 24)) : BigInt.asUintN(12, dividend);
    c.setLow(RAX, 16, BigInt.asUintN(16, wide));
  } else {
    c.setLow(RAX, bits, dividend);
    const sign = signed && BigInt.asIntN(bits, dividend) < 0n ? -1n : 0n;
    c.setLow(RDX, bits, random.oneIn(3) ? sign : BigInt(random.below(100)) * (sign === 0n ? 1n : -1n));
  }
  c.pinned |= (1 << RAX) | (1 << RDX);
}

/** Bit number in a register: with memory it reaches words around the operand. */
function prepareBitOffset(c: CaseBuilder): void {
  const { random, form } = c;
  if (form.rm !== 'memory') return;
  const bits = (form.operands[0]?.size as number) * 8;
  const register = c.freeRegister();
  c.reg = register;
  c.target = c.memory + L.CASE_MEMORY_SIZE / 2 + random.between(-64, 64);
  c.setLow(register, bits, BigInt(random.between(-1000, 1000)));
  c.pinned |= 1 << register;
}

/** Counts around the operand's size. */
function prepareShift(c: CaseBuilder): void {
  const { random, form } = c;
  const size = form.operands[0]?.size as number;
  const double = form.mnemonic === 'shld' || form.mnemonic === 'shrd';
  let count = random.oneIn(2) ? random.below(size * 8 + 3) : random.below(256);
  // Double shifts beyond the size are undefined altogether.
  while (double && (count & (size === 8 ? 63 : 31)) > size * 8) count = random.below(256);
  c.immediate = BigInt(count);
  c.count = form.operands.some(({ place }) => place === '1') ? 1 : count;
  if (form.operands.some(({ place }) => place === 'CL')) {
    c.setLow(RCX, 8, BigInt(count));
    c.pinned |= 1 << RCX;
  }
}

/** BTx by a register beside it, BEXTR and BZHI: small control values. */
function prepareSmallSource(c: CaseBuilder): void {
  const { random } = c;
  const register = c.freeRegister();
  if (random.oneIn(2)) c.set(register, BigInt(random.below(80)) | (BigInt(random.below(80)) << 8n));
}

function flagsImage(c: CaseBuilder): bigint {
  // Not TF (the next instruction would trap), NT, AC (alignment checks), nor reserved bits. IF and IOPL do not change at CPL 3.
  return (c.random.u64() & 0x203ed5n) | 2n;
}

export const KINDS: Record<string, Kind> = {
  stack,
  pop: stack,
  shift: { prepare: prepareShift },
  divide: { prepare: prepareDivide },
  // The operand-size prefix stands beside the mandatory one.
  crc16: { finish: (_, bytes) => [0x66, ...bytes] },
  bitoffset: { prepare: prepareBitOffset },
  string: { prepare: prepareString },
  cmpxchg: { prepare: prepareCmpxchg },
  cmpxchgpair: { prepare: prepareCmpxchgPair },
  small: { prepare: prepareSmallSource },
  popf: {
    usesStack: true,
    prepare(c) {
      // Flags from elsewhere could have TF set: they are ours, or cannot be read.
      let address = pinStack(c);
      while (!c.inMemory(address, 8) && !(address > L.EDGE + 0x1000 - c.form.size && address < L.EDGE + 0x1000))
        address = pinStack(c);
      c.write(address, 8, flagsImage(c));
    },
  },
  leave: {
    prepare(c) {
      c.pin(RBP, stackPlace(c, 64, 64));
    },
  },
  enter: {
    usesStack: true,
    prepare(c) {
      const { random } = c;
      const top = pinStack(c, 320, 32);
      c.pin(RBP, top + random.between(0, 16));
      c.immediate = BigInt(random.below(100));
    },
    finish(c, bytes) {
      // The second immediate: nesting level, mostly small; masked to five bits.
      const level = c.random.oneIn(2) ? 0 : c.random.below(24);
      return [...bytes.slice(0, -1), level | (c.random.below(8) << 5)];
    },
  },
  xlat: {
    prepare(c) {
      c.addr32 = c.random.oneIn(6);
      const wide = c.addr32 ? c.random.u64() & 0xffffffff00000000n : 0n;
      c.pin(RBX, BigInt(c.place(1) - Number(c.get(RAX) & 0xffn)) | wide);
    },
  },
  jcc8: { finish: relative(1) },
  jcc32: { finish: relative(4) },
  loop8: {
    prepare(c) {
      c.addr32 = c.random.oneIn(4);
      if (c.random.oneIn(2))
        c.pin(RCX, BigInt(c.random.below(3)) | (c.addr32 ? c.random.u64() & 0xffffffff00000000n : 0n));
    },
    finish: relative(1),
  },
  call32: { usesStack: true, prepare: stack.prepare as (c: CaseBuilder) => void, finish: relative(4) },
  jmpnear: {
    prepare(c) {
      const target = branchTarget(c);
      c.pinned |= 1 << RSP;
      if (c.form.mnemonic === 'call') pinStack(c);
      c.onOperand = ({ register, address }) => {
        if (register !== undefined && !(register === RSP && c.form.mnemonic === 'call')) c.set(register, target);
        else if (address !== undefined) c.write(Number(address), 8, target);
      };
    },
  },
  ret: {
    usesStack: true,
    prepare(c) {
      const address = pinStack(c);
      c.write(address, 8, branchTarget(c));
    },
  },
  /** MOV with a 64-bit (or, by 67, 32-bit) absolute address in place of ModRM. */
  moffs: {
    finish(c, bytes) {
      c.alignment = 1;
      const size = c.form.operands.find(({ place }) => place === 'O')?.size as number;
      const short = c.random.oneIn(3);
      const target = c.random.oneIn(20) ? (short ? BigInt(L.EDGE - 1) : 0x8000000000010000n) : BigInt(c.place(size));
      return [...(short ? [0x67] : []), ...bytes, ...littleEndian(target, short ? 4 : 8)];
    },
  },
  /** Memory whose address alone matters. */
  address: {
    prepare(c) {
      c.mayFault = false;
    },
  },
};
