// What the translator asks for and what it gets: collected blocks in, compiled modules out.

import type { Collected } from './collect.ts';
import { readRegion } from './region.ts';
import { type PlacedRegion, translate } from './translate.ts';

export interface Request {
  readonly collected: Collected;
  /** Index in the handlers' table for the region's function. */
  readonly slot: number;
  /** ARENA_GENERATION of the collected blocks: slots are used again in the next. */
  readonly generation: number;
}

export interface Answer {
  /** Fills the slots when it is instantiated. */
  readonly module: WebAssembly.Module;
  readonly slots: readonly number[];
  /** Of all its regions. */
  readonly generation: number;
}

/** One module for requests of one generation; undefined where nothing can be translated. */
export function compile(requests: readonly Request[]): Answer | undefined {
  const regions: PlacedRegion[] = [];
  for (const { collected, slot } of requests) {
    const region = readRegion(collected);
    if (region) regions.push({ region, slot });
  }
  const [first] = requests;
  if (!first || regions.length === 0) return undefined;
  const { bytes, slots } = translate(regions);
  if (slots.length === 0) return undefined;
  return { module: new WebAssembly.Module(bytes), slots, generation: first.generation };
}
