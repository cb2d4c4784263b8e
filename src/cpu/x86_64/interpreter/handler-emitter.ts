import { callExpr, constI32, constI64, type Expr, i32, i64, load, select, type ValType } from '../../../wasm/expr.ts';
import type { FunctionBuilder } from '../../../wasm/function.ts';
import * as L from '../layout.ts';
import { Emitter, loadSized, type Operand, raising, slotSource, storeSized, zeroExtend } from '../semantics/emitter.ts';
import { HELPERS, type HelperName, TIMED } from '../semantics/helper-names.ts';
import type { Shape } from '../semantics/instruction.ts';
import { tlbEntry } from './tlb.ts';

/** Function and type indices that handlers refer to. */
export interface EngineFunctions {
  readonly helpers: ReadonlyMap<HelperName, number>;
  /** Type of a handler. */
  readonly handlerType: number;
  /** (record, budget): the instruction left by LEAVE_STATUS. */
  readonly leave: number;
  /** (record, budget, status): the instruction ended with a status other than STATUS_OK. */
  readonly after: number;
  /** (record, budget): RIP holds where to go on; finds the block. */
  readonly lookup: number;
  /** (record, budget): go to the record's direct target the long way. */
  readonly branchSlow: number;
  /** (record): RIP and NEXT_RIP of the record into the state. */
  readonly sync: number;
  /** (record, budget): posted device writes leave after this instruction. */
  readonly posted: number;
}

/** Type of a handler's function, and of a region's: (record, budget) to EXIT_*. */
export const HANDLER: readonly ValType[] = ['i32', 'i32'];
export const STATUS: readonly ValType[] = ['i32'];

const TYPES: Record<string, ValType> = { i: 'i32', l: 'i64', v: 'v128' };

/** Type of a helper's function. */
export function helperType(name: HelperName): {
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
} {
  const [params, results] = HELPERS[name].split(':').map((text) => [...text].map((c) => TYPES[c] as ValType));
  return { params: params as ValType[], results: results as ValType[] };
}

/** Of a record: where the decoder's fields are. */
const FIELDS = { reg: L.R_REG, rm: L.R_RM, vvvv: L.R_VVVV };

const at = (address: number): Expr => constI32(address);

/** Writes one handler: operands come from the decoded record at run time. */
export class HandlerEmitter extends Emitter {
  readonly #shape: Shape;
  readonly #engine: EngineFunctions;
  readonly #ip: Expr;
  readonly #budget: Expr;
  /** Host address of a memory operand that modify() or hostForWrite() opened. */
  #opened: Expr | undefined;
  #linear: Expr | undefined;
  #ended = false;
  #mayPost = false;

  constructor(f: FunctionBuilder, shape: Shape, engine: EngineFunctions) {
    super(f, shape.size, shape.long);
    this.#shape = shape;
    this.#engine = engine;
    this.#ip = f.param(0);
    this.#budget = f.param(1);
  }

  record(): Expr {
    return this.#ip;
  }

  // ---- Operands ----------------------------------------------------------------------------------------------------
  #field(offset: number): Expr {
    return load('i32.load16_u', this.#ip, offset);
  }

  slot(operand: Operand): Expr {
    const source = slotSource(operand);
    if (typeof source === 'number') return at(source);
    return source === 'immediate' ? load('i32.load', this.#ip, L.R_IMM) : this.#field(FIELDS[source]);
  }

  number(operand: Operand): Expr {
    return this.f.let(this.slot(operand));
  }

  protected readAs(operand: Operand, signed: boolean): Expr {
    const { f } = this;
    const { place, size } = operand;
    if (place === 'memory') return f.let(loadSized(size, this.hostForRead(size), 0, signed));
    if (place === 'I') {
      const value = this.immediate();
      return f.let(signed ? value : zeroExtend(Math.max(size, this.size), value));
    }
    if (place === '1') return constI64(1);
    return f.let(loadSized(size, this.slot(operand), 0, signed));
  }

  readHalf(operand: Operand, half: number): Expr {
    return this.f.let(load('v128.load', this.slot(operand), half * 16));
  }

  writeHalf(operand: Operand, half: number, value: Expr): void {
    this.f.store('v128.store', this.slot(operand), value, half * 16);
  }

  setVector(register: number, half: number, value: Expr): void {
    this.f.store('v128.store', at(L.XMM + register * L.XMM_SIZE + half * 16), value);
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
        this.store(size, this.#address(size, true), value);
      }
      return;
    }
    this.#writeSlot(this.slot(operand), size, value, 'VWUHL'.includes(place) ? 'vector' : 'general');
  }

