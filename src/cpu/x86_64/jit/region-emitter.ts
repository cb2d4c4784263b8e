import {
  callExpr,
  constI32,
  constI64,
  type Expr,
  i32,
  i64,
  load,
  OP_CONST,
  OP_LOCAL,
  OP_SELECT,
  type ValType,
} from '../../../wasm/expr.ts';
import type { FunctionBuilder } from '../../../wasm/function.ts';
import { i32x4, i64x2 } from '../../../wasm/vector.ts';
import { RESULT_TYPES } from '../interpreter/handler-emitter.ts';
import * as L from '../layout.ts';
import {
  comparison,
  Emitter,
  type FloatComparisons,
  loadSized,
  type Operand,
  signExtend,
  storeSized,
  unusualControls,
  zeroExtend,
} from '../semantics/emitter.ts';
import { HELPERS, type HelperName, TIMED } from '../semantics/helper-names.ts';
import { ORDINARY_ALL } from '../semantics/ordinary.ts';
import { hostFuses } from './fused.ts';
import type { Decoded } from './region.ts';

const at = (address: number): Expr => constI32(address);
const GPR_END = L.GPR + 16 * 8;
const XMM_END = L.XMM + 16 * L.XMM_SIZE;

/** The instruction cannot be part of a region. */
export class Untranslatable extends Error {}

/** Ways out of a region; each has one epilogue. */
export type Exit =
  /** LEAVE_STATUS says how the instruction is left. */
  | 'leave'
  /** The record's branch is taken. */
  | 'branch'
  /** Go on with the record. */
  | 'dispatch'
  /** RIP holds where to go on. */
  | 'lookup'
  /** A helper's status says how to go on. */
  | 'after'
  /** Device writes wait after the instruction. */
  | 'posted';

/** Helpers that look at no register and no flag of the state: those of x87 have registers of their own, which are always there. */
const PURE =
  /^(pdep|pext|random|crc32c|soft_|aes_|sha|pclmulqdq|fpu_(begin|enter|operand|(load|store)(_(register|constant|extended|decimal))?|exchange|sign|move|free|rotate|arith|arith_memory|sqrt|compare|compare_memory|test|examine|round|scale)$)/;
function isPure(name: HelperName): boolean {
  return PURE.test(name);
}

/** ORDINARY_* where nothing is known. */
export const NOT_KNOWN_ORDINARY: readonly number[] = new Array<number>(32).fill(0);

/** Helpers that look at vector registers. */
const VECTOR_HELPERS = /^(fxsave|fxrstor|xsave|xsaveopt|xsavec|xrstor|string_compare|maskmov|avx_masked|avx_gather)/;

/** What is known of the flags at a point: how they follow from values that do not change any more. */
export interface KnownFlags {
  readonly kind: number;
  /** Of a comparison of floats: the conditions, shorter than by `a`. */
  readonly floats?: Readonly<Record<'zf' | 'pf' | 'cf', Expr>>;
  readonly result: Expr | undefined;
  readonly a: Expr;
  readonly b: Expr | undefined;
  /** Of an addition or subtraction: nothing was carried or borrowed in. */
  readonly plain: boolean;
}

