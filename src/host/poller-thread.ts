// The thread behind Poller: blocks in epoll and tells what is ready.

import { parentPort, workerData } from 'node:worker_threads';
import { Epoll } from './epoll.ts';
import { type PollerData, STOP } from './poller.ts';

/**
 * V8 frees code of WebAssembly once each thread has said that it does not run it, which needs a step of JavaScript. Of the others none sits in a system
 * call for long. In milliseconds.
 */
const PATIENCE = 4000;

const epoll = new Epoll((workerData as PollerData).fd);
for (;;) {
  const ready = epoll.wait(PATIENCE);
  if (ready.some(({ token }) => token === STOP)) break;
  if (ready.length > 0) parentPort?.postMessage(ready);
}
