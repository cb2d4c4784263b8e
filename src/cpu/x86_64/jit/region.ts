// What becomes one WebAssembly function: decoded instructions of one code page that direct branches join, from one
// entry on. Taken from the vCPU's memory, as the interpreter has decoded and linked them.

import * as L from '../layout.ts';
import { HANDLER_STOP } from '../decode/blocks.ts';
import { allLines, FIRST_HANDLER, type Shape, shapesOf } from '../semantics/index.ts';

/** Instructions of a region at most: longer functions compile slower than they gain. */
const MAX_INSTRUCTIONS = 400;

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
  /** Host range of the code bytes, in one page. */
  readonly start: number;
  readonly end: number;
  readonly instructionCount: number;
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

/** Reads regions out of a vCPU's memory. */
export class RegionReader {
  readonly #view: DataView;
  /** Handler that a record had before a region took its place. */
  readonly #original: (record: number) => number | undefined;

  constructor(view: DataView, original: (record: number) => number | undefined) {
    this.#view = view;
    this.#original = original;
  }

  /** The region that begins with a block's first record; undefined where there is nothing to translate. */
  read(first: number): Region | undefined {
    const view = this.#view;
    const pageHost = view.getUint32(first - L.NODE + L.NODE_START, true) & ~0xfff;
    const mode = view.getUint32(first - L.NODE + L.NODE_MODE, true);
    if ((mode & L.MODE_CODE_MASK) !== L.MODE_CODE64 || (mode & (L.MODE_STEP | L.MODE_DEBUG)) !== 0) return undefined;
    const found = new Map<number, Decoded>();
    const targets = new Map<Decoded, number>();
    const starts = [first];
    for (let start = starts.shift(); start !== undefined; start = starts.shift()) {
      for (let record = start; found.size < MAX_INSTRUCTIONS; record += L.RECORD) {
        const offset = view.getUint16(record + L.R_OFFSET, true);
        if (found.has(offset)) break;
        const handler = this.#handler(record);
        if (handler === HANDLER_STOP) {
          const next = this.#blockAt(pageHost + offset, mode);
          if (next !== undefined) starts.push(next);
          break;
        }
        const shape = shapeOf(handler);
        if (!shape) break;
        const decoded = this.#decoded(record, shape);
        found.set(offset, decoded);
        if (isDirectBranch(decoded)) {
          const target = this.#targetOf(record, pageHost);
          if (target !== undefined) {
            targets.set(decoded, view.getUint16(target + L.R_OFFSET, true));
            starts.push(target);
          }
        }
        if (shape.line.encoding.ends) break;
      }
    }
    if (found.size === 0) return undefined;
    const entry = view.getUint16(first + L.R_OFFSET, true);
    if (!found.has(entry)) return undefined;
    const offsets = [...found.values()].map((d) => d.offset);
    const ends = [...found.values()].map((d) => d.offset + d.length);
    return {
      entry: basicBlocks(found, targets, entry),
      start: pageHost + Math.min(...offsets),
      end: pageHost + Math.min(4096, Math.max(...ends)),
      instructionCount: found.size,
    };
  }

  #handler(record: number): number {
    return this.#original(record) ?? this.#view.getUint16(record + L.R_HANDLER, true);
  }

  #targetOf(record: number, pageHost: number): number | undefined {
    const target = this.#view.getUint32(record + L.R_DISP, true);
    if (target === 0) return undefined;
    const start = this.#view.getUint32(target - L.NODE + L.NODE_START, true);
    return (start & ~0xfff) === pageHost ? target : undefined;
  }

  #blockAt(host: number, mode: number): number | undefined {
    const view = this.#view;
    const slot = L.BLOCK_HASH + (Math.imul(host, 0x9e3779b1) >>> 14) * L.BLOCK_HASH_ENTRY;
    if (view.getUint32(slot, true) !== host || view.getUint32(slot + 4, true) !== mode) return undefined;
    return view.getUint32(slot + 8, true) || undefined;
  }

  #decoded(record: number, shape: Shape): Decoded {
    const view = this.#view;
    return {
      record,
      shape,
      reg: view.getUint16(record + L.R_REG, true),
      rm: view.getUint16(record + L.R_RM, true),
      index: view.getUint16(record + L.R_INDEX, true),
      segment: view.getUint16(record + L.R_SEG, true),
      scale: view.getUint8(record + L.R_SCALE),
      length: view.getUint8(record + L.R_LEN),
      offset: view.getUint16(record + L.R_OFFSET, true),
      prefix: view.getUint8(record + L.R_PREFIX),
      count: view.getUint8(record + L.R_COUNT),
      displacement: view.getBigInt64(record + L.R_DISP, true),
      immediate: view.getBigInt64(record + L.R_IMM, true),
      vvvv: view.getUint16(record + L.R_VVVV, true),
    };
  }
}

/** Cuts the instructions at branches and at their targets. Gives the block of the entry. */
function basicBlocks(found: ReadonlyMap<number, Decoded>, targets: ReadonlyMap<Decoded, number>, entry: number): BasicBlock {
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
