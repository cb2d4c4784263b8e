// Bit instructions (SDM volume 2: BT*, BSF, BSR, TZCNT, LZCNT, POPCNT, BSWAP, MOVBE; BMI1, BMI2; CRC32 is with SSE4.2).

import { constI64, type Expr, i64, select } from '../../../wasm/expr.ts';
import * as L from '../layout.ts';
import { highProduct } from './arithmetic.ts';
import { asI64, type Emitter, type Operand, signExtend } from './emitter.ts';
import { instruction } from './instruction.ts';

const ONE = constI64(1);
const ZERO = constI64(0);

/** BT, BTS, BTR, BTC: CF is the bit; the other flags stay. */
function bitTest(change?: (value: Expr, mask: Expr) => Expr) {
  return (e: Emitter, d: Operand, s: Operand): void => {
    const { f } = e;
    const { size } = d;
    const bits = size * 8;
    const offset = e.readSigned(s);
    const index = f.let(i64.and(offset, constI64(bits - 1)));
    const mask = i64.shl(ONE, index);
    let value: Expr;
    if (d.place === 'memory' && s.place === 'G') {
      // A register offset reaches beyond the operand: by whole operands, signed.
      const words = i64.shr_s(offset, constI64(Math.log2(bits)));
      const address = f.let(i64.add(e.linearAddress(size, change !== undefined), i64.mul(words, constI64(size))));
      value = e.load(size, address);
      if (change) e.store(size, address, change(value, mask));
    } else if (change) {
      value = e.modify(d);
      e.write(d, change(value, mask));
    } else {
      value = e.read(d);
    }
    const rest = i64.and(e.arithmeticFlags(), constI64(L.FLAGS_ARITH & ~L.FLAG_CF));
    e.flagsAll(i64.or(rest, i64.and(i64.shr_u(value, index), ONE)));
  };
}

const invert = (x: Expr): Expr => i64.xor(x, constI64(-1));
instruction('bt', ['0F A3 Ev,Gv', '0F BA/4 Ev,Ib'], bitTest());
instruction('bts', ['0F AB Ev,Gv lock', '0F BA/5 Ev,Ib lock'], bitTest(i64.or));
instruction(
  'btr',
  ['0F B3 Ev,Gv lock', '0F BA/6 Ev,Ib lock'],
  bitTest((v, m) => i64.and(v, invert(m))),
);
instruction('btc', ['0F BB Ev,Gv lock', '0F BA/7 Ev,Ib lock'], bitTest(i64.xor));

/** BSF and BSR: with a zero source the destination stays, as processors do, and ZF is set; other flags as for a logic result of the source. */
function bitScan(index: (e: Emitter, size: number, value: Expr) => Expr) {
  return (e: Emitter, d: Operand, s: Operand): void => {
    const { f } = e;
    const value = e.read(s);
    f.if(i64.ne(value, ZERO), () => e.write(d, index(e, d.size, value)));
    e.flagsResult(f.let(signExtend(s.size, value)));
  };
}

instruction(
  'bsf',
  ['0F BC Gv,Ev np'],
  bitScan((_e, _size, v) => i64.ctz(v)),
);
instruction(
  'bsr',
  ['0F BD Gv,Ev np'],
  bitScan((_e, _size, v) => i64.sub(constI64(63), i64.clz(v))),
);

/** TZCNT and LZCNT: CF when the source is zero, ZF when the result is. */
function countZeros(e: Emitter, d: Operand, value: Expr, result: Expr): void {
  const { f } = e;
  const v = f.let(value);
  const r = f.let(result);
  e.write(d, r);
  e.flagsResult(r, asI64(i64.eqz(v)));
}

instruction('tzcnt', ['F3 0F BC Gv,Ev'], (e, d, s) => {
  const value = e.read(s);
  const { size } = s;
  // A one right above the operand stops the count at its width.
  const guarded = size === 8 ? value : i64.or(value, constI64(1n << BigInt(size * 8)));
  countZeros(e, d, value, i64.ctz(guarded));
});
instruction('lzcnt', ['F3 0F BD Gv,Ev'], (e, d, s) => {
  const value = e.read(s);
  countZeros(e, d, value, i64.sub(i64.clz(value), constI64(64 - s.size * 8)));
});
instruction('popcnt', ['F3 0F B8 Gv,Ev'], (e, d, s) => {
  const r = e.f.let(i64.popcnt(e.read(s)));
  e.write(d, r);
  e.flagsAll(i64.shl(asI64(i64.eqz(r)), constI64(6)));
});

