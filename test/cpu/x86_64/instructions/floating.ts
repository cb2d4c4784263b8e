import * as L from '../../../native/layout.ts';
import type { CaseBuilder } from './case-builder.ts';
import type { Random } from './random.ts';

/** FXSAVE64 area (SDM volume 1, 10.5.1): offsets. */
export const FX_FCW = 0;
export const FX_FSW = 2;
export const FX_FTW = 4;
export const FX_FOP = 6;
export const FX_FIP = 8;
export const FX_MXCSR = 24;
export const FX_MXCSR_MASK = 28;
export const FX_ST = 32;
export const FX_XMM = 160;

/** Bits of singles and doubles at which rounding, overflow and special cases begin. */
const SINGLES = [
  0x00000000, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001,
  0xffbfffff, 0x00000001, 0x80000001, 0x007fffff, 0x00800000, 0x80800000, 0x7f7fffff, 0xff7fffff, 0x3f7fffff,
  0x3f000000, 0x3fc00000, 0x40000000, 0x40490fdb, 0x4b800000, 0x4f000000, 0xcf000000, 0x5f000000, 0xdf000000,
  0x4effffff, 0x34000000, 0x33800000,
];
const DOUBLES = [
  0x0000000000000000n,
  0x8000000000000000n,
  0x3ff0000000000000n,
  0xbff0000000000000n,
  0x7ff0000000000000n,
  0xfff0000000000000n,
  0x7ff8000000000000n,
  0xfff8000000000000n,
  0x7ff0000000000001n,
  0xfff7ffffffffffffn,
  0x0000000000000001n,
  0x8000000000000001n,
  0x000fffffffffffffn,
  0x0010000000000000n,
  0x7fefffffffffffffn,
  0xffefffffffffffffn,
  0x3fefffffffffffffn,
  0x3fe0000000000000n,
  0x3ff8000000000000n,
  0x400921fb54442d18n,
  0x41dfffffffc00000n,
  0x41e0000000000000n,
  0xc1e0000000000000n,
  0x43e0000000000000n,
  0xc3e0000000000000n,
  0x4340000000000000n,
  0x3ca0000000000000n,
  0x47efffffe0000000n,
  0x36a0000000000000n,
  0x3690000000000000n,
];

export function single(random: Random): number {
  switch (random.below(4)) {
    case 0:
      return random.pick(SINGLES);
    case 1:
      // Near one: sums and products that round and cancel.
      return (
        ((random.u32() & 0x80000000) |
          ((random.between(120, 134) << 23) >>> 0) |
          (random.u32() & (random.oneIn(2) ? 0x7fffff : 0x700000))) >>>
        0
      );
    case 2:
      return (random.pick(SINGLES) + random.between(-2, 2)) >>> 0;
    default:
      return random.u32();
  }
}

export function double(random: Random): bigint {
  switch (random.below(4)) {
    case 0:
      return random.pick(DOUBLES);
    case 1: {
      const exponent = BigInt(random.between(1000, 1060)) << 52n;
      const fraction = random.u64() & (random.oneIn(2) ? 0xfffffffffffffn : 0xff00000000000n);
      return (random.u64() & 0x8000000000000000n) | exponent | fraction;
    }
    case 2:
      return BigInt.asUintN(64, random.pick(DOUBLES) + BigInt(random.between(-2, 2)));
    default:
      return random.u64();
  }
}

const EXPONENTS = [0, 1, 2, 0x3ffe, 0x3fff, 0x4000, 0x401e, 0x403e, 0x403f, 0x7ffd, 0x7ffe, 0x7fff];
const SIGNIFICANDS = [
  0n,
  0x8000000000000000n,
  0xc000000000000000n,
  0xffffffffffffffffn,
  0x8000000000000001n,
  1n,
  0xa000000000000000n,
  0x4000000000000000n,
];

