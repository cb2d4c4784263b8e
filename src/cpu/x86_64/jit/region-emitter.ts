import { callExpr, constI32, constI64, type Expr, i32, i64, load, type ValType } from '../../../wasm/expr.ts';
import { helperType } from '../interpreter/handler-emitter.ts';
import * as L from '../layout.ts';
import { raising } from '../semantics/emitter.ts';
import { type HelperName, TIMED } from '../semantics/helper-names.ts';
import type { Decoded } from './region.ts';
import {
  aside,
  DIRTY_FLAGS,
  forgetPlaces,
  loadRegisters,
  loadVectors,
  type RegionContext,
  storeRegisters,
  storeVectors,
  Untranslatable,
  type Ways,
} from './region-context.ts';
import {
  allFlags,
  carryBit,
  halfCarry,
  isPureTree,
  type KnownFlags,
  knownCondition,
  loadFlags,
  settleFlags,
  spillFlags,
} from './region-flags.ts';
import { RegionMemory } from './region-memory.ts';
import { helperCallee } from './template.ts';

const at = (address: number): Expr => constI32(address);

/** Helpers that look at no general register and no arithmetic flag of the state: those of x87 have registers of their own, which are always there. */
const PURE =
  /^(cli|sti|swapgs|set_ac|rdfsgsbase|wrfsgsbase|pdep|pext|quotient|random|crc32c|soft_|aes_|sha|pclmulqdq|fpu_(begin|enter|operand|(load|store)(_(register|constant|extended|decimal))?|exchange|sign|move|free|rotate|arith|arith_memory|sqrt|compare|compare_memory|test|examine|round|scale)$)/;

/** Of these: what changes where memory is, by the TLB that is in use or by a segment's base. */
const MOVING = /^(swapgs|set_ac|wrfsgsbase)$/;

/** Helpers that look at vector registers. */
const VECTOR_HELPERS = /^(fxsave|fxrstor|xsave|xsaveopt|xsavec|xrstor|string_compare|maskmov|avx_masked|avx_gather)/;

interface Helper {
  readonly isPure: boolean;
  readonly isMoving: boolean;
  readonly looksAtVectors: boolean;
  readonly result: ValType;
}

/** Those that have been met. */
const helpers = new Map<HelperName, Helper>();

function helperOf(name: HelperName): Helper {
  let helper = helpers.get(name);
  if (!helper) {
    helper = {
      isPure: PURE.test(name),
      isMoving: MOVING.test(name),
      looksAtVectors: VECTOR_HELPERS.test(name),
      result: helperType(name).results[0] as ValType,
    };
    helpers.set(name, helper);
  }
  return helper;
}

/** Writes one instruction of a region: operands are known, registers and flags are locals. */
export class RegionEmitter extends RegionMemory {
  readonly #ways: Ways;
  #ended = false;
  /** A helper may have written to devices or to code. */
  #mayHaveWritten = false;
  /** What is known of the flags before it. */
  readonly #knownBefore: KnownFlags | undefined;

  constructor(context: RegionContext, decoded: Decoded, ways: Ways) {
    super(context, decoded);
    this.#ways = ways;
    this.#knownBefore = context.known;
  }

  /** Nothing follows the instruction. */
  get ended(): boolean {
    return this.#ended;
  }

