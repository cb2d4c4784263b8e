import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findBlock, placeBlock } from '../../../../src/cpu/x86_64/decode/block-hash.ts';
import * as L from '../../../../src/cpu/x86_64/layout.ts';

const MODE = 3;

function place(view: DataView, host: number, number: number, mode = MODE): number {
  const record = L.ARENA + L.NODE + number * (L.NODE + L.RECORD);
  view.setUint32(record - L.NODE + L.NODE_MODE, mode, true);
  placeBlock(view, host, record);
  return record;
}

test('a compiler whole, 240,000 blocks, stays known but for one in a hundred', () => {
  const view = new DataView(new ArrayBuffer(L.ARENA_TRANSIENT));
  const COUNT = 240_000;
  const hosts = Array.from({ length: COUNT }, (_, i) => L.RAM_BASE + i * 37 + (i % 5));
  const records = hosts.map((host, i) => place(view, host, i));
  const known = hosts.filter((host, i) => findBlock(view, host, MODE) === records[i]);
  assert.ok(known.length > 0.99 * COUNT, `${known.length} of ${COUNT}`);
});

test('the same bytes decoded in two modes are two blocks; a cleared entry is used again', () => {
  const view = new DataView(new ArrayBuffer(L.ARENA + 0x10000));
  const first = place(view, L.RAM_BASE, 0);
  const second = place(view, L.RAM_BASE, 1, MODE + 1);
  assert.equal(findBlock(view, L.RAM_BASE, MODE), first);
  assert.equal(findBlock(view, L.RAM_BASE, MODE + 1), second);
  assert.equal(findBlock(view, L.RAM_BASE, MODE + 2), undefined);
  const entry = placeBlock(view, L.RAM_BASE + 1, first);
  view.setBigUint64(entry, 0n, true);
  assert.equal(findBlock(view, L.RAM_BASE + 1, MODE), undefined);
  assert.equal(placeBlock(view, L.RAM_BASE + 1, first), entry);
});
