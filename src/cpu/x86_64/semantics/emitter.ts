// What a meaning is written against. The interpreter's generator and the translator each implement it: the first reads
// operands through the decoded record, the second knows them.

import {
  constI32,
  constI64,
  type Expr,
  i32,
  i64,
  load,
  type MemoryOp,
  type StoreOp,
  select,
} from '../../../wasm/expr.ts';
import type { FunctionBuilder } from '../../../wasm/function.ts';
import type { Place } from '../decode/encoding.ts';
import * as L from '../layout.ts';
import type { HelperName } from './helper-names.ts';

export interface Operand {
  readonly place: Place | 'memory';
  /** Bytes. */
  readonly size: number;
}

/** What the decoder has left a register operand's state address in: a field of what is decoded; or the address, where it is always the same. */
export function slotSource({ place }: Operand): 'reg' | 'rm' | 'vvvv' | 'immediate' | number {
  switch (place) {
    case 'G':
    case 'V':
    case 'P':
    case 'S':
    case 'C':
    case 'D':
      return 'reg';
    case 'B':
    case 'H':
      return 'vvvv';
    case 'L':
      return 'immediate';
    case 'AX':
      return L.RAX;
    case 'CL':
      return L.RCX;
    case 'DX':
      return L.RDX;
    default:
      return 'rm';
  }
}

/** Sixteen condition codes, numbered as in the opcodes (SDM volume 1, appendix B). */
export const CONDITIONS = [
  'o',
  'no',
  'b',
  'ae',
  'e',
  'ne',
  'be',
  'a',
  's',
  'ns',
  'p',
  'np',
  'l',
  'ge',
  'le',
  'g',
] as const;

const LOAD_UNSIGNED: Record<number, MemoryOp> = {
  1: 'i64.load8_u',
  2: 'i64.load16_u',
  4: 'i64.load32_u',
  8: 'i64.load',
  16: 'v128.load',
};
const LOAD_SIGNED: Record<number, MemoryOp> = { 1: 'i64.load8_s', 2: 'i64.load16_s', 4: 'i64.load32_s', 8: 'i64.load' };
const STORE: Record<number, StoreOp> = {
  1: 'i64.store8',
  2: 'i64.store16',
  4: 'i64.store32',
  8: 'i64.store',
  16: 'v128.store',
};

/** Reads `size` bytes at a host address; 16 bytes are a v128, fewer an i64. */
export function loadSized(size: number, address: Expr, offset = 0, signed = false): Expr {
  return load((signed ? LOAD_SIGNED[size] : LOAD_UNSIGNED[size]) as MemoryOp, address, offset);
}

export function storeSized(f: FunctionBuilder, size: number, address: Expr, value: Expr, offset = 0): void {
  f.store(STORE[size] as StoreOp, address, value, offset);
}

/** Sign-extends a value of `size` bytes to 64 bits. */
export function signExtend(size: number, value: Expr): Expr {
  if (size === 1) return i64.extend8_s(value);
  if (size === 2) return i64.extend16_s(value);
  if (size === 4) return i64.extend32_s(value);
  return value;
}

/** Clears the bits above `size` bytes. */
export function zeroExtend(size: number, value: Expr): Expr {
  if (size === 1) return i64.and(value, constI64(0xff));
  if (size === 2) return i64.and(value, constI64(0xffff));
  if (size === 4) return i64.extend_i32_u(i32.wrap_i64(value));
  return value;
}

/** A bool (i32 0 or 1) as an i64. */
export function asI64(bool: Expr): Expr {
  return i64.extend_i32_u(bool);
}

const at = (address: number): Expr => constI32(address);

/** Comparisons of one float format. */
export interface FloatComparisons {
  readonly lt: (a: Expr, b: Expr) => Expr;
  readonly gt: (a: Expr, b: Expr) => Expr;
  readonly ge: (a: Expr, b: Expr) => Expr;
  readonly ne: (a: Expr, b: Expr) => Expr;
}

/** ZF, PF and CF (i32 each): unordered sets all three. */
export function comparison(a: Expr, b: Expr, { lt, gt, ge, ne }: FloatComparisons): Record<'zf' | 'pf' | 'cf', Expr> {
  return {
    zf: i32.eqz(i32.or(lt(a, b), gt(a, b))),
    pf: i32.or(ne(a, a), ne(b, b)),
    cf: i32.eqz(ge(a, b)),
  };
}

