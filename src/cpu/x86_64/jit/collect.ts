// What the translator's thread needs of a vCPU's decoded code: copies of the blocks that direct branches join to one
// entry, in its page.

import { HANDLER_STOP } from '../decode/blocks.ts';
import * as L from '../layout.ts';

/** Instructions of a region at most: longer functions compile slower than they gain. */
export const MAX_INSTRUCTIONS = 400;

/** A decoded block: survives structured clone. */
export interface BlockCopy {
  /** Address of the first record. */
  readonly first: number;
  /** The records. */
  readonly records: Uint8Array;
  /** By record address: first record of the block that the branch there is linked to. */
  readonly targets: ReadonlyMap<number, number>;
  /** First record of the block that follows the last instruction. */
  readonly next: number | undefined;
}

/** Blocks, the entry's first. */
export interface Collected {
  readonly blocks: readonly BlockCopy[];
  /** MODE of all. */
  readonly mode: number;
  /** Host range of the code bytes, in one page. */
  readonly start: number;
  readonly end: number;
}

export class Collector {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Handler that a record had before a region took its place. */
  readonly #original: (record: number) => number | undefined;

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
    const page = this.#start(entry) & ~0xfff;
    const seen = new Set([entry]);
    const queue = [entry];
    const blocks: BlockCopy[] = [];
    let [start, end, instructions] = [page + 4096, page, 0];
    const visit = (first: number | undefined): number | undefined => {
      if (first === undefined || (this.#start(first) & ~0xfff) !== page) return undefined;
      if (!seen.has(first)) {
        seen.add(first);
        queue.push(first);
      }
      return first;
    };
    for (let first = queue.shift(); first !== undefined && instructions < MAX_INSTRUCTIONS; first = queue.shift()) {
      const count = view.getUint32(first - L.NODE + L.NODE_COUNT, true);
      const records = this.#bytes.slice(first, first + count * L.RECORD);
      const original = this.#original(first);
      const stale = view.getUint16(first + L.R_HANDLER, true) === L.HANDLER_STALE;
      if (original !== undefined && !stale) new DataView(records.buffer).setUint16(L.R_HANDLER, original, true);
      const targets = new Map<number, number>();
      for (let record = first; record < first + count * L.RECORD; record += L.RECORD) {
        if ((view.getUint8(record + L.R_SCALE) & L.SCALE_BRANCH) === 0) continue;
        const target = visit(view.getUint32(record + L.R_DISP, true) || undefined);
        if (target !== undefined) targets.set(record, target);
      }
      const last = first + (count - 1) * L.RECORD;
      const stops = view.getUint16(last + L.R_HANDLER, true) === HANDLER_STOP;
      const following = page + view.getUint16(last + L.R_OFFSET, true);
      const next = stops && following < page + 4096 ? visit(this.#blockAt(following, mode)) : undefined;
      blocks.push({ first, records, targets, next });
      instructions += count - 1;
      start = Math.min(start, this.#start(first));
      end = Math.max(end, this.#start(first) + view.getUint32(first - L.NODE + L.NODE_LENGTH, true));
    }
    return { blocks, mode, start, end };
  }

  #start(first: number): number {
    return this.#view.getUint32(first - L.NODE + L.NODE_START, true);
  }

  #blockAt(host: number, mode: number): number | undefined {
    const view = this.#view;
    const slot = L.BLOCK_HASH + (Math.imul(host, 0x9e3779b1) >>> 14) * L.BLOCK_HASH_ENTRY;
    if (view.getUint32(slot, true) !== host || view.getUint32(slot + 4, true) !== mode) return undefined;
    return view.getUint32(slot + 8, true) || undefined;
  }
}
