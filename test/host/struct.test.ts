import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allocate, get, set, struct } from '../../src/host/struct.ts';

test('fields are read and written at their place, in their width', () => {
  const type = struct('sample', 24, { a: [0, 'u8'], b: [2, 'u16'], c: [4, 's32'], d: [8, 'u64', 2] });
  const view = allocate(type, 8);
  assert.equal(view.byteLength, 32);
  set(type, view, 'a', 0x1ff);
  set(type, view, 'b', 0xabcd);
  set(type, view, 'c', -2);
  set(type, view, 'd', 0x1122334455667788n, 0, 1);
  assert.deepEqual(
    [
      get(type, view, 'a'),
      get(type, view, 'b'),
      get(type, view, 'c'),
      get(type, view, 'd'),
      get(type, view, 'd', 0, 1),
    ],
    [0xff, 0xabcd, -2, 0n, 0x1122334455667788n],
  );
  assert.equal(get(type, view, 'd', 8), 0x1122334455667788n);
});
