// A region to a function of WebAssembly, with the interpreter's handler type, so that whoever goes on with a record comes into the region by
// the same call.

import { constI32, constI64, type Expr, i32, i64, load, placedI32, select, type ValType } from '../../../wasm/expr.ts';
import { CodeWriter, FunctionBuilder, type Label } from '../../../wasm/function.ts';
import { HANDLER_AFTER, HANDLER_BRANCH_SLOW, HANDLER_CROSS, HANDLER_LEFT, HANDLER_LOOKUP } from '../decode/blocks.ts';
import { HANDLER, STATUS } from '../interpreter/handler-emitter.ts';
import { jumpEntry, jumpKey } from '../interpreter/jump-cache.ts';
import { tlbEntry } from '../interpreter/tlb.ts';
import * as L from '../layout.ts';
import { unusualControls } from '../semantics/emitter.ts';
import { isOddVector, USUAL_EXPONENTS } from '../semantics/float.ts';
import { handlerCount } from '../semantics/index.ts';
import { SINCE_LOOP } from '../semantics/ordinary.ts';
import { analyze, type FlowNode } from './control-flow.ts';
import type { Decoded, Region } from './region.ts';
import {
  aside,
  DIRTY_FLAGS,
  type Exit,
  FIRST_BASE,
  forgetPlaces,
  loadRegisters,
  loadVectors,
  NO_COPIES,
  NO_LANES,
  NOT_KNOWN_ORDINARY,
  type RegionContext,
  releaseLanes,
  storeRegisters,
  storeVectors,
  Untranslatable,
  type Ways,
} from './region-context.ts';
import { RegionEmitter } from './region-emitter.ts';
import { flagLocals, loadFlags, settleFlags, spillFlags, storeFlags } from './region-flags.ts';
import { HANDLER_TYPE, PLACED, recordAddress, type SiblingWay, type Template } from './template.ts';

/** Ways out that are often gone: what is dirty is stored where they begin, by each what is dirty there. */
type Often = 'branch' | 'far' | 'dispatch' | 'jump';

/** By which handler the others go on. They have one epilogue, which stores all. */
const HANDLERS: Readonly<Record<Exclude<Exit, Often>, number>> = {
  interpret: HANDLER_LEFT,
  cross: HANDLER_CROSS,
  lookup: HANDLER_LOOKUP,
  after: HANDLER_AFTER,
};

/** What stands behind the body: the epilogues. */
type Epilogue = Often | 'all';

function isOften(kind: Exit): kind is Often {
  return !(kind in HANDLERS);
}

const NO_LOCALS: readonly Expr[] = [];

/** Where functions are written, one after the other. */
const code = new CodeWriter(1 << 13);

/**
 * `apart`: the region's accesses share no look-ups. `counting`: it adds to COUNT_TRANSLATED. Undefined: it would hand its first instruction to the
 * interpreter, which would hand it back.
 */
export function translate({ entry, mode }: Region, apart: boolean, counting: boolean): Template | undefined {
  const source: Source = { entry: analyze(entry), mode, apart };
  // Written once to see what it uses.
  const draft = new FunctionWriter(new FunctionBuilder(HANDLER, STATUS), source);
  draft.body();
  if (entry.instructions[0]?.isSkipped) return undefined;
  code.clear();
  const writer = new FunctionWriter(new FunctionBuilder(HANDLER, STATUS, code), source, draft);
  return writer.write(counting);
}

/** What a function is written of. */
interface Source {
  readonly entry: FlowNode;
  /** MODE of its code. */
  readonly mode: number;
  /** Accesses share no look-ups. */
  readonly apart: boolean;
}

/** Where branches to a node go. */
interface Labels {
  block?: Label;
  loop?: Label;
  /** ORDINARY_* that all of the branches to the block so far know. */
  ordinary?: readonly number[];
}

/** usualExponents(): 0 where a condition (i32) holds. */
function usualUnless(condition: Expr): Expr {
  return select(constI32(0), constI32(USUAL_EXPONENTS), condition);
}