/** What all instructions of a region share while its function is written. */
export interface RegionContext {
  readonly f: FunctionBuilder;
  /** Function index of a helper. */
  helper(name: HelperName): number;
  /** Locals of the general registers; made at first use. */
  readonly registers: (Expr | undefined)[];
  /** Registers that the region writes. */
  readonly written: Set<number>;
  /** Locals of the vector registers' halves: of register n at 2 n and 2 n + 1. */
  readonly vectors: (Expr | undefined)[];
  readonly vectorsWritten: Set<number>;
  /** MODE that the code was decoded in. */
  readonly mode: number;
  readonly flags: { readonly kind: Expr; readonly a: Expr; readonly b: Expr; readonly result: Expr };
  flagsUsed: boolean;
  flagsWritten: boolean;
  readonly ipPage: Expr;
  readonly tlb: Expr;
  readonly budget: Expr;
  /** Local: an access of this instruction went the long way. */
  readonly slow: Expr;
  /** Local that is floatsOdd(). */
  readonly odd: Expr;
  oddUsed: boolean;
  /** ORDINARY_* of the vector registers' halves, numbered like `vectors`. */
  ordinary: readonly number[];
  /** The flags, where they are known; undefined: they are in the locals. */
  known: KnownFlags | undefined;
  /** The locals hold what is known, too. */
  settled: boolean;
  /** Locals of what two ways know: they live on. */
  readonly pinned: Set<Expr>;
  /** Instructions that need the flags in the locals from the start: what they do with them depends on a condition. */
  readonly settleFirst: Set<Decoded>;
  /** Instructions run and not paid yet, the current one included. */
  unpaid: number;
  /** Leaves for the record, whose budget is corrected by `budget`. */
  exit(kind: Exit, record: number, budget: Expr, status?: Expr): void;
}

/** Ways from an instruction to others of the region. */
export interface Ways {
  /** Writes the way to the direct target. */
  taken(): void;
  /** Writes ways to places that may be the target (i64), and goes on where it is none of them. */
  jumped(target: Expr): void;
}

/** Writes one instruction of a region: operands are known, registers and flags are locals. */
export class RegionEmitter extends Emitter {
  override readonly fused = hostFuses();
  readonly #c: RegionContext;
  readonly #d: Decoded;
  readonly #ways: Ways;
  #opened: Expr | undefined;
  #linear: Expr | undefined;
  #mayPost = false;
  #ended = false;
  /** Of the instruction itself: what is deeper may not be run. */
  readonly #depth: number;
  /** ORDINARY_* of vectors and floats, and the vector registers that they were read from and that are still the same. */
  readonly #ordinary = new Map<Expr, number>();
  readonly #origins = new Map<Expr, number>();
  /** What is known of the flags before it. */
  readonly #knownBefore: KnownFlags | undefined;

  constructor(context: RegionContext, decoded: Decoded, ways: Ways) {
    super(context.f, decoded.shape.size, true);
    this.#c = context;
    this.#d = decoded;
    this.#ways = ways;
    this.#depth = context.f.depth;
    this.#knownBefore = context.known;
  }

  /** Nothing follows the instruction. */
  get ended(): boolean {
    return this.#ended;
  }

  record(): Expr {
    return constI32(this.#d.record);
  }

  // ---- Registers -----------------------------------------------------------------------------------------------------
  #register(index: number): Expr {
    let local = this.#c.registers[index];
    if (!local) {
      local = this.f.local('i64');
      this.#c.registers[index] = local;
    }
    return local;
  }

  #setRegister(index: number, value: Expr): void {
    this.#c.written.add(index);
    this.f.set(this.#register(index), value);
  }

