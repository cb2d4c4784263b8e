import * as L from '../../../native/layout.ts';
import { FX_FIP, FX_FOP, FX_MXCSR_MASK } from './floating.ts';
import type { Form } from './form.ts';
import type { Batch } from './generator.ts';

const NAMES = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rsp',
  'rbp',
  'rsi',
  'rdi',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
];
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/**
 * Makes what may differ the same: undefined flags, and in FXSAVE areas the last instruction's opcode and pointers
 * (processors update them at different times, SDM volume 1, 8.1.8) and the mask of the processor's MXCSR bits.
 */
export function normalise(batch: Batch, cases: Uint8Array<ArrayBuffer>, count: number): void {
  const view = new DataView(cases.buffer, cases.byteOffset, cases.byteLength);
  for (let i = 0; i < count; i++) {
    const at = i * L.CASE_SIZE;
    const fault = view.getUint32(at + L.CASE_OUT, true) === L.EXIT_FAULT;
    const mask = (fault ? batch.undefinedOnFault : batch.undefinedFlags)[i] as number;
    if (fault && batch.eitherFaults[i] !== 0) view.setBigUint64(at + L.CASE_OUT_CR2, 0n, true);
    if (fault && batch.ripOnFault[i] !== 0) view.setBigUint64(at + L.CASE_OUT_RIP, 0n, true);
    if (fault && batch.memoryOnFault[i] !== 0) {
      cases.fill(0, at + L.CASE_MEMORY, at + L.CASE_MEMORY + L.CASE_MEMORY_SIZE);
      cases.fill(0, at + L.CASE_EDGE_OUT, at + L.CASE_EDGE_OUT + L.EDGE_WINDOW_SIZE);
    }
    if (mask !== 0) {
      view.setUint32(at + L.CASE_OUT_RFLAGS, view.getUint32(at + L.CASE_OUT_RFLAGS, true) & ~mask, true);
    }
    if ((view.getUint32(at + L.CASE_USE, true) & L.USE_FX) !== 0) {
      const fx = at + L.CASE_FX_OUT;
      view.setUint16(fx + FX_FOP, 0, true);
      view.setBigUint64(fx + FX_FIP, 0n, true);
      view.setBigUint64(fx + FX_FIP + 8, 0n, true);
      view.setUint32(fx + FX_MXCSR_MASK, 0, true);
    }
  }
}

/** Index of the first case from `from` that differs, or -1. */
export function firstDifference(expected: Uint8Array, actual: Uint8Array, count: number, from = 0): number {
  const slice = (bytes: Uint8Array, i: number, n: number): Uint8Array =>
    bytes.subarray(i * L.CASE_SIZE, (i + n) * L.CASE_SIZE);
  if (Buffer.compare(slice(expected, from, count - from), slice(actual, from, count - from)) === 0) return -1;
  for (let i = from; i < count; i++) {
    if (Buffer.compare(slice(expected, i, 1), slice(actual, i, 1)) !== 0) return i;
  }
  return -1;
}

/** One case and its differences, for people: enough to repeat it. */
export function describeDifference(
  form: Form,
  batch: Batch,
  index: number,
  expected: Uint8Array,
  actual: Uint8Array,
): string {
  const input = view(batch.cases, index);
  const want = view(expected, index);
  const got = view(actual, index);
  const code = batch.code.subarray(index * L.CODE_SLOT, index * L.CODE_SLOT + (batch.lengths[index] as number));
  const lines = [
    `${form.name} [${form.line}] case ${index}: bytes ${hex(code)} at 0x${(L.CODE + index * L.CODE_SLOT).toString(16)}`,
  ];
  const registers = NAMES.map((name, i) => `${name}=${input.getBigUint64(L.CASE_GPR + i * 8, true).toString(16)}`).join(
    ' ',
  );
  lines.push(`  in: ${registers} rflags=${input.getUint32(L.CASE_RFLAGS, true).toString(16)}`);
  lines.push(`  memory at 0x${(L.CASES + index * L.CASE_SIZE + L.CASE_MEMORY).toString(16)}`);
  if ((input.getUint32(L.CASE_USE, true) & L.USE_FX) !== 0) lines.push(`  in: ${describeFx(input, L.CASE_FX)}`);
  const differ = (name: string, offset: number, size: number): void => {
    const a = new Uint8Array(want.buffer, want.byteOffset + offset, size);
    const b = new Uint8Array(got.buffer, got.byteOffset + offset, size);
    if (Buffer.compare(a, b) !== 0) {
      lines.push(`  ${name}: expected ${hex(a.slice().reverse())}, got ${hex(b.slice().reverse())}`);
    }
  };
  differ('exit (0 next, 1 taken, 2 fault)', L.CASE_OUT, 4);
  differ('vector', L.CASE_OUT_VECTOR, 4);
  differ('error code', L.CASE_OUT_ERROR, 8);
  differ('cr2', L.CASE_OUT_CR2, 8);
  differ('rip of fault', L.CASE_OUT_RIP, 8);
  differ('rflags', L.CASE_OUT_RFLAGS, 8);
  NAMES.forEach((name, i) => {
    differ(name, L.CASE_OUT_GPR + i * 8, 8);
  });
  for (let i = 0; i < L.CASE_MEMORY_SIZE; i += 16) {
    const before = hex(new Uint8Array(input.buffer, input.byteOffset + L.CASE_MEMORY + i, 16).slice().reverse());
    differ(`memory+0x${i.toString(16)} (was ${before})`, L.CASE_MEMORY + i, 16);
  }
  for (let i = 0; i < 64; i += 16) differ(`edge page 0x${(0xfc0 + i).toString(16)}`, L.CASE_EDGE_OUT + i, 16);
  differ('fcw', L.CASE_FX_OUT, 2);
  differ('fsw', L.CASE_FX_OUT + 2, 2);
  differ('ftw', L.CASE_FX_OUT + 4, 1);
  differ('mxcsr', L.CASE_FX_OUT + 24, 4);
  for (let i = 0; i < 8; i++) differ(`st${i}`, L.CASE_FX_OUT + 32 + i * 16, 10);
  for (let i = 0; i < 16; i++) differ(`xmm${i}`, L.CASE_FX_OUT + 160 + i * 16, 16);
  for (let i = 0; i < 16; i++) differ(`ymm${i} upper`, L.CASE_YMM_OUT + i * 16, 16);
  return lines.join('\n');
}

function view(bytes: Uint8Array, index: number): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset + index * L.CASE_SIZE, L.CASE_SIZE);
}

function describeFx(v: DataView, at: number): string {
  const number = (offset: number, size: number): string =>
    hex(new Uint8Array(v.buffer, v.byteOffset + at + offset, size).slice().reverse());
  const parts = [`fcw=${number(0, 2)} fsw=${number(2, 2)} ftw=${number(4, 1)} mxcsr=${number(24, 4)}`];
  for (let i = 0; i < 8; i++) parts.push(`st${i}=${number(32 + i * 16, 10)}`);
  for (let i = 0; i < 16; i++) parts.push(`xmm${i}=${number(160 + i * 16, 16)}`);
  return parts.join(' ');
}
