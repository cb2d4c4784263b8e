// String and port instructions (SDM volume 2: MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS, IN, OUT): all in helpers.

import { constI32, i32 } from '../../../wasm/expr.ts';
import * as L from '../layout.ts';
import { type Emitter, loadSized, type Operand } from './emitter.ts';
import { instruction } from './instruction.ts';

/** Kinds as string_op() numbers them. */
const KINDS = [
  ['movs', 'A4', 'A5'],
  ['stos', 'AA', 'AB'],
  ['lods', 'AC', 'AD'],
  ['cmps', 'A6', 'A7'],
  ['scas', 'AE', 'AF'],
] as const;

KINDS.forEach(([name, bytes, words], kind) => {
  instruction(name, [bytes], (e) => e.status('string_op', constI32(kind), constI32(1), e.record()));
  instruction(name, [`${words} opsize`], (e) => e.status('string_op', constI32(kind), constI32(e.size), e.record()));
});

/** Ports are at most 32 bits wide. */
const portSize = (e: Emitter): number => Math.min(e.size, 4);

[
  ['ins', '6C', '6D'],
  ['outs', '6E', '6F'],
].forEach(([name, bytes, words], kind) => {
  instruction(name as string, [bytes as string], (e) => e.status('string_io', constI32(kind), constI32(1), e.record()));
  instruction(name as string, [`${words} opsize`], (e) =>
    e.status('string_io', constI32(kind), constI32(portSize(e)), e.record()),
  );
});

function input(e: Emitter, port: Operand, size: number): void {
  e.status('port_in', i32.and(i32.wrap_i64(e.read(port)), constI32(port.size === 1 ? 0xff : 0xffff)), constI32(size));
  e.setGpr(0, size, loadSized(size, constI32(L.IO_DATA)));
}

function output(e: Emitter, port: Operand, size: number): void {
  const number = i32.and(i32.wrap_i64(e.read(port)), constI32(port.size === 1 ? 0xff : 0xffff));
  e.status('port_out', number, constI32(size), i32.wrap_i64(e.gpr(0, size)));
}

instruction('in', ['E4 Ib', 'EC DX'], (e, port) => input(e, port, 1));
instruction('in', ['E5 Ib opsize', 'ED DX opsize'], (e, port) => input(e, port, portSize(e)));
instruction('out', ['E6 Ib', 'EE DX'], (e, port) => output(e, port, 1));
instruction('out', ['E7 Ib opsize', 'EF DX opsize'], (e, port) => output(e, port, portSize(e)));
