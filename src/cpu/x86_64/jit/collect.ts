// What the translator's thread needs of a vCPU's decoded code: copies of the blocks that direct branches join to one
// entry.

import { findBlock } from '../decode/block-hash.ts';
import { HANDLER_CROSS, HANDLER_STOP, MAX_BLOCK } from '../decode/blocks.ts';
import { lineOf } from '../decode/lines.ts';
import * as L from '../layout.ts';
import { prune } from './prune.ts';

/** Instructions of a region at most: longer functions compile slower than they gain. */
export const MAX_INSTRUCTIONS = 80;
/** And where most of them are in blocks of full length: an unrolled loop, such as a hash, is slower in pieces. */
const MAX_STRAIGHT = 1000;
/** Regions that hold the same block at most, loops apart. */
const MOST_COPIES = 2;
/** Pages of a region at most. */
const MAX_PAGES = 4;

/** A decoded block, and those that it goes to. */
export interface LinkedBlock {
  /** Address of the first record. */
  readonly first: number;
  /** Bytes from the entry's page to this block's page: linear addresses. */
  readonly page: number;
  /** By record address: first record of the block that the branch there is linked to. */
  readonly targets: ReadonlyMap<number, number>;
  /** First record of the block that follows the last instruction. */
  readonly next: number | undefined;
  /** First record of the block that a call at the block's end returns to. */
  readonly returns: number | undefined;
}

/** Survives structured clone. */
export interface BlockCopy extends LinkedBlock {
  readonly records: Uint8Array;
}

/** Host addresses of code bytes, within one page. */
export interface HostRange {
  readonly start: number;
  readonly end: number;
}

/** Blocks, the entry's first. */
export interface Collected {
  readonly blocks: readonly BlockCopy[];
  /** One for each page. */
  readonly ranges: readonly HostRange[];
  /** MODE of the code. */
  readonly mode: number;
}

const ENDS = 1;
const CALL = 2;
const kinds: number[] = [];

/** ENDS: nothing goes on with the next instruction; CALL: a direct call, which ends too. By handler. */
function kindOf(handler: number): number {
  return (kinds[handler] ??= findKind(handler));
}

function findKind(handler: number): number {
  const line = lineOf(handler);
  if (!line) return 0;
  const { ends, operands } = line.encoding;
  const call = line.name === 'call' && operands.some(({ place }) => place === 'J');
  return (ends ? ENDS : 0) | (call ? CALL : 0);
}

export class Collector {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Handler that a record had before a region took its place. */
  readonly #original: (record: number) => number | undefined;
  /** By first record of a block: regions that have it, or will have. */
  readonly #copies = new Map<number, number>();

  constructor(memory: ArrayBuffer, original: (record: number) => number | undefined) {
    this.#bytes = new Uint8Array(memory);
    this.#view = new DataView(memory);
    this.#original = original;
  }