  #writeSlot(slot: Expr, size: number, value: Expr, file: 'general' | 'vector'): void {
    if (size === 4 && file === 'general') this.f.store('i64.store', slot, zeroExtend(4, value));
    else storeSized(this.f, size, slot, value);
  }

  immediate(): Expr {
    return load('i64.load', this.#ip, L.R_IMM);
  }

  immediate2(): Expr {
    return load('i64.load', this.#ip, L.R_DISP);
  }

  gpr(index: number, size: number): Expr {
    return this.f.let(loadSized(size, at(L.GPR + index * 8)));
  }

  setGpr(index: number, size: number, value: Expr): void {
    this.#writeSlot(at(L.GPR + index * 8), size, value, 'general');
  }

  setHigh(value: Expr): void {
    this.f.store('i64.store8', at(L.RAX + 1), value);
  }

  // ---- Addresses -----------------------------------------------------------------------------------------------------
  #base(): Expr {
    return load('i64.load', this.#field(L.R_RM));
  }

  #displacement(): Expr {
    return load('i64.load', this.#ip, L.R_DISP);
  }

  #scaledIndex(): Expr {
    const index = load('i64.load', this.#field(L.R_INDEX));
    return i64.shl(index, load('i64.load8_u', this.#ip, L.R_SCALE));
  }

  effectiveAddress(): Expr {
    const { f } = this;
    if (this.#shape.form === 'base') return f.let(i64.add(this.#base(), this.#displacement()));
    const sum = f.let(i64.add(i64.add(this.#base(), this.#scaledIndex()), this.#displacement()));
    if (this.#shape.form === 'index') return sum;
    const prefix = f.let(load('i32.load8_u', this.#ip, L.R_PREFIX));
    const short = select(zeroExtend(2, sum), zeroExtend(4, sum), i32.and(prefix, constI32(L.RP_ADDR16)));
    return f.let(select(short, sum, i32.and(prefix, constI32(L.RP_ADDR16 | L.RP_ADDR32))));
  }

  /** Linear address of the memory operand; materialised once. */
  #address(size: number, write: boolean): Expr {
    if (this.#linear) return this.#linear;
    const { f } = this;
    switch (this.#shape.form) {
      case 'base':
        this.#linear = f.let(i64.add(this.#base(), this.#displacement()));
        break;
      case 'index': {
        const offset = i64.add(i64.add(this.#base(), this.#scaledIndex()), this.#displacement());
        this.#linear = f.let(i64.add(offset, load('i64.load', this.#field(L.R_SEG))));
        break;
      }
      default:
        this.#linear = f.let(this.call('ea_slow', this.#ip, constI32(size), constI32(write ? 1 : 0)));
        f.ifUnlikely(load('i32.load', at(L.EA_FAILED)), () => this.#leave());
    }
    return this.#linear;
  }

  linearAddress(size: number, write: boolean): Expr {
    return this.#address(size, write);
  }

  linearAddressOrRestore(size: number, stackPointer: Expr): Expr {
    if (this.#shape.form === 'slow') {
      // The helper may fail: with the stack pointer put back first, leaving is harmless.
      this.#linear = this.f.let(this.call('ea_slow', this.#ip, constI32(size), constI32(1)));
      this.f.ifUnlikely(load('i32.load', at(L.EA_FAILED)), () => {
        this.setGpr(4, 8, stackPointer);
        this.#leave();
      });
      return this.#linear;
    }
    return this.#address(size, true);
  }

  // ---- Memory ----------------------------------------------------------------------------------------------------------
  #leave(): void {
    this.f.returnCall(this.#engine.leave, [this.#ip, this.#budget]);
  }

  /** Host address by the TLB, or by the helper when the TLB does not know. */
  #translate(size: number, linear: Expr, tag: number, slow: HelperName): Expr {
    const { f } = this;
    const address = f.let(linear);
    const host = f.local('i32');
    const entry = f.let(tlbEntry(load('i32.load', at(L.TLB_BASE)), i32.wrap_i64(address)));
    // The page of the last byte: an access that crosses pages never matches.
    const page = i64.and(i64.add(address, constI64(size - 1)), constI64(-4096));
    f.ifLikely(
      i64.eq(page, load('i64.load', entry, tag)),
      () => f.set(host, i32.add(i32.wrap_i64(address), load('i32.load', entry, L.TLB_O_ADDEND))),
      () => {
        f.set(host, this.call(slow, address, constI32(size), this.#ip));
        f.ifUnlikely(i32.eqz(host), () => this.#leave());
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
    f.ifUnlikely(i32.eq(host, constI32(L.SCRATCH)), () => {
      f.drop(this.call('commit_store'));
    });
    this.#mayPost = true;
  }

  hostForRead(size: number): Expr {
    return this.#translate(size, this.#address(size, false), L.TLB_O_READ, 'load_slow');
  }

  hostForWrite(size: number, read: boolean): Expr {
    const host = this.#translate(size, this.#address(size, true), L.TLB_O_WRITE, read ? 'rmw_slow' : 'store_slow');
    this.#opened = host;
    return host;
  }

  commit(): void {
    if (this.#opened) this.#commitAt(this.#opened);
  }

  // ---- Helpers and control -----------------------------------------------------------------------------------------------
  #helper(name: HelperName): number {
    const index = this.#engine.helpers.get(name);
    if (index === undefined) throw new Error(`no helper ${name}`);
    return index;
  }

  call(name: HelperName, ...args: Expr[]): Expr {
    const result = helperType(name).results[0] as ValType;
    return this.f.let(callExpr(this.#helper(name), result, args));
  }

  run(name: HelperName, ...args: Expr[]): void {
    this.f.call(this.#helper(name), args);
  }

  sync(): void {
    this.f.call(this.#engine.sync, [this.#ip]);
  }

  status(name: HelperName, ...args: Expr[]): void {
    const { f } = this;
    this.sync();
    if (TIMED.has(name)) {
      f.store('i32.store', at(L.BUDGET), i32.sub(this.#budget, load('i32.load8_u', this.#ip, L.R_COUNT)));
    }
    const status = this.call(name, ...args);
    f.ifUnlikely(status, () => f.returnCall(this.#engine.after, [this.#ip, this.#budget, status]));
    this.#mayPost = true;
  }

  check(name: HelperName): void {
    const { f } = this;
    const status = this.call(name);
    f.ifUnlikely(status, () => f.returnCall(this.#engine.after, [this.#ip, this.#budget, status]));
  }

  lanesStatus(name: HelperName, ...args: Expr[]): void {
    const { f } = this;
    const failed = i32.and(this.call(name, ...args), constI32(~L.LANES_ODD));
    f.ifUnlikely(failed, () => f.returnCall(this.#engine.after, [this.#ip, this.#budget, constI32(L.STATUS_FAULT)]));
  }

  modeBits(bits: number): Expr {
    return i32.and(load('i32.load', at(L.MODE)), constI32(bits));
  }

  statusThen(name: HelperName, args: readonly Expr[], done: () => void): void {
    const { f } = this;
    f.call(this.#engine.sync, [this.#ip]);
    const status = this.call(name, ...args);
    const after = () => f.returnCall(this.#engine.after, [this.#ip, this.#budget, status]);
    f.if(i32.or(i32.eq(status, constI32(L.STATUS_FAULT)), i32.eq(status, constI32(L.STATUS_EXIT))), after);
    done();
    f.if(status, after);
  }

  nextIp(): Expr {
    const { f } = this;
    const length = load('i64.load8_u', this.#ip, L.R_LEN);
    const next = i64.add(load('i64.load', at(L.IP_PAGE)), i64.add(load('i64.load16_u', this.#ip, L.R_OFFSET), length));
    return f.let(this.long ? next : zeroExtend(4, next));
  }

  branch(): void {
    const { f } = this;
    const left = f.let(i32.sub(this.#budget, load('i32.load8_u', this.#ip, L.R_COUNT)));
    const target = f.let(select(load('i32.load', this.#ip, L.R_DISP), constI32(0), i32.ge_s(left, constI32(0))));
    f.if(target, () => this.#dispatch(target, left));
    f.returnCall(this.#engine.branchSlow, [this.#ip, left]);
    this.#ended = true;
  }

  branchIf(condition: Expr): void {
    this.f.if(condition, () => {
      this.branch();
    });
    this.#ended = false;
  }

  jump(ip: Expr): void {
    const { f } = this;
    f.store('i64.store', at(L.RIP), ip);
    const left = i32.sub(this.#budget, load('i32.load8_u', this.#ip, L.R_COUNT));
    f.returnCall(this.#engine.lookup, [this.#ip, left]);
    this.#ended = true;
  }

  fault(vector: number, error?: number): void {
    const { name, args } = raising(vector, error);
    this.f.drop(this.call(name, ...args));
    this.f.returnCall(this.#engine.after, [this.#ip, this.#budget, constI32(L.STATUS_FAULT)]);
  }

  #dispatch(record: Expr, budget: Expr): void {
    const handler = load('i32.load16_u', record, L.R_HANDLER);
    this.f.returnCallIndirect(this.#engine.handlerType, [record, budget], handler);
  }

  /** Goes on with the next record. */
  end(): void {
    if (this.#ended) {
      // The validator wants a result on the path that no instruction takes.
      this.f.unreachable();
      return;
    }
    if (this.#mayPost) {
      const { f } = this;
      f.ifUnlikely(load('i32.load', at(L.MMIO_POSTED)), () =>
        f.returnCall(this.#engine.posted, [this.#ip, this.#budget]),
      );
    }
    const { f } = this;
    const handler = load('i32.load16_u', this.#ip, L.RECORD + L.R_HANDLER);
    f.returnCallIndirect(this.#engine.handlerType, [i32.add(this.#ip, constI32(L.RECORD)), this.#budget], handler);
  }
}
