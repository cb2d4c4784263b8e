import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { Lock, StateAllocator, stateSize } from '../../src/host/shared-state.ts';

test('ranges are consecutive, aligned, and end with the buffer', () => {
  const state = new StateAllocator(new SharedArrayBuffer(stateSize([10, 64, 65])));
  assert.equal(state.allocate(10).offset, 0);
  assert.equal(state.allocate(64).offset, 64);
  assert.equal(state.allocate(65).offset, 128);
  assert.throws(() => state.allocate(1), RangeError);
});

test('a lock keeps four threads apart', async () => {
  const buffer = new SharedArrayBuffer(64);
  const words = new Int32Array(buffer);
  const url = new URL('../../src/host/shared-state.ts', import.meta.url).href;
  const source = `
    const { workerData } = require('node:worker_threads');
    import(${JSON.stringify(url)}).then(({ Lock }) => {
      const words = new Int32Array(workerData);
      const lock = new Lock(words, 0);
      for (let i = 0; i < 20000; i++) { lock.acquire(); words[1] = words[1] + 1; lock.release(); }
    });`;
  const workers = [1, 2, 3].map(() => new Worker(source, { eval: true, workerData: buffer }));
  const ends = workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
  const lock = new Lock(words, 0);
  for (let i = 0; i < 20_000; i++) {
    lock.acquire();
    words[1] = (words[1] as number) + 1;
    lock.release();
  }
  await Promise.all(ends);
  assert.equal(words[1], 80_000);
  assert.equal(words[0], 0);
});
