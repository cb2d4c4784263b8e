import assert from 'node:assert/strict';
import { test } from 'node:test';
import { littleEndian } from '../asm/encoder.ts';
import type { InstructionTarget } from '../cpu/x86_64/instructions/target.ts';
import * as L from './layout.ts';
import { machineCode } from './machine-code.ts';
import { nativeTarget, nativeUnavailable } from './native-target.ts';

const reason = nativeUnavailable();
const skip = reason ?? false;
const exits = machineCode().labels;

/** Puts one case with all general registers zero but RSP and those given. */
function put(
  target: InstructionTarget,
  index: number,
  code: number[],
  registers: Record<number, bigint> = {},
  use = 0,
): DataView {
  const view = new DataView(target.cases.buffer, target.cases.byteOffset + index * L.CASE_SIZE, L.CASE_SIZE);
  new Uint8Array(view.buffer, view.byteOffset, L.CASE_SIZE).fill(0);
  const address = L.CODE + index * L.CODE_SLOT;
  const jump = littleEndian((exits.get('exit_next') as number) - (address + code.length + 5), 4);
  target.code.set([...code, 0xe9, ...jump], index * L.CODE_SLOT);
  view.setBigUint64(L.CASE_CODE, BigInt(address), true);
  view.setUint32(L.CASE_USE, use, true);
  view.setUint32(L.CASE_RFLAGS, 0x202, true);
  const all: Record<number, bigint> = { 4: BigInt(L.CASES + L.CASE_MEMORY + 256), ...registers };
  for (const [number, value] of Object.entries(all)) view.setBigUint64(L.CASE_GPR + Number(number) * 8, value, true);
  return view;
}

const gpr = (view: DataView, number: number): bigint => view.getBigUint64(L.CASE_OUT_GPR + number * 8, true);

test('an instruction runs natively on the state given', { skip }, () => {
  const target = nativeTarget();
  const add = put(target, 0, [0x48, 0x01, 0xd8], { 0: 0x7fffffffffffffffn, 3: 1n });
  target.run(1);
  assert.equal(add.getUint32(L.CASE_OUT, true), L.EXIT_NEXT);
  assert.equal(gpr(add, 0), 0x8000000000000000n);
  assert.equal(gpr(add, 3), 1n);
  assert.equal(gpr(add, 4), BigInt(L.CASES + L.CASE_MEMORY + 256));
  // OF SF AF PF, IF and the fixed bit.
  assert.equal(add.getUint32(L.CASE_OUT_RFLAGS, true), (0xa96 & ~0x100) | 0x200);
});

test('faults give vector, error code, address and an unchanged state', { skip }, () => {
  const target = nativeTarget();
  const divide = put(target, 0, [0x48, 0xf7, 0xf3], { 0: 5n });
  const undefinedOpcode = put(target, 1, [0x0f, 0x0b]);
  const store = put(target, 2, [0x48, 0x89, 0x03], { 0: 7n, 3: BigInt(L.READ_ONLY + 8) });
  const cross = put(
    target,
    3,
    [0x48, 0x89, 0x03],
    { 0: -1n & 0xffffffffffffffffn, 3: BigInt(L.EDGE + 0xffc) },
    L.USE_EDGE,
  );
  const general = put(target, 4, [0x48, 0x8b, 0x03], { 3: 0x8000000000000000n });
  const breakpoint = put(target, 5, [0xcc]);
  const stack = put(target, 6, [0x50], { 4: 0x8000000000000000n });
  const execute = put(target, 7, [0xff, 0xe0], { 0: BigInt(L.CASES) });
  target.run(8);
  const fault = (view: DataView): (number | bigint)[] => [
    view.getUint32(L.CASE_OUT, true),
    view.getUint32(L.CASE_OUT_VECTOR, true),
    view.getUint32(L.CASE_OUT_ERROR, true),
    view.getUint32(L.CASE_OUT_CR2, true),
  ];
  assert.deepEqual(fault(divide), [L.EXIT_FAULT, 0, 0, 0]);
  assert.equal(gpr(divide, 0), 5n);
  assert.deepEqual(fault(undefinedOpcode), [L.EXIT_FAULT, 6, 0, 0]);
  assert.equal(undefinedOpcode.getUint32(L.CASE_OUT_RIP, true), L.CODE + L.CODE_SLOT);
  assert.deepEqual(fault(store), [L.EXIT_FAULT, 14, 7, L.READ_ONLY + 8]);
  assert.deepEqual(fault(cross), [L.EXIT_FAULT, 14, 6, L.EDGE + 0x1000]);
  for (let i = 0; i < 64; i++) assert.equal(cross.getUint8(L.CASE_EDGE_OUT + i), 0);
  assert.deepEqual(fault(general), [L.EXIT_FAULT, 13, 0, 0]);
  assert.deepEqual(fault(breakpoint), [L.EXIT_FAULT, 3, 0, 0]);
  assert.equal(breakpoint.getUint32(L.CASE_OUT_RIP, true), L.CODE + 5 * L.CODE_SLOT + 1);
  assert.deepEqual(fault(stack), [L.EXIT_FAULT, 12, 0, 0]);
  assert.deepEqual(fault(execute), [L.EXIT_FAULT, 14, 0x15, L.CASES]);
});

test('faults of WebAssembly still reach the engine afterwards', { skip }, () => {
  // (module (memory 1) (func (export "f") (param i32) (result i32) (i32.load (local.get 0))))
  const bytes = Uint8Array.from([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 6, 1, 0x60, 1, 0x7f, 1, 0x7f, 3, 2, 1, 0, 5, 3, 1, 0, 1, 7, 5, 1, 1, 0x66, 0, 0,
    10, 9, 1, 7, 0, 0x20, 0, 0x28, 2, 0, 0x0b,
  ]);
  const f = new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports['f'] as (address: number) => number;
  const target = nativeTarget();
  put(target, 0, [0x0f, 0x0b]);
  target.run(1);
  assert.throws(() => f(0x7fffffff), WebAssembly.RuntimeError);
  target.run(1);
  assert.throws(() => f(-8), WebAssembly.RuntimeError);
});

test('a batch is fast', { skip }, () => {
  const target = nativeTarget();
  // On a busy host others take their turns in between: the best of some runs.
  const rates = Array.from({ length: 5 }, () => {
    for (let i = 0; i < L.MAX_CASES; i++) put(target, i, [0x48, 0x01, 0xd8], { 0: BigInt(i), 3: 1n }, L.USE_FX);
    // An FXSAVE area of zeros is a valid one but for MXCSR, where zero unmasks; nothing here is a float.
    const start = process.hrtime.bigint();
    target.run(L.MAX_CASES);
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    const last = new DataView(target.cases.buffer, target.cases.byteOffset + (L.MAX_CASES - 1) * L.CASE_SIZE);
    assert.equal(gpr(last, 0), BigInt(L.MAX_CASES));
    return L.MAX_CASES / seconds;
  });
  assert.ok(Math.max(...rates) > 100_000, `${rates.map(Math.round).join(', ')} cases a second`);
});
