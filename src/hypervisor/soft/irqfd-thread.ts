// The thread behind IrqfdWatcher: signals of events become edges of interrupt lines.

import { workerData } from 'node:worker_threads';
import { type ClockOrigin, HostClock } from '../../host/clock.ts';
import { Irqchip, type IrqchipShare } from '../irqchip/irqchip.ts';
import { IrqfdSet, type IrqfdShare } from './irqfd-set.ts';

/** What the thread raises lines of. */
export interface IrqfdMachine {
  readonly irqchip: IrqchipShare;
  readonly origin: ClockOrigin;
}

/** What the thread is started with. */
export interface IrqfdThreadData {
  readonly irqfds: IrqfdShare;
  readonly machine: IrqfdMachine;
}

function watch({ irqfds, machine }: IrqfdThreadData): void {
  const set = new IrqfdSet(irqfds);
  const chip = new Irqchip(machine.irqchip, new HostClock(machine.origin));
  while (set.wait((gsi) => chip.pulseIrqLine(gsi))) {
    // Until the stop token.
  }
}

watch(workerData as IrqfdThreadData);
