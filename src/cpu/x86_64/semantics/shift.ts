// Shifts and rotates (SDM volume 2: SAL/SAR/SHL/SHR, ROL/ROR/RCL/RCR, SHLD, SHRD; BMI2 SARX, SHLX, SHRX, RORX).

import { constI64, type Expr, i32, i64 } from '../../../wasm/expr.ts';
import { type Emitter, type Operand, signExtend, zeroExtend } from './emitter.ts';
import { instruction } from './instruction.ts';

const ONE = constI64(1);

/** The count operand, masked as the processor does: 6 bits for 64-bit operands, else 5. */
function maskedCount(e: Emitter, size: number, count: Operand): Expr {
  return e.f.let(i64.and(count.place === '1' ? ONE : e.read(count), constI64(size === 8 ? 63 : 31)));
}

const bit = (value: Expr, index: Expr): Expr => i64.and(i64.shr_u(value, index), ONE);

function flagBits(carry: Expr, overflow: Expr): Expr {
  return i64.or(carry, i64.shl(overflow, constI64(11)));
}

type Shifter = (e: Emitter, size: number, value: Expr, count: Expr) => { result: Expr; carry: Expr; overflow: Expr };

/** A shift that changes all flags, unless the count is 0. */
function shift(shifter: Shifter) {
  return (e: Emitter, d: Operand, countOperand: Operand): void => {
    const { f } = e;
    const { size } = d;
    const count = maskedCount(e, size, countOperand);
    const value = e.modify(d);
    const { result, carry, overflow } = shifter(e, size, value, count);
    const r = f.let(result);
    // A count of 0 still writes a 32-bit register (clearing its upper half) and a memory operand.
    e.write(d, r);
    f.if(i64.ne(count, constI64(0)), () => e.flagsResult(f.let(signExtend(size, r)), flagBits(carry, overflow)));
  };
}

const GROUP = (digit: number): string[] => [
  `C0/${digit} Eb,Ib`,
  `C1/${digit} Ev,Ib`,
  `D0/${digit} Eb,1`,
  `D1/${digit} Ev,1`,
  `D2/${digit} Eb,CL`,
  `D3/${digit} Ev,CL`,
];

const shl: Shifter = (e, size, value, count) => {
  const bits = size * 8;
  const r = e.f.let(i64.shl(value, count));
  // Bit `bits - count` of the value: for 8 and 16 bits the shifted-out bit stands right above the result.
  const carry = e.f.let(size === 8 ? bit(value, i64.sub(constI64(64), count)) : bit(r, constI64(bits)));
  return { result: r, carry, overflow: i64.xor(carry, bit(r, constI64(bits - 1))) };
};
instruction('shl', [...GROUP(4), ...GROUP(6)], shift(shl));

instruction(
  'shr',
  GROUP(5),
  shift((e, size, value, count) => {
    const r = e.f.let(i64.shr_u(value, count));
    // OF: the sign before a shift by one, which is the second bit of the result.
    const overflow = i64.xor(bit(r, constI64(size * 8 - 1)), bit(r, constI64(size * 8 - 2)));
    return { result: r, carry: bit(value, i64.sub(count, ONE)), overflow };
  }),
);

instruction(
  'sar',
  GROUP(7),
  shift((e, size, value, count) => {
    const signed = e.f.let(signExtend(size, value));
    return {
      result: i64.shr_s(signed, count),
      carry: i64.and(i64.shr_s(signed, i64.sub(count, ONE)), ONE),
      overflow: constI64(0),
    };
  }),
);

type Rotator = (
  e: Emitter,
  size: number,
  value: Expr,
  count: Expr,
) => { result: Expr; carry: () => Expr; overflow: (r: Expr, carry: Expr) => Expr };

/** A rotate: CF and OF change unless the masked count is 0. */
function rotate(rotator: Rotator) {
  return (e: Emitter, d: Operand, countOperand: Operand): void => {
    const { f } = e;
    const { size } = d;
    const count = maskedCount(e, size, countOperand);
    const value = e.modify(d);
    const { result, carry, overflow } = rotator(e, size, value, count);
    const r = f.let(zeroExtend(size, result));
    e.write(d, r);
    f.if(i64.ne(count, constI64(0)), () => {
      const c = f.let(carry());
      e.flagsCarryOverflow(c, f.let(overflow(r, c)));
    });
  };
}

/** Rotation within `size` bytes; count below 64, any multiple of the width counts as none. */
function rotated(e: Emitter, size: number, value: Expr, count: Expr, left: boolean): Expr {
  if (size === 8) return left ? i64.rotl(value, count) : i64.rotr(value, count);
  if (size === 4) {
    const v = i32.wrap_i64(value);
    const c = i32.wrap_i64(count);
    return i64.extend_i32_u(left ? i32.rotl(v, c) : i32.rotr(v, c));
  }
  // 8 and 16 bits: the value twice (or more) side by side makes a plain shift a rotation.
  const bits = constI64(size * 8);
  const c = e.f.let(i64.and(count, constI64(size * 8 - 1)));
  const back = i64.sub(bits, c);
  return left ? i64.or(i64.shl(value, c), i64.shr_u(value, back)) : i64.or(i64.shr_u(value, c), i64.shl(value, back));
}

