/**
 * Waiting that begins awake: a thread that sleeps goes on some tens of microseconds after it was woken, and waking it takes a tenth of that
 * time from whoever does. As KVM's halted processors wait (halt_poll_ns).
 */
import { type Clock, HostClock } from './clock.ts';
import { libc } from './ffi.ts';

/**
 * Nanoseconds: a disk's answer, or what a guest on the built-in processor does between two requests. A wait that is longer is slept through, and so
 * is the next.
 */
const LONGEST = 300_000;

const sched_yield = libc('int sched_yield()');

/** The waits of one thread, one after the other. Awake is only who had a short wait before. */
export class AwakeWait {
  readonly #clock: Clock;
  #last = Number.POSITIVE_INFINITY;

  constructor(clock: Clock = new HostClock()) {
    this.#clock = clock;
  }

  /** Waits until `look` says yes, `longest` nanoseconds at most, or by `sleep`. Other threads that want the processor get it meanwhile. */
  wait(longest: number, look: () => boolean, sleep: () => void): void {
    const start = this.#clock.now();
    if (this.#last >= LONGEST || !this.#watch(start + Math.min(longest, LONGEST), look)) sleep();
    this.#last = this.#clock.now() - start;
  }

  #watch(end: number, look: () => boolean): boolean {
    while (!look()) {
      if (this.#clock.now() >= end) return false;
      sched_yield();
    }
    return true;
  }
}
