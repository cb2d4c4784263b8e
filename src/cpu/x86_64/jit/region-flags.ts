// The flags in a region: what is known of them stays an expression, computed where it is used.

import { constI32, constI64, type Expr, i32, i64, load, OP_CONST, OP_LOCAL, OP_SELECT } from '../../../wasm/expr.ts';
import * as L from '../layout.ts';
import type { RegionContext } from './region-context.ts';

const at = (address: number): Expr => constI32(address);

/** What is known of the flags at a point: how they follow from values that do not change any more. */
export interface KnownFlags {
  readonly kind: number;
  /** Of a comparison of floats: the conditions, shorter than by `a`. */
  readonly floats?: Readonly<Record<'zf' | 'pf' | 'cf', Expr>>;
  readonly result: Expr | undefined;
  readonly a: Expr;
  readonly b: Expr | undefined;
  /** After a rotate, where nothing was known before it: the flags that it has left alone, at their places. Part of `a`. */
  readonly rest?: Expr;
  /** Of an addition or subtraction: nothing was carried or borrowed in. */
  readonly plain: boolean;
  /** flagLocals(), once somebody has asked. */
  locals: readonly Expr[] | undefined;
}

/** Bit 63: carry or borrow out of an addition or subtraction; bit 3 the half-carry. */
function carries({ kind, a, b, result }: KnownFlags): Expr {
  const [x, y, r] = [a, b as Expr, result as Expr];
  const not = (e: Expr): Expr => i64.xor(e, constI64(-1));
  if (kind === L.CC_KIND_ADD) return i64.or(i64.and(x, y), i64.and(i64.or(x, y), not(r)));
  return i64.or(i64.and(not(x), y), i64.and(i64.or(not(x), y), r));
}

/** CF (i64 0 or 1). */
export function carryBit(known: KnownFlags): Expr {
  const { kind, a, b, result, plain } = known;
  if (kind < L.CC_KIND_ADD) return i64.and(a, constI64(L.FLAG_CF));
  if (!plain) return i64.shr_u(carries(known), constI64(63));
  return i64.extend_i32_u(kind === L.CC_KIND_ADD ? i64.lt_u(result as Expr, a) : i64.lt_u(a, b as Expr));
}

/** AF at its place. */
export function halfCarry(known: KnownFlags): Expr {
  if (known.kind < L.CC_KIND_ADD) return i64.and(known.a, constI64(L.FLAG_AF));
  return i64.and(i64.shl(carries(known), constI64(1)), constI64(L.FLAG_AF));
}

/** PF (i32 0 or 1) of a result. */
function parity(result: Expr): Expr {
  return i32.eqz(i32.and(i32.popcnt(i32.and(i32.wrap_i64(result), constI32(0xff))), constI32(1)));
}

/** OF (i32 0 or 1) of an addition or subtraction. */
function overflowed({ kind, a, b, result }: KnownFlags): Expr {
  const [x, y, r] = [a, b as Expr, result as Expr];
  const changed =
    kind === L.CC_KIND_ADD ? i64.and(i64.xor(x, r), i64.xor(y, r)) : i64.and(i64.xor(x, y), i64.xor(x, r));
  return i64.lt_s(changed, constI64(0));
}

/** The six flags at their places. */
export function allFlags(known: KnownFlags): Expr {
  const { kind, a, result } = known;
  if (!result) return a;
  const place = (flag: Expr, bit: number): Expr => i64.shl(i64.extend_i32_u(flag), constI64(bit));
  const carryAndOverflow =
    kind === L.CC_KIND_RES
      ? i64.and(a, constI64(L.FLAG_CF | L.FLAG_AF | L.FLAG_OF))
      : i64.or(i64.or(carryBit(known), place(overflowed(known), 11)), halfCarry(known));
  const sign = i64.and(i64.shr_u(result, constI64(56)), constI64(L.FLAG_SF));
  return i64.or(i64.or(carryAndOverflow, sign), i64.or(place(i64.eqz(result), 6), place(parity(result), 2)));
}

