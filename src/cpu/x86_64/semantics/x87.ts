// x87 instructions (SDM volume 2, opcodes D8 to DF): each is a helper (helpers/fpu/), because exact results in the
// 80-bit format need integer arithmetic anyway. The control instructions are in fpu-state.ts.

import { constI32, type Expr, i32, load } from '../../../wasm/expr.ts';
import * as L from '../layout.ts';
import type { Emitter, Operand } from './emitter.ts';
import { instruction } from './instruction.ts';

/** CR0.EM and CR0.TS. */
const UNAVAILABLE = 0xc;
const FSW_ES = 0x80;

/** Formats as the helpers count them (operand.ts, transfer.ts); integers are stored by their size in bytes. */
const SINGLE = 0;
const DOUBLE = 1;
const INTEGER = 2;
const EXTENDED = 10;
const DECIMAL = 11;
const CHOPPED = 16;

/** Start of an instruction that has no memory operand. */
function begin(e: Emitter): void {
  e.status('fpu_begin', e.record());
}

/** Start of an instruction with a memory operand: what comes before the operand's own faults. */
function enter(e: Emitter): void {
  const barred = i32.and(load('i32.load', constI32(L.CR0)), constI32(UNAVAILABLE));
  const pending = i32.and(load('i32.load', constI32(L.FSW)), constI32(FSW_ES));
  e.f.ifUnlikely(i32.or(barred, pending), () => e.status('fpu_enter'));
}

/** The operand is there: nothing can fault from here on. */
function proceed(e: Emitter): void {
  e.sync();
  e.run('fpu_operand', e.record(), e.effectiveAddress());
}

function readValue(e: Emitter, operand: Operand): Expr {
  enter(e);
  const value = e.f.let(e.readSigned(operand));
  proceed(e);
  return value;
}

function readHost(e: Emitter, size: number): Expr {
  enter(e);
  const host = e.f.let(e.hostForRead(size));
  proceed(e);
  return host;
}

// ---- Arithmetic and comparison ---------------------------------------------------------------------------------------------
const OPERATIONS = [
  [0, 'add'],
  [1, 'mul'],
  [4, 'sub'],
  [5, 'subr'],
  [6, 'div'],
  [7, 'divr'],
] as const;
const MEMORY = [
  ['D8', 'Md', SINGLE, 'f'],
  ['DC', 'Mq', DOUBLE, 'f'],
  ['DA', 'Md', INTEGER, 'fi'],
  ['DE', 'Mw', INTEGER, 'fi'],
] as const;

for (const [digit, name] of OPERATIONS) {
  for (const [opcode, operand, format, prefix] of MEMORY) {
    instruction(`${prefix}${name}`, [`${opcode}/${digit} ${operand}`], (e, s) => {
      const value = readValue(e, s);
      e.run('fpu_arith_memory', constI32(digit), constI32(format), value);
    });
  }
  instruction(`f${name}`, [`D8/${digit} STi`], (e, s) => {
    begin(e);
    e.run('fpu_arith', constI32(digit), constI32(0), e.number(s), constI32(0));
  });
  // With ST(i) as the destination, the opcodes of the reversed operations change places.
  const reversed = digit >= 4 ? digit ^ 1 : digit;
  for (const [opcode, pops] of [
    ['DC', 0],
    ['DE', 1],
  ] as const) {
    instruction(pops ? `f${name}p` : `f${name}`, [`${opcode}/${reversed} STi`], (e, d) => {
      begin(e);
      e.run('fpu_arith', constI32(digit), e.number(d), constI32(0), constI32(pops));
    });
  }
}

for (const [opcode, operand, format, prefix] of MEMORY) {
  for (const pops of [0, 1]) {
    instruction(`${prefix}com${pops ? 'p' : ''}`, [`${opcode}/${2 + pops} ${operand}`], (e, s) => {
      const value = readValue(e, s);
      e.run('fpu_compare_memory', constI32(format), value, constI32(pops));
    });
  }
}

