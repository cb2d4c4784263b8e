// Registers of a region are locals. The operands of an instruction that are registers or constants; what is known of vectors.

import { constI32, constI64, type Expr, i32, i64, OP_I64_ADD } from '../../../wasm/expr.ts';
import { i32x4, i64x2 } from '../../../wasm/vector.ts';
import * as L from '../layout.ts';
import {
  comparison,
  Emitter,
  type FloatComparisons,
  type FloatLane,
  loadSized,
  type Operand,
  signExtend,
  slotSource,
  storeSized,
  unusualControls,
  zeroExtend,
} from '../semantics/emitter.ts';
import { ORDINARY_ALL, SINCE_LOOP } from '../semantics/ordinary.ts';
import { hostFuses } from './fused.ts';
import type { Decoded } from './region.ts';
import {
  halfAddress,
  NO_COPIES,
  NOT_KNOWN_ORDINARY,
  newPlace,
  type Place,
  type RegionContext,
  releaseLanes,
  Untranslatable,
  vectorIndex,
} from './region-context.ts';
import { recordAddress } from './template.ts';

const at = (address: number): Expr => constI32(address);
const GPR_END = L.GPR + 16 * 8;
const XMM_END = L.XMM + 16 * L.XMM_SIZE;

/** As Array.prototype.with(), which takes V8 several times as long. */
function replaced<T>(list: readonly T[], index: number, value: T): readonly T[] {
  const copy = list.slice();
  copy[index] = value;
  return copy;
}

/** Offsets of places are exact numbers below this. */
const FAR = 2 ** 40;

/** A place; undefined where it is too far for its offset to be exact. */
export function near(base: number, offset: number): Place | undefined {
  return Math.abs(offset) < FAR ? { base, offset } : undefined;
}

/** What is known of a value: of a local of the instruction's own that is not set again. */
interface Note {
  readonly value: Expr;
  place: Place | undefined;
  /** ORDINARY_* of a vector or float. */
  ordinary: number;
  /** Number of the vector's half that it was read from, if that is still the same. */
  origin: number | undefined;
}

/** The part of RegionEmitter that is about registers. */
export abstract class RegionRegisters extends Emitter {
  override readonly fused = hostFuses();
  protected readonly c: RegionContext;
  protected readonly d: Decoded;
  /** Of the instruction itself: what is deeper may not be run. */
  protected readonly depth: number;
  /** A few at most: found faster than in a Map, and made faster. */
  readonly #notes: Note[] = [];
  /** A condition decided where a register points to. */
  #isUnsettled = false;

  constructor(context: RegionContext, decoded: Decoded) {
    super(context.f, decoded.shape.size, true);
    this.c = context;
    this.d = decoded;
    this.depth = context.f.depth;
  }

  record(): Expr {
    return recordAddress(this.d.record);
  }

  // ---- Registers -----------------------------------------------------------------------------------------------------
  protected register(index: number): Expr {
    let local = this.c.registers[index];
    if (!local) {
      local = this.f.local('i64');
      this.c.registers[index] = local;
    }
    return local;
  }

