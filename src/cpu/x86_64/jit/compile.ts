// What the translator asks for and what it gets: collected blocks in, compiled modules out.

import * as L from '../layout.ts';
import type { Collected } from './collect.ts';
import { fingerprint } from './fingerprint.ts';
import type { KeptTranslations } from './kept-translations.ts';
import { type PlacedTemplate, place } from './place.ts';
import { readRegion } from './region.ts';
import type { Template } from './template.ts';
import { translate } from './translate.ts';

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
  /** Slots of regions that are no more. */
  readonly dropped: readonly number[];
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
  /** Regions of which an earlier run had kept the template. */
  readonly kept: number;
  /** Guest instructions in them. */
  readonly instructions: number;
  /** Bytes of the module. */
  readonly bytes: number;
  /** What making it took, in milliseconds. */
  readonly milliseconds: number;
}

/** `kept`: templates of earlier runs, and of this one for later ones. */
export function compile({ requests, generation, counting }: Batch, kept?: KeptTranslations): Answer {
  const start = performance.now();
  const regions: PlacedTemplate[] = [];
  const refused: number[] = [];
  const translated = new Map<string, Template>();
  let instructions = 0;
  let found = 0;
  for (const { collected, slot, apart } of requests) {
    const key = kept && fingerprint(collected, apart, counting);
    let template = key && kept?.get(key);
    if (template) {
      found++;
    } else {
      const region = readRegion(collected);
      template = region && translate(region, apart, counting);
      if (template && key) translated.set(key, template);
    }
    if (template) {
      regions.push({ template, collected, slot });
      for (const { records } of collected.blocks) instructions += records.length / L.RECORD - 1;
    } else {
      refused.push(slot);
    }
  }
  kept?.add(translated);
  const bytes = place(regions);
  const module = regions.length > 0 ? new WebAssembly.Module(bytes) : undefined;
  const slots = regions.map(({ slot }) => slot);
  const milliseconds = performance.now() - start;
  return { module, slots, refused, generation, kept: found, instructions, bytes: bytes.length, milliseconds };
}
