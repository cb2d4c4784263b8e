// Integer arithmetic and logic (SDM volume 2: ADD .. XOR, INC, DEC, NEG, NOT, CMP, TEST, MUL, DIV, ADX, BCD).

import { constI32, constI64, type Expr, i32, i64 } from '../../../wasm/expr.ts';
import type { FunctionBuilder } from '../../../wasm/function.ts';
import * as L from '../layout.ts';
import { asI64, type Emitter, type Operand, signExtend, zeroExtend } from './emitter.ts';
import { instruction } from './instruction.ts';

/** The six encodings of a two-operand operation at opcodes base..base+5, and group 1. */
function encodings(base: number, digit: number, lock: string): string[] {
  const op = (n: number): string => (base + n).toString(16).toUpperCase().padStart(2, '0');
  return [
    `${op(0)} Eb,Gb${lock}`,
    `${op(1)} Ev,Gv${lock}`,
    `${op(2)} Gb,Eb`,
    `${op(3)} Gv,Ev`,
    `${op(4)} AL,Ib`,
    `${op(5)} rAX,Iz`,
    `80/${digit} Eb,Ib${lock}`,
    `81/${digit} Ev,Iz${lock}`,
    `83/${digit} Ev,Ib${lock}`,
    `82/${digit} Eb,Ib${lock} i64`,
  ];
}

function addition(e: Emitter, d: Operand, s: Operand, withCarry: boolean): void {
  const b = e.readSigned(s);
  const a = e.modify(d, true);
  const sum = withCarry ? i64.add(i64.add(a, b), e.carry()) : i64.add(a, b);
  const r = e.let(signExtend(d.size, sum));
  e.write(d, r);
  e.flagsAdd(a, b, r, !withCarry);
}

function subtraction(e: Emitter, d: Operand, s: Operand, withBorrow: boolean): void {
  const b = e.readSigned(s);
  const a = e.modify(d, true);
  const difference = withBorrow ? i64.sub(i64.sub(a, b), e.carry()) : i64.sub(a, b);
  const r = e.let(signExtend(d.size, difference));
  e.write(d, r);
  e.flagsSub(a, b, r, !withBorrow);
}

function logic(combine: (a: Expr, b: Expr) => Expr) {
  return (e: Emitter, d: Operand, s: Operand): void => {
    const b = e.readSigned(s);
    const a = e.modify(d, true);
    const r = e.f.let(combine(a, b));
    e.write(d, r);
    e.flagsResult(r);
  };
}

instruction('add', encodings(0x00, 0, ' lock'), (e, d, s) => addition(e, d, s, false));
instruction('or', encodings(0x08, 1, ' lock'), logic(i64.or));
instruction('adc', encodings(0x10, 2, ' lock'), (e, d, s) => addition(e, d, s, true));
instruction('sbb', encodings(0x18, 3, ' lock'), (e, d, s) => subtraction(e, d, s, true));
instruction('and', encodings(0x20, 4, ' lock'), logic(i64.and));
instruction('sub', encodings(0x28, 5, ' lock'), (e, d, s) => subtraction(e, d, s, false));
instruction('xor', encodings(0x30, 6, ' lock'), logic(i64.xor));

instruction('cmp', encodings(0x38, 7, ''), (e, d, s) => {
  const a = e.readSigned(d);
  const b = e.readSigned(s);
  e.flagsSub(a, b, e.f.let(signExtend(d.size, i64.sub(a, b))));
});

instruction(
  'test',
  ['84 Eb,Gb', '85 Ev,Gv', 'A8 AL,Ib', 'A9 rAX,Iz', 'F6/0 Eb,Ib', 'F7/0 Ev,Iz', 'F6/1 Eb,Ib', 'F7/1 Ev,Iz'],
  (e, d, s) => {
    const a = e.readSigned(d);
    e.flagsResult(e.f.let(i64.and(a, e.readSigned(s))));
  },
);

/** INC and DEC: like ADD and SUB of 1, but CF stays. */
function step(e: Emitter, d: Operand, up: boolean): void {
  const a = e.modify(d, true);
  const carry = e.carry();
  const r = e.let(signExtend(d.size, up ? i64.add(a, constI64(1)) : i64.sub(a, constI64(1))));
  e.write(d, r);
  // Overflow: the sign changed against the direction. Half-carry: the low nibble wrapped.
  const overflow = up ? i64.and(r, i64.xor(a, constI64(-1))) : i64.and(a, i64.xor(r, constI64(-1)));
  const nibble = i64.and(up ? r : a, constI64(15));
  const bits = i64.or(
    carry,
    i64.or(i64.shl(i64.shr_u(overflow, constI64(63)), constI64(11)), i64.shl(asI64(i64.eqz(nibble)), constI64(4))),
  );
  e.flagsResult(r, bits);
}

