/** The requests that a writer which is killed makes, what a disk may then hold: both from the same seed. */
import assert from 'node:assert/strict';
import { Random } from './pseudo-random.ts';

export const SECTOR = 512;
/** A flush follows each group of so many requests. */
export const GROUP = 6;

export interface Request {
  readonly kind: 'write' | 'zero' | 'discard';
  /** Sectors. */
  readonly first: number;
  readonly count: number;
  /** What each sector is filled with, as a number of 32 bits. */
  readonly value: number;
}

/** An endless list of requests to a disk of so many sectors. */
export function* requests(seed: number, sectors: number, clusterSectors: number): Generator<Request> {
  const random = new Random(seed);
  for (let index = 1; ; index++) {
    const first = random.below(sectors);
    const most = Math.min(sectors - first, random.below(5) === 0 ? clusterSectors * 6 : clusterSectors * 2);
    const kind = (['write', 'write', 'write', 'zero', 'discard'] as const)[random.below(5)]!;
    // Whole clusters are what makes space free.
    const aligned = kind !== 'write' && random.below(2) === 0;
    const start = aligned ? first - (first % clusterSectors) : first;
    const count = aligned ? Math.min(sectors - start, clusterSectors) : 1 + random.below(most);
    yield { kind, first: start, count, value: ((seed & 0xfff) * 2 ** 20 + index) >>> 0 };
  }
}

/** What each sector held after `flushed` requests, and what else it may hold by those after it. */
export function expected(before: Buffer, seed: number, clusterSectors: number, flushed: number): Set<number>[] {
  const sectors = before.length / SECTOR;
  const allowed = Array.from({ length: sectors }, (_, i) => new Set([before.readUInt32LE(i * SECTOR)]));
  let index = 0;
  for (const { kind, first, count, value } of requests(seed, sectors, clusterSectors)) {
    // The writer says that a group is flushed before it goes on.
    if (index++ === flushed + GROUP) break;
    for (let sector = first; sector < first + count; sector++) {
      const settled = index <= flushed && kind !== 'discard';
      if (settled) allowed[sector]!.clear();
      allowed[sector]!.add(kind === 'write' ? value : 0);
    }
  }
  return allowed;
}

/** Fails unless each sector of a disk holds one of the values that it may hold, whole. */
export function assertFlushed(disk: Buffer, allowed: readonly ReadonlySet<number>[]): void {
  for (const [sector, values] of allowed.entries()) {
    const bytes = disk.subarray(sector * SECTOR, (sector + 1) * SECTOR);
    const value = bytes.readUInt32LE(0);
    assert.ok(values.has(value), `sector ${sector} holds ${value}, not one of ${[...values].join(', ')}`);
    for (let at = 0; at < SECTOR; at += 4) assert.equal(bytes.readUInt32LE(at), value, `sector ${sector} is torn`);
  }
}