function comparisonFlags(a: Expr, b: Expr, float: FloatComparisons): Expr {
  const { zf, pf, cf } = comparison(a, b, float);
  return asI64(i32.or(cf, i32.or(i32.shl(pf, constI32(2)), i32.shl(zf, constI32(6)))));
}

/** The helper that registers an exception, and what it is called with. */
export function raising(vector: number, error: number | undefined): { name: 'raise' | 'raise_error'; args: Expr[] } {
  if (error === undefined) return { name: 'raise', args: [constI32(vector)] };
  return { name: 'raise_error', args: [constI32(vector), constI32(error)] };
}

/** Not zero (i32): MXCSR does not let arithmetic be native. */
export function unusualControls(): Expr {
  const controls = i32.and(load('i32.load', at(L.MXCSR)), constI32(L.FLOAT_CONTROLS));
  return i32.xor(controls, constI32(L.FLOAT_USUAL));
}

/** Type of a float, and ORDINARY_* of a vector's lane 0 as one. */
export interface FloatLane {
  readonly suffix: 'f32' | 'f64';
  readonly low: number;
}

/**
 * Order of effects in a meaning: read what is read (e.read materialises), then memory writes, then registers and
 * flags. A memory access may leave the instruction: before it nothing the guest can see may have changed.
 */
export abstract class Emitter {
  readonly f: FunctionBuilder;
  /** Bytes of the operand-size attribute. */
  readonly size: number;
  /** 64-bit mode; only lines that are `mode` are written for both. */
  readonly long: boolean;
  /** WebAssembly's relaxed multiply-add rounds once where the code will run. */
  readonly fused: boolean = false;

  constructor(f: FunctionBuilder, size: number, long: boolean) {
    this.f = f;
    this.size = size;
    this.long = long;
  }

  // ---- Operands ----------------------------------------------------------------------------------------------------
  /** Value of an operand, zero-extended to i64 (a v128 for 16 bytes). */
  read(operand: Operand): Expr {
    return this.readAs(operand, false);
  }

  /** Value of an operand, sign-extended to i64. */
  readSigned(operand: Operand): Expr {
    return this.readAs(operand, true);
  }

  protected abstract readAs(operand: Operand, signed: boolean): Expr;

  /** Like read(), of an operand that write() will change: a memory operand is checked for writing first. */
  abstract modify(operand: Operand, signed?: boolean): Expr;

  /** Writes an operand: a 32-bit register write clears the upper half; bits above the size are ignored. */
  abstract write(operand: Operand, value: Expr): void;

  /** Sixteen bytes (v128) of a vector register; half 1 is the upper one of YMM. */
  abstract readHalf(operand: Operand, half: number): Expr;

  abstract writeHalf(operand: Operand, half: number, value: Expr): void;

  /** Writes half of the vector register with this number. */
  abstract setVector(register: number, half: number, value: Expr): void;

  /** State address (i32) of a register operand's slot. */
  abstract slot(operand: Operand): Expr;

  /** Number that the decoder left for this operand: ST(i), control register, segment address (i32). */
  abstract number(operand: Operand): Expr;

  /** The immediate, sign-extended (i64). */
  abstract immediate(): Expr;

  /** A second immediate byte (ENTER), or the selector of a far pointer (i64). */
  abstract immediate2(): Expr;

  /** Effective address of the memory operand without its segment's base: LEA. */
  abstract effectiveAddress(): Expr;

  /** Linear address (i64) of the memory operand for an access of `size` bytes; may leave. */
  abstract linearAddress(size: number, write: boolean): Expr;

  /** As linearAddress(), for a write; a fault puts `stackPointer` back into RSP. */
  abstract linearAddressOrRestore(size: number, stackPointer: Expr): Expr;

  /** Address (i32) of the decoded record, for helpers that want prefixes. */
  abstract record(): Expr;

  // ---- Registers by name ---------------------------------------------------------------------------------------------
  /** General register (0 RAX .. 15 R15), zero-extended. */
  abstract gpr(index: number, size: number): Expr;

  abstract setGpr(index: number, size: number, value: Expr): void;

  /** Writes AH. */
  abstract setHigh(value: Expr): void;

