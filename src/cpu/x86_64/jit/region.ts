// What becomes one WebAssembly function: decoded instructions of one code page that direct branches join, from one
// entry on. Taken from the vCPU's memory, as the interpreter has decoded and linked them.

import * as L from '../layout.ts';
import { allLines, FIRST_HANDLER, type Shape, shapesOf } from '../semantics/index.ts';
import type { BlockCopy, Collected } from './collect.ts';

/** A decoded instruction: the fields of its record (layout.ts, R_*). */
export interface Decoded {
  /** Address of the record. */
  readonly record: number;
  readonly shape: Shape;
  readonly reg: number;
  readonly rm: number;
  readonly index: number;
  readonly segment: number;
  readonly scale: number;
  readonly length: number;
  /** Of its first byte, in the page. */
  readonly offset: number;
  readonly prefix: number;
  /** Instructions of the record's block up to and including this one. */
  readonly count: number;
  readonly displacement: bigint;
  readonly immediate: bigint;
  readonly vvvv: number;
}

/** Instructions that are always run from the first to the last, unless one of them leaves. */
export interface BasicBlock {
  readonly instructions: readonly Decoded[];
  /** Where the last instruction branches to, if that is in the region. */
  taken: BasicBlock | undefined;
  /** What follows the last instruction, if that is in the region. */
  next: BasicBlock | undefined;
}

export interface Region {
  readonly entry: BasicBlock;
  /** MODE that its blocks were decoded in. */
  readonly mode: number;
}

const shapes: (Shape | undefined)[] = [];
function shapeOf(handler: number): Shape | undefined {
  if (shapes.length === 0) {
    shapes.length = FIRST_HANDLER;
    for (const line of allLines()) shapes.push(...shapesOf(line));
  }
  return shapes[handler];
}

export function isDirectBranch({ shape }: Decoded): boolean {
  return shape.line.encoding.operands.some(({ place }) => place === 'J');
}

/** Reads the instructions of collected blocks. Undefined where there is nothing to translate. */
export function readRegion(collected: Collected): Region | undefined {
  const byFirst = new Map(collected.blocks.map((block) => [block.first, block]));
  const found = new Map<number, Decoded>();
  const targets = new Map<Decoded, number>();
  const offsetOf = ({ records }: BlockCopy): number => fields(records).getUint16(L.R_OFFSET, true);
  for (const { first, records, targets: links } of collected.blocks) {
    const view = fields(records);
    for (let at = 0; at < records.length; at += L.RECORD) {
      const offset = view.getUint16(at + L.R_OFFSET, true);
      if (found.has(offset)) break;
      const shape = shapeOf(view.getUint16(at + L.R_HANDLER, true));
      if (!shape) break;
      const decoded = decodedAt(view, at, first + at, shape);
      found.set(offset, decoded);
      const target = byFirst.get(links.get(decoded.record) ?? 0);
      if (target) targets.set(decoded, offsetOf(target));
    }
  }
  const [entry] = collected.blocks;
  if (!entry || !found.has(offsetOf(entry))) return undefined;
  return { entry: basicBlocks(found, targets, offsetOf(entry)), mode: collected.mode };
}

function fields(records: Uint8Array): DataView {
  return new DataView(records.buffer, records.byteOffset, records.byteLength);
}

function decodedAt(view: DataView, at: number, record: number, shape: Shape): Decoded {
  return {
    record,
    shape,
    reg: view.getUint16(at + L.R_REG, true),
    rm: view.getUint16(at + L.R_RM, true),
    index: view.getUint16(at + L.R_INDEX, true),
    segment: view.getUint16(at + L.R_SEG, true),
    scale: view.getUint8(at + L.R_SCALE) & 3,
    length: view.getUint8(at + L.R_LEN),
    offset: view.getUint16(at + L.R_OFFSET, true),
    prefix: view.getUint8(at + L.R_PREFIX),
    count: view.getUint8(at + L.R_COUNT),
    displacement: view.getBigInt64(at + L.R_DISP, true),
    immediate: view.getBigInt64(at + L.R_IMM, true),
    vvvv: view.getUint16(at + L.R_VVVV, true),
  };
}

/** Cuts the instructions at branches and at their targets. Gives the block of the entry. */
function basicBlocks(
  found: ReadonlyMap<number, Decoded>,
  targets: ReadonlyMap<Decoded, number>,
  entry: number,
): BasicBlock {
  const leaders = new Set([entry, ...[...targets.values()].filter((offset) => found.has(offset))]);
  const blocks = new Map<number, BasicBlock>();
  const make = (offset: number): BasicBlock => {
    const known = blocks.get(offset);
    if (known) return known;
    const instructions: Decoded[] = [];
    const block: BasicBlock = { instructions, taken: undefined, next: undefined };
    blocks.set(offset, block);
    for (let at = offset; ; ) {
      const decoded = found.get(at) as Decoded;
      instructions.push(decoded);
      const following = at + decoded.length;
      const goesOn = !decoded.shape.line.encoding.ends && found.has(following);
      if (isDirectBranch(decoded)) {
        const target = targets.get(decoded);
        if (target !== undefined && found.has(target)) block.taken = make(target);
        if (goesOn) block.next = make(following);
        return block;
      }
      if (!goesOn) return block;
      if (leaders.has(following)) {
        block.next = make(following);
        return block;
      }
      at = following;
    }
  };
  return make(entry);
}
