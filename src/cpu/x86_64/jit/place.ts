// Templates become a module: what they leave open is filled in.

import type { ValType } from '../../../wasm/expr.ts';
import { ModuleBuilder } from '../../../wasm/module.ts';
import { RESULT_TYPES } from '../interpreter/handler-emitter.ts';
import * as L from '../layout.ts';
import { HELPERS } from '../semantics/helper-names.ts';
import type { Collected } from './collect.ts';
import { HELPER_NAMES, PLACED, type Template } from './template.ts';

export const HANDLER: readonly ValType[] = ['i32', 'i32'];
export const STATUS: readonly ValType[] = ['i32'];
/** Of all modules of regions: index of the handlers' type. */
export const HANDLER_TYPE = 0;
/** And of the interpreter's functions that regions leave by. */
export const ENGINE = { interpret: 0, after: 1, lookup: 2, branchSlow: 3 } as const;

const NOP = 0x01;

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
  for (const name of ['interpret', 'after', 'lookup', 'branch_slow'])
    module.importFunction('engine', name, name === 'after' ? ['i32', 'i32', 'i32'] : HANDLER, STATUS);
  const helpers = new Map<number, number>();
  for (const { template } of regions) {
    for (const { kind, value } of template.relocations) {
      if (kind !== PLACED.helper || helpers.has(value)) continue;
      const name = HELPER_NAMES[value] as (typeof HELPER_NAMES)[number];
      const [params, result] = HELPERS[name].split(':') as [string, string];
      const types = (text: string): ValType[] => [...text].map((c) => RESULT_TYPES[c] as ValType);
      helpers.set(value, module.importFunction('helpers', name, types(params), types(result)));
    }
  }
  /** By first record. */
  const siblings = new Map<number, Sibling>();
  for (const { collected, slot } of regions) {
    const functionIndex = module.declare(`region${slot}`, HANDLER, STATUS);
    siblings.set(collected.blocks[0]?.first as number, { slot, functionIndex });
    module.elements(slot, [functionIndex]);
  }
  for (const { template, collected } of regions) {
    const { functionIndex } = siblings.get(collected.blocks[0]?.first as number) as Sibling;
    module.defineFinished(functionIndex, filledIn(template, collected, helpers, siblings));
  }
  return module.finish(true);
}

function filledIn(
  { bytes: open, hints, relocations, ways }: Template,
  { blocks }: Collected,
  helpers: ReadonlyMap<number, number>,
  siblings: ReadonlyMap<number, Sibling>,
): Pick<Template, 'bytes' | 'hints'> {
  const bytes = open.slice();
  const all = new DataView((blocks[0] as (typeof blocks)[number]).records.buffer);
  const targets = ways.map(({ record, isFar }) => all.getUint32(record + (isFar ? L.R_FAR : L.R_DISP), true));
  const numbers: readonly ((value: number) => number)[] = [
    (record) => addressOf(record, blocks),
    (record) => all.getUint32(record + L.R_DISP, true),
    (helper) => helpers.get(helper) as number,
    (way) => targets[way] as number,
    (way) => siblings.get(targets[way] as number)?.slot ?? 0,
    (way) => siblings.get(targets[way] as number)?.functionIndex ?? 0,
  ];
  for (const { offset, kind, value } of relocations)
    fill(bytes, offset, (numbers[kind] as (typeof numbers)[number])(value));
  const without = ways.filter((_, way) => !siblings.has(targets[way] as number));
  for (const { start, end } of without) bytes.fill(NOP, start, end);
  const isThere = (at: number): boolean => !without.some(({ start, end }) => at >= start && at < end);
  return { bytes, hints: hints.filter(({ offset }) => isThere(offset)) };
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