  #setRegister(index: number, value: Expr): void {
    const c = this.c;
    const place = this.placeOf(value);
    c.written |= 1 << index;
    c.dirty |= 1 << index;
    this.f.set(this.register(index), value);
    // What is deeper may not be run.
    const isCertain = c.f.depth === this.depth;
    if (!isCertain) this.#isUnsettled = true;
    c.places = replaced(c.places, index, isCertain ? (place ?? newPlace(c)) : undefined);
  }

  /** Value of `size` bytes at a general register's state address. */
  #readSlot(slot: number, size: number, signed: boolean): Expr {
    const { f } = this;
    const register = this.register((slot - L.GPR) >> 3);
    const value = slot & 7 ? i64.shr_u(register, constI64(8)) : register;
    if (size === 8) return this.notePlace(f.copy(value), this.c.places[(slot - L.GPR) >> 3]);
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
      this.#setRegister(index, i64.or(i64.and(this.register(index), constI64(~mask)), low));
    }
  }

  #noteOf(value: Expr): Note | undefined {
    for (const note of this.#notes) if (note.value === value) return note;
    return undefined;
  }

  #note(value: Expr): Note {
    let note = this.#noteOf(value);
    if (!note) {
      note = { value, place: undefined, ordinary: 0, origin: undefined };
      this.#notes.push(note);
    }
    return note;
  }

  // ---- Places ------------------------------------------------------------------------------------------------------------
  /** A local of the instruction's own has an address, or a number that is added to one. */
  protected notePlace(local: Expr, place: Place | undefined): Expr {
    if (place) this.#note(local).place = place;
    return local;
  }

  protected placeOf(value: Expr): Place | undefined {
    const known = this.#noteOf(value)?.place;
    if (known) return known;
    const a = value.args[0];
    const b = value.args[1];
    if (!a || !b?.isConst || value.code !== OP_I64_ADD) return undefined;
    const place = this.placeOf(a);
    return place && near(place.base, place.offset + Number(b.value));
  }

  override let(value: Expr): Expr {
    return this.notePlace(this.f.let(value), this.placeOf(value));
  }

  /** At the instruction's end: what a condition decided has a value from here on. */
  protected settlePlaces(): void {
    const c = this.c;
    if (this.#isUnsettled) c.places = c.places.map((place) => place ?? newPlace(c));
  }

  // ---- Vector registers ------------------------------------------------------------------------------------------------
  #vector(slot: number, half: number): Expr {
    const index = vectorIndex(slot, half);
    let local = this.c.vectors[index];
    if (!local) {
      local = this.f.local('v128');
      this.c.vectors[index] = local;
    }
    return local;
  }

  #setVector(slot: number, half: number, value: Expr): void {
    const index = vectorIndex(slot, half);
    const c = this.c;
    c.vectorsWritten |= 1 << index;
    c.dirtyVectors |= 1 << index;
    this.f.set(this.#vector(slot, half), value);
    this.#wrote(index, value);
  }

  /** A vector register has a new value. */
  #wrote(index: number, value: Expr): void {
    const c = this.c;
    // What is deeper may not be run.
    const isCertain = c.f.depth === this.depth;
    const source = isCertain ? this.#noteOf(value)?.origin : undefined;
    for (const note of this.#notes) if (note.origin === index) note.origin = undefined;
    if (c.copies.includes(index)) c.copies = c.copies.map((of) => (of === index ? undefined : of));
    const of = source === undefined || source === index ? undefined : (c.copies[source] ?? source);
    if (of !== c.copies[index]) c.copies = replaced(c.copies, index, of);
    this.#setLane(index, source === undefined ? undefined : c.lanes[source]);
    c.ordinary = replaced(c.ordinary, index, isCertain ? this.ordinary(value) & ~SINCE_LOOP : 0);
  }

  // ---- Floats ----------------------------------------------------------------------------------------------------------
  override floatsOdd(): Expr {
    return i32.eqz(this.usualExponents());
  }

  override usualExponents(): Expr {
    this.c.usualUsed = true;
    return this.c.usual;
  }

  override ordinary(value: Expr): number {
    const isZero = value.isConst && value.extra instanceof Uint8Array && value.extra.every((byte) => byte === 0);
    return isZero ? ORDINARY_ALL : (this.#noteOf(value)?.ordinary ?? 0);
  }

  override isKnownOrdinary(value: Expr, bits: number): boolean {
    const c = this.c;
    if ((this.ordinary(value) & bits) === bits) return true;
    for (const index of this.#registersOf(value))
      if ((c.ordinary[index] as number) & SINCE_LOOP)
        c.ordinaryAsked[index] = (c.ordinaryAsked[index] as number) | bits;
    return false;
  }

  override noteOrdinary(value: Expr, bits: number): void {
    const c = this.c;
    const note = this.#note(value);
    note.ordinary = this.ordinary(value) | bits;
    for (const index of this.#registersOf(value))
      c.ordinary = replaced(c.ordinary, index, (c.ordinary[index] as number) | bits);
  }

  /** Halves of vector registers that hold a value: the one that it was read from, and what that is a copy of. */
  #registersOf(value: Expr): number[] {
    const index = this.#noteOf(value)?.origin;
    return index === undefined ? [] : [index, this.c.copies[index]].filter((of) => of !== undefined);
  }

  override noteLane(value: Expr, vector: Expr, low: number): void {
    const note = this.#note(value);
    note.origin = this.#noteOf(vector)?.origin ?? note.origin;
    note.ordinary = this.ordinary(vector) & low;
  }

  override lane(operand: Operand, format: FloatLane): Expr | undefined {
    const index = vectorIndex(this.slotOf(operand), 0);
    const lane = this.c.lanes[index];
    if (lane?.type !== format.suffix) return undefined;
    const copy = this.f.copy(lane);
    const note = this.#note(copy);
    note.origin = index;
    note.ordinary = (this.c.ordinary[index] as number) & format.low;
    return copy;
  }

  override keepLane(operand: Operand, value: Expr): void {
    if (this.c.f.depth !== this.depth) return;
    const lane = this.f.lasting(value.type);
    this.f.set(lane, value);
    this.#setLane(vectorIndex(this.slotOf(operand), 0), lane);
  }

  #setLane(index: number, lane: Expr | undefined): void {
    const { c } = this;
    const before = c.lanes[index];
    if (before === lane) return;
    c.lanes = replaced(c.lanes, index, lane);
    if (before && !c.lanes.includes(before)) c.f.release(before);
  }

  override setFloatsOdd(): void {
    this.f.set(this.c.usual, constI32(0));
  }

  override controlsChanged(): void {
    this.f.if(unusualControls(), () => this.setFloatsOdd());
  }

  override flagsCompare(a: Expr, b: Expr, float: FloatComparisons): void {
    super.flagsCompare(a, b, float);
    const c = this.c;
    if (c.known) c.known = { ...c.known, floats: comparison(a, b, float) };
  }

  override isSameValue(a: Expr, b: Expr): boolean {
    const origin = this.#noteOf(a)?.origin;
    return origin !== undefined && origin === this.#noteOf(b)?.origin;
  }

  readHalf(operand: Operand, half: number): Expr {
    return this.#copyOf(this.slotOf(operand), half);
  }

  #copyOf(slot: number, half: number): Expr {
    const copy = this.f.copy(this.#vector(slot, half));
    const index = vectorIndex(slot, half);
    const note = this.#note(copy);
    note.origin = index;
    note.ordinary = this.c.ordinary[index] as number;
    return copy;
  }

  writeHalf(operand: Operand, half: number, value: Expr): void {
    this.#setVector(this.slotOf(operand), half, value);
  }

  setVector(register: number, half: number, value: Expr): void {
    const c = this.c;
    const index = 2 * register + half;
    const local = c.vectors[index];
    // What has no local stays in the state.
    if (local) this.f.set(local, value);
    else this.f.store('v128.store', at(halfAddress(index)), value);
    c.vectorsWritten |= 1 << index;
    c.dirtyVectors |= 1 << index;
    this.#wrote(index, value);
  }

  /** The vector registers have been loaded from the state. */
  protected forgetVectors(): void {
    this.c.ordinary = NOT_KNOWN_ORDINARY;
    this.c.copies = NO_COPIES;
    releaseLanes(this.c);
    for (const note of this.#notes) note.origin = undefined;
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

  protected slotOf(operand: Operand): number {
    const source = slotSource(operand);
    if (typeof source === 'number') return source;
    return source === 'immediate' ? Number(this.d.immediate & 0xffffn) : this.d[source];
  }

  slot(operand: Operand): Expr {
    const slot = this.slotOf(operand);
    if (slot >= L.GPR && slot < GPR_END) throw new Untranslatable();
    return at(slot);
  }

  number(operand: Operand): Expr {
    return constI32(this.slotOf(operand));
  }

  /** Value of an operand that is not in memory, extended to i64 (a v128 for 16 bytes). */
  protected readPlace(operand: Operand, signed: boolean): Expr {
    const { f } = this;
    const { place, size } = operand;
    if (place === 'I') {
      const value = this.immediate();
      return signed ? value : constI64(BigInt.asUintN(Math.max(size, this.size) * 8, value.value as bigint));
    }
    if (place === '1') return constI64(1);
    const slot = this.slotOf(operand);
    if (slot >= L.GPR && slot < GPR_END) return this.#readSlot(slot, size, signed);
    if (slot >= L.XMM && slot < XMM_END) return this.#readVector(slot, size, signed);
    return f.let(loadSized(size, at(slot), 0, signed));
  }

  protected writePlace(operand: Operand, value: Expr): void {
    const { size } = operand;
    const slot = this.slotOf(operand);
    if (slot >= L.GPR && slot < GPR_END) this.#writeSlot(slot, size, value);
    else if (slot >= L.XMM && slot < XMM_END) this.#writeVector(slot, size, value);
    else storeSized(this.f, size, at(slot), value);
  }

  immediate(): Expr {
    return constI64(this.d.immediate);
  }

  immediate2(): Expr {
    return constI64(this.d.displacement);
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
}