  // ---- Flags -----------------------------------------------------------------------------------------------------------
  protected override setFlags(
    kind: number,
    result: Expr | undefined,
    a: Expr,
    b: Expr | undefined,
    plain: boolean,
  ): void {
    const conditional = this.#isConditional();
    this.#know({
      kind,
      result: result && this.#kept(result),
      a: this.#kept(a),
      b: b && this.#kept(b),
      plain,
      locals: undefined,
    });
    if (!conditional) return;
    settleFlags(this.c);
    this.c.known = undefined;
  }

  /** Flags of the instruction. */
  #know(known: KnownFlags): void {
    const c = this.c;
    c.flagsUsed = true;
    c.flagsWritten = true;
    c.dirty |= DIRTY_FLAGS;
    c.known = known;
    c.settled = false;
  }

  /** A value for later, computed only where it is used: most flags never are. */
  #kept(value: Expr): Expr {
    return isPureTree(value) ? value : this.f.let(value);
  }

  /** Whether what is written now may not be run. Then the locals must hold the flags, for the way around it. */
  #isConditional(): boolean {
    const c = this.c;
    if (c.f.depth === this.depth) return false;
    if (c.known && !c.settled) {
      if (c.known !== this.#knownBefore) throw new Untranslatable();
      this.d.settleFirst = true;
    }
    return true;
  }

  override carry(): Expr {
    const known = this.c.known;
    if (!known) {
      this.#spillFlags();
      return super.carry();
    }
    return this.f.let(carryBit(known));
  }

  override arithmeticFlags(): Expr {
    const known = this.c.known;
    if (known) return this.f.let(allFlags(known));
    this.#spillFlags();
    return this.f.let(i64.extend_i32_u(callExpr(helperCallee('get_arith'), 'i32', [])));
  }

  /** The six flags at their places, of which nothing is known but that they are in the locals. */
  #flagsOfLocals(): Expr {
    const { kind, a, b, result } = this.c.flags;
    return i64.extend_i32_u(callExpr(helperCallee('arith_of'), 'i32', [kind, a, b, result]));
  }

  override flagsCarryOverflow(carry: Expr, overflow: Expr): void {
    const c = this.c;
    // Mostly never looked at: it stays an expression, but one that does not grow where rotates come in rows.
    const bits = i64.or(carry, i64.shl(overflow, constI64(11)));
    if (!c.known || c.known.rest) {
      if (this.#isConditional()) {
        super.flagsCarryOverflow(carry, overflow);
        return;
      }
      const rest = c.known?.rest ?? i64.and(this.#flagsOfLocals(), constI64(L.FLAGS_ARITH & ~(L.FLAG_CF | L.FLAG_OF)));
      const a = i64.or(rest, bits);
      this.#know({ kind: L.CC_KIND_FLAGS, result: undefined, a, b: undefined, plain: false, locals: undefined, rest });
      return;
    }
    const { kind, a, result } = c.known;
    const rest = kind >= L.CC_KIND_ADD || a.isConst ? (x: Expr) => x : (x: Expr) => this.f.let(x);
    if (result) this.flagsResult(result, i64.or(rest(halfCarry(c.known)), bits));
    else this.flagsAll(i64.or(rest(i64.and(a, constI64(L.FLAGS_ARITH & ~(L.FLAG_CF | L.FLAG_OF)))), bits));
  }

  override condition(cc: number): Expr {
    const known = this.c.known;
    if (known) {
      const value = knownCondition(cc >> 1, known);
      return this.f.let(cc & 1 ? i32.eqz(value) : value);
    }
    this.#spillFlags();
    return this.f.let(callExpr(helperCallee('condition'), 'i32', [constI32(cc)]));
  }

  /** Flags into the state. */
  #spillFlags(): void {
    const c = this.c;
    c.flagsUsed = true;
    spillFlags(c);
  }

  // ---- Helpers -----------------------------------------------------------------------------------------------------------
  /** The budget that a record's own count brings to the right value. */
  #budgetFor(count: number): Expr {
    return i32.add(this.c.budget, constI32(count - this.c.unpaid));
  }

  /** Everything a helper may look at into the state. */
  #spill(vectors: boolean): void {
    const c = this.c;
    storeRegisters(c, c.dirty);
    if (vectors) storeVectors(c, c.dirtyVectors);
    if (c.dirty & DIRTY_FLAGS) this.#spillFlags();
  }

  /** And back. */
  #reload(vectors: boolean): void {
    const c = this.c;
    // What is deeper may not be run.
    const isCertain = c.f.depth === this.depth;
    loadRegisters(c);
    if (c.flagsUsed) loadFlags(c);
    if (isCertain) {
      c.dirty = 0;
      c.isSynced = true;
    }
    if (vectors) {
      loadVectors(c);
      this.forgetVectors();
      if (isCertain) {
        c.dirtyVectors = 0;
        c.isVectorsSynced = true;
      }
    }
    if (c.usualUsed) this.controlsChanged();
    c.known = undefined;
    this.#memoryMoved();
  }

  /** Another TLB may be in use, and what was looked up is no more. */
  #memoryMoved(): void {
    forgetPlaces(this.c);
    this.f.set(this.c.tlb, load('i32.load', at(L.TLB_BASE)));
  }

  sync(): void {
    const { f } = this;
    f.store('i64.store', at(L.RIP), i64.add(this.c.ipPage, constI64(this.d.offset)));
    f.store('i64.store', at(L.NEXT_RIP), i64.add(this.c.ipPage, constI64(this.d.offset + this.d.length)));
  }

  call(name: HelperName, ...args: Expr[]): Expr {
    const { isPure, result } = helperOf(name);
    const value = (): Expr => this.f.let(callExpr(helperCallee(name), result, args));
    return isPure ? value() : this.#around(name, value);
  }

  run(name: HelperName, ...args: Expr[]): void {
    const call = (): void => this.f.call(helperCallee(name), args);
    if (helperOf(name).isPure) call();
    else this.#around(name, call);
  }

  #around<T>(name: HelperName, call: () => T): T {
    const vectors = helperOf(name).looksAtVectors;
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
    const { isPure, isMoving } = helperOf(name);
    if (isPure) {
      const status = f.let(callExpr(helperCallee(name), 'i32', values));
      if (isMoving) this.#memoryMoved();
      return status;
    }
    const status = this.#around(name, () => f.let(callExpr(helperCallee(name), 'i32', values)));
    this.#mayHaveWritten = true;
    return status;
  }

  #after(status: Expr): void {
    this.c.exit('after', this.d.record, this.#budgetFor(this.d.count), status);
  }

  lanesStatus(name: HelperName, ...args: Expr[]): void {
    const { f } = this;
    const status = this.call(name, ...args);
    f.ifUnlikely(i32.and(status, constI32(~L.LANES_ODD)), () => this.#after(constI32(L.STATUS_FAULT)));
    f.if(status, () => this.setFloatsOdd());
  }

  status(name: HelperName, ...args: Expr[]): void {
    if (TIMED.has(name)) {
      this.f.store('i32.store', at(L.BUDGET), i32.sub(this.c.budget, constI32(this.c.unpaid)));
    }
    const status = this.#called(name, args);
    this.f.ifUnlikely(status, () => this.#after(status));
  }

  check(name: HelperName): void {
    const { f } = this;
    f.ifUnlikely(callExpr(helperCallee(name), 'i32', []), () => this.#after(constI32(L.STATUS_FAULT)));
  }

  modeBits(bits: number): Expr {
    return constI32(this.c.mode & bits);
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
    return this.f.copy(i64.add(this.c.ipPage, constI64(this.d.offset + this.d.length)));
  }

  branch(): void {
    this.#ways.taken(this.d);
    this.#ended = true;
  }

  branchIf(condition: Expr): void {
    aside(this.c, condition, () => this.#ways.taken(this.d));
  }

  jump(ip: Expr): void {
    const target = this.f.let(ip);
    this.#ways.jumped(target);
    this.f.set(this.c.target, target);
    this.c.exit('jump', this.d.record, this.#budgetFor(0));
    this.#ended = true;
  }

  fault(vector: number, error?: number): void {
    const { name, args } = raising(vector, error);
    this.f.drop(callExpr(helperCallee(name), 'i32', args));
    this.#after(constI32(L.STATUS_FAULT));
  }

  /** Leaves where a helper has written what must be seen before the next instruction: to a device, or to code. */
  end(): void {
    this.settlePlaces();
    if (!this.#mayHaveWritten) return;
    const { f } = this;
    f.ifUnlikely(i32.or(load('i32.load', at(L.MMIO_POSTED)), load('i32.load', at(L.CODE_STALE))), () => {
      f.store('i32.store', at(L.CODE_STALE), constI32(0));
      this.sync();
      this.#after(constI32(L.STATUS_NEXT));
    });
  }
}
