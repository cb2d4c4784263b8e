// AES, carry-less multiplication and SHA (SDM volume 2), by helpers (helpers/crypto/).

import { constI32, type Expr, i32 } from '../../../wasm/expr.ts';
import type { Emitter, Operand } from './emitter.ts';
import type { HelperName } from './helper-names.ts';
import { instruction } from './instruction.ts';
import { checkAligned, checkSse } from './vector.ts';

/** Host address of a vector operand's sixteen bytes. */
export function vectorAddress(e: Emitter, operand: Operand): Expr {
  return operand.place === 'memory' ? e.hostForRead(16) : e.slot(operand);
}

/** The immediate byte as an i32. */
export function immediateByte(e: Emitter): Expr {
  return i32.and(i32.wrap_i64(e.immediate()), constI32(0xff));
}

/** Instructions that a helper does on the addresses of the destination register and of the source. */
const BY_ADDRESS: readonly [name: string, encoding: string, helper: HelperName][] = [
  ['aesimc', '66 0F38 DB Vx,Wx', 'aes_imc'],
  ['aesenc', '66 0F38 DC Vx,Wx', 'aes_enc'],
  ['aesenclast', '66 0F38 DD Vx,Wx', 'aes_enclast'],
  ['aesdec', '66 0F38 DE Vx,Wx', 'aes_dec'],
  ['aesdeclast', '66 0F38 DF Vx,Wx', 'aes_declast'],
  ['sha1nexte', '0F38 C8 Vx,Wx np', 'sha1_nexte'],
  ['sha1msg1', '0F38 C9 Vx,Wx np', 'sha1_msg1'],
  ['sha1msg2', '0F38 CA Vx,Wx np', 'sha1_msg2'],
  ['sha256rnds2', '0F38 CB Vx,Wx np', 'sha256_rnds2'],
  ['sha256msg1', '0F38 CC Vx,Wx np', 'sha256_msg1'],
  ['sha256msg2', '0F38 CD Vx,Wx np', 'sha256_msg2'],
];
for (const [name, encoding, helper] of BY_ADDRESS) {
  instruction(name, [encoding], (e, d, s) => {
    checkSse(e);
    checkAligned(e, s);
    e.run(helper, e.slot(d), vectorAddress(e, s));
  });
}

/** The same with an immediate byte. */
const WITH_IMMEDIATE: readonly [name: string, encoding: string, helper: HelperName][] = [
  ['aeskeygenassist', '66 0F3A DF Vx,Wx,Ib', 'aes_keygenassist'],
  ['pclmulqdq', '66 0F3A 44 Vx,Wx,Ib', 'pclmulqdq'],
  ['sha1rnds4', '0F3A CC Vx,Wx,Ib np', 'sha1_rnds4'],
];
for (const [name, encoding, helper] of WITH_IMMEDIATE) {
  instruction(name, [encoding], (e, d, s) => {
    checkSse(e);
    checkAligned(e, s);
    e.run(helper, e.slot(d), vectorAddress(e, s), immediateByte(e));
  });
}
