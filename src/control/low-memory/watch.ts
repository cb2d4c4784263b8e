import { randomInt } from 'node:crypto';
import type { Poller } from '../../host/poller.ts';
import type { BalloonControl } from '../machine.ts';
import { LowMemoryPolicy, largestBalloon } from './policy.ts';
import type { LowMemorySource } from './source.ts';

/**
 * Runs the policy for a machine, by the host's clock. `log` is told, once, when the host cannot be watched any more. Returns what
 * ends it. Does not keep the process alive.
 */
export function watchLowMemory(
  parts: {
    readonly ram: number;
    readonly balloon: BalloonControl;
    readonly source: LowMemorySource;
    readonly poller: Poller;
  },
  log: (line: string) => void,
): () => void {
  const { ram, balloon, source, poller } = parts;
  // A small guest has nothing to give.
  if (largestBalloon(ram) === 0) return () => {};
  const now = (): number => performance.now();
  let unwatch: (() => void) | undefined;
  let timer: NodeJS.Timeout | undefined;
  let ended = false;
  const end = (): void => {
    ended = true;
    unwatch?.();
    unwatch = undefined;
    clearTimeout(timer);
  };
  const guarded = (run: () => void): void => {
    if (ended) return;
    try {
      run();
      settle();
    } catch (error) {
      end();
      log(`the host's memory is not watched any more: ${(error as Error).message}`);
    }
  };
  const policy = new LowMemoryPolicy({
    ram,
    random: (limit) => randomInt(limit),
    host: () => source.read(),
    balloon: {
      get target() {
        return balloon.target;
      },
      // The device says no when it ends: then so does the machine.
      setTarget: (size) => void balloon.setTarget(size).catch(() => {}),
    },
  });
  /** Watches as long as the policy wants, and wakes it when it wants. */
  const settle = (): void => {
    if (policy.watching) unwatch ??= source.watch(poller, () => guarded(() => policy.lowMemory(now())));
    else {
      unwatch?.();
      unwatch = undefined;
    }
    clearTimeout(timer);
    const { deadline } = policy;
    if (deadline === undefined) return;
    timer = setTimeout(() => guarded(() => policy.advance(now())), Math.max(0, deadline - now()));
    timer.unref();
  };
  guarded(() => {});
  return end;
}
