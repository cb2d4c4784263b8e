// What the instructions of a region share while its function is written.

import { constI32, type Expr, load } from '../../../wasm/expr.ts';
import type { FunctionBuilder } from '../../../wasm/function.ts';
import * as L from '../layout.ts';
import type { Decoded } from './region.ts';
import { type KnownFlags, pin } from './region-flags.ts';

const at = (address: number): Expr => constI32(address);

/** The instruction cannot be part of a region. */
export class Untranslatable extends Error {}

/** Ways out of a region. */
export type Exit =
  /** The interpreter makes the record's instruction, at which the region may stand. */
  | 'interpret'
  /** The record's branch is taken, within its page. */
  | 'branch'
  /** The record's branch to another page, which `target` holds, is taken. */
  | 'far'
  /** Go on with the record. */
  | 'dispatch'
  /** Go on with the record of an instruction that crosses pages: the second is not where it was. */
  | 'cross'
  /** Go on at `target`. */
  | 'jump'
  /** RIP holds where to go on. */
  | 'lookup'
  /** A helper's status says how to go on. */
  | 'after';

/** Of RegionContext.dirty: the flags. */
export const DIRTY_FLAGS = 1 << 16;

/** ORDINARY_* where nothing is known. */
export const NOT_KNOWN_ORDINARY: readonly number[] = new Array<number>(32).fill(0);

/** Where no half of a vector register is a copy of another; where no lane has a local. */
export const NO_COPIES: readonly undefined[] = new Array<undefined>(32).fill(undefined);
export const NO_LANES = NO_COPIES;

/** Where an address is: so many bytes from a value that does not change. */
export interface Place {
  /** The value's number. */
  readonly base: number;
  readonly offset: number;
}

/** Accesses near each other, whose page the first of them looks up for all. Its bytes are those from `min` to below `max` from the base. */
export interface Span {
  readonly base: number;
  readonly write: boolean;
  min: number;
  max: number;
  /** Accesses that are still to be written. */
  accesses: number;
  /** Local: host address of the first byte. */
  host: Expr | undefined;
}

/** What all instructions of a region share while its function is written. */
export interface RegionContext {
  readonly f: FunctionBuilder;
  /** Locals of the general registers; made at first use. */
  readonly registers: (Expr | undefined)[];
  /** Registers that the region writes, by bits. */
  written: number;
  /** Locals of the vector registers' halves: of register n at 2 n and 2 n + 1. */
  readonly vectors: (Expr | undefined)[];
  vectorsWritten: number;
  /** MODE that the code was decoded in. */
  readonly mode: number;
  readonly flags: { readonly kind: Expr; readonly a: Expr; readonly b: Expr; readonly result: Expr };
  flagsUsed: boolean;
  flagsWritten: boolean;
  /** Registers, by bits, and DIRTY_FLAGS: what on some way to here has been written since it was last the same in the state. */
  dirty: number;
  /** The same of the vector registers' halves. */
  dirtyVectors: number;
  /** All of `dirty`, and of `dirtyVectors`, was written in the current block: the state was made the same in it. */
  isSynced: boolean;
  isVectorsSynced: boolean;
  readonly ipPage: Expr;
  readonly tlb: Expr;
  readonly budget: Expr;
  /** Local (i64): where 'jump' goes on, the page of what 'far' goes on with. */
  readonly target: Expr;
  /** Local that is usualExponents(). */
  readonly usual: Expr;
  usualUsed: boolean;
  /** ORDINARY_* of the vector registers' halves, numbered like `vectors`. */
  ordinary: readonly number[];
  /** By such a half: the one that it is a copy of, in this block. */
  copies: readonly (number | undefined)[];
  /** Locals that hold lane 0 of such a half, too, as a float that has been computed in this block. */
  lanes: readonly (Expr | undefined)[];
  /** ORDINARY_* that have been asked for, and were not known, of what a loop's round began with. */
  readonly ordinaryAsked: number[];
  /** The flags, where they are known; undefined: they are in the locals. */
  known: KnownFlags | undefined;
  /** The locals hold what is known, too. */
  settled: boolean;
  /** Locals of what two ways know: they live on. */
  readonly pinned: Set<Expr>;
  /** Where the general registers point to; undefined: that depends on a condition. */
  places: readonly (Place | undefined)[];
  /** Numbers of the values that places are told from: of sums of registers by how they are made, and how many there are. */
  readonly bases: Map<string, number>;
  baseCount: number;
  /** Spans that a further access may belong to. */
  spans: readonly Span[];
  /** Accesses near each other look up their page together. */
  readonly sharesLookUps: boolean;
  /** The first pass finds the spans. */
  readonly isDraft: boolean;
  /** Instructions run and not paid yet, the current one included. */
  unpaid: number;
  /** Leaves for the record, whose budget is corrected by `budget`. */
  exit(kind: Exit, record: number, budget: Expr, status?: Expr): void;
}

