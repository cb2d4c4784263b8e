import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { HostClock, ManualClock } from '../../src/host/clock.ts';

test('a host clock starts near 0 and never goes back', () => {
  const clock = new HostClock();
  let last = clock.now();
  assert.ok(last >= 0 && last < 1e9);
  for (let i = 0; i < 10_000; i++) {
    const now = clock.now();
    assert.ok(now >= last && Number.isInteger(now));
    last = now;
  }
});

test('clocks of one origin agree in two threads', async () => {
  const clock = new HostClock();
  const url = new URL('../../src/host/clock.ts', import.meta.url).href;
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(${JSON.stringify(url)}).then(({ HostClock }) => parentPort.postMessage(new HostClock(workerData).now()));`;
  const before = clock.now();
  const worker = new Worker(source, { eval: true, workerData: clock.origin });
  const inside = await new Promise<number>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  assert.ok(before <= inside && inside <= clock.now());
});

test('a manual clock moves only when told, and only forward', () => {
  const clock = new ManualClock();
  clock.advance(5);
  clock.set(12);
  assert.equal(clock.now(), 12);
  assert.throws(() => clock.set(11), RangeError);
});
