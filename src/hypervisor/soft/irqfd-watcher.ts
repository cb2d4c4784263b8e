// Events bound to interrupt lines (KVM_IRQFD): a thread of its own waits for them in epoll, so that a device process reaches
// the guest without any other thread of this process.

import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { threadFile } from '../../host/bundle.ts';
import { EPOLLIN } from '../../host/epoll.ts';
import { EventFd } from '../../host/eventfd.ts';
import { IrqfdSet, type IrqfdShare, STOP_TOKEN } from './irqfd-set.ts';
import type { IrqfdMachine, IrqfdThreadData } from './irqfd-thread.ts';

/** The thread that waits, and the set it waits for. Belongs to who made the machine. Does not keep the process alive. */
export class IrqfdWatcher {
  readonly #machine: IrqfdMachine;
  readonly #set = new IrqfdSet();
  #stop: (() => void) | undefined;
  #closed = false;

  /** Throws OsError. */
  constructor(machine: IrqfdMachine) {
    this.#machine = machine;
  }

  /** For IrqfdSets of other threads: the thread must have been started. */
  get share(): IrqfdShare {
    return this.#set.share;
  }

  /** As IrqfdSet's; starts the thread. */
  add(fd: number, gsi: number): void {
    if (this.#closed) throw new RangeError('the machine is closed');
    this.#set.add(fd, gsi);
    this.start();
  }

  remove(fd: number, gsi: number): void {
    this.#set.remove(fd, gsi);
  }

  /** Starts the thread if it does not run. */
  start(): void {
    if (this.#stop !== undefined || this.#closed) return;
    const { epoll } = this.#set;
    const stop = new EventFd();
    epoll.add(stop.fd, EPOLLIN, STOP_TOKEN);
    const data: IrqfdThreadData = { irqfds: this.#set.share, machine: this.#machine };
    const worker = new Worker(threadFile(new URL('./irqfd-thread.ts', import.meta.url)), {
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
    this.#stop = onExit;
  }

  /** Ends the thread; its descriptors are closed when it has ended, or by the process. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#stop === undefined) this.#set.epoll.close();
    else this.#stop();
  }
}
