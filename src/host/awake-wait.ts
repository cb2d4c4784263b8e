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
/** Nanoseconds from look to look after which somebody else must have had the processor. */
const LONGEST_TURN = 200_000;
/**
 * Nanoseconds for which the thread then sleeps at once: who has given a busy processor away gets it back when the other's time is up, milliseconds
 * later, and who is woken gets it at once.
 */
const CROWDED = 20_000_000;

const sched_yield = libc('int sched_yield()');

/** The waits of one thread, one after the other. Awake is only who had a short wait before. */
export class AwakeWait {
  readonly #clock: Clock;
  #last = Number.POSITIVE_INFINITY;
  #crowdedUntil = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock = new HostClock()) {
    this.#clock = clock;
  }

  /** Waits until `look` says yes, `longest` nanoseconds at most, or by `sleep`. Other threads that want the processor get it meanwhile. */
  wait(longest: number, look: () => boolean, sleep: () => void): void {
    const start = this.#clock.now();
    const awake = this.#last < LONGEST && start >= this.#crowdedUntil;
    if (!awake || !this.#watch(start, start + Math.min(longest, LONGEST), look)) sleep();
    this.#last = this.#clock.now() - start;
  }

  #watch(start: number, end: number, look: () => boolean): boolean {
    for (let before = start; !look(); ) {
      sched_yield();
      const now = this.#clock.now();
      if (now - before > LONGEST_TURN) this.#crowdedUntil = now + CROWDED;
      if (now >= end || now < this.#crowdedUntil) return false;
      before = now;
    }
    return true;
  }
}
