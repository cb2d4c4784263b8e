// What the translator asks for and what it gets: collected blocks in, compiled modules out.

import type { Collected } from './collect.ts';
import { readRegion } from './region.ts';
import { type PlacedRegion, translate } from './translate.ts';

export interface Request {
  readonly collected: Collected;
  /** Index in the handlers' table for the region's function. */
  readonly slot: number;
}

/** What becomes one module. */
export interface Batch {
  readonly requests: readonly Request[];
  /** ARENA_GENERATION of the collected blocks: slots are used again in the next. */
  readonly generation: number;
}

export interface Answer {
  /** Fills the slots when it is instantiated; undefined where nothing could be translated. */
  readonly module: WebAssembly.Module | undefined;
  readonly slots: readonly number[];
  /** Slots of regions that could not be translated. */
  readonly refused: readonly number[];
  readonly generation: number;
}

export function compile({ requests, generation }: Batch): Answer {
  const regions: PlacedRegion[] = [];
  for (const { collected, slot } of requests) {
    const region = readRegion(collected);
    if (region) regions.push({ region, slot });
  }
  const { bytes, slots } = translate(regions);
  const refused = requests.map(({ slot }) => slot).filter((slot) => !slots.includes(slot));
  return { module: slots.length > 0 ? new WebAssembly.Module(bytes) : undefined, slots, refused, generation };
}
