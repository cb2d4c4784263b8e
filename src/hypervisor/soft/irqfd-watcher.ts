// Events bound to interrupt lines (KVM_IRQFD): a thread of its own waits for them in epoll, so that a device process reaches
// the guest without any other thread of this process.

import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { EPOLLIN, Epoll } from '../../host/epoll.ts';
import { EventFd } from '../../host/eventfd.ts';
import { Lock } from '../../host/shared-state.ts';
import { type IrqfdMachine, type IrqfdThreadData, irqfdToken, STOP_TOKEN } from './irqfd-thread.ts';

/** The thread, started by the first event. */
interface Running {
  readonly epoll: Epoll;
  readonly stop: EventFd;
  readonly lock: Lock;
  readonly onExit: () => void;
}

/** The irqfds that one thread of the monitor has registered. Does not keep the process alive. */
export class IrqfdWatcher {
  readonly #machine: IrqfdMachine;
  /** Lines by descriptor. */
  readonly #lines = new Map<number, number>();
  #running: Running | undefined;
  #closed = false;

  constructor(machine: IrqfdMachine) {
    this.#machine = machine;
  }

  /** From now on a signal of `fd`, a non-blocking eventfd, is an edge of line `gsi`. As with KVM an event has one line. Throws OsError, RangeError. */
  add(fd: number, gsi: number): void {
    if (this.#closed) throw new RangeError('the machine is closed');
    if (this.#lines.has(fd)) throw new RangeError(`event ${fd} has an interrupt line already`);
    const token = irqfdToken(fd, gsi);
    this.#running ??= this.#start();
    this.#running.epoll.add(fd, EPOLLIN, token);
    this.#lines.set(fd, gsi);
  }

  /** When this returns the thread does not touch `fd` any more: it may be closed. Throws RangeError when it was not there. */
  remove(fd: number, gsi: number): void {
    const running = this.#running;
    if (running === undefined || this.#lines.get(fd) !== gsi)
      throw new RangeError(`event ${fd} is not bound to line ${gsi}`);
    running.lock.acquire();
    try {
      running.epoll.remove(fd);
    } finally {
      running.lock.release();
    }
    this.#lines.delete(fd);
  }

  /** Ends the thread; its descriptors are closed when it has ended, or by the process. */
  close(): void {
    this.#closed = true;
    this.#running?.onExit();
    this.#running = undefined;
    this.#lines.clear();
  }

  #start(): Running {
    const epoll = new Epoll();
    const stop = new EventFd();
    epoll.add(stop.fd, EPOLLIN, STOP_TOKEN);
    const words = new SharedArrayBuffer(4);
    const data: IrqfdThreadData = { epollFd: epoll.fd, lock: words, machine: this.#machine };
    const worker = new Worker(new URL('./irqfd-thread.ts', import.meta.url), {
      name: 'vivarium_irqfd',
      workerData: data,
    });
    const onExit = (): void => stop.signal();
    worker.once('exit', () => {
      process.off('exit', onExit);
      for (const fd of [epoll.fd, stop.fd]) closeSync(fd);
    });
    worker.unref();
    // The process waits at its end for all threads, and this one sits in a system call.
    process.on('exit', onExit);
    return { epoll, stop, lock: new Lock(new Int32Array(words), 0), onExit };
  }
}
