// What the translator asks for and what it gets: collected blocks in, compiled modules out.

import * as L from '../layout.ts';
import type { Collected } from './collect.ts';
import { readRegion } from './region.ts';
import { type PlacedRegion, translate } from './translate.ts';

export interface Request {
  readonly collected: Collected;
  /** Index in the handlers' table for the region's function. */
  readonly slot: number;
  /** Each of its accesses looks up its page itself: where they share look-ups, the region is left too often. */
  readonly apart: boolean;
}

/** What becomes one module. */
export interface Batch {
  readonly requests: readonly Request[];
  /** ARENA_GENERATION of the collected blocks: slots are used again in the next. */
  readonly generation: number;
  /** The regions count the instructions they run. */
  readonly counting: boolean;
}

export interface Answer {
  /** Fills the slots when it is instantiated; undefined where nothing could be translated. */
  readonly module: WebAssembly.Module | undefined;
  readonly slots: readonly number[];
  /** Slots of regions that could not be translated. */
  readonly refused: readonly number[];
  readonly generation: number;
  /** Guest instructions in them. */
  readonly instructions: number;
  /** Bytes of the module. */
  readonly bytes: number;
  /** What making it took, in milliseconds. */
  readonly milliseconds: number;
}

export function compile({ requests, generation, counting }: Batch): Answer {
  const start = performance.now();
  const regions: PlacedRegion[] = [];
  for (const { collected, slot, apart } of requests) {
    const region = readRegion(collected);
    if (region) regions.push({ region, slot, apart });
  }
  const { bytes, slots } = translate(regions, counting);
  const module = slots.length > 0 ? new WebAssembly.Module(bytes) : undefined;
  const translated = new Set(slots);
  const refused = requests.map(({ slot }) => slot).filter((slot) => !translated.has(slot));
  let instructions = 0;
  for (const { collected, slot } of requests) {
    if (translated.has(slot)) for (const { records } of collected.blocks) instructions += records.length / L.RECORD - 1;
  }
  const milliseconds = performance.now() - start;
  return { module, slots, refused, generation, instructions, bytes: bytes.length, milliseconds };
}