/** ORDINARY_* that two ways know. */
function bothOrdinary(a: readonly number[], b: readonly number[]): readonly number[] {
  return a === b ? a : a.map((bits, i) => bits & (b[i] as number));
}

/** Registers, by bits as RegionContext.dirty. */
interface Dirty {
  readonly registers: number;
  readonly vectors: number;
}

/** A way from a block to another: what was written in it, since the state was last made the same if that is so. */
interface WrittenEdge extends Dirty {
  readonly from: FlowNode;
  readonly to: FlowNode;
  readonly isSynced: boolean;
  readonly isVectorsSynced: boolean;
}

/** What may be dirty where each block begins, by its order. */
function dirtyBefore(edges: readonly WrittenEdge[]): readonly (Dirty | undefined)[] {
  const before: (Dirty | undefined)[] = [];
  const none: Dirty = { registers: 0, vectors: 0 };
  for (let changed = true; changed; ) {
    changed = false;
    for (const { from, to, registers, vectors, isSynced, isVectorsSynced } of edges) {
      const start = before[from.order] ?? none;
      const end = before[to.order] ?? none;
      const joined: Dirty = {
        registers: end.registers | registers | (isSynced ? 0 : start.registers),
        vectors: end.vectors | vectors | (isVectorsSynced ? 0 : start.vectors),
      };
      if (joined.registers === end.registers && joined.vectors === end.vectors) continue;
      before[to.order] = joined;
      changed = true;
    }
  }
  return before;
}

class FunctionWriter {
  readonly #f: FunctionBuilder;
  readonly #context: RegionContext;
  readonly #epiloguesUsed = new Set<Epilogue>();
  readonly #epilogueLabels = new Map<Epilogue, Label>();
  readonly #exitRecord: Expr;
  readonly #exitBudget: Expr;
  readonly #exitHandler: Expr;
  /** By the block's order. */
  readonly #labels: Labels[] = [];
  /** Ways between blocks, as they were written. */
  readonly #edges: WrittenEdge[] = [];
  /** ORDINARY_* that a way back to a loop knows, by the order of its block. */
  readonly #ordinaryBehind: (readonly number[] | undefined)[] = [];
  /** Of the draft's what it had to ask for in each round: a loop takes it for known. The draft itself takes nothing for known. */
  readonly #ordinaryBefore: readonly (readonly number[] | undefined)[];
  /** What is dirty where a block begins; the draft does not know. */
  readonly #dirtyBefore: readonly (Dirty | undefined)[];
  readonly #source: Source;
  /** Offsets are those in the instructions. */
  readonly #ways: SiblingWay[] = [];
  /** The budget that came in, where what is run is counted. */
  #budgetGiven: Expr | undefined;

  /** `draft` has been through the region already: what it used is there from the start. */
  constructor(f: FunctionBuilder, source: Source, draft?: FunctionWriter) {
    this.#f = f;
    this.#source = source;
    this.#exitRecord = f.local('i32');
    this.#exitBudget = f.local('i32');
    this.#exitHandler = f.local('i32');
    const used = draft ? draft.#context : undefined;
    const locals = (type: ValType, count: number, used?: readonly (Expr | undefined)[]): (Expr | undefined)[] =>
      used ? used.map((local) => local && f.local(type)) : new Array<undefined>(count).fill(undefined);
    this.#context = {
      f,
      registers: locals('i64', 16, used?.registers),
      written: used?.written ?? 0,
      vectors: locals('v128', 32, used?.vectors),
      vectorsWritten: used?.vectorsWritten ?? 0,
      mode: source.mode,
      flags: { kind: f.local('i32'), a: f.local('i64'), b: f.local('i64'), result: f.local('i64') },
      flagsUsed: used?.flagsUsed ?? false,
      flagsWritten: used?.flagsWritten ?? false,
      dirty: 0,
      dirtyVectors: 0,
      isSynced: false,
      isVectorsSynced: false,
      ipPage: f.local('i64'),
      tlb: f.local('i32'),
      budget: f.param(1),
      target: f.local('i64'),
      usual: f.local('i32'),
      usualUsed: used?.usualUsed ?? false,
      ordinary: NOT_KNOWN_ORDINARY,
      copies: NO_COPIES,
      lanes: NO_LANES,
      ordinaryAsked: [...NOT_KNOWN_ORDINARY],
      known: undefined,
      settled: false,
      pinned: new Set(),
      places: new Array<undefined>(16).fill(undefined),
      bases: new Map(),
      baseCount: FIRST_BASE,
      spans: [],
      isDraft: draft === undefined,
      sharesLookUps: !source.apart,
      unpaid: 0,
      exit: (kind, record, budget, status) => this.#exit(kind, recordAddress(record), budget, status),
    };
    if (draft) for (const epilogue of draft.#epiloguesUsed) this.#epiloguesUsed.add(epilogue);
    this.#dirtyBefore = dirtyBefore(draft ? draft.#edges : []);
    this.#ordinaryBefore = draft ? draft.#worthKnowing() : [];
  }