  /** The blocks of the region that begins with this record, the first of its block; undefined where it cannot be translated. */
  collect(entry: number): Collected | undefined {
    const view = this.#view;
    const mode = view.getUint32(entry - L.NODE + L.NODE_MODE, true);
    if ((mode & L.MODE_CODE_MASK) !== L.MODE_CODE64 || (mode & (L.MODE_STEP | L.MODE_DEBUG)) !== 0) return undefined;
    /** By first record: the block's page. */
    const seen = new Map<number, number>();
    const queue: number[] = [];
    const blocks: LinkedBlock[] = [];
    /** Host pages, by distance from the entry's; and what of them is used. */
    const hosts = new Map<number, number>();
    let instructions = 0;
    let straight = 0;
    const isFresh = (at: number, host: number | undefined): boolean => host !== undefined && !hosts.has(at);
    const differs = (at: number, host: number | undefined): boolean =>
      host !== undefined && (hosts.get(at) ?? host) !== host;
    const visit = (first: number | undefined, page: number): number | undefined => {
      if (first === undefined || view.getUint16(first + L.R_HANDLER, true) === L.HANDLER_STALE) return undefined;
      const known = seen.get(first);
      if (known !== undefined) return known === page ? first : undefined;
      const host = this.#start(first) & ~0xfff;
      const second = this.#second(first);
      const secondHost = second === undefined ? undefined : this.#start(second + L.NODE);
      const fresh = (isFresh(page, host) ? 1 : 0) + (isFresh(page + 4096, secondHost) ? 1 : 0);
      if (differs(page, host) || differs(page + 4096, secondHost) || hosts.size + fresh > MAX_PAGES) return undefined;
      hosts.set(page, host);
      if (secondHost !== undefined) hosts.set(page + 4096, secondHost);
      seen.set(first, page);
      queue.push(first);
      return first;
    };
    if (visit(entry, 0) === undefined) return undefined;
    const hasRoom = (): boolean => instructions < MAX_INSTRUCTIONS && instructions + straight < MAX_STRAIGHT;
    for (let first = queue.shift(); first !== undefined && hasRoom(); first = queue.shift()) {
      const page = seen.get(first) as number;
      const count = view.getUint16(first - L.NODE + L.NODE_COUNT, true);
      const targets = new Map<number, number>();
      for (let record = first; record < first + count * L.RECORD; record += L.RECORD) {
        if ((view.getUint8(record + L.R_SCALE) & L.SCALE_BRANCH) === 0) continue;
        const near = view.getUint32(record + L.R_DISP, true);
        const far = view.getUint32(record + L.R_FAR, true);
        const distance = Number(view.getBigInt64(record + L.R_IMM, true) >> 12n) * 4096;
        const target = near !== 0 ? visit(near, page) : far !== 0 ? visit(far, page + distance) : undefined;
        if (target !== undefined) targets.set(record, target);
      }
      const last = first + (count - 1) * L.RECORD;
      const stops = view.getUint16(last + L.R_HANDLER, true) === HANDLER_STOP;
      const offset = view.getUint16(last + L.R_OFFSET, true);
      // Behind an instruction that crosses into the next page, that one is known.
      const following = page + (offset & ~0xfff);
      const host = hosts.get(following);
      const isSeen = stops && (offset < 4096 || this.#second(first) !== undefined);
      const before = last - L.RECORD;
      const kind = before >= first ? kindOf(this.#handler(before)) : 0;
      const after = (): number | undefined =>
        isSeen && host !== undefined ? visit(findBlock(view, host + (offset & 0xfff), mode), following) : undefined;
      const next = kind === 0 ? after() : undefined;
      const returns = kind & CALL && targets.has(before) ? after() : undefined;
      blocks.push({ first, page, targets, next, returns });
      if (count > MAX_BLOCK) straight += MAX_BLOCK;
      else instructions += count - 1;
    }
    const kept = prune(blocks, (first) => this.#copiesOf(first) >= MOST_COPIES);
    const ranges = new Map<number, HostRange>();
    for (const { first, page } of kept) {
      this.#copies.set(first, this.#copiesOf(first) + 1);
      this.#widen(ranges, page, first - L.NODE);
      const second = this.#second(first);
      if (second !== undefined) this.#widen(ranges, page + 4096, second);
    }
    return { blocks: this.#copied(kept), ranges: [...ranges.values()], mode };
  }

  /** The blocks with their records, which share a buffer. */
  #copied(blocks: readonly LinkedBlock[]): BlockCopy[] {
    let size = 0;
    for (const { first } of blocks) size += this.#size(first);
    const all = new Uint8Array(size);
    const view = new DataView(all.buffer);
    let at = 0;
    return blocks.map((block) => {
      const { first } = block;
      const start = at;
      at += this.#size(first);
      all.set(this.#bytes.subarray(first, first + at - start), start);
      view.setUint16(start + L.R_HANDLER, this.#handler(first), true);
      return { ...block, records: all.subarray(start, at) };
    });
  }

  /** Bytes of a block's records. */
  #size(first: number): number {
    return this.#view.getUint16(first - L.NODE + L.NODE_COUNT, true) * L.RECORD;
  }

  /** Handler of a record, also where a region has taken its place. */
  #handler(record: number): number {
    return this.#original(record) ?? this.#view.getUint16(record + L.R_HANDLER, true);
  }

  /** All decoded code is forgotten. */
  reset(): void {
    this.#copies.clear();
  }

  /** Adds a node's bytes to what is used of a page. */
  #widen(ranges: Map<number, HostRange>, page: number, node: number): void {
    const start = this.#view.getUint32(node + L.NODE_START, true);
    const end = start + this.#view.getUint32(node + L.NODE_LENGTH, true);
    const range = ranges.get(page);
    ranges.set(page, { start: Math.min(start, range?.start ?? start), end: Math.max(end, range?.end ?? end) });
  }

  /** Node of the bytes in the next page, of a block that crosses into it. */
  #second(first: number): number | undefined {
    return this.#handler(first) === HANDLER_CROSS ? first + this.#size(first) : undefined;
  }

  /** Regions that have a block, or will have. */
  #copiesOf(first: number): number {
    return this.#copies.get(first) ?? 0;
  }

  /** A region of these blocks is no more. */
  release(firsts: readonly number[]): void {
    for (const first of firsts) this.#copies.set(first, this.#copiesOf(first) - 1);
  }

  #start(first: number): number {
    return this.#view.getUint32(first - L.NODE + L.NODE_START, true);
  }
}
