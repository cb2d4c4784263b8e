/**
 * The life of a back end: this runs in a thread or a process of its own, and does not know which. It maps what it shares
 * with the monitor, makes the device, and then serves its queues in one loop that blocks.
 */
import type { BackendFactory } from './backend.ts';
import { BackendChannel } from './backend-channel.ts';
import { BackendRunner } from './backend-runner.ts';
import { type BackendStart, FD_CHANNEL } from './backend-start.ts';

/**
 * Maps what a back end shares with the monitor. Returns what makes the device and serves its queues, until the main process says
 * that it is over, or is gone: a process of its own locks itself in between the two, before anything is looked at that a guest may
 * have written. What that throws ends the device; the main process has been told by then.
 */
export function prepareBackend(start: BackendStart, create: BackendFactory): () => void {
  const channel = new BackendChannel(start.fds[FD_CHANNEL] as number);
  const tellFailure = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      channel.send({ failed: error instanceof Error ? describe(error) : String(error) });
      throw error;
    }
  };
  const runner = tellFailure(() => new BackendRunner(start, channel));
  return () =>
    tellFailure(() => {
      runner.begin(create);
      runner.run();
    });
}

/** A failure of the host is one line; a mistake of ours comes with its trace. */
function describe(error: Error): string {
  const ours = error instanceof TypeError || error instanceof ReferenceError;
  return ours ? (error.stack ?? error.message) : error.message;
}