/** The even one of a pair of conditions (i32), by what is known. */
export function knownCondition(pair: number, known: KnownFlags): Expr {
  const { kind, a, b, result, plain, floats } = known;
  if (floats) return comparisonCondition(pair, floats);
  const flag = (bits: number): Expr =>
    a.isConst ? constI32((a.value as bigint) & BigInt(bits) ? 1 : 0) : i64.ne(i64.and(a, constI64(bits)), constI64(0));
  if (!result) {
    const less = (): Expr => i32.xor(flag(L.FLAG_SF), flag(L.FLAG_OF));
    const bits = [L.FLAG_OF, L.FLAG_CF, L.FLAG_ZF, L.FLAG_CF | L.FLAG_ZF, L.FLAG_SF, L.FLAG_PF][pair];
    if (bits !== undefined) return flag(bits);
    return pair === 6 ? less() : i32.or(less(), flag(L.FLAG_ZF));
  }
  if (pair === 5) return parity(result);
  // After a subtraction conditions are comparisons of its operands.
  if (kind === L.CC_KIND_SUB && plain && pair !== 0 && pair !== 4) {
    const compare = [undefined, i64.lt_u, i64.eq, i64.le_u, undefined, undefined, i64.lt_s, i64.le_s][pair];
    if (compare) return compare(a, b as Expr);
  }
  const zero = (): Expr => i64.eqz(result);
  const negative = (): Expr => i64.lt_s(result, constI64(0));
  const overflow = (): Expr => (kind === L.CC_KIND_RES ? flag(L.FLAG_OF) : overflowed(known));
  const carry = (): Expr => (kind === L.CC_KIND_RES ? flag(L.FLAG_CF) : i32.wrap_i64(carryBit(known)));
  const neverOverflows = kind === L.CC_KIND_RES && a.isConst && !((a.value as bigint) & BigInt(L.FLAG_OF));
  switch (pair) {
    case 0:
      return overflow();
    case 1:
      return carry();
    case 2:
      return zero();
    case 3:
      return i32.or(zero(), carry());
    case 4:
      return negative();
    case 6:
      return neverOverflows ? negative() : i32.xor(overflow(), negative());
    default:
      return neverOverflows ? i64.le_s(result, constI64(0)) : i32.or(zero(), i32.xor(overflow(), negative()));
  }
}

/** As knownCondition(), after a comparison of floats: OF and SF are 0. */
function comparisonCondition(pair: number, { zf, pf, cf }: NonNullable<KnownFlags['floats']>): Expr {
  switch (pair) {
    case 1:
      return cf;
    case 2:
    case 7:
      return zf;
    case 3:
      return i32.or(cf, zf);
    case 5:
      return pf;
    default:
      return constI32(0);
  }
}

/** Integer arithmetic of constants and of locals, which of an instruction's own do not change after it. */
export function isPureTree({ code, args }: Expr): boolean {
  if (code === OP_CONST || code === OP_LOCAL) return true;
  const arithmetic = code === OP_SELECT || (code >= 0x45 && code <= 0xc4);
  return arithmetic && args.every(isPureTree);
}

/** The locals that what is known is made of, each once, but for the flags' own. */
export function flagLocals(known: KnownFlags, { kind, a, b, result }: RegionContext['flags']): readonly Expr[] {
  if (known.locals) return known.locals;
  const found: Expr[] = [];
  const collect = (value: Expr): void => {
    for (const arg of value.args) collect(arg);
    const isOwn = value === kind || value === a || value === b || value === result;
    if (value.code === OP_LOCAL && !isOwn && !found.includes(value)) found.push(value);
  };
  if (known.result) collect(known.result);
  collect(known.a);
  if (known.b) collect(known.b);
  known.locals = found;
  return found;
}

/** Another way knows the same of the flags. */
export function pin({ known, flags, pinned }: RegionContext): void {
  if (known) for (const local of flagLocals(known, flags)) pinned.add(local);
}

/** Known flags into the locals. */
export function settleFlags(c: RegionContext): void {
  const { f, flags, known } = c;
  if (!known || c.settled) return;
  // `a` may look at what the locals were.
  f.set(flags.a, known.a);
  f.set(flags.kind, constI32(known.kind));
  if (known.b) f.set(flags.b, known.b);
  if (known.result) f.set(flags.result, known.result);
  c.settled = true;
}

/** Flags into the state, from wherever they are. */
export function spillFlags(c: RegionContext): void {
  const { f, known } = c;
  if (!known || c.settled) return storeFlags(c);
  f.store('i32.store', at(L.CC_KIND), constI32(known.kind));
  f.store('i64.store', at(L.CC_A), known.a);
  if (known.b) f.store('i64.store', at(L.CC_B), known.b);
  if (known.result) f.store('i64.store', at(L.CC_RES), known.result);
}

/** The locals' flags into the state. */
export function storeFlags({ f, flags }: RegionContext): void {
  f.store('i32.store', at(L.CC_KIND), flags.kind);
  f.store('i64.store', at(L.CC_A), flags.a);
  f.store('i64.store', at(L.CC_B), flags.b);
  f.store('i64.store', at(L.CC_RES), flags.result);
}

export function loadFlags({ f, flags }: RegionContext): void {
  f.set(flags.kind, load('i32.load', at(L.CC_KIND)));
  f.set(flags.a, load('i64.load', at(L.CC_A)));
  f.set(flags.b, load('i64.load', at(L.CC_B)));
  f.set(flags.result, load('i64.load', at(L.CC_RES)));
}
