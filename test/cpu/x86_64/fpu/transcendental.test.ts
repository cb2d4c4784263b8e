// Transcendental functions against this machine's processor: results within a unit in the last place, flags the same.
//
// A unit, because makers differ: of an argument so small that its sine is the argument to all 64 bits, Intel's FSIN is the
// argument and its FCOS is 1 in every rounding mode, and so are ours; AMD's are rounded, which towards zero is a unit less.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as N from '../../../native/layout.ts';
import { nativeIsAmd, nativeUnavailable } from '../../../native/native-target.ts';
import { extended } from '../instructions/floating.ts';
import { casesOfRun, Random } from '../instructions/random.ts';
import { Bench, type Case, type Outcome } from './bench.ts';

const seed = Number(process.env['SEED'] ?? (Math.random() * 0x7fffffff) | 0);
/** What one batch holds, at most. */
const COUNT = Math.min(casesOfRun(), N.MAX_CASES);
/** C1 tells how the last bit was rounded, which may differ. */
const C1 = 0x200;
/** Tells on which side of the least normal number the result is; there a unit is enough to be on the other. */
const UE = 0x10;
const LEAST_NORMAL = 1n << 63n;

/** Opcode, and the exponents of ST(0) and ST(1) where numbers are drawn mostly. */
const FUNCTIONS: Record<string, [number, [number, number], [number, number]]> = {
  f2xm1: [0xf0, [-70, -1], [-70, 70]],
  fyl2x: [0xf1, [-40, 40], [-70, 70]],
  fptan: [0xf2, [-70, 62], [-70, 70]],
  fpatan: [0xf3, [-40, 40], [-40, 40]],
  fyl2xp1: [0xf9, [-70, -3], [-70, 70]],
  fsincos: [0xfb, [-70, 62], [-70, 70]],
  fsin: [0xfe, [-70, 62], [-70, 70]],
  fcos: [0xff, [-70, 62], [-70, 70]],
};

/** Around the least normal number. */
const LEAST: [number, number] = [-16383, -16381];

function number(c: Case, i: number, random: Random, [least, most]: [number, number]): void {
  const at = N.CASE_FX + 32 + i * 16;
  const bits = random.oneIn(3) ? random.u64() & 0xfff0000000000000n : random.u64();
  c.view.setBigUint64(at, bits | 0x8000000000000000n, true);
  c.view.setUint16(at + 8, (random.oneIn(2) ? 0x8000 : 0) | (0x3fff + random.between(least, most)), true);
}

/** Position of a number in the order of all with its sign. */
function place(text: string): bigint {
  const bits = BigInt(`0x${text}`);
  return ((bits >> 64n) << 63n) + (bits & 0x7fffffffffffffffn);
}

function agree(ours: string | undefined, native: string | undefined): boolean {
  if (ours === native) return true;
  if (!ours || !native) return false;
  const distance = place(ours) - place(native);
  return distance >= -1n && distance <= 1n;
}

/** Bits of the status word that may differ. */
function tolerated(ours: Outcome, native: Outcome): number {
  const tiny = (text: string | undefined): boolean =>
    text !== undefined && (place(text) & ~(LEAST_NORMAL << 15n)) < LEAST_NORMAL;
  return ours.registers.some((value, r) => tiny(value) !== tiny(native.registers[r])) ? C1 | UE : C1;
}

function show(c: Outcome): string {
  return `fsw ${c.status.toString(16)} tags ${c.tags.toString(16)} st ${c.registers.slice(0, 3).join(' ')}`;
}

const bench = nativeUnavailable() ? undefined : new Bench();

