// The global `process` is an accessor: a guest's RDTSC comes here at each of its system calls.
const { hrtime } = process;

/** Time as the machine sees it. */
export interface Clock {
  /** Nanoseconds since the clock's origin; never goes back. A whole number, exact for 104 days. */
  now(): number;
}

/** Origin of a host clock: a point of the host's monotonic time, the same for all threads and processes of a host. */
export interface ClockOrigin {
  /** Whole seconds. */
  readonly seconds: number;
  /** Nanoseconds beyond them, below 1e9. */
  readonly nanoseconds: number;
}

/** The host's monotonic clock (CLOCK_MONOTONIC). Clocks of one origin agree in every thread. */
export class HostClock implements Clock {
  /** Give this to another thread's clock. */
  readonly origin: ClockOrigin;
  readonly #seconds: number;
  readonly #nanoseconds: number;

  /** Without an origin the clock starts at 0 now. */
  constructor(origin?: ClockOrigin) {
    if (origin === undefined) {
      const [seconds, nanoseconds] = hrtime();
      origin = { seconds, nanoseconds };
    }
    this.origin = origin;
    this.#seconds = origin.seconds;
    this.#nanoseconds = origin.nanoseconds;
  }

  now(): number {
    // Not performance.now(): its origin differs from thread to thread, and costs the same.
    const time = hrtime();
    return (time[0] - this.#seconds) * 1e9 + (time[1] - this.#nanoseconds);
  }
}

/** A clock that stands still until it is told to move: for tests and for replay. */
export class ManualClock implements Clock {
  #now: number;

  constructor(now = 0) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  /** Moves forward by `nanoseconds`, 0 or more. */
  advance(nanoseconds: number): void {
    if (!(nanoseconds >= 0)) throw new RangeError('a clock does not go back');
    this.#now += nanoseconds;
  }

  /** Moves forward to `time`, nanoseconds since the origin. */
  set(time: number): void {
    this.advance(time - this.#now);
  }
}

/** A clock in shared memory: one thread sets it, all can look at it. It begins at 0. */
export class SharedClock implements Clock {
  readonly buffer: SharedArrayBuffer;
  readonly #time: Float64Array;

  constructor(buffer = new SharedArrayBuffer(8)) {
    this.buffer = buffer;
    this.#time = new Float64Array(buffer);
  }

  now(): number {
    return this.#time[0] as number;
  }

  /** Nanoseconds since the origin, not before what it shows. */
  set(time: number): void {
    this.#time[0] = time;
  }
}
