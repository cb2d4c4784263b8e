// The thread behind IrqfdWatcher: signals of events become edges of interrupt lines.

import { isMainThread, workerData } from 'node:worker_threads';
import { type ClockOrigin, HostClock } from '../../host/clock.ts';
import { Epoll } from '../../host/epoll.ts';
import { takeEvent } from '../../host/eventfd.ts';
import { Lock } from '../../host/shared-state.ts';
import { Irqchip, type IrqchipShare } from '../irqchip/irqchip.ts';
import { MAX_GSI } from '../irqchip/routing.ts';

/** What the thread raises lines of. */
export interface IrqfdMachine {
  readonly irqchip: IrqchipShare;
  readonly origin: ClockOrigin;
}

/** What the thread is started with. */
export interface IrqfdThreadData {
  readonly epollFd: number;
  /** A lock held while events are taken. */
  readonly lock: SharedArrayBuffer;
  readonly machine: IrqfdMachine;
}

/** Token of the event that ends the thread: no eventfd registered has descriptor 0 and line 0, it would be standard input. */
export const STOP_TOKEN = 0;

/** Descriptor and line in one number, below 2^41. Throws RangeError. */
export function irqfdToken(fd: number, gsi: number): number {
  if (!Number.isInteger(fd) || fd <= 0 || fd > 0x7fffffff)
    throw new RangeError(`${fd} is not a descriptor of an event`);
  if (!Number.isInteger(gsi) || gsi < 0 || gsi >= MAX_GSI)
    throw new RangeError(`GSI ${gsi} is not in 0 to ${MAX_GSI - 1}`);
  return fd * MAX_GSI + gsi;
}

function watch({ epollFd, lock: words, machine }: IrqfdThreadData): void {
  const epoll = new Epoll(epollFd);
  const lock = new Lock(new Int32Array(words), 0);
  const chip = new Irqchip(machine.irqchip, new HostClock(machine.origin));
  for (;;) {
    epoll.wait(-1);
    // What is ready is asked again with the lock: an event removed meanwhile may be closed, its number somebody else's.
    lock.acquire();
    try {
      for (const { token } of epoll.wait(0)) {
        if (token === STOP_TOKEN) return;
        if (takeEvent(Math.floor(token / MAX_GSI)) > 0) chip.pulseIrqLine(token % MAX_GSI);
      }
    } finally {
      lock.release();
    }
  }
}

if (!isMainThread && typeof (workerData as IrqfdThreadData | null)?.epollFd === 'number')
  watch(workerData as IrqfdThreadData);
