// What becomes one WebAssembly function: decoded instructions that direct branches join, from one entry on. Taken from the vCPU's memory, as the interpreter has decoded and linked them.

import { HANDLER_CROSS } from '../decode/blocks.ts';
import * as L from '../layout.ts';
import { allLines, FIRST_HANDLER, type Shape, shapesOf } from '../semantics/index.ts';
import type { Collected } from './collect.ts';
import type { Span } from './region-context.ts';

/** A decoded instruction: the fields of its record (layout.ts, R_*). */
export interface Decoded {
  /** Bytes from the region's first record. */
  readonly record: number;
  readonly shape: Shape;
  readonly reg: number;
  readonly rm: number;
  readonly index: number;
  readonly segment: number;
  readonly scale: number;
  readonly length: number;
  /** Of its first byte, in the entry's page: outside of 0 to 4095 in another page. */
  readonly offset: number;
  readonly prefix: number;
  /** Instructions of the record's block up to and including this one. */
  readonly count: number;
  readonly displacement: bigint;
  readonly immediate: bigint;
  readonly vvvv: number;
  /** It crosses into the next page: the record before says so, and where that page is, to the interpreter. */
  readonly crosses: boolean;

  // What the first pass finds out.
  /** The interpreter must run it. */
  isSkipped: boolean;
  /** It needs the flags in the locals from the start: what it does with them depends on a condition. */
  settleFirst: boolean;
  /** Of its accesses, one after the other. */
  readonly spans: (Span | undefined)[];
}

/** Instructions that are always run from the first to the last, unless one of them leaves. */
export interface BasicBlock {
  readonly instructions: readonly Decoded[];
  /** Where the last instruction branches to, if that is in the region. */
  taken: BasicBlock | undefined;
  /** First record of the decoded block there, as Decoded.record. */
  takenRecord: number;
  /** What follows the last instruction, if that is in the region. */
  next: BasicBlock | undefined;
  /** Where the return at its end may go: behind the calls of the region. */
  returns: readonly BasicBlock[];
  /** Bytes from the entry's page to the block's page. */
  readonly page: number;
}

export interface Region {
  readonly entry: BasicBlock;
  /** MODE of its code. */
  readonly mode: number;
}

/** Of a branch: offset of the instruction there, first record of the block as Decoded.record. */
interface Target {
  readonly offset: number;
  readonly record: number;
}

/** More places to return to are not looked through. */
const MOST_RETURNS = 4;

/** By handler: those that have been met. */
const shapes: (Shape | undefined)[] = [];

function shapeOf(handler: number): Shape | undefined {
  return handler < FIRST_HANDLER ? undefined : (shapes[handler] ??= findShape(handler));
}

function findShape(handler: number): Shape | undefined {
  const line = allLines().findLast(({ base }) => base <= handler);
  return line && shapesOf(line)[handler - line.base];
}

/** Reads the instructions of collected blocks. Undefined where there is nothing to translate. */
export function readRegion(collected: Collected): Region | undefined {
  /** Of the blocks' first instructions, by first record. */
  const starts = new Map<number | undefined, Target>();
  for (const { first, records, page } of collected.blocks) {
    starts.set(first, { offset: page + fields(records).getUint16(L.R_OFFSET, true), record: records.byteOffset });
  }
  const found = new Map<number, Decoded>();
  const targets = new Map<Decoded, Target>();
  const returns = new Set<number>();
  for (const { first, records, page, targets: links, returns: after } of collected.blocks) {
    const view = fields(records);
    let crosses = false;
    for (let at = 0; at < records.length; at += L.RECORD) {
      const offset = page + view.getUint16(at + L.R_OFFSET, true);
      if (found.has(offset)) break;
      const handler = view.getUint16(at + L.R_HANDLER, true);
      if (handler === HANDLER_CROSS) {
        crosses = true;
        continue;
      }
      const shape = shapeOf(handler);
      if (!shape) break;
      const decoded = decodedAt(view, at, records.byteOffset + at, shape, page, crosses);
      found.set(offset, decoded);
      const target = starts.get(links.get(first + at));
      if (target) targets.set(decoded, target);
    }
    const behind = starts.get(after);
    if (behind) returns.add(behind.offset);
  }
  const entry = starts.get(collected.blocks[0]?.first)?.offset;
  if (entry === undefined || !found.has(entry)) return undefined;
  const to = returns.size <= MOST_RETURNS ? [...returns].filter((offset) => found.has(offset)) : [];
  return { entry: basicBlocks(found, targets, entry, to), mode: collected.mode };
}