function compare(
  name: string,
  line: string,
  quiet: boolean,
  pops: number,
  helper: 'fpu_compare' | 'fpu_compare_flags',
): void {
  instruction(name, [line], (e, s) => {
    begin(e);
    const other = s ? e.number(s) : constI32(1);
    e.run(helper, other, constI32(quiet ? 1 : 0), constI32(pops));
  });
}
compare('fcom', 'D8/2 STi', false, 0, 'fpu_compare');
compare('fcomp', 'D8/3 STi', false, 1, 'fpu_compare');
compare('fcompp', 'DE:D9', false, 2, 'fpu_compare');
compare('fucom', 'DD/4 STi', true, 0, 'fpu_compare');
compare('fucomp', 'DD/5 STi', true, 1, 'fpu_compare');
compare('fucompp', 'DA:E9', true, 2, 'fpu_compare');
compare('fucomi', 'DB/5 STi', true, 0, 'fpu_compare_flags');
compare('fcomi', 'DB/6 STi', false, 0, 'fpu_compare_flags');
compare('fucomip', 'DF/5 STi', true, 1, 'fpu_compare_flags');
compare('fcomip', 'DF/6 STi', false, 1, 'fpu_compare_flags');
// Second encodings, which no manual of today lists but all processors have.
compare('fcom', 'DC/2 STi', false, 0, 'fpu_compare');
compare('fcomp', 'DC/3 STi', false, 1, 'fpu_compare');
compare('fcomp', 'DE/2 STi', false, 1, 'fpu_compare');

// ---- Transfers -------------------------------------------------------------------------------------------------------------
for (const [name, line, format] of [
  ['fld', 'D9/0 Md', SINGLE],
  ['fld', 'DD/0 Mq', DOUBLE],
  ['fild', 'DF/0 Mw', INTEGER],
  ['fild', 'DB/0 Md', INTEGER],
  ['fild', 'DF/5 Mq', INTEGER],
] as const) {
  instruction(name, [line], (e, s) => {
    const value = readValue(e, s);
    e.run('fpu_load', constI32(format), value);
  });
}
instruction('fld', ['DB/5 Mt'], (e) => {
  const host = readHost(e, 10);
  e.run('fpu_load_extended', host);
});
instruction('fbld', ['DF/4 Mt'], (e) => {
  const host = readHost(e, 10);
  e.run('fpu_load_decimal', host);
});

for (const [name, line, format, pops] of [
  ['fst', 'D9/2 Md', SINGLE, 0],
  ['fstp', 'D9/3 Md', SINGLE, 1],
  ['fst', 'DD/2 Mq', DOUBLE, 0],
  ['fstp', 'DD/3 Mq', DOUBLE, 1],
  ['fstp', 'DB/7 Mt', EXTENDED, 1],
  ['fbstp', 'DF/6 Mt', DECIMAL, 1],
  ['fist', 'DF/2 Mw', 2, 0],
  ['fistp', 'DF/3 Mw', 2, 1],
  ['fist', 'DB/2 Md', 4, 0],
  ['fistp', 'DB/3 Md', 4, 1],
  ['fistp', 'DF/7 Mq', 8, 1],
  ['fisttp', 'DF/1 Mw', CHOPPED + 2, 1],
  ['fisttp', 'DB/1 Md', CHOPPED + 4, 1],
  ['fisttp', 'DD/1 Mq', CHOPPED + 8, 1],
] as const) {
  instruction(name, [line], (e, d) => {
    enter(e);
    const host = e.f.let(e.hostForWrite(d.size, false));
    proceed(e);
    const stored = e.call('fpu_store', constI32(format), host, constI32(pops));
    e.f.if(stored, () => e.commit());
  });
}

