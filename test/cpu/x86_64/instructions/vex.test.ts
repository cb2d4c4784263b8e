// Each form of the VEX instructions on vectors, interpreted and translated, against this machine's processor.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allLines, handlerCount, type Line } from '../../../../src/cpu/x86_64/semantics/index.ts';
import * as N from '../../../native/layout.ts';
import { machineCode } from '../../../native/machine-code.ts';
import { nativeFeatures, nativeIsAmd, nativeTarget, nativeUnavailable } from '../../../native/native-target.ts';
import { BuiltInTarget } from './built-in-target.ts';
import { describeDifference, firstDifference, normalise } from './compare.ts';
import type { Form } from './form.ts';
import { newBatch } from './generator.ts';
import { casesOfRun, Random, seedOfRun } from './random.ts';
import { encodeVex, isVexVector, makeCase, setCode, type VexCode } from './vex.ts';

const NEEDED = ['avx2', 'fma', 'f16c', 'aes', 'pclmulqdq'];
const missing = nativeUnavailable() ?? NEEDED.find((feature) => !nativeFeatures().has(feature));
const seed = seedOfRun();
/** Encodings of each form: registers, and immediates. */
const ENCODINGS = 8;
const CASES = Math.min(casesOfRun(), N.MAX_CASES);
const FX_XMM = 160;

const skip = missing === undefined ? false : `this processor has no ${missing}`;
const { labels } = machineCode();
const exits = { next: labels.get('exit_next') as number, taken: labels.get('exit_taken') as number };
const native = skip ? undefined : nativeTarget();
const targets = skip ? [] : [new BuiltInTarget('none'), new BuiltInTarget('at-once')];
const amd = nativeIsAmd();

/** Results that the manuals leave open are made what the processor had, where they are near. */
function forgive(line: Line, expected: Uint8Array, actual: Uint8Array, count: number): void {
  const approximate = /^vr(cp|sqrt)/.test(line.name);
  const sums = amd && line.name.startsWith('vdpp');
  if (!approximate && !sums) return;
  const width = line.name === 'vdppd' ? 8 : 4;
  const [want, got] = [expected, actual].map((bytes) => new DataView(bytes.buffer, bytes.byteOffset)) as [
    DataView,
    DataView,
  ];
  for (let i = 0; i < count; i++) {
    for (const base of [N.CASE_FX_OUT + FX_XMM, N.CASE_YMM_OUT]) {
      for (let at = i * N.CASE_SIZE + base, end = at + 256; at < end; at += width) {
        const [x, y] = [want, got].map((v) => (width === 8 ? v.getFloat64(at, true) : v.getFloat32(at, true))) as [
          number,
          number,
        ];
        const tiny = Math.max(Math.abs(x), Math.abs(y)) < 2 ** -125;
        const near = approximate
          ? tiny || Math.abs(x - y) <= 3.01 * 2 ** -12 * Math.abs(x)
          : Number.isNaN(x) && Number.isNaN(y);
        if (near) actual.set(expected.subarray(at, at + width), at);
      }
    }
  }
}

/** After a fault in a gather the mask tells which elements are left; what is below the sign bits is left open. */
function keepSigns(bytes: Uint8Array, codes: readonly VexCode[], count: number, width: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (let i = 0; i < count; i++) {
    const at = i * N.CASE_SIZE;
    if (view.getUint32(at + N.CASE_OUT, true) !== N.EXIT_FAULT) continue;
    const { vvvv } = codes[i % ENCODINGS] as VexCode;
    for (const base of [N.CASE_FX_OUT + FX_XMM, N.CASE_YMM_OUT]) {
      for (let b = 0; b < 16; b++) {
        const byte = at + base + vvvv * 16 + b;
        bytes[byte] = b % width === width - 1 ? (bytes[byte] as number) & 0x80 : 0;
      }
    }
  }
}

const batch = newBatch();

function compare(line: Line, size: number, memory: boolean): void {
  const random = new Random(seed);
  const kind = /^vfn?m/.test(line.name) ? 'fused' : line.name === 'vmaskmovdqu' ? 'by RDI' : undefined;
  const codes = Array.from({ length: ENCODINGS }, () => encodeVex(line, size, memory, random));
  for (let i = 0; i < CASES; i++) {
    makeCase(batch.cases, i, i % ENCODINGS, codes[i % ENCODINGS] as VexCode, kind, random);
  }
  const [expected, ...all] = [native, ...targets].map((target) => {
    if (!target) throw new Error('no processor');
    target.cases.set(batch.cases.subarray(0, CASES * N.CASE_SIZE));
    codes.forEach(({ bytes }, slot) => {
      setCode(target.code, slot, bytes, exits);
    });
    target.run(CASES);
    const out = target.cases.slice(0, CASES * N.CASE_SIZE);
    normalise(batch, out, CASES);
    if (line.encoding.vsib) keepSigns(out, codes, CASES, line.encoding.w === 1 ? 8 : 4);
    return out;
  }) as [Uint8Array<ArrayBuffer>, ...Uint8Array<ArrayBuffer>[]];
  all.forEach((actual, t) => {
    forgive(line, expected, actual, CASES);
    const index = firstDifference(expected, actual, CASES);
    if (index < 0) return;
    const form = { name: `${line.name} ${targets[t]?.name}`, line: line.encoding.prefix } as Form;
    const { bytes } = codes[index % ENCODINGS] as VexCode;
    setCode(batch.code, index, bytes, exits);
    batch.lengths[index] = bytes.length;
    assert.fail(`VIVARIUM_SEED=${seed}\n${describeDifference(form, batch, index, expected, actual)}`);
  });
}

for (const line of allLines().filter(isVexVector)) {
  const { encoding, name } = line;
  const forms = [...(encoding.registerForm ? [false] : []), ...(encoding.memoryForm ? [true] : [])];
  for (const size of encoding.sizes) {
    for (const memory of forms) {
      const where = `${encoding.prefix} map ${encoding.map} ${encoding.opcode.toString(16)}`;
      test(`${name} (${where}, size ${size}${memory ? ', memory' : ''})`, { skip }, () => compare(line, size, memory));
    }
  }
}

test('translated code is what ran', { skip }, () => {
  assert.ok((targets[1] as BuiltInTarget).handlerAt(N.CODE) >= handlerCount(), 'a region is entered');
});