function fields(records: Uint8Array): DataView {
  return new DataView(records.buffer, records.byteOffset, records.byteLength);
}

function decodedAt(view: DataView, at: number, record: number, shape: Shape, page: number, crosses: boolean): Decoded {
  const rm = view.getUint16(at + L.R_RM, true);
  // What is relative to the page becomes relative to the entry's. A branch has its links there.
  const isBranch = (view.getUint8(at + L.R_SCALE) & L.SCALE_BRANCH) !== 0;
  const relative = rm === L.IP_PAGE ? BigInt(page) : 0n;
  return {
    record,
    shape,
    reg: view.getUint16(at + L.R_REG, true),
    rm,
    index: view.getUint16(at + L.R_INDEX, true),
    segment: view.getUint16(at + L.R_SEG, true),
    scale: view.getUint8(at + L.R_SCALE) & 3,
    length: view.getUint8(at + L.R_LEN),
    offset: page + view.getUint16(at + L.R_OFFSET, true),
    prefix: view.getUint8(at + L.R_PREFIX),
    count: view.getUint8(at + L.R_COUNT),
    displacement: isBranch ? 0n : view.getBigInt64(at + L.R_DISP, true) + relative,
    immediate: view.getBigInt64(at + L.R_IMM, true),
    vvvv: view.getUint16(at + L.R_VVVV, true),
    crosses,
    isSkipped: false,
    settleFirst: false,
    spans: [],
  };
}

/** Cuts the instructions at branches and at their targets. Gives the block of the entry. */
function basicBlocks(
  found: ReadonlyMap<number, Decoded>,
  targets: ReadonlyMap<Decoded, Target>,
  entry: number,
  returns: readonly number[],
): BasicBlock {
  const leaders = new Set([
    entry,
    ...returns,
    ...[...targets.values()].map(({ offset }) => offset).filter((offset) => found.has(offset)),
  ]);
  const blocks = new Map<number, BasicBlock>();
  const make = (offset: number): BasicBlock => {
    const known = blocks.get(offset);
    if (known) return known;
    const instructions: Decoded[] = [];
    const page = Math.floor(offset / 4096) * 4096;
    const block: BasicBlock = { instructions, taken: undefined, takenRecord: 0, next: undefined, returns: [], page };
    blocks.set(offset, block);
    for (let at = offset; ; ) {
      const decoded = found.get(at) as Decoded;
      instructions.push(decoded);
      const following = at + decoded.length;
      const isThere = following < page + 4096 || decoded.crosses;
      const goesOn = !decoded.shape.line.encoding.ends && isThere && found.has(following);
      if (decoded.shape.isDirectBranch) {
        const target = targets.get(decoded);
        if (target && found.has(target.offset)) {
          block.taken = make(target.offset);
          block.takenRecord = target.record;
        }
        if (goesOn) block.next = make(following);
        return block;
      }
      if (decoded.shape.line.name === 'ret') {
        // Into another page only back to the entry's, whose mapping has been seen: whatever changes it leaves the region.
        const sure = returns.filter((to) => Math.floor(to / 4096) * 4096 === page || (to >= 0 && to < 4096));
        block.returns = sure.map(make);
      }
      if (!goesOn) return block;
      if (leaders.has(following) || decoded.crosses) {
        block.next = make(following);
        return block;
      }
      at = following;
    }
  };
  return make(entry);
}
