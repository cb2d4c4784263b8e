import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Collected } from '../../../../src/cpu/x86_64/jit/collect.ts';
import { RegionStore } from '../../../../src/cpu/x86_64/jit/region-store.ts';
import * as L from '../../../../src/cpu/x86_64/layout.ts';

const FIRST_SLOT = 100;
const ORIGINAL = 7;
/** Regions of a module. */
const BATCH = 16;

/** A store of regions whose blocks lie one behind the other. */
class Regions {
  readonly #view: DataView;
  readonly store: RegionStore;
  readonly records: number[] = [];

  /** Of `count` regions those from `installed` on are only asked for. */
  constructor(count: number, batch = BATCH, installed = count) {
    const memory = new ArrayBuffer(L.ARENA_END);
    this.#view = new DataView(memory);
    const table = new WebAssembly.Table({ element: 'anyfunc', initial: 0x10000 });
    this.store = new RegionStore(memory, table, FIRST_SLOT, 2 * count, () => {});
    const size = L.NODE + 2 * L.RECORD;
    this.#view.setUint32(L.ARENA_NEXT, L.ARENA + count * size, true);
    for (let i = 0; i < count; i++) {
      const record = L.ARENA + i * size + L.NODE;
      this.#view.setUint16(record + L.R_HANDLER, ORIGINAL, true);
      this.records.push(record);
    }
    for (let i = 0; i < count; i += batch) {
      const slots = this.records
        .slice(i, i + batch)
        .map((record) => this.store.ask(record, collected(record)) as number);
      if (i < installed) assert.equal(this.store.install(slots), slots.length);
    }
  }

  get inPlace(): number {
    return this.records.filter((record) => this.#view.getUint16(record + L.R_HANDLER, true) !== ORIGINAL).length;
  }
}

function collected(first: number): Collected {
  const block = { first, page: 0, targets: new Map(), next: undefined, returns: undefined, records: new Uint8Array() };
  return { blocks: [block], ranges: [{ start: L.RAM_BASE, end: L.RAM_BASE + 16 }], mode: 0 };
}

describe('regions age', () => {
  test('those that are not put back are dropped, in time, and those that are stay', () => {
    const COUNT = 10_000;
    const { store, records } = new Regions(COUNT);
    const hot = records.filter((_, i) => i % (3 * BATCH) === 0);
    const dropped: number[] = [];
    for (let i = 0; i < 300; i++) {
      store.age();
      for (const record of hot) store.revive(record);
      dropped.push(...store.takeDropped());
    }
    // Nothing ages while there are fewer than 8,192.
    assert.ok(store.count <= 8192 && store.count > 8192 - BATCH, `${store.count} are left`);
    assert.equal(dropped.length, COUNT - store.count);
    assert.equal(new Set(dropped).size, dropped.length);
    assert.deepEqual(
      hot.filter((record) => !store.has(record)),
      [],
    );
    // A module goes as a whole.
    assert.equal(records.filter((record) => !store.has(record)).length % BATCH, 0);
  });

  test('where there are few, all stay in place', () => {
    const regions = new Regions(8000);
    for (let i = 0; i < 300; i++) regions.store.age();
    assert.equal(regions.inPlace, 8000);
    assert.equal(regions.store.takeDropped().length, 0);
  });

  test('all that are installed stand aside', () => {
    const { store } = new Regions(8192 + 8, 32, 8192);
    for (let i = 0; i < 300; i++) store.age();
    assert.equal(store.count, 8192 + 8);
  });
});
