// AES, carry-less multiplication and SHA (SDM volume 2), by helpers (helpers/crypto/).

import { constI32, type Expr, i32 } from '../../../wasm/expr.ts';
import type { Emitter, Operand } from './emitter.ts';
import type { HelperName } from './helper-names.ts';
import { instruction } from './instruction.ts';
import { checkAligned, checkAvx, checkSse, readVector, vexLine, writeHalves } from './vector.ts';

/** Host address of a vector operand's sixteen bytes. */
export function vectorAddress(e: Emitter, operand: Operand): Expr {
  return operand.place === 'memory' ? e.hostForRead(16) : e.slot(operand);
}

/** The immediate byte as an i32. */
export function immediateByte(e: Emitter): Expr {
  return i32.and(i32.wrap_i64(e.immediate()), constI32(0xff));
}

/** A VEX line for 16 bytes alone. */
export function vexLine128(line: string, unary = false): string {
  return `${vexLine(line, unary).replaceAll(/([VHW])x/g, '$1o')} L0`;
}

/** Instructions of two sources, and of one: with an immediate where the line has one. */
const BINARY: readonly [name: string, encoding: string, helper: HelperName, vex: boolean][] = [
  ['aesenc', '66 0F38 DC Vx,Wx', 'aes_enc', true],
  ['aesenclast', '66 0F38 DD Vx,Wx', 'aes_enclast', true],
  ['aesdec', '66 0F38 DE Vx,Wx', 'aes_dec', true],
  ['aesdeclast', '66 0F38 DF Vx,Wx', 'aes_declast', true],
  ['pclmulqdq', '66 0F3A 44 Vx,Wx,Ib', 'pclmulqdq', true],
  ['sha1rnds4', '0F3A CC Vx,Wx,Ib np', 'sha1_rnds4', false],
  ['sha1nexte', '0F38 C8 Vx,Wx np', 'sha1_nexte', false],
  ['sha1msg1', '0F38 C9 Vx,Wx np', 'sha1_msg1', false],
  ['sha1msg2', '0F38 CA Vx,Wx np', 'sha1_msg2', false],
  ['sha256rnds2', '0F38 CB Vx,Wx np', 'sha256_rnds2', false],
  ['sha256msg1', '0F38 CC Vx,Wx np', 'sha256_msg1', false],
  ['sha256msg2', '0F38 CD Vx,Wx np', 'sha256_msg2', false],
];
for (const [name, encoding, helper, vex] of BINARY) {
  const rest = (e: Emitter): Expr[] => {
    if (encoding.includes('Ib')) return [immediateByte(e)];
    return helper === 'sha256_rnds2' ? [e.vectorZero()] : [];
  };
  instruction(name, [encoding], (e, d, s) => {
    checkSse(e);
    checkAligned(e, s);
    const b = readVector(e, s);
    e.write(d, e.call(helper, e.read(d), b, ...rest(e)));
  });
  if (!vex) continue;
  instruction(`v${name}`, [vexLine128(encoding)], (e, d, a, s) => {
    checkAvx(e);
    const b = readVector(e, s);
    writeHalves(e, d, [e.call(helper, e.readHalf(a, 0), b, ...rest(e))]);
  });
}

for (const [name, encoding, helper] of [
  ['aesimc', '66 0F38 DB Vx,Wx', 'aes_imc'],
  ['aeskeygenassist', '66 0F3A DF Vx,Wx,Ib', 'aes_keygenassist'],
] as const) {
  const value = (e: Emitter, s: Operand): Expr =>
    e.call(helper, readVector(e, s), ...(encoding.includes('Ib') ? [immediateByte(e)] : []));
  instruction(name, [encoding], (e, d, s) => {
    checkSse(e);
    checkAligned(e, s);
    e.write(d, value(e, s));
  });
  instruction(`v${name}`, [vexLine128(encoding, true)], (e, d, s) => {
    checkAvx(e);
    writeHalves(e, d, [value(e, s)]);
  });
}
