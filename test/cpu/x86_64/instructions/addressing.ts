import * as L from '../../../native/layout.ts';
import { type CaseBuilder, RBP, RSP } from './case-builder.ts';

/** An address in the encoding of an instruction. */
export interface EncodedAddress {
  /** ModRM without reg. */
  readonly modrm: number;
  readonly sib: number | undefined;
  /** Bytes of displacement: 0, 1 or 4. */
  readonly dispSize: number;
  /** Relative to RIP: `disp` is the target instead, until the instruction's length is known. */
  readonly ripRelative: boolean;
  readonly disp: number;
  /** REX.X and REX.B. */
  readonly rex: number;
  readonly addr32: boolean;
  readonly segment: number | undefined;
}

const NON_CANONICAL = [0x8000000000000000n, 0x0000800000000000n, 0xffff7fffffffffffn, 0x7fffffffffffffffn];

/** Where a memory operand of `size` bytes shall be: in the case's memory, or where it faults. */
export function chooseTarget(c: CaseBuilder, size: number): bigint {
  const { random, form } = c;
  if (c.target !== undefined) return BigInt(c.target);
  // With 16-bit operands AMD's MOVSXD reads 32 bits, and Intel's (and ours) 16: at a page's end they differ.
  const readsMore = form.mnemonic === 'movsxd' && form.size === 2;
  if (readsMore || !c.mayFault || !random.oneIn(20)) return BigInt(c.place(size));
  switch (random.below(c.absoluteOnly ? 4 : 5)) {
    case 0:
    case 1: {
      // Up to, across, and behind the end of a page.
      c.useEdge();
      const before = random.below(Math.min(size, 48) + 4);
      return BigInt(L.EDGE + 0x1000 - before);
    }
    case 2:
      // Below the page, and across its start.
      return BigInt(L.EDGE - random.below(size + 2) - 1);
    case 3: {
      const offset = random.below(0x1000 - size);
      return BigInt(L.READ_ONLY + offset - (offset % c.alignment));
    }
    default:
      // PUSH, POP and CALL of an operand at a bad stack pointer: which of the two accesses is told is not tested.
      return random.pick(NON_CANONICAL.filter((address) => BigInt.asIntN(64, address - c.get(RSP) + 32n) >> 6n !== 0n));
  }
}

const SEGMENTS = [0x26, 0x2e, 0x36, 0x3e, 0x65];

/** Chooses an addressing form and sets registers so that it gives `target`. */
export function chooseAddress(c: CaseBuilder, target: bigint): EncodedAddress {
  const { random } = c;
  const low = target < 0x7fff0000n;
  const addr32 = low && random.oneIn(8);
  const segment = random.oneIn(10) ? random.pick(SEGMENTS) : undefined;
  const kind = c.absoluteOnly ? random.between(4, 5) : low ? random.below(8) : random.below(4);
  const number = Number(target);
  if (low && kind === 4)
    return { modrm: 0x05, sib: undefined, dispSize: 4, ripRelative: true, disp: number, rex: 0, addr32, segment };
  if (low && kind === 5)
    return { modrm: 0x04, sib: 0x25, dispSize: 4, ripRelative: false, disp: number, rex: 0, addr32, segment };
  const widen = (value: bigint): bigint =>
    addr32 ? BigInt.asUintN(32, value) | (random.u64() & 0xffffffff00000000n) : value;
  if (low && kind === 6) {
    const index = c.freeRegister();
    const scale = random.below(4);
    const value = BigInt(random.below(0x1000));
    c.pin(index, widen(value));
    const disp = number - (Number(value) << scale);
    return {
      modrm: 0x04,
      sib: (scale << 6) | ((index & 7) << 3) | 5,
      dispSize: 4,
      ripRelative: false,
      disp,
      rex: index > 7 ? 2 : 0,
      addr32,
      segment,
    };
  }
  // Base, perhaps with an index; the base makes up for all else.
  let base = random.oneIn(12) && !c.isPinned(RSP) ? RSP : c.freeRegister();
  if (random.oneIn(12) && !c.isPinned(RBP)) base = RBP;
  let indexPart = 0n;
  let sib: number | undefined;
  let rex = base > 7 ? 1 : 0;
  if (kind < 2 || kind === 7) {
    if ((base & 7) === 4) sib = 0x20 | (base & 7);
  } else {
    let index = random.below(16);
    while (index === RSP || index === base || ((c.changing >> index) & 1) !== 0) index = random.below(16);
    const scale = random.below(4);
    indexPart = c.get(index) << BigInt(scale);
    c.pinned |= 1 << index;
    sib = (scale << 6) | ((index & 7) << 3) | (base & 7);
    if (index > 7) rex |= 2;
  }
  const mod = (base & 7) === 5 ? random.between(1, 2) : random.below(3);
  const disp = mod === 0 ? 0 : mod === 1 ? random.between(-128, 127) : random.u32() | 0;
  c.pin(base, widen(target - indexPart - BigInt(disp)));
  const modrm = (mod << 6) | (sib === undefined ? base & 7 : 4);
  return { modrm, sib, dispSize: mod === 0 ? 0 : mod === 1 ? 1 : 4, ripRelative: false, disp, rex, addr32, segment };
}
