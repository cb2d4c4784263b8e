import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BlockCopy } from '../../../../src/cpu/x86_64/jit/collect.ts';
import { prune } from '../../../../src/cpu/x86_64/jit/prune.ts';

interface Ways {
  readonly to?: readonly number[];
  readonly next?: number;
  readonly returns?: number;
}

const block = (first: number, { to = [], next, returns }: Ways): BlockCopy => ({
  first,
  records: new Uint8Array(),
  page: 0,
  targets: new Map(to.map((target, i) => [first + i, target])),
  next,
  returns,
});

/** What stays of the blocks, of which other regions have these. */
const left = (blocks: readonly BlockCopy[], held: readonly number[]): number[] =>
  prune(blocks, (first) => held.includes(first)).map(({ first }) => first);

test('code that no region has stays', () => {
  assert.deepEqual(left([block(10, { to: [20], next: 30 }), block(20, {}), block(30, {})], []), [10, 20, 30]);
});

test('what others hold goes, and what only leads through it; the entry stays', () => {
  const blocks = [block(10, { to: [20], next: 30 }), block(20, { next: 40 }), block(30, {}), block(40, {})];
  assert.deepEqual(left(blocks, [10, 20]), [10, 30]);
});

test('a function that is called once goes', () => {
  const blocks = [block(10, { to: [20], returns: 30 }), block(20, {}), block(30, {})];
  assert.deepEqual(left(blocks, [20]), [10, 30]);
});

test('a loop is whole, with the functions that it calls', () => {
  const blocks = [
    block(10, { next: 20 }),
    block(20, { to: [50], returns: 30 }),
    block(30, { to: [10], next: 40 }),
    block(40, {}),
    block(50, { to: [60] }),
    block(60, {}),
  ];
  assert.deepEqual(left(blocks, [10, 20, 30, 40, 50, 60]), [10, 20, 30, 50, 60]);
});

test('a block that goes to itself calls its function in a loop', () => {
  const blocks = [block(10, { to: [20], returns: 10 }), block(20, {})];
  assert.deepEqual(left(blocks, [10, 20]), [10, 20]);
});

test('a loop behind the entry goes', () => {
  const blocks = [block(10, { next: 20 }), block(20, { to: [20] })];
  assert.deepEqual(left(blocks, [20]), [10]);
});
