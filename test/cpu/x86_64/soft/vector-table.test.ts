// Every MMX and SSE instruction of the table, with registers and with memory: the built-in processor beside this machine's.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allLines, type Line } from '../../../../src/cpu/x86_64/semantics/index.ts';
import { nativeIsAmd, nativeTarget, nativeUnavailable } from '../../../native/native-target.ts';
import { double, single } from '../instructions/floating.ts';
import { casesOfRun, Random } from '../instructions/random.ts';
import { BuiltIn } from './built-in.ts';
import { type End, runNative, type Start } from './native.ts';

const skip = nativeUnavailable() ?? false;
const seed = Number(process.env['SEED'] ?? Date.now() % 0x7fffffff);
const CASES = casesOfRun();
const FLAGS = 0x8d5;
const MASKS = 0x1f80;
const MAPS = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]] as const;
/** Addresses memory by RDI. */
const APART = /^maskmov/;
const APPROXIMATE = /^r(cp|sqrt)/;

/** Operands in vector and general registers, of which one is a vector; and CRC32. */
function comparable(line: Line): boolean {
  const { operands, vex, prefix } = line.encoding;
  if (vex || prefix === 'any' || APART.test(line.name)) return false;
  const places = operands.map(({ place }) => place);
  return (
    places.every((place) => 'VWUPQNGERIM'.includes(place)) &&
    (line.name === 'crc32' || places.some((place) => 'VWUPQN'.includes(place)))
  );
}

/** Bytes of an instruction: ModRM.reg 0 (XMM0, RAX), ModRM.rm 1 (XMM1, RCX) or memory at RBX. */
function bytesOf({ encoding }: Line, size: number, memory: boolean, immediate: number): number[] {
  const bytes: number[] = [];
  if (size === 2) bytes.push(0x66);
  if (encoding.prefix !== 'none' && encoding.prefix !== 'any') bytes.push(Number.parseInt(encoding.prefix, 16));
  if (size === 8) bytes.push(0x48);
  bytes.push(...MAPS[encoding.map], encoding.opcode, (memory ? 0x03 : 0xc1) | ((encoding.digit ?? 0) << 3));
  if (encoding.operands.some(({ place }) => place === 'I')) bytes.push(immediate);
  return bytes;
}

/** Half of a register: doubles, pairs of singles, integers. */
function half(random: Random): bigint {
  switch (random.below(3)) {
    case 0:
      return BigInt.asUintN(64, double(random));
    case 1:
      return (BigInt(single(random) >>> 0) << 32n) | BigInt(single(random) >>> 0);
    default:
      return random.operand();
  }
}

/** MXCSR: usual with PE up (where arithmetic is native) half of the times, else anything. */
function mxcsr(random: Random): number {
  if (random.oneIn(2)) return MASKS | 0x20 | (random.u32() & 0x1f);
  return (random.below(4) << 13) | (random.oneIn(2) ? MASKS : random.u32() & MASKS) | (random.u32() & 0x807f);
}

const show = ({ xmm, mm, rax, rcx, memory, rflags, mxcsr: status, vector }: End): string =>
  vector < 0
    ? `${[...xmm, ...mm, rax, rcx, ...memory].map((value) => value.toString(16)).join(' ')} flags ${(rflags & FLAGS).toString(16)} mxcsr ${status.toString(16)}`
    : `fault ${vector} mxcsr ${status.toString(16)}`;

/** Singles of two registers, all equal, or both as near to the exact value as the SDM asks. */
function near(a: End, b: End): boolean {
  const floats = ({ xmm }: End): Float32Array => new Float32Array(BigUint64Array.from(xmm).buffer);
  const [x, y] = [floats(a), floats(b)];
  return x.every((value, i) => {
    const other = y[i] as number;
    // At the least normal number a processor may flush to zero or not.
    const edge = Math.max(Math.abs(value), Math.abs(other)) < 2 ** -125;
    return edge || Object.is(value, other) || Math.abs(value - other) <= 3.01 * 2 ** -12 * Math.abs(other);
  });
}

/** Lanes that are equal, or NaNs of both: DPPS and DPPD add in another order on AMD, so another NaN comes through. */
function nanOrSame(a: End, b: End, width: 32 | 64): boolean {
  const lanes = ({ xmm }: End): ArrayLike<number> => {
    const { buffer } = BigUint64Array.from(xmm);
    return width === 32 ? new Float32Array(buffer) : new Float64Array(buffer);
  };
  const [x, y] = [lanes(a), lanes(b)];
  return Array.from(x).every((value, i) => Object.is(value, y[i]));
}

const amd = nativeIsAmd();
/** AMD's SHA instructions take memory that is not aligned, Intel's (and ours) do not. */
const unaligned = (name: string): boolean => amd && name.startsWith('sha');

// The native target wants its addresses before the heap has grown there.
if (!skip) nativeTarget();
const builtIn = skip ? undefined : new BuiltIn();
for (const line of allLines().filter(comparable)) {
  const { encoding, name } = line;
  const forms = [...(encoding.registerForm ? [false] : []), ...(encoding.memoryForm ? [true] : [])];
  for (const size of encoding.sizes) {
    for (const memory of forms) {
      const text = `${encoding.prefix} map ${encoding.map} ${encoding.opcode.toString(16)}, size ${size}${memory ? ', memory' : ''}`;
      test(`${name} (${text}) is the processor's (seed ${seed})`, { skip }, () => compare(line, size, memory));
    }
  }
}

function compare(line: Line, size: number, memory: boolean): void {
  const random = new Random(seed);
  for (let round = 0; round < 4; round++) {
    const code = bytesOf(line, size, memory, random.u32() & 0xff);
    const starts = Array.from({ length: CASES }, (): Start => {
      const xmm = [half(random), half(random), half(random), half(random)] as const;
      const general = { rax: random.operand(), rcx: random.operand(), rdx: random.operand() };
      return {
        mxcsr: mxcsr(random),
        xmm,
        ...general,
        memory: random.oneIn(8) && !unaligned(line.name) ? random.below(16) : 0,
      };
    });
    const native = runNative(code, starts);
    (builtIn as BuiltIn).run(code, starts).forEach((end, i) => {
      const start = starts[i] as Required<Start>;
      const expected = native[i] as End;
      const close =
        (APPROXIMATE.test(line.name) && near(end, expected)) ||
        (amd && line.name.startsWith('dpp') && nanOrSame(end, expected, line.name === 'dpps' ? 32 : 64));
      const alike = close ? { ...end, xmm: expected.xmm } : end;
      const what = [...start.xmm, start.rax, start.rcx].map((value) => value.toString(16)).join(' ');
      const bytes = code.map((byte) => byte.toString(16)).join(' ');
      assert.equal(
        show(alike),
        show(expected),
        `${bytes}: ${what} mxcsr ${start.mxcsr.toString(16)} memory ${start.memory}`,
      );
    });
  }
}
