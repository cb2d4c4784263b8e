// The thread behind Poller: blocks in epoll and tells what is ready.

import { parentPort, workerData } from 'node:worker_threads';
import { Epoll } from './epoll.ts';
import { type PollerData, STOP } from './poller.ts';

const epoll = new Epoll((workerData as PollerData).fd);
for (;;) {
  const ready = epoll.wait(-1);
  if (ready.some(({ token }) => token === STOP)) break;
  if (ready.length > 0) parentPort?.postMessage(ready);
}