instruction(
  'rol',
  GROUP(0),
  rotate((e, size, value, count) => {
    const r = e.f.let(zeroExtend(size, rotated(e, size, value, count, true)));
    return { result: r, carry: () => i64.and(r, ONE), overflow: (x, c) => i64.xor(c, bit(x, constI64(size * 8 - 1))) };
  }),
);

instruction(
  'ror',
  GROUP(1),
  rotate((e, size, value, count) => {
    const r = e.f.let(zeroExtend(size, rotated(e, size, value, count, false)));
    return {
      result: r,
      carry: () => bit(r, constI64(size * 8 - 1)),
      overflow: (x, c) => i64.xor(c, bit(x, constI64(size * 8 - 2))),
    };
  }),
);

/** RCL and RCR: the operand and CF together, size * 8 + 1 bits wide. */
function throughCarry(left: boolean) {
  return (e: Emitter, d: Operand, countOperand: Operand): void => {
    const { f } = e;
    const { size } = d;
    const bits = size * 8;
    const masked = maskedCount(e, size, countOperand);
    const count = size < 4 ? f.let(i64.rem_u(masked, constI64(bits + 1))) : masked;
    const value = e.modify(d);
    const oldCarry = e.carry();
    const result = f.copy(value);
    const carry = f.copy(oldCarry);
    f.if(i64.ne(count, constI64(0)), () => {
      const minusOne = f.let(i64.sub(count, ONE));
      const back = f.let(i64.sub(constI64(bits), count));
      if (left) {
        // Shifting by one and then by the rest keeps every shift count below 64.
        const low = i64.shr_u(i64.shr_u(value, ONE), back);
        f.set(result, i64.or(i64.or(i64.shl(value, count), i64.shl(oldCarry, minusOne)), low));
        f.set(carry, bit(value, back));
      } else {
        const high = i64.shl(i64.shl(value, ONE), back);
        f.set(result, i64.or(i64.or(i64.shr_u(value, count), i64.shl(oldCarry, back)), high));
        f.set(carry, bit(value, minusOne));
      }
      f.set(result, zeroExtend(size, result));
    });
    e.write(d, result);
    f.if(i64.ne(masked, constI64(0)), () => {
      const top = bit(result, constI64(bits - 1));
      e.flagsCarryOverflow(carry, f.let(i64.xor(top, left ? carry : bit(result, constI64(bits - 2)))));
    });
  };
}

instruction('rcl', GROUP(2), throughCarry(true));
instruction('rcr', GROUP(3), throughCarry(false));

/** SHLD and SHRD. */
function double(left: boolean) {
  return (e: Emitter, d: Operand, s: Operand, countOperand: Operand): void => {
    const { f } = e;
    const { size } = d;
    const bits = size * 8;
    const count = maskedCount(e, size, countOperand);
    const fill = e.read(s);
    const value = e.modify(d);
    const result = f.copy(value);
    const carry = f.local('i64');
    f.if(i64.ne(count, constI64(0)), () => {
      const minusOne = f.let(i64.sub(count, ONE));
      if (size === 2) {
        // 16 bits with counts up to 31: Intel's processors rotate destination, source, destination as one 48-bit value.
        const wide = left
          ? f.let(i64.or(i64.or(i64.shl(value, constI64(32)), i64.shl(fill, constI64(16))), value))
          : f.let(i64.or(i64.or(value, i64.shl(fill, constI64(16))), i64.shl(value, constI64(32))));
        f.set(result, left ? i64.shr_u(i64.shl(wide, count), constI64(32)) : i64.shr_u(wide, count));
        f.set(carry, left ? bit(wide, i64.sub(constI64(48), count)) : bit(wide, minusOne));
      } else {
        const back = f.let(i64.sub(constI64(bits), count));
        f.set(
          result,
          left
            ? i64.or(i64.shl(value, count), i64.shr_u(fill, back))
            : i64.or(i64.shr_u(value, count), i64.shl(fill, back)),
        );
        f.set(carry, left ? bit(value, back) : bit(value, minusOne));
      }
      f.set(result, zeroExtend(size, result));
    });
    e.write(d, result);
    f.if(i64.ne(count, constI64(0)), () => {
      const overflow = bit(i64.xor(result, value), constI64(bits - 1));
      e.flagsResult(f.let(signExtend(size, result)), flagBits(carry, overflow));
    });
  };
}

instruction('shld', ['0F A4 Ev,Gv,Ib', '0F A5 Ev,Gv,CL'], double(true));
instruction('shrd', ['0F AC Ev,Gv,Ib', '0F AD Ev,Gv,CL'], double(false));

/** BMI2 shifts by VEX.vvvv: no flags. */
function plainShift(name: string, prefix: string, operation: (size: number, v: Expr, c: Expr) => Expr): void {
  instruction(name, [`VEX ${prefix} 0F38 F7 Gy,Ey,By L0`], (e, d, s, count) => {
    const { size } = d;
    const c = i64.and(e.read(count), constI64(size === 8 ? 63 : 31));
    e.write(d, operation(size, e.read(s), c));
  });
}
plainShift('shlx', '66', (_size, v, c) => i64.shl(v, c));
plainShift('sarx', 'F3', (size, v, c) => i64.shr_s(signExtend(size, v), c));
plainShift('shrx', 'F2', (_size, v, c) => i64.shr_u(v, c));

instruction('rorx', ['VEX F2 0F3A F0 Gy,Ey,Ib L0'], (e, d, s) => {
  const { size } = d;
  e.write(d, rotated(e, size, e.read(s), e.immediate(), false));
});