  write(counting: boolean): Template {
    const f = this.#f;
    const c = this.#context;
    if (counting) this.#budgetGiven = f.copy(c.budget);
    loadRegisters(c);
    loadVectors(c);
    if (c.flagsUsed) loadFlags(c);
    f.set(c.ipPage, load('i64.load', constI32(L.IP_PAGE)));
    f.set(c.tlb, load('i32.load', constI32(L.TLB_BASE)));
    if (c.usualUsed) f.set(c.usual, usualUnless(unusualControls()));
    f.block((leave) => this.#epilogues(leave, [...this.#epiloguesUsed], () => this.body()));
    f.returnCallIndirectLast(HANDLER_TYPE, [this.#exitRecord, this.#exitBudget], this.#exitHandler);
    const body = f.finish();
    // The locals' declarations stand before the instructions, one byte behind them.
    const before = body.bytes.length - f.length - 1;
    const ways = this.#ways.map((way) => ({ ...way, start: way.start + before, end: way.end + before }));
    return { ...body, ways };
  }

  body(): void {
    forgetPlaces(this.#context);
    this.#node(this.#source.entry);
  }

  // ---- Ways out --------------------------------------------------------------------------------------------------------
  #exit(kind: Exit, record: Expr, budget: Expr, status?: Expr, shortWay?: () => void): void {
    const f = this.#f;
    const c = this.#context;
    f.set(this.#exitRecord, record);
    f.set(this.#exitBudget, budget);
    if (status) f.store('i32.store', constI32(L.LEAVE_STATUS), status);
    this.#count(kind);
    if (isOften(kind)) {
      storeRegisters(c, c.dirty);
      storeVectors(c, c.dirtyVectors);
      if (c.dirty & DIRTY_FLAGS) spillFlags(c);
      shortWay?.();
      this.#toEpilogue(kind);
    } else {
      f.set(this.#exitHandler, constI32(HANDLERS[kind]));
      this.#settleAside();
      this.#toEpilogue('all');
    }
  }

  /** The draft has no epilogues. */
  #toEpilogue(epilogue: Epilogue): void {
    this.#epiloguesUsed.add(epilogue);
    const label = this.#epilogueLabels.get(epilogue);
    if (label) this.#f.br(label);
    else this.#f.unreachable();
  }

  /** The locals have the flags on the way out that follows; here is another way, on which nothing has been settled. */
  #settleAside(): void {
    const c = this.#context;
    const { settled } = c;
    settleFlags(c);
    c.settled = settled;
  }

  /** One block around the body for each epilogue, which stands behind it. They end at `leave`. */
  #epilogues(leave: Label, epilogues: readonly Epilogue[], body: () => void): void {
    const [epilogue, ...rest] = epilogues;
    if (epilogue === undefined) {
      body();
      return;
    }
    this.#f.block((label) => {
      this.#epilogueLabels.set(epilogue, label);
      this.#epilogues(leave, rest, body);
    });
    this.#goOnBy(epilogue, leave);
    this.#f.br(leave);
  }

  /** Adds what was run since the region was entered to COUNT_TRANSLATED. */
  #count(kind: Exit): void {
    if (!this.#budgetGiven) return;
    let count = i32.sub(this.#budgetGiven, this.#exitBudget);
    if (kind !== 'branch' && kind !== 'far' && kind !== 'jump' && kind !== 'lookup') {
      // The budget of these is one from which the record's own count is still to be taken.
      count = i32.add(count, load('i32.load8_u', this.#exitRecord, L.R_COUNT));
      if (kind === 'interpret' || kind === 'dispatch' || kind === 'cross') count = i32.sub(count, constI32(1));
    }
    const total = i64.add(load('i64.load', constI32(L.COUNT_TRANSLATED)), i64.extend_i32_s(count));
    this.#f.store('i64.store', constI32(L.COUNT_TRANSLATED), total);
  }

  /** Decides with which record and by which handler it goes on. */
  #goOnBy(epilogue: Epilogue, leave: Label): void {
    const f = this.#f;
    const c = this.#context;
    const record = this.#exitRecord;
    const handler = this.#exitHandler;
    const handlerOf = (of: Expr): Expr => load('i32.load16_u', of, L.R_HANDLER);
    const hasBudget = i32.ge_s(this.#exitBudget, constI32(0));
    const isRegion = i32.ge_u(handler, constI32(handlerCount()));
    switch (epilogue) {
      case 'all':
        storeRegisters(c, c.written);
        storeVectors(c, c.vectorsWritten);
        if (c.flagsWritten) storeFlags(c);
        f.store('i32.store', constI32(L.LEAVING_REGION), recordAddress(0));
        return;
      case 'dispatch':
        f.set(handler, handlerOf(record));
        return;
      case 'branch': {
        const target = f.let(load('i32.load', record, L.R_DISP));
        f.set(handler, constI32(HANDLER_BRANCH_SLOW));
        f.ifLikely(i32.and(i32.ne(target, constI32(0)), hasBudget), () => {
          f.set(record, target);
          f.set(handler, handlerOf(target));
        });
        return;
      }
      case 'far': {
        const target = f.let(load('i32.load', record, L.R_FAR));
        const known = i32.and(
          i32.ne(target, constI32(0)),
          i64.eq(load('i64.load', record, L.R_FAR_KEY), this.#jumpKey()),
        );
        f.ifLikely(i32.and(known, hasBudget), () => {
          f.set(handler, handlerOf(target));
          f.ifLikely(isRegion, () => {
            f.store('i64.store', constI32(L.IP_PAGE), c.target);
            f.set(record, target);
            f.br(leave);
          });
          // What is not translated is counted by lookup.
          f.if(i32.ne(handler, constI32(L.HANDLER_STALE)), () => {
            const offset = i64.and(load('i64.load', record, L.R_IMM), constI64(4095));
            f.store('i64.store', constI32(L.RIP), i64.or(c.target, offset));
            f.set(handler, constI32(HANDLER_LOOKUP));
            f.br(leave);
          });
        });
        f.set(handler, constI32(HANDLER_BRANCH_SLOW));
        return;
      }
      case 'jump': {
        const entry = f.let(jumpEntry(c.target));
        const known = i32.and(
          i64.eq(load('i64.load', entry), c.target),
          i64.eq(load('i64.load', entry, L.JUMP_O_KEY), this.#jumpKey()),
        );
        f.ifLikely(i32.and(known, hasBudget), () => {
          f.set(record, load('i32.load', entry, L.JUMP_O_RECORD));
          f.set(handler, handlerOf(record));
          f.ifLikely(isRegion, () => {
            f.store('i64.store', constI32(L.IP_PAGE), i64.and(c.target, constI64(-4096)));
            f.br(leave);
          });
        });
        // What is not translated is counted there.
        f.store('i64.store', constI32(L.RIP), c.target);
        f.set(handler, constI32(HANDLER_LOOKUP));
      }
    }
  }

  #jumpKey(): Expr {
    return jumpKey(constI64(this.#source.mode));
  }

  // ---- Blocks ----------------------------------------------------------------------------------------------------------
  /** A block and all that it dominates. */
  #node(node: FlowNode): void {
    if (!node.isLoop) {
      this.#within(node, node.merges.length);
      return;
    }
    this.#assureOrdinary(node);
    this.#f.loop((label) => {
      this.#labelsOf(node).loop = label;
      forgetPlaces(this.#context);
      this.#context.known = undefined;
      this.#context.unpaid = 0;
      this.#beginRound(this.#ordinaryBefore[node.order] ?? NOT_KNOWN_ORDINARY);
      this.#within(node, node.merges.length);
    });
    // Nothing comes here: every way goes on elsewhere.
    this.#f.unreachable();
  }

  /** On a way back to a loop. */
  #noteOrdinaryBehind({ order }: FlowNode): void {
    const known = this.#ordinaryBehind[order] ?? NOT_KNOWN_ORDINARY;
    this.#ordinaryBehind[order] = known.map((bits, i) => bits | (this.#context.ordinary[i] as number));
  }

  /** By the order of a loop's block: ORDINARY_* that a way back knows and that rounds ask for. */
  #worthKnowing(): (readonly number[] | undefined)[] {
    const { ordinaryAsked, usualUsed } = this.#context;
    if (!usualUsed) return [];
    return this.#ordinaryBehind.map((known) => known?.map((bits, i) => bits & (ordinaryAsked[i] as number)));
  }

  /** A loop's round begins: this is known of floats, and nothing else, so that nothing of it can be wrong. */
  #beginRound(known: readonly number[]): void {
    const f = this.#f;
    const c = this.#context;
    c.ordinary = known.map((bits) => bits | SINCE_LOOP);
    if (!c.usualUsed) return;
    f.ifUnlikely(i32.eqz(c.usual), () =>
      f.set(c.usual, usualUnless(i32.or(unusualControls(), this.#areNotOrdinary(known)))),
    );
  }

  /** On a way to a loop: what it takes for known and is not known here is tested. */
  #assureOrdinary(loop: FlowNode): void {
    const c = this.#context;
    const unknown = this.#ordinaryBefore[loop.order]?.map((bits, i) => (bits & ~(c.ordinary[i] as number) ? bits : 0));
    if (!unknown?.some((bits) => bits !== 0)) return;
    this.#f.if(this.#areNotOrdinary(unknown), () => this.#f.set(c.usual, constI32(0)));
  }

  /** Not zero (i32): vectors are not as these ORDINARY_* say. */
  #areNotOrdinary(known: readonly number[]): Expr {
    const { vectors } = this.#context;
    const tests = known.flatMap((bits, i) => (bits === 0 ? [] : [isOddVector(vectors[i] as Expr, bits)]));
    return tests.length === 0 ? constI32(0) : tests.reduce((a, b) => i32.or(a, b));
  }

  #labelsOf(node: FlowNode): Labels {
    return (this.#labels[node.order] ??= {});
  }

  /** The block's code inside a WebAssembly block for each of the first `count` merges that follow it. */
  #within(node: FlowNode, count: number): void {
    const merge = node.merges[count - 1];
    if (!merge) {
      this.#instructions(node);
      return;
    }
    this.#f.block((label) => {
      this.#labelsOf(merge).block = label;
      this.#within(node, count - 1);
    });
    forgetPlaces(this.#context);
    this.#context.known = undefined;
    this.#context.unpaid = 0;
    this.#context.ordinary = this.#labelsOf(merge).ordinary ?? NOT_KNOWN_ORDINARY;
    this.#node(merge);
  }

  #instructions(node: FlowNode): void {
    const c = this.#context;
    const f = this.#f;
    const { block } = node;
    const before = this.#dirtyBefore[node.order];
    c.dirty = before?.registers ?? 0;
    c.dirtyVectors = before?.vectors ?? 0;
    c.isSynced = false;
    c.isVectorsSynced = false;
    c.copies = NO_COPIES;
    c.lanes = NO_LANES;
    const ways: Ways = {
      taken: (branch) => this.#taken(node, branch),
      jumped: (target) => this.#jumped(node, target),
    };
    for (const decoded of block.instructions) {
      if (decoded.isSkipped) {
        this.#exit('dispatch', recordAddress(decoded.record), this.#budgetBefore(decoded));
        return;
      }
      if (decoded.crosses) this.#checkSecond(decoded, block.page);
      c.unpaid++;
      if (decoded.settleFirst) settleFlags(c);
      const knownBefore = c.known;
      f.beginScope();
      const emitter = new RegionEmitter(c, decoded, ways);
      try {
        decoded.shape.line.meaning(emitter, ...decoded.shape.operands);
        if ((decoded.prefix & L.RP_LOCK) !== 0) f.fence();
      } catch (error) {
        if (!(error instanceof Untranslatable)) throw error;
        // What is written so far belongs to the draft.
        decoded.isSkipped = true;
        this.#epiloguesUsed.add('dispatch');
        return;
      }
      emitter.end();
      const kept = c.known ? flagLocals(c.known, c.flags) : NO_LOCALS;
      f.endScope(kept);
      if (emitter.ended) return;
      // What was known of the flags before lives on where another way still looks at it.
      if (knownBefore && knownBefore !== c.known) {
        for (const local of flagLocals(knownBefore, c.flags))
          if (!kept.includes(local) && !c.pinned.has(local)) f.release(local);
      }
    }
    releaseLanes(c);
    this.#next(node);
  }

