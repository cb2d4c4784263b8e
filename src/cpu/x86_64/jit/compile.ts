// What the translator asks for and what it gets: collected blocks in, compiled modules out.

import * as L from '../layout.ts';
import type { Collected } from './collect.ts';
import { readRegion } from './region.ts';
import { type PlacedRegion, translate } from './translate.ts';

export interface Request {
  readonly collected: Collected;
  /** Index in the handlers' table for the region's function. */
  readonly slot: number;
  /** ARENA_GENERATION of the collected blocks: slots are used again in the next. */
  readonly generation: number;
  /** The region counts the instructions it runs. */
  readonly counting: boolean;
}

export interface Answer {
  /** Fills the slots when it is instantiated. */
  readonly module: WebAssembly.Module;
  readonly slots: readonly number[];
  /** Of all its regions. */
  readonly generation: number;
  /** Guest instructions in them. */
  readonly instructions: number;
  /** Bytes of the module. */
  readonly bytes: number;
  /** What making it took, in milliseconds; V8 compiles functions when they are called first. */
  readonly milliseconds: number;
}

/** One module for requests of one generation; undefined where nothing can be translated. */
export function compile(requests: readonly Request[]): Answer | undefined {
  const start = performance.now();
  const regions: PlacedRegion[] = [];
  for (const { collected, slot } of requests) {
    const region = readRegion(collected);
    if (region) regions.push({ region, slot });
  }
  const [first] = requests;
  if (!first || regions.length === 0) return undefined;
  const { bytes, slots } = translate(regions, first.counting);
  if (slots.length === 0) return undefined;
  const module = new WebAssembly.Module(bytes);
  const translated = new Set(slots);
  let instructions = 0;
  for (const { collected, slot } of requests) {
    if (translated.has(slot)) for (const { records } of collected.blocks) instructions += records.length / L.RECORD - 1;
  }
  const milliseconds = performance.now() - start;
  return { module, slots, generation: first.generation, instructions, bytes: bytes.length, milliseconds };
}