instruction('inc', ['FE/0 Eb lock', 'FF/0 Ev lock', '40+ Zv i64'], (e, d) => step(e, d, true));
instruction('dec', ['FE/1 Eb lock', 'FF/1 Ev lock', '48+ Zv i64'], (e, d) => step(e, d, false));

instruction('not', ['F6/2 Eb lock', 'F7/2 Ev lock'], (e, d) => {
  e.write(d, i64.xor(e.modify(d), constI64(-1)));
});

instruction('neg', ['F6/3 Eb lock', 'F7/3 Ev lock'], (e, d) => {
  const a = e.modify(d, true);
  const r = e.f.let(signExtend(d.size, i64.sub(constI64(0), a)));
  e.write(d, r);
  e.flagsSub(constI64(0), a, r);
});

/** Flags of a multiplication: CF = OF = the product does not fit; SF, ZF, PF by the low half as Intel's processors do. */
function productFlags(e: Emitter, size: number, low: Expr, overflow: Expr): void {
  e.flagsResult(signExtend(size, low), i64.mul(asI64(overflow), constI64(L.FLAG_CF | L.FLAG_OF)));
}

/** High half of the 128-bit product of two 64-bit values. */
export function highProduct(f: FunctionBuilder, a: Expr, b: Expr, signed: boolean): Expr {
  const half = constI64(32);
  const low = (x: Expr): Expr => i64.and(x, constI64(0xffffffff));
  const high = (x: Expr): Expr => i64.shr_u(x, half);
  const [a0, a1, b0, b1] = [f.let(low(a)), f.let(high(a)), f.let(low(b)), f.let(high(b))] as const;
  const middle = f.let(i64.add(i64.mul(a1, b0), high(i64.mul(a0, b0))));
  const upper = i64.add(i64.mul(a1, b1), high(middle));
  const unsigned = f.let(i64.add(upper, high(i64.add(i64.mul(a0, b1), low(middle)))));
  if (!signed) return unsigned;
  const sign = (x: Expr): Expr => i64.shr_s(x, constI64(63));
  return f.let(i64.sub(unsigned, i64.add(i64.and(sign(a), b), i64.and(sign(b), a))));
}

/** MUL and IMUL of the accumulator. */
function wideProduct(e: Emitter, s: Operand, signed: boolean): void {
  const { f } = e;
  const { size } = s;
  const b = signed ? e.readSigned(s) : e.read(s);
  const accumulator = e.gpr(0, size);
  const a = signed ? f.let(signExtend(size, accumulator)) : accumulator;
  const low = f.let(i64.mul(a, b));
  if (size === 8) {
    const high = highProduct(f, a, b, signed);
    e.setGpr(0, 8, low);
    e.setGpr(2, 8, high);
    productFlags(e, 8, low, signed ? i64.ne(high, i64.shr_s(low, constI64(63))) : i64.ne(high, constI64(0)));
    return;
  }
  const bits = size * 8;
  const high = i64.shr_u(low, constI64(bits));
  if (size === 1) {
    e.setGpr(0, 2, low);
  } else {
    e.setGpr(0, size, low);
    e.setGpr(2, size, high);
  }
  const fits = signed ? signExtend(size, low) : zeroExtend(size, low);
  productFlags(e, size, low, i64.ne(fits, low));
}

instruction('mul', ['F6/4 Eb', 'F7/4 Ev'], (e, s) => wideProduct(e, s, false));
instruction('imul', ['F6/5 Eb', 'F7/5 Ev'], (e, s) => wideProduct(e, s, true));

function narrowProduct(e: Emitter, d: Operand, x: Operand, y: Operand): void {
  const { f } = e;
  const a = e.readSigned(x);
  const b = e.readSigned(y);
  const low = f.let(i64.mul(a, b));
  e.write(d, low);
  const overflow =
    d.size === 8
      ? i64.ne(highProduct(f, a, b, true), i64.shr_s(low, constI64(63)))
      : i64.ne(signExtend(d.size, low), low);
  productFlags(e, d.size, low, overflow);
}

instruction('imul', ['0F AF Gv,Ev'], (e, d, s) => narrowProduct(e, d, d, s));
instruction('imul', ['69 Gv,Ev,Iz', '6B Gv,Ev,Ib'], (e, d, s, imm) => narrowProduct(e, d, s, imm));

/** Vector of the divide error (SDM volume 3, 6.15). */
const DE = 0;

/** The accumulator pair of a division: its halves, and where they have room in 64 bits, all of it (i64). */
function dividend(e: Emitter, size: number): { low: Expr; high: Expr; whole: Expr } {
  const { f } = e;
  const bits = constI64(size * 8);
  const low = f.let(e.gpr(0, size));
  if (size === 8) return { low, high: f.let(e.gpr(2, 8)), whole: low };
  const high = f.let(size === 1 ? i64.shr_u(e.gpr(0, 2), bits) : e.gpr(2, size));
  return { low, high, whole: f.let(i64.or(i64.shl(high, bits), low)) };
}