  /** The second page of an instruction that crosses must still be the one it was decoded from: the interpreter looks closer. */
  #checkSecond(decoded: Decoded, page: number): void {
    const f = this.#f;
    const c = this.#context;
    f.beginScope();
    const cross = decoded.record - L.RECORD;
    const host = placedI32({ kind: PLACED.second, value: cross });
    const linear = f.let(i64.add(c.ipPage, constI64(page + 4096)));
    const low = f.let(i32.wrap_i64(linear));
    const entry = f.let(tlbEntry(c.tlb, low));
    const isOther = i32.or(
      i64.ne(load('i64.load', entry, L.TLB_O_EXEC), linear),
      i32.ne(i32.add(load('i32.load', entry, L.TLB_O_ADDEND), low), host),
    );
    aside(c, isOther, () => this.#exit('cross', recordAddress(cross), this.#budgetBefore(decoded)));
    f.endScope(NO_LOCALS);
  }

  #taken(from: FlowNode, decoded: Decoded): void {
    const { taken } = from;
    const { takenRecord, page } = from.block;
    if (taken) {
      if (taken.block.page === page) {
        this.#goTo(from, taken);
        return;
      }
      // The link to another page says whether the target is still mapped where it was found.
      aside(this.#context, this.#isLinked(decoded.record, recordAddress(takenRecord)), () => this.#goTo(from, taken));
    }
    const distance = decoded.immediate >> 12n;
    if (distance === 0n) {
      this.#exit('branch', recordAddress(decoded.record), this.#paid(), undefined, () =>
        this.#toSibling('branch', decoded),
      );
      return;
    }
    const c = this.#context;
    this.#f.set(c.target, i64.add(c.ipPage, constI64(BigInt(page) + distance * 4096n)));
    this.#exit('far', recordAddress(decoded.record), this.#paid(), undefined, () => this.#toSibling('far', decoded));
  }

  /** To the region of the same module that stands at the record a branch is linked to: a jump, past the table and other instances. */
  #toSibling(kind: 'branch' | 'far', { record }: Decoded): void {
    const f = this.#f;
    const start = f.begin();
    const budget = this.#exitBudget;
    const way = this.#ways.length;
    const target = placedI32({ kind: PLACED.target, value: way });
    const slot = placedI32({ kind: PLACED.slot, value: way });
    let isThere = i32.eq(load('i32.load16_u', target, L.R_HANDLER), slot);
    if (kind === 'far') isThere = i32.and(isThere, this.#isLinked(record, target));
    f.ifLikely(i32.and(isThere, i32.ge_s(budget, constI32(0))), () => {
      if (kind === 'far') f.store('i64.store', constI32(L.IP_PAGE), this.#context.target);
      f.returnCall({ kind: PLACED.sibling, value: way }, [target, budget]);
    });
    this.#ways.push({ start, end: f.length, record, isFar: kind === 'far' });
  }

  /** Whether a branch's link to another page (i32) is to this record, and still mapped where it was found. */
  #isLinked(branch: number, target: Expr): Expr {
    const record = recordAddress(branch);
    const sameKey = i64.eq(load('i64.load', record, L.R_FAR_KEY), this.#jumpKey());
    return i32.and(sameKey, i32.eq(load('i32.load', record, L.R_FAR), target));
  }

  #jumped(from: FlowNode, target: Expr): void {
    const c = this.#context;
    for (const to of from.returns) {
      const offset = (to.block.instructions[0] as Decoded).offset;
      aside(this.#context, i64.eq(target, i64.add(c.ipPage, constI64(offset))), () => this.#goTo(from, to));
    }
  }

  #next(from: FlowNode): void {
    if (from.next) {
      this.#goTo(from, from.next);
      return;
    }
    const last = from.block.instructions.at(-1) as Decoded;
    // The record behind it: an instruction that is not part of the region, or the block's end, which has the same count.
    const record = recordAddress(last.record + L.RECORD);
    this.#exit('dispatch', record, i32.add(this.#context.budget, constI32(last.count - this.#context.unpaid)));
  }

  /** With which the interpreter begins an instruction: its count starts at its block's beginning. */
  #budgetBefore({ count }: Decoded): Expr {
    return i32.add(this.#context.budget, constI32(count - 1 - this.#context.unpaid));
  }

  #paid(): Expr {
    return i32.sub(this.#context.budget, constI32(this.#context.unpaid));
  }

  /** Goes to another block of the region. */
  #goTo(from: FlowNode, node: FlowNode): void {
    const f = this.#f;
    const c = this.#context;
    const to = node.block;
    const back = node.order <= from.order;
    const labels = this.#labelsOf(node);
    this.#edges.push({
      from,
      to: node,
      registers: c.dirty,
      vectors: c.dirtyVectors,
      isSynced: c.isSynced,
      isVectorsSynced: c.isVectorsSynced,
    });
    if (back || node.isMerge || node.isLoop) settleFlags(c);
    if (to.page !== from.block.page) f.store('i64.store', constI32(L.IP_PAGE), i64.add(c.ipPage, constI64(to.page)));
    if (back) {
      if (c.isDraft) this.#noteOrdinaryBehind(node);
      this.#assureOrdinary(node);
      f.set(c.budget, this.#paid());
      c.unpaid = 0;
      f.ifUnlikely(i32.lt_s(c.budget, constI32(0)), () => {
        const offset = (to.instructions[0] as Decoded).offset;
        f.store('i64.store', constI32(L.RIP), i64.add(c.ipPage, constI64(offset)));
        this.#exit('lookup', constI32(0), c.budget);
      });
      f.br(labels.loop as Label);
      return;
    }
    if (node.isMerge) {
      f.set(c.budget, this.#paid());
      labels.ordinary = bothOrdinary(labels.ordinary ?? c.ordinary, c.ordinary);
      f.br(labels.block as Label);
    } else {
      if (node.isLoop) f.set(c.budget, this.#paid());
      this.#node(node);
    }
  }
}
