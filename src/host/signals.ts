/** Signals that ask something of the process. */
import { constants } from 'node:os';

const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
export type EndingSignal = (typeof ENDING)[number];

/** Work was given up because a signal asked for the end. */
export class EndedBySignal extends Error {
  readonly signal: EndingSignal;

  constructor(signal: EndingSignal) {
    super(`ended by ${signal}`);
    this.name = 'EndedBySignal';
    this.signal = signal;
  }
}

/** Exit status of a process that a signal ends, as shells show it. */
export function signalStatus(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/** Calls `handler` for each signal that asks for the end; the process itself goes on. Returns what undoes that. */
export function onEndingSignal(handler: (signal: EndingSignal) => void): () => void {
  const listeners = ENDING.map((signal) => [signal, (): void => handler(signal)] as const);
  for (const [signal, listener] of listeners) process.on(signal, listener);
  return () => {
    for (const [signal, listener] of listeners) process.off(signal, listener);
  };
}

/** Calls `handler` for each SIGUSR1, which otherwise starts Node's debugger. Returns what undoes that. */
export function onStatisticsSignal(handler: () => void): () => void {
  process.on('SIGUSR1', handler);
  return () => process.off('SIGUSR1', handler);
}
