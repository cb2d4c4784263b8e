/** Descriptors that Node's event loop cannot wait for (eventfds above all), brought to it by a thread that blocks in epoll. */
import { Worker } from 'node:worker_threads';
import { threadFile } from './bundle.ts';
import { EPOLLONESHOT, Epoll } from './epoll.ts';
import { EventFd } from './eventfd.ts';

interface Watch {
  readonly fd: number;
  readonly events: number;
  readonly callback: (events: number) => void;
}

/** What the thread is started with. */
export interface PollerData {
  /** Of the epoll set. */
  readonly fd: number;
}

/** Token of the event that ends the thread. */
export const STOP = 0;

/**
 * Calls back in this thread's event loop when descriptors are ready. A descriptor is watched level-triggered: while it stays
 * ready its callback is called again and again, never twice at once. Keeps the process alive while somebody holds it.
 */
export class Poller {
  readonly #epoll = new Epoll();
  readonly #stop = new EventFd();
  readonly #watches = new Map<number, Watch>();
  readonly #worker: Worker;
  readonly #onExit = (): void => this.#stop.signal();
  readonly #ended: Promise<void>;
  #nextToken = STOP + 1;
  #holders = 0;
  static #shared: Poller | undefined;
  /** Of the shared one. */
  #users = 0;

  /** One for all in this thread that ask, of whom each closes it: the thread behind takes some MiB. */
  static shared(): Poller {
    const poller = (Poller.#shared ??= new Poller());
    poller.#users++;
    return poller;
  }

  constructor() {
    this.#epoll.add(this.#stop.fd, 1, STOP);
    const data: PollerData = { fd: this.#epoll.fd };
    const file = threadFile(new URL('./poller-thread.ts', import.meta.url));
    this.#worker = new Worker(file, { name: 'vivarium_poller', workerData: data, stdout: false });
    this.#worker.on('message', (ready: { token: number; events: number }[]) => this.#dispatch(ready));
    this.#ended = new Promise((resolve) => this.#worker.once('exit', () => resolve()));
    this.#worker.unref();
    // The process waits at its end for all threads, and this one sits in a system call.
    process.on('exit', this.#onExit);
  }

  /** Watches for EPOLL* bits. Returns a token for unwatch(). Throws OsError. */
  watch(fd: number, events: number, callback: (events: number) => void): number {
    const token = this.#nextToken++;
    this.#epoll.add(fd, events | EPOLLONESHOT, token);
    this.#watches.set(token, { fd, events, callback });
    return token;
  }

  /** For who waits for something that must not be missed. To be followed by one release(). */
  hold(): void {
    if (this.#holders++ === 0) this.#worker.ref();
  }

  release(): void {
    if (--this.#holders === 0) this.#worker.unref();
  }

  unwatch(token: number): void {
    const watch = this.#watches.get(token);
    if (watch === undefined) return;
    this.#watches.delete(token);
    this.#epoll.remove(watch.fd);
  }

  async close(): Promise<void> {
    if (this === Poller.#shared) {
      if (--this.#users > 0) return;
      Poller.#shared = undefined;
    }
    process.off('exit', this.#onExit);
    this.#watches.clear();
    this.#stop.signal();
    // Who waits for the end must live to see it.
    this.#worker.ref();
    await this.#ended;
    this.#epoll.close();
    this.#stop.close();
  }

  #dispatch(ready: readonly { token: number; events: number }[]): void {
    for (const { token, events } of ready) {
      const watch = this.#watches.get(token);
      // Unwatched while the message was on its way.
      if (watch === undefined) continue;
      try {
        watch.callback(events);
      } finally {
        if (this.#watches.has(token)) this.#epoll.modify(watch.fd, watch.events | EPOLLONESHOT, token);
      }
    }
  }
}
