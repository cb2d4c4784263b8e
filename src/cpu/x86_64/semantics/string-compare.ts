// SSE4.2's string comparisons and CRC32 (SDM volume 2).

import { constI32, i32, i64 } from '../../../wasm/expr.ts';
import { immediateByte, vectorAddress, vexLine128 } from './crypto.ts';
import { instruction } from './instruction.ts';
import { checkAvx, checkSse, zero } from './vector.ts';

/** Bits of the helper's control above the immediate: lengths in RAX and RDX, mask in place of an index. */
const EXPLICIT = 0x100;
const MASK = 0x200;

for (const [name, opcode, kind] of [
  ['pcmpestrm', '60', EXPLICIT | MASK],
  ['pcmpestri', '61', EXPLICIT],
  ['pcmpistrm', '62', MASK],
  ['pcmpistri', '63', 0],
] as const) {
  const line = `66 0F3A ${opcode} Vx,Wx,Ib`;
  for (const vex of [false, true]) {
    // These take memory operands that are not aligned.
    instruction(vex ? `v${name}` : name, [vex ? vexLine128(line, true) : line], (e, d, s) => {
      if (vex) checkAvx(e);
      else checkSse(e);
      e.run('string_compare', e.record(), e.slot(d), vectorAddress(e, s), i32.or(immediateByte(e), constI32(kind)));
      if (vex && kind & MASK) e.setVector(0, 1, zero());
    });
  }
}

// CRC32 is no SSE instruction to CR0 and CR4; the destination has at least 32 bits.
instruction('crc32', ['F2 0F38 F0 Gy,Eb', 'F2 0F38 F1 Gv,Ev'], (e, d, s) => {
  const data = e.read(s);
  const crc = e.call('crc32c', i32.wrap_i64(e.read({ ...d, size: 4 })), data, constI32(s.size));
  e.write({ ...d, size: 4 }, i64.extend_i32_u(crc));
});
