import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IoVector, MAX_RANGES } from '../../src/host/io-vector.ts';

/** The ranges that it holds, as [address, length], read as the kernel does. */
function held(vector: IoVector, count: number): number[][] {
  const words = new BigUint64Array(vector.bytes.buffer, 0, 2 * count);
  return Array.from({ length: count }, (_, i) => [Number(words[2 * i]), Number(words[2 * i + 1])]);
}

const RANGES = [
  { address: 0x7f12_3456_7000, length: 100 },
  { address: 0x1000, length: 0 },
  { address: 0x2000, length: 5 * 2 ** 32 },
  { address: 0x3000, length: 7 },
];

test('a vector of a part of the ranges', () => {
  const vector = new IoVector();
  const part = (offset?: number, length?: number): number[][] => held(vector, vector.set(RANGES, offset, length));
  const [first, , large, last] = RANGES.map(({ address, length }) => [address, length]);
  assert.deepEqual(part(), [first, large, last]);
  assert.deepEqual(part(0, 100), [first]);
  assert.deepEqual(part(0, 99), [[0x7f12_3456_7000, 99]]);
  assert.deepEqual(part(99, 3), [
    [0x7f12_3456_7063, 1],
    [0x2000, 2],
  ]);
  assert.deepEqual(part(100 + 5 * 2 ** 32), [last]);
  assert.deepEqual(part(100 + 2 ** 32, 2 ** 32 + 1), [[0x1_0000_2000, 2 ** 32 + 1]]);
  assert.deepEqual(part(0, 0), []);
  assert.deepEqual(part(107 + 5 * 2 ** 32), []);
});

test('a vector holds no more ranges than one call takes', () => {
  const vector = new IoVector();
  const ranges = Array.from({ length: MAX_RANGES + 2 }, (_, i) => ({ address: i, length: 1 }));
  assert.equal(vector.set(ranges), MAX_RANGES);
  assert.deepEqual(held(vector, vector.set(ranges, 5))[0], [5, 1]);
});