  /** Value of `size` bytes at a general register's state address. */
  #readSlot(slot: number, size: number, signed: boolean): Expr {
    const { f } = this;
    const register = this.#register((slot - L.GPR) >> 3);
    const value = slot & 7 ? i64.shr_u(register, constI64(8)) : register;
    if (size === 8) return f.copy(value);
    return f.let(signed ? signExtend(size, value) : zeroExtend(size, value));
  }

  #writeSlot(slot: number, size: number, value: Expr): void {
    const index = (slot - L.GPR) >> 3;
    if (size === 8) this.#setRegister(index, value);
    else if (size === 4) this.#setRegister(index, zeroExtend(4, value));
    else {
      const shift = slot & 7 ? 8 : 0;
      const mask = (size === 1 ? 0xffn : 0xffffn) << BigInt(shift);
      const low = i64.shl(zeroExtend(size, value), constI64(shift));
      this.#setRegister(index, i64.or(i64.and(this.#register(index), constI64(~mask)), low));
    }
  }

  // ---- Vector registers ------------------------------------------------------------------------------------------------
  #vector(slot: number, half: number): Expr {
    const index = vectorIndex(slot, half);
    let local = this.#c.vectors[index];
    if (!local) {
      local = this.f.local('v128');
      this.#c.vectors[index] = local;
    }
    return local;
  }

  #setVector(slot: number, half: number, value: Expr): void {
    const index = vectorIndex(slot, half);
    this.#c.vectorsWritten.add(index);
    this.f.set(this.#vector(slot, half), value);
    this.#wrote(index, value);
  }

  /** A vector register has a new value. */
  #wrote(index: number, value: Expr): void {
    const c = this.#c;
    for (const [copy, origin] of this.#origins) if (origin === index) this.#origins.delete(copy);
    // What is deeper may not be run.
    const isCertain = c.f.depth === this.#depth;
    c.ordinary = c.ordinary.with(index, isCertain ? this.ordinary(value) : 0);
  }

  // ---- Floats ----------------------------------------------------------------------------------------------------------
  override floatsOdd(): Expr {
    this.#c.oddUsed = true;
    return this.#c.odd;
  }

  override ordinary(value: Expr): number {
    const isZero = value.isConst && value.extra instanceof Uint8Array && value.extra.every((byte) => byte === 0);
    return isZero ? ORDINARY_ALL : (this.#ordinary.get(value) ?? 0);
  }

  override noteOrdinary(value: Expr, bits: number): void {
    const c = this.#c;
    this.#ordinary.set(value, this.ordinary(value) | bits);
    const index = this.#origins.get(value);
    if (index !== undefined) c.ordinary = c.ordinary.with(index, (c.ordinary[index] as number) | bits);
  }

  override noteLane(value: Expr, vector: Expr, low: number): void {
    const index = this.#origins.get(vector);
    if (index !== undefined) this.#origins.set(value, index);
    this.#ordinary.set(value, this.ordinary(vector) & low);
  }

  lanesStatus(name: HelperName, ...args: Expr[]): void {
    const { f } = this;
    const status = this.call(name, ...args);
    f.ifUnlikely(i32.and(status, constI32(~L.LANES_ODD)), () => this.#after(constI32(L.STATUS_FAULT)));
    f.set(this.#c.odd, i32.or(this.#c.odd, status));
  }

  override setFloatsOdd(): void {
    this.f.set(this.#c.odd, constI32(1));
  }

  override controlsChanged(): void {
    const { f } = this;
    f.set(this.#c.odd, i32.or(this.#c.odd, unusualControls()));
  }

  override flagsCompare(a: Expr, b: Expr, float: FloatComparisons): void {
    super.flagsCompare(a, b, float);
    const c = this.#c;
    if (c.known) c.known = { ...c.known, floats: comparison(a, b, float) };
  }

  override isSameValue(a: Expr, b: Expr): boolean {
    const index = this.#origins.get(a);
    return index !== undefined && index === this.#origins.get(b);
  }

  readHalf(operand: Operand, half: number): Expr {
    return this.#copyOf(this.#slotOf(operand), half);
  }

  #copyOf(slot: number, half: number): Expr {
    const copy = this.f.copy(this.#vector(slot, half));
    const index = vectorIndex(slot, half);
    this.#origins.set(copy, index);
    this.#ordinary.set(copy, this.#c.ordinary[index] as number);
    return copy;
  }

  writeHalf(operand: Operand, half: number, value: Expr): void {
    this.#setVector(this.#slotOf(operand), half, value);
  }

  setVector(register: number, half: number, value: Expr): void {
    const c = this.#c;
    const index = 2 * register + half;
    const local = c.vectors[index];
    // What has no local stays in the state.
    if (local) this.f.set(local, value);
    else this.f.store('v128.store', at(halfAddress(index)), value);
    c.vectorsWritten.add(index);
    this.#wrote(index, value);
  }

  override vectorZero(): Expr {
    return this.#copyOf(L.XMM, 0);
  }

  /** The low `size` bytes of a vector register. */
  #readVector(slot: number, size: number, signed: boolean): Expr {
    if (size === 16) return this.#copyOf(slot, 0);
    const vector = this.#vector(slot, 0);
    const low = this.f.let(i64x2.extract_lane(0, vector));
    return size === 8 ? low : this.f.let(signed ? signExtend(size, low) : zeroExtend(size, low));
  }

  #writeVector(slot: number, size: number, value: Expr): void {
    const vector = this.#vector(slot, 0);
    if (size === 16) this.#setVector(slot, 0, value);
    else if (size === 8) this.#setVector(slot, 0, i64x2.replace_lane(0, vector, value));
    else this.#setVector(slot, 0, i32x4.replace_lane(0, vector, i32.wrap_i64(value)));
  }

  #slotOf({ place }: Operand): number {
    switch (place) {
      case 'G':
      case 'V':
      case 'P':
      case 'S':
      case 'C':
      case 'D':
        return this.#d.reg;
      case 'B':
      case 'H':
        return this.#d.vvvv;
      case 'L':
        return Number(this.#d.immediate & 0xffffn);
      case 'AX':
        return L.RAX;
      case 'CL':
        return L.RCX;
      case 'DX':
        return L.RDX;
      default:
        return this.#d.rm;
    }
  }

  slot(operand: Operand): Expr {
    const slot = this.#slotOf(operand);
    if (slot >= L.GPR && slot < GPR_END) throw new Untranslatable();
    return at(slot);
  }

  number(operand: Operand): Expr {
    return constI32(this.#slotOf(operand));
  }

  protected readAs(operand: Operand, signed: boolean): Expr {
    const { f } = this;
    const { place, size } = operand;
    if (place === 'memory') return f.let(loadSized(size, this.hostForRead(size), 0, signed));
    if (place === 'I') {
      const value = this.immediate();
      return signed ? value : constI64(BigInt.asUintN(Math.max(size, this.size) * 8, value.value as bigint));
    }
    if (place === '1') return constI64(1);
    const slot = this.#slotOf(operand);
    if (slot >= L.GPR && slot < GPR_END) return this.#readSlot(slot, size, signed);
    if (slot >= L.XMM && slot < XMM_END) return this.#readVector(slot, size, signed);
    return f.let(loadSized(size, at(slot), 0, signed));
  }

  modify(operand: Operand, signed = false): Expr {
    if (operand.place !== 'memory') return this.readAs(operand, signed);
    this.#opened = this.hostForWrite(operand.size, true);
    return this.f.let(loadSized(operand.size, this.#opened, 0, signed));
  }

  write(operand: Operand, value: Expr): void {
    const { f } = this;
    const { place, size } = operand;
    if (place === 'memory') {
      if (this.#opened) {
        storeSized(f, size, this.#opened, value);
        this.commit();
      } else {
        this.store(size, this.#address(), value);
      }
      return;
    }
    const slot = this.#slotOf(operand);
    if (slot >= L.GPR && slot < GPR_END) this.#writeSlot(slot, size, value);
    else if (slot >= L.XMM && slot < XMM_END) this.#writeVector(slot, size, value);
    else storeSized(f, size, at(slot), value);
  }

  immediate(): Expr {
    return constI64(this.#d.immediate);
  }

  immediate2(): Expr {
    return constI64(this.#d.displacement);
  }

  gpr(index: number, size: number): Expr {
    return this.#readSlot(L.GPR + index * 8, size, false);
  }

  setGpr(index: number, size: number, value: Expr): void {
    this.#writeSlot(L.GPR + index * 8, size, value);
  }

  setHigh(value: Expr): void {
    this.#writeSlot(L.RAX + 1, 1, value);
  }

  // ---- Addresses -----------------------------------------------------------------------------------------------------
  #base(): Expr {
    const { rm } = this.#d;
    if (rm === L.ZERO) return constI64(0);
    return rm === L.IP_PAGE ? this.#c.ipPage : this.#register((rm - L.GPR) >> 3);
  }

  #sum(): Expr {
    const { index, scale, displacement } = this.#d;
    const base = this.#base();
    const scaled = index === L.ZERO ? undefined : i64.shl(this.#register((index - L.GPR) >> 3), constI64(scale));
    const sum = !scaled ? base : base.isConst ? scaled : i64.add(base, scaled);
    return i64.add(sum, constI64(displacement));
  }

  effectiveAddress(): Expr {
    const { f } = this;
    const { form } = this.#d.shape;
    if (form === 'base' || form === 'index') return f.copy(this.#sum());
    const { prefix } = this.#d;
    if (prefix & L.RP_ADDR16) return f.copy(zeroExtend(2, this.#sum()));
    return f.copy(prefix & L.RP_ADDR32 ? zeroExtend(4, this.#sum()) : this.#sum());
  }

  #address(): Expr {
    const { f } = this;
    const { form } = this.#d.shape;
    if (form !== 'base' && form !== 'index') throw new Untranslatable();
    const { segment } = this.#d;
    const withSegment = form === 'index' && segment !== L.ZERO;
    this.#linear ??= f.copy(withSegment ? i64.add(this.#sum(), load('i64.load', at(segment))) : this.#sum());
    return this.#linear;
  }

  linearAddress(_size: number, _write: boolean): Expr {
    return this.#address();
  }

  linearAddressOrRestore(): Expr {
    return this.#address();
  }

  // ---- Memory ----------------------------------------------------------------------------------------------------------
  /** The budget that a record's own count brings to the right value. */
  #budgetFor(count: number): Expr {
    return i32.add(this.#c.budget, constI32(count - this.#c.unpaid));
  }

  #leave(): void {
    this.#c.exit('leave', this.#d.record, this.#budgetFor(this.#d.count));
  }

  #translate(size: number, linear: Expr, tag: number, slow: HelperName): Expr {
    const { f } = this;
    const address = f.let(linear);
    const host = f.local('i32');
    const entry = f.let(
      i32.add(
        this.#c.tlb,
        i32.and(i32.shr_u(i32.wrap_i64(address), constI32(7)), constI32((L.TLB_ENTRIES - 1) * L.TLB_ENTRY)),
      ),
    );
    // The page of the last byte: an access that crosses pages never matches.
    const page = i64.and(i64.add(address, constI64(size - 1)), constI64(-4096));
    f.ifLikely(
      i64.eq(page, load('i64.load', entry, tag)),
      () => f.set(host, i32.add(i32.wrap_i64(address), load('i32.load', entry, L.TLB_O_ADDEND))),
      () => {
        f.set(host, callExpr(this.#helper(slow), 'i32', [address, constI32(size), this.record()]));
        f.ifUnlikely(i32.eqz(host), () => this.#leave());
        if (tag === L.TLB_O_WRITE) f.set(this.#c.slow, constI32(1));
      },
    );
    return host;
  }

  load(size: number, linear: Expr, signed = false): Expr {
    return this.f.let(loadSized(size, this.#translate(size, linear, L.TLB_O_READ, 'load_slow'), 0, signed));
  }

  store(size: number, linear: Expr, value: Expr): void {
    const { f } = this;
    const host = this.#translate(size, linear, L.TLB_O_WRITE, 'store_slow');
    storeSized(f, size, host, value);
    this.#commitAt(host);
  }

  #commitAt(host: Expr): void {
    const { f } = this;
    f.ifUnlikely(this.#c.slow, () => {
      f.if(i32.eq(host, constI32(L.SCRATCH)), () => f.drop(callExpr(this.#helper('commit_store'), 'i32', [])));
    });
    this.#mayPost = true;
  }

  hostForRead(size: number): Expr {
    return this.#translate(size, this.#address(), L.TLB_O_READ, 'load_slow');
  }

  hostForWrite(size: number, read: boolean): Expr {
    const host = this.#translate(size, this.#address(), L.TLB_O_WRITE, read ? 'rmw_slow' : 'store_slow');
    this.#opened = host;
    return host;
  }

  commit(): void {
    if (this.#opened) this.#commitAt(this.#opened);
  }

  // ---- Flags -----------------------------------------------------------------------------------------------------------
  protected override setFlags(
    kind: number,
    result: Expr | undefined,
    a: Expr,
    b: Expr | undefined,
    plain: boolean,
  ): void {
    const c = this.#c;
    c.flagsUsed = true;
    c.flagsWritten = true;
    const conditional = this.#isConditional();
    c.known = { kind, result: result && this.#kept(result), a: this.#kept(a), b: b && this.#kept(b), plain };
    c.settled = false;
    if (!conditional) return;
    settleFlags(c);
    c.known = undefined;
  }

  /** A value for later, computed only where it is used: most flags never are. */
  #kept(value: Expr): Expr {
    return isPureTree(value) ? value : this.f.let(value);
  }

  /** Whether what is written now may not be run. Then the locals must hold the flags, for the way around it. */
  #isConditional(): boolean {
    const c = this.#c;
    if (c.f.depth === this.#depth) return false;
    if (c.known && !c.settled) {
      if (c.known !== this.#knownBefore) throw new Untranslatable();
      c.settleFirst.add(this.#d);
    }
    return true;
  }

  override carry(): Expr {
    const known = this.#c.known;
    if (!known) {
      this.#spillFlags();
      return super.carry();
    }
    return this.f.let(carryBit(known));
  }

  override arithmeticFlags(): Expr {
    const known = this.#c.known;
    if (known) return this.f.let(allFlags(known));
    this.#spillFlags();
    return this.f.let(i64.extend_i32_u(callExpr(this.#helper('get_arith'), 'i32', [])));
  }

  override flagsCarryOverflow(carry: Expr, overflow: Expr): void {
    const known = this.#c.known;
    if (!known) {
      super.flagsCarryOverflow(carry, overflow);
      return;
    }
    // Mostly never looked at: it stays an expression, but one that does not grow where rotates come in rows.
    const bits = i64.or(carry, i64.shl(overflow, constI64(11)));
    const { kind, a, result } = known;
    const rest = kind >= L.CC_KIND_ADD || a.isConst ? (x: Expr) => x : (x: Expr) => this.f.let(x);
    if (result) this.flagsResult(result, i64.or(rest(halfCarry(known)), bits));
    else this.flagsAll(i64.or(rest(i64.and(a, constI64(L.FLAGS_ARITH & ~(L.FLAG_CF | L.FLAG_OF)))), bits));
  }

  override condition(cc: number): Expr {
    const known = this.#c.known;
    if (known) {
      const value = knownCondition(cc >> 1, known);
      return this.f.let(cc & 1 ? i32.eqz(value) : value);
    }
    this.#spillFlags();
    return this.f.let(callExpr(this.#helper('condition'), 'i32', [constI32(cc)]));
  }

  /** Flags into the state. */
  #spillFlags(): void {
    const c = this.#c;
    c.flagsUsed = true;
    spillFlags(c);
  }

  // ---- Helpers -----------------------------------------------------------------------------------------------------------
  #helper(name: HelperName): number {
    return this.#c.helper(name);
  }

  /** Everything a helper may look at into the state. */
  #spill(vectors: boolean): void {
    storeRegisters(this.#c);
    if (vectors) storeVectors(this.#c);
    if (this.#c.flagsWritten) this.#spillFlags();
  }

  /** And back. */
  #reload(vectors: boolean): void {
    loadRegisters(this.#c);
    if (vectors) {
      loadVectors(this.#c);
      this.#c.ordinary = NOT_KNOWN_ORDINARY;
      this.#origins.clear();
    }
    if (this.#c.oddUsed) this.controlsChanged();
    if (this.#c.flagsUsed) loadFlags(this.#c);
    this.#c.known = undefined;
    this.f.set(this.#c.tlb, load('i32.load', at(L.TLB_BASE)));
  }

  sync(): void {
    const { f } = this;
    f.store('i64.store', at(L.RIP), i64.add(this.#c.ipPage, constI64(this.#d.offset)));
    f.store('i64.store', at(L.NEXT_RIP), i64.add(this.#c.ipPage, constI64(this.#d.offset + this.#d.length)));
  }

  call(name: HelperName, ...args: Expr[]): Expr {
    const result = RESULT_TYPES[HELPERS[name].split(':')[1] as string] as ValType;
    const value = (): Expr => this.f.let(callExpr(this.#helper(name), result, args));
    return isPure(name) ? value() : this.#around(name, value);
  }

  run(name: HelperName, ...args: Expr[]): void {
    const call = (): void => this.f.call(this.#helper(name), args);
    if (isPure(name)) call();
    else this.#around(name, call);
  }

  #around<T>(name: HelperName, call: () => T): T {
    const vectors = VECTOR_HELPERS.test(name);
    this.#isConditional();
    this.#spill(vectors);
    const value = call();
    this.#reload(vectors);
    return value;
  }

  #called(name: HelperName, args: readonly Expr[]): Expr {
    const { f } = this;
    const values = args.map((arg) => f.let(arg));
    this.sync();
    if (isPure(name)) return f.let(callExpr(this.#helper(name), 'i32', values));
    const status = this.#around(name, () => f.let(callExpr(this.#helper(name), 'i32', values)));
    f.set(this.#c.slow, constI32(1));
    this.#mayPost = true;
    return status;
  }

  #after(status: Expr): void {
    this.#c.exit('after', this.#d.record, this.#budgetFor(this.#d.count), status);
  }

  status(name: HelperName, ...args: Expr[]): void {
    if (TIMED.has(name)) {
      this.f.store('i32.store', at(L.BUDGET), i32.sub(this.#c.budget, constI32(this.#c.unpaid)));
    }
    const status = this.#called(name, args);
    this.f.ifUnlikely(status, () => this.#after(status));
  }

  check(name: HelperName): void {
    const { f } = this;
    f.ifUnlikely(callExpr(this.#helper(name), 'i32', []), () => this.#after(constI32(L.STATUS_FAULT)));
  }

  modeBits(bits: number): Expr {
    return constI32(this.#c.mode & bits);
  }

  statusThen(name: HelperName, args: readonly Expr[], done: () => void): void {
    const { f } = this;
    const status = this.#called(name, args);
    f.if(i32.or(i32.eq(status, constI32(L.STATUS_FAULT)), i32.eq(status, constI32(L.STATUS_EXIT))), () =>
      this.#after(status),
    );
    done();
    f.if(status, () => this.#after(status));
  }

  // ---- Control -----------------------------------------------------------------------------------------------------------
  nextIp(): Expr {
    return this.f.copy(i64.add(this.#c.ipPage, constI64(this.#d.offset + this.#d.length)));
  }

  branch(): void {
    this.#ways.taken();
    this.#ended = true;
  }

  branchIf(condition: Expr): void {
    const { known, settled, unpaid, ordinary } = this.#c;
    pin(this.#c);
    this.f.if(condition, () => this.#ways.taken());
    // The other way knows nothing of what the first one did.
    this.#c.ordinary = ordinary;
    this.#c.known = known;
    this.#c.settled = settled;
    this.#c.unpaid = unpaid;
  }

  jump(ip: Expr): void {
    const target = this.f.let(ip);
    this.#ways.jumped(target);
    this.f.store('i64.store', at(L.RIP), target);
    this.#c.exit('lookup', this.#d.record, this.#budgetFor(0));
    this.#ended = true;
  }

  fault(vector: number): void {
    this.f.drop(callExpr(this.#helper('raise_error'), 'i32', [constI32(vector), constI32(0)]));
    this.#after(constI32(L.STATUS_FAULT));
  }

  /** Looks whether an access that went the long way wants the region to be left. */
  end(): void {
    if (!this.#mayPost) return;
    this.#mayPost = false;
    const { f } = this;
    f.ifUnlikely(this.#c.slow, () => {
      f.set(this.#c.slow, constI32(0));
      f.if(load('i32.load', at(L.MMIO_POSTED)), () =>
        this.#c.exit('posted', this.#d.record, this.#budgetFor(this.#d.count)),
      );
      f.if(load('i32.load', at(L.CODE_STALE)), () => {
        f.store('i32.store', at(L.CODE_STALE), constI32(0));
        f.store('i64.store', at(L.RIP), i64.add(this.#c.ipPage, constI64(this.#d.offset + this.#d.length)));
        this.#c.exit('lookup', this.#d.record, this.#budgetFor(0));
      });
    });
  }
}

/** Bit 63: carry or borrow out of an addition or subtraction; bit 3 the half-carry. */
function carries({ kind, a, b, result }: KnownFlags): Expr {
  const [x, y, r] = [a, b as Expr, result as Expr];
  const not = (e: Expr): Expr => i64.xor(e, constI64(-1));
  if (kind === L.CC_KIND_ADD) return i64.or(i64.and(x, y), i64.and(i64.or(x, y), not(r)));
  return i64.or(i64.and(not(x), y), i64.and(i64.or(not(x), y), r));
}

/** CF (i64 0 or 1). */
function carryBit(known: KnownFlags): Expr {
  const { kind, a, b, result, plain } = known;
  if (kind < L.CC_KIND_ADD) return i64.and(a, constI64(L.FLAG_CF));
  if (!plain) return i64.shr_u(carries(known), constI64(63));
  return i64.extend_i32_u(kind === L.CC_KIND_ADD ? i64.lt_u(result as Expr, a) : i64.lt_u(a, b as Expr));
}

/** AF at its place. */
function halfCarry(known: KnownFlags): Expr {
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
function allFlags(known: KnownFlags): Expr {
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
function knownCondition(pair: number, known: KnownFlags): Expr {
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
function isPureTree({ code, args }: Expr): boolean {
  if (code === OP_CONST || code === OP_LOCAL) return true;
  const arithmetic = code === OP_SELECT || (code >= 0x45 && code <= 0xc4);
  return arithmetic && args.every(isPureTree);
}

/** The locals that what is known is made of. */
export function flagLocals(known: KnownFlags | undefined): Expr[] {
  const found: Expr[] = [];
  const collect = (value: Expr | undefined): void => {
    if (value?.code === OP_LOCAL) found.push(value);
    else value?.args.forEach(collect);
  };
  for (const value of [known?.result, known?.a, known?.b]) collect(value);
  return found;
}

/** Another way knows the same of the flags. */
export function pin({ known, pinned }: RegionContext): void {
  for (const local of flagLocals(known)) pinned.add(local);
}

export function storeRegisters(c: RegionContext): void {
  for (const index of c.written) c.f.store('i64.store', at(L.GPR + index * 8), c.registers[index] as Expr);
}

export function storeVectors(c: RegionContext): void {
  for (const index of c.vectorsWritten) {
    const local = c.vectors[index];
    if (local) c.f.store('v128.store', at(halfAddress(index)), local);
  }
}

export function loadVectors(c: RegionContext): void {
  c.vectors.forEach((local, index) => {
    if (local) c.f.set(local, load('v128.load', at(halfAddress(index))));
  });
}

function vectorIndex(slot: number, half: number): number {
  return ((slot - L.XMM) / L.XMM_SIZE) * 2 + half;
}

function halfAddress(index: number): number {
  return L.XMM + (index >> 1) * L.XMM_SIZE + (index & 1) * 16;
}

export function loadRegisters(c: RegionContext): void {
  c.registers.forEach((local, index) => {
    if (local) c.f.set(local, load('i64.load', at(L.GPR + index * 8)));
  });
}

/** Known flags into the locals. */
export function settleFlags(c: RegionContext): void {
  const { f, flags, known } = c;
  if (!known || c.settled) return;
  f.set(flags.kind, constI32(known.kind));
  f.set(flags.a, known.a);
  if (known.b) f.set(flags.b, known.b);
  if (known.result) f.set(flags.result, known.result);
  c.settled = true;
}

/** Flags into the state, from wherever they are. */
function spillFlags(c: RegionContext): void {
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
