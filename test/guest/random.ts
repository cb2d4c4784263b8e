import type { TestContext } from 'node:test';

/** Random integers from 0 to below `limit`. The seed is printed; the variable SEED repeats a run. */
export function randomSource(t: TestContext): (limit: number) => number {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 0xffff_ffff)) >>> 0;
  t.diagnostic(`SEED=${seed}`);
  let state = seed;
  return (limit) => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
}