/** Instructions on registers: what the helper gets besides ST(i), or alone. */
function onRegister(name: string, lines: string[], work: (e: Emitter, i: Expr) => void): void {
  instruction(name, lines, (e, s) => {
    begin(e);
    work(e, s ? e.number(s) : constI32(1));
  });
}
onRegister('fld', ['D9/0 STi'], (e, i) => e.run('fpu_load_register', i));
onRegister('fst', ['DD/2 STi'], (e, i) => e.run('fpu_store_register', i, constI32(0)));
onRegister('fstp', ['DD/3 STi', 'D9/3 STi', 'DF/2 STi', 'DF/3 STi'], (e, i) =>
  e.run('fpu_store_register', i, constI32(1)),
);
onRegister('fxch', ['D9/1 STi', 'DD/1 STi', 'DF/1 STi'], (e, i) => e.run('fpu_exchange', i));
onRegister('ffree', ['DD/0 STi'], (e, i) => e.run('fpu_free', i, constI32(0)));
onRegister('ffreep', ['DF/0 STi'], (e, i) => e.run('fpu_free', i, constI32(1)));
for (const [digit, cc, name] of [
  [0, 2, 'b'],
  [1, 4, 'e'],
  [2, 6, 'be'],
  [3, 10, 'u'],
] as const) {
  onRegister(`fcmov${name}`, [`DA/${digit} STi`], (e, i) => e.run('fpu_move', i, e.condition(cc)));
  onRegister(`fcmovn${name}`, [`DB/${digit} STi`], (e, i) => e.run('fpu_move', i, e.condition(cc + 1)));
}
['fld1', 'fldl2t', 'fldl2e', 'fldpi', 'fldlg2', 'fldln2', 'fldz'].forEach((name, index) => {
  onRegister(name, [`D9:${(0xe8 + index).toString(16).toUpperCase()}`], (e) =>
    e.run('fpu_load_constant', constI32(index)),
  );
});
onRegister('fchs', ['D9:E0'], (e) => e.run('fpu_sign', constI32(0)));
onRegister('fabs', ['D9:E1'], (e) => e.run('fpu_sign', constI32(1)));
onRegister('ftst', ['D9:E4'], (e) => e.run('fpu_test'));
onRegister('fxam', ['D9:E5'], (e) => e.run('fpu_examine'));
onRegister('fsqrt', ['D9:FA'], (e) => e.run('fpu_sqrt'));
onRegister('fdecstp', ['D9:F6'], (e) => e.run('fpu_rotate', constI32(-1)));
onRegister('fincstp', ['D9:F7'], (e) => e.run('fpu_rotate', constI32(1)));
onRegister('fnop', ['D9:D0'], () => {});
onRegister('fxtract', ['D9:F4'], (e) => e.run('fpu_extract'));
onRegister('fprem1', ['D9:F5'], (e) => e.run('fpu_remainder', constI32(1)));
onRegister('fprem', ['D9:F8'], (e) => e.run('fpu_remainder', constI32(0)));
onRegister('frndint', ['D9:FC'], (e) => e.run('fpu_round'));
onRegister('fscale', ['D9:FD'], (e) => e.run('fpu_scale'));

onRegister('f2xm1', ['D9:F0'], (e) => e.run('fpu_exponential'));
onRegister('fyl2x', ['D9:F1'], (e) => e.run('fpu_logarithm', constI32(0)));
onRegister('fptan', ['D9:F2'], (e) => e.run('fpu_two', constI32(1)));
onRegister('fpatan', ['D9:F3'], (e) => e.run('fpu_arctangent'));
onRegister('fyl2xp1', ['D9:F9'], (e) => e.run('fpu_logarithm', constI32(1)));
onRegister('fsincos', ['D9:FB'], (e) => e.run('fpu_two', constI32(0)));
onRegister('fsin', ['D9:FE'], (e) => e.run('fpu_sine', constI32(0)));
onRegister('fcos', ['D9:FF'], (e) => e.run('fpu_sine', constI32(1)));

// ---- Environment: 16- and 32-bit formats -----------------------------------------------------------------------------------
for (const [name, line, bytes, write, helper] of [
  ['fldenv', 'D9/4 M opsize', 28, false, 'fpu_load_environment'],
  ['fnstenv', 'D9/6 M opsize', 28, true, 'fpu_store_environment'],
  ['frstor', 'DD/4 M opsize', 108, false, 'fpu_restore'],
  ['fnsave', 'DD/6 M opsize', 108, true, 'fpu_save'],
] as const) {
  instruction(name, [line], (e) => {
    const size = e.size === 2 ? bytes - 14 : bytes;
    e.status(helper, e.linearAddress(size, write), constI32(e.size));
  });
}
// FENI, FDISI, FSETPM of the 8087 and 80287 do nothing.
onRegister('feni8087_nop', ['DB:E0'], () => {});
onRegister('fdisi8087_nop', ['DB:E1'], () => {});
onRegister('fsetpm287_nop', ['DB:E4'], () => {});
