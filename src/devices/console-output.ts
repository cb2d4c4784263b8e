import { writeSync } from 'node:fs';
import { OsError } from '../host/errno.ts';
import { WRITABLE_BYTES, waitWritable } from '../host/output.ts';
import { Lock } from '../host/shared-state.ts';
import { DeviceState, type SharedRange } from './device-state.ts';

const WORDS_SIZE = 64;
const BUFFER_SIZE = 8192;
export const CONSOLE_OUTPUT_STATE_SIZE = WORDS_SIZE + BUFFER_SIZE;
/** As much as this goes out without a newline. */
const ENOUGH = WRITABLE_BYTES;
const NEWLINE = 0x0a;
/** Milliseconds between two looks at whether to go on. */
const LONGEST_WAIT = 100;

// Words of state; the first is the buffer's lock.
/** Held by the thread that writes to the descriptor. */
const W_WRITER = 1;
/** Bytes ever taken out and put in, modulo 2^32. */
const W_HEAD = 2;
const W_TAIL = 3;
/** Error number of the write that failed. */
const W_ERROR = 4;
const W_STOPPED = 5;

/**
 * Bytes from the guest on their way to a descriptor. The thread that completes a line writes it out; what stays in the
 * buffer without a newline is for the main thread, which is told by `onPending`. While the other end is slow, writers
 * wait, and nothing is lost. Pipes and terminals are never written to before they are ready, so that even at a blocking
 * descriptor nobody hangs in a system call.
 */
export class ConsoleOutput {
  readonly #state: DeviceState;
  readonly #writer: Lock;
  readonly #buffer: Uint8Array;
  readonly #fd: number;
  readonly #onPending: () => void;

  /** `range` has CONSOLE_OUTPUT_STATE_SIZE bytes. `onPending` is called in any thread. */
  constructor(range: SharedRange, fd: number, onPending: () => void) {
    this.#state = new DeviceState(range, WORDS_SIZE);
    this.#writer = new Lock(this.#state.words, W_WRITER);
    this.#buffer = new Uint8Array(range.buffer, range.offset + WORDS_SIZE, BUFFER_SIZE);
    this.#fd = fd;
    this.#onPending = onPending;
  }

  /** Empty: once, before any other call in any thread. */
  reset(): void {
    this.#state.words.fill(0);
  }

  /** Takes all bytes; waits while the other end is slow. After stop() or an error, what has no room is dropped. */
  write(bytes: Uint8Array): void {
    if (this.error !== undefined) return;
    let rest = bytes;
    while (rest.length > 0) {
      const { taken, queued } = this.#append(rest);
      const line = rest.lastIndexOf(NEWLINE, taken - 1) >= 0;
      rest = rest.subarray(taken);
      if (line || queued >= ENOUGH) this.#drain();
      else if (queued === taken) this.#onPending();
      if (taken === 0 && !this.#goesOn()) return;
    }
  }

  /** Bytes that wait in the buffer. */
  get pending(): number {
    return this.error === undefined ? this.#state.locked(() => this.#queued()) : 0;
  }

  /** Writes what can be written without waiting; for the main thread. Returns how much is left. */
  flush(): number {
    if (this.#writer.tryAcquire()) {
      try {
        while (this.#writeOnce(0));
      } finally {
        this.#writer.release();
      }
    }
    return this.pending;
  }

  /** Writers wait no longer: the machine ends. */
  stop(): void {
    Atomics.store(this.#state.words, W_STOPPED, 1);
  }

  /** Why writing failed, in whatever thread: all output since is dropped. */
  get error(): OsError | undefined {
    const number = Atomics.load(this.#state.words, W_ERROR);
    return number === 0 ? undefined : new OsError('write', number);
  }

  #goesOn(): boolean {
    return Atomics.load(this.#state.words, W_STOPPED) === 0 && this.error === undefined;
  }

  #queued(): number {
    return (this.#state.get(W_TAIL) - this.#state.get(W_HEAD)) | 0;
  }

  #append(bytes: Uint8Array): { taken: number; queued: number } {
    return this.#state.locked(() => {
      const tail = this.#state.get(W_TAIL);
      const taken = Math.min(bytes.length, BUFFER_SIZE - this.#queued());
      for (let i = 0; i < taken; i++) this.#buffer[((tail + i) >>> 0) % BUFFER_SIZE] = bytes[i] as number;
      this.#state.set(W_TAIL, (tail + taken) | 0);
      return { taken, queued: this.#queued() };
    });
  }

  /** Writes everything, waiting as long as it takes. */
  #drain(): void {
    this.#writer.acquire();
    try {
      while (this.pending > 0 && this.#goesOn()) this.#writeOnce(LONGEST_WAIT);
    } finally {
      this.#writer.release();
    }
  }

  /** One write of what is in the buffer, if the descriptor is ready within `milliseconds`; true: something went out. */
  #writeOnce(milliseconds: number): boolean {
    const bytes = this.#oldest();
    if (bytes.length === 0 || this.error !== undefined || !waitWritable(this.#fd, milliseconds)) return false;
    try {
      const written = writeSync(this.#fd, bytes);
      this.#state.locked(() => this.#state.set(W_HEAD, (this.#state.get(W_HEAD) + written) | 0));
      return true;
    } catch (error) {
      const { code, errno } = error as NodeJS.ErrnoException;
      if (code === 'EINTR' || code === 'EAGAIN') return false;
      this.#fail(Math.abs(errno ?? 0));
      return false;
    }
  }

  /** A copy of the oldest bytes, as many as a ready descriptor takes at once. */
  #oldest(): Uint8Array {
    return this.#state.locked(() => {
      const head = this.#state.get(W_HEAD);
      const bytes = new Uint8Array(Math.min(this.#queued(), WRITABLE_BYTES));
      for (let i = 0; i < bytes.length; i++) bytes[i] = this.#buffer[((head + i) >>> 0) % BUFFER_SIZE] as number;
      return bytes;
    });
  }

  #fail(number: number): void {
    Atomics.store(this.#state.words, W_ERROR, number);
    this.#onPending();
  }
}