/** Ways from a block to others of the region. */
export interface Ways {
  /** Writes the way to the branch's direct target. */
  taken(branch: Decoded): void;
  /** Writes ways to places that may be the target (i64), and goes on where it is none of them. */
  jumped(target: Expr): void;
}

/** Registers into the state: those of `dirty`. */
export function storeRegisters(c: RegionContext, dirty: number): void {
  for (let index = 0; index < c.registers.length; index++) {
    const local = c.registers[index];
    if (local && dirty & (1 << index)) c.f.store('i64.store', at(L.GPR + index * 8), local);
  }
}

export function storeVectors(c: RegionContext, dirty: number): void {
  if (dirty === 0) return;
  for (let index = 0; index < c.vectors.length; index++) {
    const local = c.vectors[index];
    if (local && dirty & (1 << index)) c.f.store('v128.store', at(halfAddress(index)), local);
  }
}

export function loadVectors(c: RegionContext): void {
  c.vectors.forEach((local, index) => {
    if (local) c.f.set(local, load('v128.load', at(halfAddress(index))));
  });
}

export function vectorIndex(slot: number, half: number): number {
  return ((slot - L.XMM) / L.XMM_SIZE) * 2 + half;
}

export function halfAddress(index: number): number {
  return L.XMM + (index >> 1) * L.XMM_SIZE + (index & 1) * 16;
}

export function loadRegisters(c: RegionContext): void {
  c.registers.forEach((local, index) => {
    if (local) c.f.set(local, load('i64.load', at(L.GPR + index * 8)));
  });
}

/** Numbers of the values that do not change in a region: 0, and its page. */
export const BASE_ZERO = 0;
export const BASE_PAGE = 1;
export const FIRST_BASE = 2;

export function newPlace(c: RegionContext): Place {
  return { base: c.baseCount++, offset: 0 };
}

/** No lane has a local any more. */
export function releaseLanes(c: RegionContext): void {
  for (const lane of new Set(c.lanes)) if (lane) c.f.release(lane);
  c.lanes = NO_LANES;
}

/** Nothing is known of addresses any more. */
export function forgetPlaces(c: RegionContext): void {
  c.places = c.places.map(() => newPlace(c));
  c.spans = [];
}

/** A way that is gone where a condition (i32) holds; else all is as before. */
export function aside(c: RegionContext, condition: Expr, way: () => void): void {
  const {
    known,
    settled,
    unpaid,
    ordinary,
    copies,
    lanes,
    places,
    spans,
    dirty,
    dirtyVectors,
    isSynced,
    isVectorsSynced,
  } = c;
  pin(c);
  c.f.if(condition, way);
  // The other way knows nothing of what the first one did.
  c.known = known;
  c.settled = settled;
  c.unpaid = unpaid;
  c.ordinary = ordinary;
  c.copies = copies;
  c.lanes = lanes;
  c.places = places;
  c.spans = spans;
  c.dirty = dirty;
  c.dirtyVectors = dirtyVectors;
  c.isSynced = isSynced;
  c.isVectorsSynced = isVectorsSynced;
}
