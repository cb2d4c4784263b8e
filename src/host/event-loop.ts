/**
 * A loop that blocks its thread until descriptors are ready or timers are due. What runs in it uses nothing of Node's own event
 * loop: promises, Node's timers and messages do not come through before run() has returned.
 */
import { AwakeWait } from './awake-wait.ts';
import { Epoll, type EpollEvent } from './epoll.ts';

/** A timer that has not fired; for cancel(). */
export interface LoopTimer {
  /** When it is due, ms of the host's monotonic clock. */
  readonly deadline: number;
  readonly callback: () => void;
}

interface Watch {
  readonly token: number;
  readonly callback: (events: number) => void;
}

/** Events of one system call. */
const CAPACITY = 64;
/** Longest time that one system call waits, ms. */
const LONGEST_WAIT = 2 ** 31 - 1;

function now(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
}

/** Belongs to one thread. */
export class EventLoop {
  readonly #epoll = new Epoll(undefined, CAPACITY);
  readonly #awake = new AwakeWait();
  readonly #watches = new Map<number, Watch>();
  /** By token, which no later watch of the same descriptor has. */
  readonly #callbacks = new Map<number, Watch['callback']>();
  /** By rising deadline. */
  readonly #timers: LoopTimer[] = [];
  #nextToken = 0;
  #stopped = false;

  /**
   * Calls back when `fd` is ready: EPOLL* bits, level-triggered, or edge-triggered with EPOLLET. An eventfd that is watched
   * with EPOLLET need not be read: each signal is an edge. Throws OsError (EEXIST: it is watched already).
   */
  watch(fd: number, events: number, callback: (events: number) => void): void {
    const token = this.#nextToken++;
    this.#epoll.add(fd, events, token);
    this.#watches.set(fd, { token, callback });
    this.#callbacks.set(token, callback);
  }

  /** Watches for other events. Throws RangeError when it is not watched. */
  change(fd: number, events: number): void {
    const watch = this.#watches.get(fd);
    if (watch === undefined) throw new RangeError(`descriptor ${fd} is not watched`);
    this.#epoll.modify(fd, events, watch.token);
  }

  /** The callback is not called any more. Before the descriptor is closed; one that is not watched is left alone. */
  unwatch(fd: number): void {
    const watch = this.#watches.get(fd);
    if (watch === undefined) return;
    this.#watches.delete(fd);
    this.#callbacks.delete(watch.token);
    this.#epoll.remove(fd);
  }

  /** Calls back once, after so many milliseconds or somewhat later. */
  after(delay: number, callback: () => void): LoopTimer {
    const timer = { deadline: now() + Math.max(delay, 0), callback };
    const index = this.#timers.findIndex(({ deadline }) => deadline > timer.deadline);
    this.#timers.splice(index < 0 ? this.#timers.length : index, 0, timer);
    return timer;
  }

  /** A timer that has fired is left alone. */
  cancel(timer: LoopTimer): void {
    const index = this.#timers.indexOf(timer);
    if (index >= 0) this.#timers.splice(index, 1);
  }

  /** Blocks this thread until stop(). What a callback throws comes through; run() can then be called again. */
  run(): void {
    while (!this.#stopped) this.poll(this.#timeToNext());
  }

  /** One turn: waits for `timeout` ms at most (-1: for ever) and calls back what is ready and due. */
  poll(timeout: number): void {
    const ready = timeout === 0 ? this.#epoll.wait(0) : this.#wait(timeout);
    for (const { token, events } of ready) this.#callbacks.get(token)?.(events);
    if (this.#timers.length === 0) return;
    const time = now();
    // Timers that a callback sets wait for the next turn.
    let due = 0;
    while (due < this.#timers.length && this.#timers[due]!.deadline <= time) due++;
    for (const timer of this.#timers.slice(0, due)) {
      // One before it may have cancelled it.
      const index = this.#timers.indexOf(timer);
      if (index < 0) continue;
      this.#timers.splice(index, 1);
      timer.callback();
    }
  }

  #wait(timeout: number): readonly EpollEvent[] {
    let events: readonly EpollEvent[] = [];
    const look = (time: number): boolean => {
      events = this.#epoll.wait(time);
      return events.length > 0;
    };
    this.#awake.wait(
      timeout < 0 ? Number.POSITIVE_INFINITY : timeout * 1e6,
      () => look(0),
      () => look(timeout),
    );
    return events;
  }

  /** Makes run() return when the callbacks of this turn are done. */
  stop(): void {
    this.#stopped = true;
  }

  /** After run(). */
  close(): void {
    this.#epoll.close();
  }

  #timeToNext(): number {
    const [first] = this.#timers;
    if (first === undefined) return -1;
    return Math.min(Math.max(Math.ceil(first.deadline - now()), 0), LONGEST_WAIT);
  }
}
