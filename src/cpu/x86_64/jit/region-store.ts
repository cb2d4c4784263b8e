// The translated regions of a vCPU: their slots in the handlers' table, the records they stand in, and which of them go
// when there are too many.

import { HANDLER_STOP } from '../decode/blocks.ts';
import * as L from '../layout.ts';
import type { Collected, HostRange } from './collect.ts';

/** Of the most regions so many are in place at once, as a fraction: the others stand aside. */
const ACTIVE = 3 / 4;
/** Nothing ages while there are fewer regions: they are some 80 MiB. */
const AGE_FROM = 8192;
/** Modules that age() has stand aside at a time, and those that do so before it drops the first. */
const AGE_BATCHES = 8;
const ASIDE_BATCHES = 256;

/** A region, from the request on. */
interface Entry {
  /** First record of the block that it begins with. */
  readonly record: number;
  readonly slot: number;
  /** First records of its blocks; none once another one was made that begins there. */
  blocks: readonly number[];
  /** Nodes by which writes to the region's bytes are seen, one for each page. */
  readonly nodes: readonly number[];
  /** Handler that its slot stands in place of in the record; undefined: the record has its own. */
  original: number | undefined;
  /** Its function is in the table. */
  installed: boolean;
  /** Better code has been asked for. */
  improved: boolean;
}

/** What one module holds: kept and dropped together, since each of its functions keeps all of it. */
interface Batch {
  readonly entries: readonly Entry[];
}

/**
 * At most `most` regions. When there are nearly so many, the oldest stand aside: their records have their own handlers again. One that is found hot
 * once more is put back without a compilation; a batch of which none was is dropped when room is needed, and its code
 * is garbage then.
 */
export class RegionStore {
  readonly #view: DataView;
  readonly #table: WebAssembly.Table;
  readonly #most: number;
  readonly #firstSlot: number;
  #nextSlot: number;
  #freeSlots: number[] = [];
  #dropped: number[] = [];
  readonly #byRecord = new Map<number, Entry>();
  /** By first record: of two regions that begin there, the one that is not in place. */
  readonly #others = new Map<number, Entry>();
  readonly #bySlot = new Map<number, Entry>();
  /** Oldest first: those that are in place, and those that stand aside. */
  #active: Batch[] = [];
  #activeCount = 0;
  #aside: Batch[] = [];
  readonly #release: (blocks: readonly number[]) => void;

  /** Slots from `firstSlot` on; `most` of them or fewer at once. `release`: told the first records of a region's blocks when it is no more. */
  constructor(
    memory: ArrayBuffer,
    table: WebAssembly.Table,
    firstSlot: number,
    most: number,
    release: (blocks: readonly number[]) => void,
  ) {
    this.#view = new DataView(memory);
    this.#table = table;
    this.#firstSlot = firstSlot;
    this.#nextSlot = firstSlot;
    this.#most = most;
    this.#release = release;
  }

  /** Regions that are there or asked for. */
  get count(): number {
    return this.#bySlot.size;
  }

  /** Handler that a record had before a region took its place. */
  original(record: number): number | undefined {
    return this.#byRecord.get(record)?.original;
  }

  has(record: number): boolean {
    return this.#byRecord.has(record);
  }

