// Which blocks have been decoded (layout.ts, BLOCK_HASH): sets of entries, a cache line each. The engine looks there by itself (`find`).

import * as L from '../layout.ts';

const WAYS = L.BLOCK_SET / L.BLOCK_HASH_ENTRY;

function setOf(host: number): number {
  return L.BLOCK_HASH + (Math.imul(host, L.BLOCK_HASH_FACTOR) >>> L.BLOCK_HASH_SHIFT) * L.BLOCK_SET;
}

/** First record of the block at a host offset that was decoded in this mode; undefined where there is none. */
export function findBlock(view: DataView, host: number, mode: number): number | undefined {
  const set = setOf(host);
  for (let entry = set; entry < set + L.BLOCK_SET; entry += L.BLOCK_HASH_ENTRY) {
    if (view.getUint32(entry, true) !== host) continue;
    const record = view.getUint32(entry + L.BLOCK_O_RECORD, true);
    if (view.getUint32(record - L.NODE + L.NODE_MODE, true) === mode) return record;
  }
  return undefined;
}

/** Makes an entry; gives its address. Where its set is full, one of the others goes: only the look-up forgets that block, its node stays with its page. */
export function placeBlock(view: DataView, host: number, record: number): number {
  const set = setOf(host);
  let entry = set;
  while (entry < set + L.BLOCK_SET && view.getUint32(entry, true) !== 0) entry += L.BLOCK_HASH_ENTRY;
  if (entry === set + L.BLOCK_SET) entry = set + ((record >>> 5) % WAYS) * L.BLOCK_HASH_ENTRY;
  view.setUint32(entry, host, true);
  view.setUint32(entry + L.BLOCK_O_RECORD, record, true);
  return entry;
}
