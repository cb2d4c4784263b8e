import { REGIONS_MAX } from '../interpreter/engine.ts';
import * as L from '../layout.ts';
import { handlerCount } from '../semantics/index.ts';
import { type Region, RegionReader } from './region.ts';
import { translate } from './translate.ts';

/** Samples of a block that make it worth translating. */
const HOT = 2;
/** A record below this is none (layout.ts, LAST_RECORD). */
const FIRST_RECORD = 16;

type Exports = Record<string, unknown>;
type Imports = Record<string, Exports>;

interface Surroundings {
  readonly memory: WebAssembly.Memory;
  /** The interpreter's exports: its table, and the functions that regions leave by. */
  readonly engine: Exports;
  readonly helpers: Exports;
}

/**
 * Finds hot code by looking where the interpreter is whenever its budget is used up, and has it translated. A region
 * stands in the handlers' table, and in the first record of its entry block instead of the first instruction's handler.
 */
export class Translator {
  readonly #view: DataView;
  readonly #imports: Imports;
  readonly #reader: RegionReader;
  /** By first record: the handler that the region took the place of. */
  readonly #original = new Map<number, number>();
  #nextSlot = handlerCount();

  constructor({ memory, engine, helpers }: Surroundings) {
    this.#view = new DataView(memory.buffer);
    this.#imports = { env: { memory, table: engine['table'] }, engine, helpers };
    this.#reader = new RegionReader(this.#view, (record) => this.#original.get(record));
  }

  /** The interpreter is about to go on with this record. */
  sample(record: number): void {
    if (record < FIRST_RECORD || this.#original.has(record)) return;
    const heat = record - L.NODE + L.NODE_HEAT;
    const samples = this.#view.getUint32(heat, true) + 1;
    this.#view.setUint32(heat, samples, true);
    if (samples === HOT) this.#translate(record);
  }

  /** All decoded code is forgotten. */
  reset(): void {
    this.#original.clear();
    this.#nextSlot = handlerCount();
  }

  #translate(record: number): void {
    if (this.#nextSlot === handlerCount() + REGIONS_MAX) return;
    const region = this.#reader.read(record);
    if (!region) return;
    const slot = this.#nextSlot++;
    const module = new WebAssembly.Module(translate([{ region, slot }]));
    new WebAssembly.Instance(module, this.#imports as never);
    this.#install(record, region, slot);
  }

  #install(record: number, region: Region, slot: number): void {
    const view = this.#view;
    this.#original.set(record, view.getUint16(record + L.R_HANDLER, true));
    view.setUint16(record + L.R_HANDLER, slot, true);
    // A write to any of its bytes makes the entry stale.
    const node = view.getUint32(L.ARENA_NEXT, true);
    view.setUint32(L.ARENA_NEXT, node + L.NODE, true);
    const page = L.CODE_PAGES + (region.start >>> 12) * 4;
    view.setUint32(node + L.NODE_NEXT, view.getUint32(page, true), true);
    view.setUint32(node + L.NODE_START, region.start, true);
    view.setUint32(node + L.NODE_LENGTH, region.end - region.start, true);
    view.setUint32(node + L.NODE_RECORDS, record, true);
    view.setUint32(node + L.NODE_COUNT, 1, true);
    view.setUint32(node + L.NODE_HASH, view.getUint32(record - L.NODE + L.NODE_HASH, true), true);
    view.setUint32(page, node, true);
  }
}
