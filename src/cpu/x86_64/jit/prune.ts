// What a region leaves out: code that other regions hold already.

import type { LinkedBlock } from './collect.ts';

/** What is reached from `start`, by the blocks' numbers. */
function reached(start: readonly number[], around: (block: number) => readonly number[]): boolean[] {
  const found: boolean[] = [];
  const stack = [...start];
  for (let block = stack.pop(); block !== undefined; block = stack.pop()) {
    if (found[block]) continue;
    found[block] = true;
    stack.push(...around(block));
  }
  return found;
}

/**
 * The blocks, the entry's first, without those that `held` regions have already. What runs in a circle with the entry stays, and what
 * is called there: a loop must not leave its region at each turn. Without this each function was translated once for every place that
 * calls it, two thirds of all translating.
 */
export function prune(blocks: readonly LinkedBlock[], held: (first: number) => boolean): readonly LinkedBlock[] {
  const isHeld = blocks.map(({ first }) => held(first));
  if (!isHeld.includes(true)) return blocks;
  const numbers = new Map<number | undefined, number>(blocks.map(({ first }, number) => [first, number]));
  const numbersOf = (firsts: readonly (number | undefined)[]): number[] =>
    firsts.map((first) => numbers.get(first)).filter((number) => number !== undefined);
  const after = blocks.map(({ targets, next, returns }) => numbersOf([...targets.values(), next, returns]));
  const before: number[][] = blocks.map(() => []);
  for (const [from, ways] of after.entries()) for (const to of ways) before[to]?.push(from);
  const circle = reached(before[0] ?? [], (block) => before[block] ?? []);
  const called = blocks.filter(({ returns }, number) => circle[number] && returns !== undefined);
  const functions = reached(
    called.flatMap(({ targets }) => numbersOf([...targets.values()])),
    (block) => after[block] ?? [],
  );
  const wanted = (block: number): boolean => circle[block] || functions[block] || !isHeld[block];
  const kept = reached([0], (block) => (after[block] ?? []).filter(wanted));
  return blocks.filter((_, number) => kept[number]);
}
