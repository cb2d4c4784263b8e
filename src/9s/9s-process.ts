// The 9P server where it serves: the first file of build/9s-process.cjs, which is a jailed process, or a thread without a sandbox.
import { isMainThread, workerData } from 'node:worker_threads';
import { EPOLLIN } from '../host/epoll.ts';
import { EventLoop } from '../host/event-loop.ts';
import { runInJail } from '../jail/inside.ts';
import { Clients, type Service } from './clients.ts';

export interface ServerThread {
  readonly service: Service;
  readonly listener: number;
  /** An eventfd whose signal is the end. */
  readonly stop: number;
}

function serve(loop: EventLoop, service: Service, listener: number): void {
  const clients = new Clients(loop, listener, service);
  loop.run();
  clients.close();
  loop.close();
}

const loop = new EventLoop();
if (isMainThread) {
  void runInJail(
    async ({ data, fds }) =>
      () =>
        serve(loop, data as Service, fds[0] as number),
  );
} else {
  const { service, listener, stop } = workerData as ServerThread;
  loop.watch(stop, EPOLLIN, () => loop.stop());
  serve(loop, service, listener);
}
