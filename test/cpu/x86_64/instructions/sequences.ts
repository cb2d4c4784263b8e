// Sequences of random instructions with forward branches, in a loop: what a translator makes one region of.

import { littleEndian } from '../../../asm/encoder.ts';
import * as L from '../../../native/layout.ts';
import { CaseBuilder } from './case-builder.ts';
import type { Form } from './form.ts';
import { type Batch, encodeInstruction, fillState } from './generator.ts';
import { KINDS } from './kinds.ts';
import type { Random } from './random.ts';
import type { Exits } from './target.ts';

/** Bytes of code for a case. */
const SLOT = 1024;
/** Cases of a batch at most. */
export const MAX_SEQUENCES = Math.floor(L.CODE_SIZE / SLOT);

/** These always fault, or depend on more than registers and memory. */
const EXCLUDED =
  /^(ud|int|hlt|cli|sti|in$|out$|clts|invd|wrmsr|rdmsr|clflush|xlat|pause|popf|enter|leave|j|loop|call|ret)/;

/** Whether a form may stand among others, whatever they leave in the registers. */
export function isSequenceForm(form: Form): boolean {
  if (EXCLUDED.test(form.mnemonic)) return false;
  if (form.kind !== undefined && form.kind !== 'shift' && form.kind !== 'crc16') return false;
  // Counts that the state decides could be beyond the size, where results are undefined.
  return !(/^sh[lr]d$/.test(form.mnemonic) && form.operands.some(({ place }) => place === 'CL'));
}

/** CMP reg, reg (64 bits): defines all flags. */
function compareRegisters(random: Random): number[] {
  const [a, b] = [random.below(16), random.below(16)];
  return [0x48 | (a > 7 ? 4 : 0) | (b > 7 ? 1 : 0), 0x39, 0xc0 | ((a & 7) << 3) | (b & 7)];
}

/** Makes case `index`: 5 to 50 of `forms`. */
export function generateSequence(
  batch: Batch,
  index: number,
  forms: readonly Form[],
  random: Random,
  exits: Exits,
): void {
  const start = L.CODE + index * SLOT;
  const state = new CaseBuilder(random, forms[0] as Form, index, batch.cases);
  fillState(state);
  state.view.setBigUint64(L.CASE_CODE, BigInt(start), true);
  state.view.setUint32(L.CASE_RFLAGS, state.view.getUint32(L.CASE_RFLAGS, true) & ~0x400, true);
  const bytes: number[] = [];
  const here = (): number => start + bytes.length;
  const loops = random.oneIn(4) ? 0 : random.between(1, 5);
  // MOV dword [S_LOOP], loops
  if (loops > 0) bytes.push(0xc7, 0x04, 0x25, ...littleEndian(L.S_LOOP, 4), ...littleEndian(loops, 4));
  const head = here();
  /** Places of forward branches' displacements, and after how many more instructions they land. */
  let open: { at: number; left: number }[] = [];
  const land = (all: boolean): void => {
    for (const branch of open) {
      branch.left--;
      if (branch.left > 0 && !all) continue;
      littleEndian(bytes.length - (branch.at + 4), 4).forEach((byte, i) => {
        bytes[branch.at + i] = byte;
      });
    }
    open = all ? [] : open.filter(({ left }) => left > 0);
  };
  const count = random.between(5, 50);
  for (let i = 0; i < count && bytes.length < SLOT - 64; i++) {
    land(false);
    if (random.oneIn(6)) {
      bytes.push(0x0f, 0x80 | random.below(16));
      open.push({ at: bytes.length, left: random.between(1, 6) });
      bytes.push(0, 0, 0, 0);
      continue;
    }
    const form = random.pick(forms);
    const c = new CaseBuilder(random, form, index, batch.cases);
    c.code = here();
    c.absoluteOnly = true;
    c.mayFault = random.oneIn(10);
    if (form.kind !== undefined) KINDS[form.kind]?.prepare?.(c);
    bytes.push(...encodeInstruction(c));
    if (form.undefinedFlags !== '') bytes.push(...compareRegisters(random));
  }
  land(true);
  if (loops > 0) {
    // DEC dword [S_LOOP]; JNZ head
    bytes.push(0xff, 0x0c, 0x25, ...littleEndian(L.S_LOOP, 4));
    bytes.push(0x0f, 0x85, ...littleEndian(head - (here() + 6), 4));
  }
  bytes.push(0xe9, ...littleEndian(exits.next - (here() + 5), 4));
  batch.code.fill(0xcc, index * SLOT, (index + 1) * SLOT);
  batch.code.set(bytes, index * SLOT);
  batch.lengths[index] = Math.min(bytes.length, 255);
  batch.undefinedFlags[index] = 0;
}

/** The bytes of a case's code, for a person. */
export function sequenceBytes(batch: Batch, index: number): string {
  return Buffer.from(batch.code.subarray(index * SLOT, (index + 1) * SLOT))
    .toString('hex')
    .replace(/(cc)+$/, '');
}
