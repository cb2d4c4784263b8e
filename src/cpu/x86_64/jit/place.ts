// Templates become a module: what they leave open is filled in.

import type { BranchHint } from '../../../wasm/function.ts';
import { ModuleBuilder } from '../../../wasm/module.ts';
import { HANDLER, helperType, STATUS } from '../interpreter/handler-emitter.ts';
import * as L from '../layout.ts';
import type { Collected } from './collect.ts';
import { HELPER_NAMES, PLACED, type SiblingWay, type Template } from './template.ts';

/** A region's function, and where it is to stand. */
export interface PlacedTemplate {
  readonly template: Template;
  readonly collected: Collected;
  /** In the handlers' table. */
  readonly slot: number;
}

interface Sibling {
  readonly functionIndex: number;
  readonly slot: number;
}

/** A module that puts the functions into the handlers' table when it is instantiated. */
export function place(regions: readonly PlacedTemplate[]): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder();
  module.type(HANDLER, STATUS);
  // Known to be whole: Liftoff has constant addresses in its loads and stores then, not each in a register first.
  module.importMemory('env', 'memory', L.MEMORY_PAGES, L.MEMORY_PAGES);
  module.importTable('env', 'table', 0);
  const helpers = new Map<number, number>();
  for (const { template } of regions) {
    for (const { kind, value } of template.relocations) {
      if (kind !== PLACED.helper || helpers.has(value)) continue;
      const name = HELPER_NAMES[value] as (typeof HELPER_NAMES)[number];
      const { params, results } = helperType(name);
      helpers.set(value, module.importFunction('helpers', name, params, results));
    }
  }
  const declared = regions.map((region) => {
    const functionIndex = module.declare(`region${region.slot}`, HANDLER, STATUS);
    module.elements(region.slot, [functionIndex]);
    return { ...region, functionIndex };
  });
  /** By first record. */
  const siblings = new Map(declared.map((region) => [region.collected.blocks[0]?.first, region]));
  for (const { template, collected, functionIndex } of declared)
    module.defineFinished(functionIndex, filledIn(template, collected, helpers, siblings));
  return module.finish(true);
}

function filledIn(
  { bytes: open, hints, relocations, ways }: Template,
  { blocks }: Collected,
  helpers: ReadonlyMap<number, number>,
  siblings: ReadonlyMap<number | undefined, Sibling>,
): Pick<Template, 'bytes' | 'hints'> {
  const bytes = open.slice();
  const all = new DataView((blocks[0] as (typeof blocks)[number]).records.buffer);
  const targets = ways.map(({ record, isFar }) => all.getUint32(record + (isFar ? L.R_FAR : L.R_DISP), true));
  const numberOf: Record<number, (value: number) => number> = {
    [PLACED.record]: (record) => addressOf(record, blocks),
    [PLACED.second]: (record) => all.getUint32(record + L.R_DISP, true),
    [PLACED.helper]: (helper) => helpers.get(helper) as number,
    [PLACED.target]: (way) => targets[way] as number,
    [PLACED.slot]: (way) => siblings.get(targets[way])?.slot ?? 0,
    [PLACED.sibling]: (way) => siblings.get(targets[way])?.functionIndex ?? 0,
  };
  for (const { offset, kind, value } of relocations) fill(bytes, offset, numberOf[kind]?.(value) as number);
  const without = ways.filter((_, way) => !siblings.has(targets[way]));
  return cut(bytes, hints, without);
}

/** Takes the pieces, which are in order, out of a function. */
function cut(
  bytes: Uint8Array<ArrayBuffer>,
  hints: Template['hints'],
  pieces: readonly SiblingWay[],
): Pick<Template, 'bytes' | 'hints'> {
  const kept: BranchHint[] = [];
  let hint = 0;
  let length = 0;
  let from = 0;
  for (const { start, end } of [...pieces, { start: bytes.length, end: bytes.length }]) {
    for (; hint < hints.length; hint++) {
      const { offset, likely } = hints[hint] as BranchHint;
      if (offset >= end) break;
      if (offset < start) kept.push({ offset: offset - from + length, likely });
    }
    bytes.copyWithin(length, from, start);
    length += start - from;
    from = end;
  }
  return { bytes: bytes.subarray(0, length), hints: kept };
}

/** Address of the record that is so far behind the region's first one: its blocks' records lie one after the other. */
function addressOf(record: number, blocks: Collected['blocks']): number {
  for (const { first, records } of blocks) {
    const within = record - records.byteOffset;
    if (within < records.length) return first + within;
  }
  throw new Error('a record outside of its region');
}

/** A number of 32 bits in five bytes: a signed LEB128, and an unsigned one for what is below 2^31. */
function fill(bytes: Uint8Array, at: number, value: number): void {
  let rest = value | 0;
  for (let i = 0; i < 4; i++, rest >>= 7) bytes[at + i] = (rest & 0x7f) | 0x80;
  bytes[at + 4] = rest & 0x7f;
}
