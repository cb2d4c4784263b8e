// What tests of floats' lanes compare with. It is in the processor's memory: V8 makes a vector constant of four instructions each
// time, and loads one by one.

import * as L from './layout.ts';

/** Addresses of two vectors: a lane is in the range where it is less than `limit`, signed, once `move` is added. */
interface Range {
  readonly move: number;
  readonly limit: number;
}

/** Ranges of lanes with the sign shifted out: denormal; not normal; besides those the least exponent and the largest. */
export interface FloatRanges {
  readonly denormal: Range;
  readonly abnormal: Range;
  readonly scant: Range;
}

/** By 16 bytes from FLOAT_TESTS: half of each vector. */
const halves: bigint[] = [];

function place(bits: 32 | 64, value: bigint): number {
  const lane = BigInt.asUintN(bits, value);
  halves.push(bits === 64 ? lane : (lane << 32n) | lane);
  return L.FLOAT_TESTS + (halves.length - 1) * 16;
}

/** Infinities and NaNs are the largest, zeros and denormal numbers the smallest: together they are one range, across 0. */
function rangesOf(bits: 32 | 64, fraction: number): FloatRanges {
  /** 1 in the exponent. */
  const unit = 1n << BigInt(fraction + 1);
  const least = 1n << BigInt(bits - 1);
  /** From `from` up to `to`, which is not in it: moved to where the least signed numbers are. */
  const between = (from: bigint, to: bigint): Range => ({
    move: place(bits, least - from),
    limit: place(bits, least + to - from),
  });
  return { denormal: between(1n, unit), abnormal: between(-unit, unit), scant: between(-2n * unit, 2n * unit) };
}

export const DOUBLE_RANGES = rangesOf(64, 52);
export const SINGLE_RANGES = rangesOf(32, 23);

/** Writes the vectors to a processor's memory. */
export function writeFloatTests(memory: Uint8Array): void {
  const view = new DataView(memory.buffer, memory.byteOffset);
  halves.forEach((half, i) => {
    view.setBigUint64(L.FLOAT_TESTS + i * 16, half, true);
    view.setBigUint64(L.FLOAT_TESTS + i * 16 + 8, half, true);
  });
}