  // ---- Memory by linear address ----------------------------------------------------------------------------------------
  /** Reads at a linear address (64-bit mode); may leave. */
  abstract load(size: number, linear: Expr, signed?: boolean): Expr;

  abstract store(size: number, linear: Expr, value: Expr): void;

  /** Host address (i32) of `size` readable bytes of the memory operand. */
  abstract hostForRead(size: number): Expr;

  /** Host address (i32) for `size` bytes to be written; call commit() after writing. With `read` the bytes are there. */
  abstract hostForWrite(size: number, read: boolean): Expr;

  abstract commit(): void;

  // ---- Flags -----------------------------------------------------------------------------------------------------------
  /** `plain`: without a carry in. */
  flagsAdd(a: Expr, b: Expr, result: Expr, plain = true): void {
    this.setFlags(L.CC_KIND_ADD, result, a, b, plain);
  }

  /** `plain`: without a borrow in. */
  flagsSub(a: Expr, b: Expr, result: Expr, plain = true): void {
    this.setFlags(L.CC_KIND_SUB, result, a, b, plain);
  }

  /** ZF, SF, PF by the sign-extended result; CF, AF, OF given at their places in RFLAGS (i64), none by default. */
  flagsResult(result: Expr, bits: Expr = constI64(0)): void {
    this.setFlags(L.CC_KIND_RES, result, bits, undefined, false);
  }

  /** All six flags at their places in RFLAGS (i64). */
  flagsAll(bits: Expr): void {
    this.setFlags(L.CC_KIND_FLAGS, undefined, bits, undefined, false);
  }

  /** The flags follow from these from now on: see CC_KIND_*. */
  protected setFlags(kind: number, result: Expr | undefined, a: Expr, b: Expr | undefined, _plain: boolean): void {
    const { f } = this;
    f.store('i32.store', at(L.CC_KIND), constI32(kind));
    f.store('i64.store', at(L.CC_A), a);
    if (b) f.store('i64.store', at(L.CC_B), b);
    if (result) f.store('i64.store', at(L.CC_RES), result);
  }

  /** Flags of UCOMIS* and COMIS*, by two floats that are locals of their own. */
  flagsCompare(a: Expr, b: Expr, float: FloatComparisons): void {
    this.flagsAll(comparisonFlags(a, b, float));
  }

  /** The six arithmetic flags at their places (i64). */
  arithmeticFlags(): Expr {
    return this.f.let(i64.extend_i32_u(this.call('get_arith')));
  }

  /** CF as i64 0 or 1. */
  carry(): Expr {
    const { f } = this;
    const value = f.local('i64');
    const kind = f.let(load('i32.load', at(L.CC_KIND)));
    const a = load('i64.load', at(L.CC_A));
    f.if(
      i32.lt_u(kind, constI32(L.CC_KIND_ADD)),
      () => f.set(value, i64.and(a, constI64(L.FLAG_CF))),
      () => {
        // A subtraction's borrows are the carries of ~A + B = ~RES.
        const mask = f.let(i64.extend_i32_s(i32.sub(constI32(L.CC_KIND_ADD), kind)));
        const x = f.let(i64.xor(a, mask));
        const b = f.let(load('i64.load', at(L.CC_B)));
        const notResult = i64.xor(load('i64.load', at(L.CC_RES)), i64.xor(mask, constI64(-1)));
        f.set(value, i64.shr_u(i64.or(i64.and(x, b), i64.and(i64.or(x, b), notResult)), constI64(63)));
      },
    );
    return value;
  }

