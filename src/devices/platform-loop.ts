import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../host/clock.ts';
import type { OsError } from '../host/errno.ts';
import type { ExitReason } from './machine-exit.ts';
import type { Platform } from './platform.ts';

/** Milliseconds that output without a newline waits for more. */
const OUTPUT_DELAY = 3;
/** Milliseconds between two looks at a descriptor that takes no output. */
const BLOCKED_DELAY = 20;
/** Milliseconds in which a reader that is not waited for must take something. */
const READER_TIMEOUT = 1000;
/** Longest time that setTimeout() takes, ms. */
const LONGEST_TIMEOUT = 2 ** 31 - 1;

export interface PlatformEvents {
  /** A device ended the machine's run. Called once. */
  readonly onExit: (reason: ExitReason) => void;
  /** Console output cannot be written, and is dropped from now on. Called once. */
  readonly onConsoleError: (error: OsError) => void;
}

/** The main thread's part of a platform: timers, output that no newline has pushed, and word of what the devices did. */
export class PlatformLoop {
  readonly #platform: Platform;
  readonly #clock: Clock | undefined;
  readonly #events: PlatformEvents;
  #timer: NodeJS.Timeout | undefined;
  #output: NodeJS.Timeout | undefined;
  #toldExit = false;
  #toldError = false;
  #closed = false;

  /** Starts. It does not keep the process alive. Without a clock, another thread runs the timers. */
  constructor(platform: Platform, clock: Clock | undefined, events: PlatformEvents) {
    this.#platform = platform;
    this.#clock = clock;
    this.#events = events;
    void this.#run();
  }

  /**
   * Ends: once no thread runs the guest. Resolves when all output is written or failed, as long as that takes; if not `patient`,
   * also when nobody has taken any for a second.
   */
  async close(patient: boolean): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#output);
    this.#platform.callAttention();
    let left = this.#platform.flushConsole();
    for (let waited = 0; left > 0 && (patient || waited < READER_TIMEOUT); waited += BLOCKED_DELAY) {
      await sleep(BLOCKED_DELAY);
      const before = left;
      left = this.#platform.flushConsole();
      if (left < before) waited = 0;
    }
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      const seen = this.#platform.attention;
      this.#look();
      await this.#platform.waitForAttention(seen);
    }
  }

  #look(): void {
    const { exitReason, consoleError } = this.#platform;
    if (this.#platform.consolePending > 0) this.#flushAfter(OUTPUT_DELAY);
    this.#runTimers();
    if (consoleError !== undefined && !this.#toldError) {
      this.#toldError = true;
      this.#events.onConsoleError(consoleError);
    }
    if (exitReason !== undefined && !this.#toldExit) {
      this.#toldExit = true;
      this.#events.onExit(exitReason);
    }
  }

  #flushAfter(milliseconds: number): void {
    if (this.#output !== undefined || this.#closed) return;
    this.#output = setTimeout(() => {
      this.#output = undefined;
      if (this.#platform.flushConsole() > 0) this.#flushAfter(BLOCKED_DELAY);
    }, milliseconds);
    this.#output.unref();
  }

  #runTimers(): void {
    const clock = this.#clock;
    if (!clock) return;
    clearTimeout(this.#timer);
    this.#platform.advance(clock.now());
    const deadline = this.#platform.nextDeadline();
    if (deadline === Infinity || this.#closed) return;
    const milliseconds = Math.ceil((deadline - clock.now()) / 1e6);
    this.#timer = setTimeout(() => this.#runTimers(), Math.min(Math.max(milliseconds, 0), LONGEST_TIMEOUT));
    this.#timer.unref();
  }
}