/** Writes an 80-bit number at `offset` of the case: normal, denormal, special, or one of the unsupported encodings. */
export function extended(c: CaseBuilder, offset: number): void {
  const { random, view } = c;
  let exponent: number;
  let significand: bigint;
  switch (random.below(5)) {
    case 0:
      exponent = random.pick(EXPONENTS);
      significand = random.pick(SIGNIFICANDS);
      break;
    case 1:
      exponent = random.below(0x8000);
      significand = random.u64();
      break;
    case 2:
      exponent = random.pick([0, 0x3fff, 0x7fff]);
      significand = random.u64() | 0x8000000000000000n;
      break;
    default:
      // What programs have: small numbers with few or many bits.
      exponent = random.between(0x3ff0, 0x4040);
      significand = 0x8000000000000000n | (random.oneIn(2) ? random.u64() : random.u64() & 0x7fe0000000000000n);
  }
  view.setBigUint64(offset, significand, true);
  view.setUint16(offset + 8, exponent | (random.oneIn(2) ? 0x8000 : 0), true);
}

/** x87 and SSE state, and floats in the memory of the case. */
export function fillFloating(c: CaseBuilder): void {
  const { random, view, form } = c;
  c.use |= L.USE_FX;
  const x87 = form.features.includes('fpu') || form.features.includes('mmx');
  // Masked exceptions mostly; all roundings and precisions (01 is reserved but means something to processors).
  const masks = random.oneIn(8) ? random.below(64) : 63;
  const precision = random.oneIn(2) ? 3 : random.pick([0, 2, 3]);
  view.setUint16(L.CASE_FX + FX_FCW, 0x40 | masks | (precision << 8) | (random.below(4) << 10), true);
  const top = random.below(8);
  const flags = random.oneIn(2) ? 0 : random.below(64);
  const pending = (flags & ~masks & 63) !== 0 && x87;
  const keep = pending && random.oneIn(2) ? flags : flags & masks;
  const error = (keep & ~masks & 63) !== 0 ? 0x8080 : 0;
  view.setUint16(L.CASE_FX + FX_FSW, keep | error | (top << 11) | (random.u32() & 0x4700), true);
  view.setUint8(L.CASE_FX + FX_FTW, random.oneIn(4) ? random.below(256) : random.oneIn(3) ? 0 : 0xff);
  const sseMasks = random.oneIn(8) ? random.below(64) : 63;
  const sseFlags = random.oneIn(2) ? 0 : random.below(64);
  const modes = random.oneIn(4) ? random.pick([0x8000, 0x40, 0x8040]) : 0;
  view.setUint32(L.CASE_FX + FX_MXCSR, sseFlags | (sseMasks << 7) | (random.below(4) << 13) | modes, true);
  for (let i = 0; i < 8; i++) {
    const at = L.CASE_FX + FX_ST + i * 16;
    if (form.features.includes('mmx') && random.oneIn(2)) {
      view.setBigUint64(at, random.operand(), true);
      view.setUint16(at + 8, 0xffff, true);
    } else extended(c, at);
  }
  const style = random.below(4);
  const fill = (at: number): void => {
    if (style === 0) for (let i = 0; i < 16; i += 4) view.setUint32(at + i, single(random), true);
    else if (style === 1) for (let i = 0; i < 16; i += 8) view.setBigUint64(at + i, double(random), true);
    else if (style === 2) for (let i = 0; i < 16; i += 8) view.setBigUint64(at + i, random.operand(), true);
    else for (let i = 0; i < 16; i += 4) view.setUint32(at + i, random.u32(), true);
  };
  for (let i = 0; i < 16; i++) fill(L.CASE_FX + FX_XMM + i * 16);
  if (x87 && random.oneIn(2)) {
    // Numbers at each aligned place, so that the operand is one mostly.
    for (let i = 0; i < L.CASE_MEMORY_SIZE; i += 16) extended(c, L.CASE_MEMORY + i);
  } else {
    for (let i = 0; i < L.CASE_MEMORY_SIZE; i += 16) fill(L.CASE_MEMORY + i);
  }
}