  /** Value (i32 0 or 1) of condition code `cc`. */
  condition(cc: number): Expr {
    const { f } = this;
    const pair = cc >> 1;
    const negate = (x: Expr) => (cc & 1 ? i32.eqz(x) : x);
    if (pair === 1) return f.let(negate(i32.wrap_i64(this.carry())));
    const value = f.local('i32');
    const kind = f.let(load('i32.load', at(L.CC_KIND)));
    const a = () => load('i64.load', at(L.CC_A));
    const b = () => load('i64.load', at(L.CC_B));
    const result = () => load('i64.load', at(L.CC_RES));
    const slow = () => f.set(value, this.call('condition', constI32(cc)));
    if (pair === 2) {
      f.if(kind, () => f.set(value, negate(i64.eqz(result()))), slow);
      return value;
    }
    if (pair === 4) {
      f.if(kind, () => f.set(value, negate(i64.lt_s(result(), constI64(0)))), slow);
      return value;
    }
    // After a subtraction without borrow-in, comparisons follow from the operands; SBB's operands need the long way,
    // which is told by RES != A - B.
    const compare = this.#comparison(pair, a, b);
    if (!compare) return this.call('condition', constI32(cc));
    const plain = i32.and(i32.eq(kind, constI32(L.CC_KIND_SUB)), i64.eq(i64.sub(a(), b()), result()));
    const afterLogic = this.#resultCondition(pair, a, result);
    f.if(
      plain,
      () => f.set(value, negate(compare)),
      () => f.if(i32.eq(kind, constI32(L.CC_KIND_RES)), () => f.set(value, negate(afterLogic)), slow),
    );
    return value;
  }