  /** Gives a slot to a region to be translated; undefined where there is no room. */
  ask(record: number, collected: Collected): number | undefined {
    const blocks = collected.blocks.map(({ first }) => first);
    if (this.count >= this.#most) this.#makeRoom();
    const nodes = this.#makeNodes(collected.ranges);
    if (!nodes) {
      this.#release(blocks);
      return undefined;
    }
    const slot = this.#freeSlots.pop() ?? this.#nextSlot++;
    const entry: Entry = { record, slot, blocks, nodes, original: undefined, installed: false, improved: false };
    this.#byRecord.set(record, entry);
    this.#bySlot.set(slot, entry);
    return slot;
  }

  /** The module that holds these slots has been instantiated. Gives how many of them came into use. */
  install(slots: readonly number[]): number {
    const entries = slots.map((slot) => this.#bySlot.get(slot)).filter((entry) => entry !== undefined);
    const [alive, changed] = [entries.filter((e) => !this.#isStale(e)), entries.filter((e) => this.#isStale(e))];
    // The guest has changed the code meanwhile.
    for (const entry of changed) this.#forget(entry);
    if (alive.length === 0) return 0;
    for (const entry of alive) {
      entry.installed = true;
      this.#putIn(entry);
    }
    this.#active.push({ entries: alive });
    this.#activeCount += alive.length;
    while (this.#activeCount > this.#most * ACTIVE) this.#setAside();
    return alive.length;
  }

  /** The region of this slot cannot be. Gives its record. */
  refuse(slot: number): number | undefined {
    const entry = this.#bySlot.get(slot);
    if (entry) this.#forget(entry);
    return entry?.record;
  }

  /** A region is in place at this record for which better code has not been asked yet. */
  canImprove(record: number): boolean {
    const entry = this.#byRecord.get(record);
    return entry?.original !== undefined && !entry.improved;
  }

  /** Better code is asked for: gives the region's slot. Undefined: canImprove() is false. */
  improve(record: number): number | undefined {
    if (!this.canImprove(record)) return undefined;
    const entry = this.#byRecord.get(record) as Entry;
    entry.improved = true;
    return entry.slot;
  }

  /** Takes a region out, for another one that begins there. False: there is none in place. */
  retire(record: number): boolean {
    const entry = this.#byRecord.get(record);
    if (entry?.original === undefined) return false;
    this.#takeOut(entry);
    this.#releaseBlocks(entry);
    this.#byRecord.delete(record);
    this.#others.set(record, entry);
    return true;
  }

  /** Of two regions that begin here, the other one comes in place of the one that is. False: there is but one, or none in place. */
  swap(record: number): boolean {
    const entry = this.#byRecord.get(record);
    const other = this.#others.get(record);
    if (entry?.original === undefined || !other || this.#isStale(other)) return false;
    this.#takeOut(entry);
    this.#putIn(other);
    this.#byRecord.set(record, other);
    this.#others.set(record, entry);
    return true;
  }

  /** Puts a region that stood aside back. False: there is none. */
  revive(record: number): boolean {
    const entry = this.#byRecord.get(record);
    if (!entry?.installed || entry.original !== undefined || this.#isStale(entry)) return false;
    this.#putIn(entry);
    return true;
  }

  /** Some of the oldest regions stand aside, and those that have done so for longest are dropped: called now and then, it leaves what is still hot. */
  age(): void {
    for (let i = 0; i < AGE_BATCHES && this.count > AGE_FROM && this.#active.length > 0; i++) {
      this.#setAside();
      if (this.#aside.length > ASIDE_BATCHES) this.#dropOldest();
    }
  }

  /** Slots that have become free since the last call. */
  takeDropped(): readonly number[] {
    const dropped = this.#dropped;
    this.#dropped = [];
    return dropped;
  }

  /** All decoded code is forgotten. */
  reset(): void {
    for (let slot = this.#firstSlot; slot < this.#nextSlot; slot++) this.#table.set(slot, null);
    this.#nextSlot = this.#firstSlot;
    this.#freeSlots = [];
    this.#dropped = [];
    this.#byRecord.clear();
    this.#others.clear();
    this.#bySlot.clear();
    this.#active = [];
    this.#activeCount = 0;
    this.#aside = [];
  }

  #makeRoom(): void {
    const overwritten = (batch: Batch): boolean => batch.entries.every((entry) => this.#isStale(entry));
    for (const batch of [...this.#active, ...this.#aside].filter(overwritten)) this.#drop(batch);
    this.#active = this.#active.filter((batch) => !overwritten(batch));
    this.#aside = this.#aside.filter((batch) => !overwritten(batch));
    this.#activeCount = this.#active.reduce((sum, { entries }) => sum + entries.length, 0);
    const goal = this.#most - this.#most / 8;
    while (this.count > goal) {
      if (this.#aside.length === 0) {
        if (this.#active.length === 0) return;
        this.#setAside();
      }
      this.#dropOldest();
    }
  }

  /** Of what stands aside: it is kept where one of its regions has been put back. */
  #dropOldest(): void {
    const batch = this.#aside.shift() as Batch;
    if (batch.entries.some(({ original }) => original !== undefined)) {
      this.#active.push(batch);
      this.#activeCount += batch.entries.length;
    } else {
      this.#drop(batch);
    }
  }

  /** Takes the oldest batch out of its records. */
  #setAside(): void {
    const batch = this.#active.shift() as Batch;
    this.#activeCount -= batch.entries.length;
    for (const entry of batch.entries) this.#takeOut(entry);
    this.#aside.push(batch);
  }

  #drop({ entries }: Batch): void {
    for (const entry of entries) {
      this.#takeOut(entry);
      this.#forget(entry);
    }
  }

  #putIn(entry: Entry): void {
    const at = entry.record + L.R_HANDLER;
    entry.original = this.#view.getUint16(at, true);
    this.#view.setUint16(entry.record - L.NODE + L.NODE_ORIGINAL, entry.original, true);
    this.#view.setUint16(at, entry.slot, true);
    this.#beginHeat(entry.record);
    // From now on writes to the bytes must make this record stale.
    for (const node of entry.nodes) {
      this.#view.setUint32(node + L.NODE_RECORDS, entry.record, true);
      this.#view.setUint32(node + L.NODE_HASH, this.#view.getUint32(entry.record - L.NODE + L.NODE_HASH, true), true);
    }
  }

  #takeOut(entry: Entry): void {
    const view = this.#view;
    const at = entry.record + L.R_HANDLER;
    if (entry.original !== undefined && view.getUint16(at, true) === entry.slot) {
      view.setUint16(at, entry.original, true);
      this.#beginHeat(entry.record);
    }
    entry.original = undefined;
  }

  #beginHeat(record: number): void {
    this.#view.setUint32(record - L.NODE + L.NODE_HEAT, this.#view.getUint32(L.HEAT_START, true), true);
  }

  #releaseBlocks(entry: Entry): void {
    this.#release(entry.blocks);
    entry.blocks = [];
  }

  /** Gives the slot back. */
  #forget(entry: Entry): void {
    this.#releaseBlocks(entry);
    for (const node of entry.nodes) this.#unlink(node);
    this.#table.set(entry.slot, null);
    this.#freeSlots.push(entry.slot);
    this.#dropped.push(entry.slot);
    this.#bySlot.delete(entry.slot);
    for (const entries of [this.#byRecord, this.#others])
      if (entries.get(entry.record) === entry) entries.delete(entry.record);
  }

  /** The guest has written to its bytes. */
  #isStale({ record, nodes }: Entry): boolean {
    const stale = (at: number): boolean => this.#view.getUint16(at + L.R_HANDLER, true) === L.HANDLER_STALE;
    return stale(record) || nodes.some((node) => stale(node + L.NODE));
  }

  /** Until the region is in place, writes to its bytes reach records of the nodes' own. Undefined: the arena is full. */
  #makeNodes(ranges: readonly HostRange[]): number[] | undefined {
    const view = this.#view;
    const first = view.getUint32(L.ARENA_NEXT, true);
    const size = L.NODE + L.RECORD;
    if (first + ranges.length * size > L.ARENA_TRANSIENT) return undefined;
    view.setUint32(L.ARENA_NEXT, first + ranges.length * size, true);
    return ranges.map(({ start, end }, i) => {
      const node = first + i * size;
      const own = node + L.NODE;
      view.setUint16(own + L.R_HANDLER, HANDLER_STOP, true);
      const page = L.CODE_PAGES + (start >>> 12) * 4;
      view.setUint32(node + L.NODE_NEXT, view.getUint32(page, true), true);
      view.setUint32(node + L.NODE_START, start, true);
      view.setUint32(node + L.NODE_LENGTH, end - start, true);
      view.setUint32(node + L.NODE_RECORDS, own, true);
      view.setUint16(node + L.NODE_COUNT, 1, true);
      view.setUint32(node + L.NODE_HASH, 0, true);
      view.setUint32(page, node, true);
      return node;
    });
  }

  #unlink(node: number): void {
    const view = this.#view;
    let link = L.CODE_PAGES + (view.getUint32(node + L.NODE_START, true) >>> 12) * 4;
    for (let at = view.getUint32(link, true); at !== 0; link = at + L.NODE_NEXT, at = view.getUint32(link, true)) {
      if (at !== node) continue;
      view.setUint32(link, view.getUint32(node + L.NODE_NEXT, true), true);
      return;
    }
  }
}