for (const [name, [opcode, first, second]] of Object.entries(FUNCTIONS)) {
  test(`${name} as the processor does it (seed ${seed})`, { skip: nativeUnavailable() ?? false }, () => {
    const random = new Random(seed);
    const inputs: string[] = [];
    for (let i = 0; i < COUNT; i++) {
      const c = (bench as Bench).prepare(i, [0xd9, opcode]);
      const { view } = c;
      view.setUint16(N.CASE_FX, 0x37f | (random.oneIn(2) ? random.below(4) << 10 : 0), true);
      view.setUint16(N.CASE_FX + 2, (random.u32() & 0x4700) | (4 << 11), true);
      view.setUint8(N.CASE_FX + 4, random.oneIn(16) ? random.below(256) : 0x70);
      const strange = random.oneIn(4);
      for (let r = 0; r < 2; r++) {
        if (strange && random.oneIn(2)) extended({ random, view } as never, N.CASE_FX + 32 + r * 16);
        else number(c, r, random, r === 0 ? (random.oneIn(32) ? LEAST : first) : second);
      }
      // What the manuals leave undefined.
      const exponent = view.getUint16(N.CASE_FX + 40, true) & 0x7fff;
      if (
        exponent !== 0x7fff &&
        ((name === 'f2xm1' && exponent >= 0x3fff) || (name === 'fyl2xp1' && exponent > 0x3ffc))
      )
        number(c, 0, random, first);
      c.bytes.copyWithin(N.CASE_FX_OUT, N.CASE_FX, N.CASE_FX + 512);
      inputs.push(`fcw ${view.getUint16(N.CASE_FX, true).toString(16)} ${show(c.outcome())}`);
    }
    const wrong: string[] = [];
    let exact = 0;
    (bench as Bench).run(COUNT).forEach(({ ours, native }, i) => {
      const same =
        ours.ended === native.ended &&
        ((ours.status ^ native.status) & ~tolerated(ours, native)) === 0 &&
        ours.tags === native.tags;
      if (!same || !ours.registers.every((value, r) => agree(value, native.registers[r]))) {
        wrong.push(`input ${inputs[i]}\n  ours  ${show(ours)}\n  true  ${show(native)}`);
      } else if (ours.registers.every((value, r) => value === native.registers[r])) exact++;
    });
    assert.equal(wrong.length, 0, `${wrong.length} of ${COUNT} differ:\n${wrong.slice(0, 4).join('\n')}`);
    assert.ok(exact > COUNT * 0.8, `${exact} of ${COUNT} results are the processor's to the last bit`);
  });
}

const amd = nativeIsAmd();

for (const [name, opcode] of [
  ['fsin', 0xfe],
  ['fcos', 0xff],
] as const) {
  test(`${name} of small arguments: ${amd ? 'rounded by the processor, not by us' : 'the same'}`, {
    skip: nativeUnavailable() ?? false,
  }, () => {
    const random = new Random(seed);
    const modes: number[] = [];
    for (let i = 0; i < 256; i++) {
      const { view } = (bench as Bench).prepare(i, [0xd9, opcode]);
      modes.push(random.below(4));
      const sign = random.below(2) << 15;
      view.setUint16(N.CASE_FX, 0x37f | ((modes[i] as number) << 10), true);
      view.setUint16(N.CASE_FX + 2, 4 << 11, true);
      view.setUint8(N.CASE_FX + 4, 0x70);
      view.setBigUint64(N.CASE_FX + 32, random.u64() | LEAST_NORMAL, true);
      view.setUint16(N.CASE_FX + 40, sign | (0x3fff + random.between(-16000, -65)), true);
    }
    (bench as Bench).run(256).forEach(({ ours, native }, i) => {
      const [a, b] = [ours.registers[0], native.registers[0]] as [string, string];
      const negative = (Number.parseInt(a.slice(0, 4), 16) & 0x8000) !== 0;
      const towardsZero = modes[i] === 3 || modes[i] === (negative ? 2 : 1);
      assert.equal(place(a) - place(b), amd && towardsZero ? 1n : 0n, `mode ${modes[i]}: ours ${a}, true ${b}`);
    });
  });
}