  /** Conditions be, l, le with CC_KIND_RES. */
  #resultCondition(pair: number, bits: () => Expr, result: () => Expr): Expr {
    const flag = (bit: number): Expr => i64.ne(i64.and(bits(), constI64(bit)), constI64(0));
    const zero = i64.eqz(result());
    if (pair === 3) return i32.or(zero, flag(L.FLAG_CF));
    const less = i32.xor(i64.lt_s(result(), constI64(0)), flag(L.FLAG_OF));
    return pair === 6 ? less : i32.or(zero, less);
  }

  #comparison(pair: number, a: () => Expr, b: () => Expr): Expr | undefined {
    if (pair === 3) return i64.le_u(a(), b());
    if (pair === 6) return i64.lt_s(a(), b());
    if (pair === 7) return i64.le_s(a(), b());
    return undefined;
  }

  /** CF and OF (i64 0 or 1 each) change, the other flags stay. */
  flagsCarryOverflow(carry: Expr, overflow: Expr): void {
    const rest = i64.and(this.arithmeticFlags(), constI64(L.FLAGS_ARITH & ~(L.FLAG_CF | L.FLAG_OF)));
    this.flagsAll(i64.or(rest, i64.or(carry, i64.shl(overflow, constI64(11)))));
  }

  // ---- Floats ------------------------------------------------------------------------------------------------------------
  /** Not zero (i32): MXCSR's controls are not the usual ones, or what is known of values is not so (float.ts). */
  floatsOdd(): Expr {
    return unusualControls();
  }

  /** USUAL_EXPONENTS, and 0 where floatsOdd() (i32); undefined where nobody keeps it. */
  usualExponents(): Expr | undefined {
    return undefined;
  }

  /** ORDINARY_* bits of a vector, or of a float that is its lane 0. */
  ordinary(_value: Expr): number {
    return 0;
  }

  /** Whether all of these ORDINARY_* bits are known; else they are tested for. */
  isKnownOrdinary(_value: Expr, _bits: number): boolean {
    return false;
  }

  /** A value, and the register that it was read from, is known to be ordinary, too. */
  noteOrdinary(_value: Expr, _bits: number): void {}

  /** A float is lane 0 of a vector that was read from a register; `low` is its ORDINARY_* bit. */
  noteLane(_value: Expr, _vector: Expr, _low: number): void {}

  /** A register's lane 0, where it is at hand. */
  lane(_operand: Operand, _format: FloatLane): Expr | undefined {
    return undefined;
  }

  /** A register's lane 0 is this float. */
  keepLane(_operand: Operand, _value: Expr): void {}

  /** Calls soft_lanes_*, which may raise, or meet something denormal. */
  abstract lanesStatus(name: HelperName, ...args: Expr[]): void;

  /** Something may be denormal. */
  setFloatsOdd(): void {}

  /** MXCSR has been written. */
  controlsChanged(): void {}

  /** Two values have been read from the same place of the same register, which is unchanged. */
  isSameValue(_a: Expr, _b: Expr): boolean {
    return false;
  }

  // ---- Control -----------------------------------------------------------------------------------------------------------
  /** Calls a helper that cannot leave; its result, if any. */
  abstract call(name: HelperName, ...args: Expr[]): Expr;

  /** Calls a helper without a result. */
  abstract run(name: HelperName, ...args: Expr[]): void;

  /** RIP and NEXT_RIP of this instruction into the state. */
  abstract sync(): void;

  /** Calls a helper that returns STATUS_*, with RIP and NEXT_RIP in the state; goes on only when that is STATUS_OK. */
  abstract status(name: HelperName, ...args: Expr[]): void;

  /** As status(); `done` runs when the helper did its work, also where the instruction then goes on elsewhere. */
  abstract statusThen(name: HelperName, args: readonly Expr[], done: () => void): void;

  /** Calls a helper that looks at no register and returns STATUS_OK or STATUS_FAULT; leaves by the fault. */
  abstract check(name: HelperName): void;

  /** MODE_* bits of those given that are set (i32). */
  abstract modeBits(bits: number): Expr;

  /** Raises #UD. */
  undefinedOpcode(): void {
    this.status('undefined_opcode');
  }

  /** Instruction pointer after this instruction (i64). */
  abstract nextIp(): Expr;

  /** Jump to the direct target in the record. Ends the instruction. */
  abstract branch(): void;

  /** Jump to the direct target if the condition (i32) holds, else go on. */
  abstract branchIf(condition: Expr): void;

  /** Jump to an instruction pointer (i64) that checkTarget() has seen. Ends the instruction. */
  abstract jump(ip: Expr): void;

  /** Raises #GP(0) where a branch target (i64) is not canonical, or beyond the limit. The instruction has changed nothing yet. */
  checkTarget(ip: Expr): void {
    if (!this.long) {
      const limit = load('i64.load32_u', at(L.SEG_CS + L.SEG_O_LIMIT));
      this.f.ifUnlikely(i64.gt_u(ip, limit), () => this.fault(13, 0));
      return;
    }
    const canonical = i64.shr_s(i64.shl(ip, constI64(16)), constI64(16));
    this.f.ifUnlikely(i64.ne(canonical, ip), () => this.fault(13, 0));
  }

  /** checkTarget() of the direct target; in 64-bit mode the look-up finds what is wrong with it. */
  checkBranch(): void {
    if (this.long) return;
    const { f } = this;
    const record = this.record();
    const target = f.let(i64.add(this.state('i64.load', L.IP_PAGE), load('i64.load', record, L.R_IMM)));
    const short = i32.and(load('i32.load8_u', record, L.R_PREFIX), constI32(L.RP_OP16));
    this.checkTarget(f.let(select(zeroExtend(2, target), zeroExtend(4, target), short)));
  }

  /** Raises an exception, with an error code if there is one. */
  abstract fault(vector: number, error?: number): void;

  // ---- Stack -------------------------------------------------------------------------------------------------------------
  /** Pushes `size` bytes. `check` may fault before the stack pointer moves. */
  push(size: number, value: Expr, check: () => void = () => {}): void {
    if (!this.long) {
      check();
      this.status('push_legacy', value, constI32(size));
      return;
    }
    const { f } = this;
    const pushed = f.let(value);
    const top = this.let(i64.sub(this.gpr(4, 8), constI64(size)));
    this.store(size, top, pushed);
    check();
    this.setGpr(4, 8, top);
  }

  /** Reads `size` bytes at the top of the stack; popCommit() moves the stack pointer. */
  top(size: number): Expr {
    if (!this.long) {
      this.status('top_legacy', constI32(size));
      return this.f.let(load('i64.load', at(L.HOST_VALUE)));
    }
    return this.load(size, this.gpr(4, 8));
  }

  /** Moves the stack pointer up by `bytes` (i64). */
  popCommit(bytes: Expr): void {
    if (this.long) this.setGpr(4, 8, i64.add(this.gpr(4, 8), bytes));
    else this.run('pop_legacy', i32.wrap_i64(bytes));
  }

  /** XMM0, the implicit mask of the blends. */
  vectorZero(): Expr {
    return this.state('v128.load', L.XMM);
  }

  // ---- Small conveniences --------------------------------------------------------------------------------------------------
  /** As FunctionBuilder.let(), of what may become an address. */
  let(value: Expr): Expr {
    return this.f.let(value);
  }

  select(a: Expr, b: Expr, condition: Expr): Expr {
    return select(a, b, condition);
  }

  /** State field. */
  state(op: MemoryOp, address: number): Expr {
    return this.f.let(load(op, at(address)));
  }

  setState(op: StoreOp, address: number, value: Expr): void {
    this.f.store(op, at(address), value);
  }
}
