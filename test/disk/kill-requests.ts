/** The requests that the writer which is killed makes, and that its parent knows from the same seed. */
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
