// What a region leaves out: code that other regions hold already.

import type { BlockCopy } from './collect.ts';

type Around = (first: number) => readonly number[];

/** What is reached from `start`. */
function reached(start: readonly number[], around: Around): Set<number> {
  const found = new Set(start);
  // A set that grows is walked to its end.
  for (const first of found) for (const other of around(first)) found.add(other);
  return found;
}

/**
 * The blocks, the entry's first, without those that `held` regions have already. What runs in a circle with the entry stays, and what
 * is called there: a loop must not leave its region at each turn. Without this each function was translated once for every place that
 * calls it, two thirds of all translating.
 */
export function prune(blocks: readonly BlockCopy[], held: (first: number) => boolean): BlockCopy[] {
  const byFirst = new Map(blocks.map((block) => [block.first, block]));
  const before = new Map<number, number[]>();
  const after: Around = (first) => {
    const block = byFirst.get(first);
    if (!block) return [];
    const { targets, next, returns } = block;
    return [...targets.values(), next, returns].filter((to) => to !== undefined);
  };
  for (const { first } of blocks) {
    for (const to of after(first)) {
      const from = before.get(to);
      if (from) from.push(first);
      else before.set(to, [first]);
    }
  }
  const entry = (blocks[0] as BlockCopy).first;
  const circle = reached(before.get(entry) ?? [], (first) => before.get(first) ?? []);
  const called = blocks.filter(({ first, returns }) => circle.has(first) && returns !== undefined);
  const functions = reached(
    called.flatMap(({ targets }) => [...targets.values()]),
    after,
  );
  const wanted = (first: number): boolean => circle.has(first) || functions.has(first) || !held(first);
  const kept = reached([entry], (first) => after(first).filter(wanted));
  return blocks.filter(({ first }) => kept.has(first));
}