/** Quotient and remainder into the accumulator pair. `whole`: the dividend, or its low half. */
function divided(e: Emitter, size: number, whole: Expr, quotient: Expr, divisor: Expr): void {
  const rest = e.f.let(i64.sub(whole, i64.mul(quotient, divisor)));
  if (size === 1) {
    e.setGpr(0, 1, quotient);
    e.setHigh(rest);
    return;
  }
  e.setGpr(0, size, quotient);
  e.setGpr(2, size, rest);
}

instruction('div', ['F6/6 Eb', 'F7/6 Ev'], (e, s) => {
  const { f } = e;
  const { size } = s;
  const by = f.let(e.read(s));
  const { low, high, whole } = dividend(e, size);
  // By zero, too.
  f.ifUnlikely(i64.ge_u(high, by), () => e.fault(DE));
  const quotient = f.local('i64');
  const short = (): void => f.set(quotient, i64.div_u(whole, by));
  if (size < 8) short();
  else f.ifLikely(i64.eqz(high), short, () => f.set(quotient, e.call('quotient', high, low, by)));
  divided(e, size, whole, quotient, by);
});

instruction('idiv', ['F6/7 Eb', 'F7/7 Ev'], (e, s) => {
  const { f } = e;
  const { size } = s;
  const by = f.let(e.readSigned(s));
  const pair = dividend(e, size);
  const overflow = (): void => e.fault(DE);
  const quotient = f.local('i64');
  if (size < 8) {
    const whole = f.let(signExtend(size * 2, pair.whole));
    // What traps in WebAssembly: by zero, and the least number by -1.
    const never = i64.eq(whole, constI64(-(2n ** 63n)));
    f.ifUnlikely(i32.or(i64.eqz(by), never), overflow);
    f.set(quotient, i64.div_s(whole, by));
    f.ifUnlikely(i64.ne(quotient, signExtend(size, quotient)), overflow);
    divided(e, size, whole, quotient, by);
    return;
  }
  const { low, high } = pair;
  // Of 64 bits, and not by 0 or -1.
  const short = i32.and(i64.eq(high, i64.shr_s(low, constI64(63))), i64.gt_u(i64.add(by, constI64(1)), constI64(1)));
  f.ifLikely(
    short,
    () => f.set(quotient, i64.div_s(low, by)),
    () => {
      f.ifUnlikely(i32.eqz(e.call('quotient_fits', high, low, by)), overflow);
      f.set(quotient, e.call('quotient_signed', high, low, by));
    },
  );
  divided(e, size, low, quotient, by);
});

/** ADCX and ADOX: an addition whose only flag, in and out, is CF or OF. */
function addWithFlag(e: Emitter, d: Operand, s: Operand, flag: number, shift: number): void {
  const { f } = e;
  const b = e.read(s);
  const a = e.read(d);
  const flags = e.arithmeticFlags();
  const carry = f.let(i64.and(i64.shr_u(flags, constI64(shift)), constI64(1)));
  const r = f.let(i64.add(i64.add(a, b), carry));
  // Carry out of the top bit, by the full adder's majority.
  const carries = i64.or(i64.and(a, b), i64.and(i64.or(a, b), i64.xor(r, constI64(-1))));
  const out = f.let(d.size === 4 ? i64.and(i64.shr_u(r, constI64(32)), constI64(1)) : i64.shr_u(carries, constI64(63)));
  e.write(d, r);
  e.flagsAll(i64.or(i64.and(flags, constI64(L.FLAGS_ARITH & ~flag)), i64.shl(out, constI64(shift))));
}

instruction('adcx', ['66 0F38 F6 Gy,Ey'], (e, d, s) => addWithFlag(e, d, s, L.FLAG_CF, 0));
instruction('adox', ['F3 0F38 F6 Gy,Ey'], (e, d, s) => addWithFlag(e, d, s, L.FLAG_OF, 11));

// BCD: 0 DAA, 1 DAS, 2 AAA, 3 AAS, 4 AAM, 5 AAD.
['27', '2F', '37', '3F'].forEach((opcode, kind) => {
  instruction(['daa', 'das', 'aaa', 'aas'][kind] as string, [`${opcode} i64`], (e) =>
    e.status('bcd_adjust', constI32(kind), constI32(0)),
  );
});
instruction('aam', ['D4 Ib i64'], (e) => e.status('bcd_adjust', constI32(4), i32.wrap_i64(e.immediate())));
instruction('aad', ['D5 Ib i64'], (e) => e.status('bcd_adjust', constI32(5), i32.wrap_i64(e.immediate())));