/** Bytes reversed within `size`. */
function byteSwap(e: Emitter, size: number, value: Expr): Expr {
  const { f } = e;
  if (size === 2) return i64.or(i64.and(i64.shr_u(value, constI64(8)), constI64(0xff)), i64.shl(value, constI64(8)));
  const low = 0x00ff00ff00ff00ffn;
  const v = f.let(value);
  const bytes = f.let(
    i64.or(i64.and(i64.shr_u(v, constI64(8)), constI64(low)), i64.shl(i64.and(v, constI64(low)), constI64(8))),
  );
  const half = 0x0000ffff0000ffffn;
  const words = f.let(
    i64.or(
      i64.and(i64.shr_u(bytes, constI64(16)), constI64(half)),
      i64.shl(i64.and(bytes, constI64(half)), constI64(16)),
    ),
  );
  return size === 4 ? words : i64.rotl(words, constI64(32));
}

// BSWAP of a 16-bit register clears it on Intel's processors (undefined in the SDM).
instruction('bswap', ['0F C8+ Zv'], (e, d) => {
  const { size } = d;
  e.write(d, size === 2 ? ZERO : byteSwap(e, size, e.read(d)));
});
instruction('movbe', ['0F38 F0 Gv,Mv np'], (e, d, s) => e.write(d, byteSwap(e, d.size, e.read(s))));
instruction('movbe', ['0F38 F1 Mv,Gv np'], (e, d, s) => e.write(d, e.f.let(byteSwap(e, d.size, e.read(s)))));

// ---- BMI1, BMI2 ------------------------------------------------------------------------------------------------------
instruction('andn', ['VEX 0F38 F2 Gy,By,Ey L0'], (e, d, a, b) => {
  const r = e.f.let(i64.and(invert(e.readSigned(a)), e.readSigned(b)));
  e.write(d, r);
  e.flagsResult(r);
});

/** BLSR, BLSMSK, BLSI: CF as given, result into VEX.vvvv. */
function lowestBit(name: string, digit: number, operation: (v: Expr) => Expr, carryIfZero: boolean): void {
  instruction(name, [`VEX 0F38 F3/${digit} By,Ey L0`], (e, d, s) => {
    const { f } = e;
    const v = e.readSigned(s);
    const r = f.let(signExtend(s.size, operation(v)));
    e.write(d, r);
    e.flagsResult(r, asI64(carryIfZero ? i64.eqz(v) : i64.ne(v, ZERO)));
  });
}
lowestBit('blsr', 1, (v) => i64.and(v, i64.sub(v, ONE)), true);
lowestBit('blsmsk', 2, (v) => i64.xor(v, i64.sub(v, ONE)), true);
lowestBit('blsi', 3, (v) => i64.and(v, i64.sub(ZERO, v)), false);

/** The low `count` bits of a value; count may be 64 or more (all). */
function lowBits(value: Expr, count: Expr): Expr {
  const mask = i64.sub(i64.shl(ONE, count), ONE);
  return select(value, i64.and(value, mask), i64.gt_u(count, constI64(63)));
}

instruction('bextr', ['VEX 0F38 F7 Gy,Ey,By L0'], (e, d, s, control) => {
  const { f } = e;
  const { size } = d;
  const c = e.read(control);
  const start = f.let(i64.and(c, constI64(0xff)));
  const length = f.let(i64.and(i64.shr_u(c, constI64(8)), constI64(0xff)));
  const value = e.read(s);
  const shifted = f.let(select(ZERO, i64.shr_u(value, start), i64.gt_u(start, constI64(size * 8 - 1))));
  const r = f.let(lowBits(shifted, length));
  e.write(d, r);
  e.flagsResult(f.let(signExtend(size, r)));
});

instruction('bzhi', ['VEX 0F38 F5 Gy,Ey,By L0'], (e, d, s, index) => {
  const { f } = e;
  const { size } = d;
  const n = f.let(i64.and(e.read(index), constI64(0xff)));
  const value = e.read(s);
  const beyond = f.let(i64.gt_u(n, constI64(size * 8 - 1)));
  const r = f.let(select(value, i64.and(value, i64.sub(i64.shl(ONE, n), ONE)), beyond));
  e.write(d, r);
  e.flagsResult(f.let(signExtend(size, r)), asI64(beyond));
});

instruction('mulx', ['VEX F2 0F38 F6 Gy,By,Ey L0'], (e, high, low, s) => {
  const { f } = e;
  const { size } = high;
  const a = e.gpr(2, size);
  const b = e.read(s);
  const product = f.let(i64.mul(a, b));
  const upper = size === 8 ? highProduct(f, a, b, false) : f.let(i64.shr_u(product, constI64(32)));
  // When both destinations are one register, it holds the high half.
  e.write(low, product);
  e.write(high, upper);
});

for (const [name, prefix] of [
  ['pdep', 'F2'],
  ['pext', 'F3'],
] as const) {
  instruction(name, [`VEX ${prefix} 0F38 F5 Gy,By,Ey L0`], (e, d, s, mask) =>
    e.write(d, e.call(name, e.read(s), e.read(mask))),
  );
}
