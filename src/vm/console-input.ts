/** Where a console's input goes. */
export interface ConsoleSink {
  /** Returns how many bytes it took: the rest must come again after waitForInputSpace(). */
  queueInput(bytes: Uint8Array): number;
  waitForInputSpace(): Promise<void>;
}

/** Ctrl-A: what follows is for the monitor. */
const ESCAPE = 0x01;
const QUIT = 'x'.charCodeAt(0);
const SEND_ESCAPE = 'a'.charCodeAt(0);
/** Bytes typed ahead of a guest that does not read; more are dropped, as by a terminal. */
const TYPED_AHEAD_MAX = 64 * 1024;

/**
 * Takes keys from a terminal apart: Ctrl-A x leaves, Ctrl-A a (or Ctrl-A twice) sends Ctrl-A, all else is the guest's.
 */
export class EscapeFilter {
  #escaped = false;
  readonly #quit: () => void;

  constructor(quit: () => void) {
    this.#quit = quit;
  }

  /** The guest's part of `bytes`. */
  filter(bytes: Uint8Array): Uint8Array {
    const out: number[] = [];
    for (const byte of bytes) {
      if (!this.#escaped) {
        if (byte === ESCAPE) this.#escaped = true;
        else out.push(byte);
        continue;
      }
      this.#escaped = false;
      if (byte === QUIT) this.#quit();
      else if (byte === SEND_ESCAPE || byte === ESCAPE) out.push(ESCAPE);
      else out.push(ESCAPE, byte);
    }
    return Uint8Array.from(out);
  }
}

/** Standard input on its way to a machine's console. */
class ConsoleInput {
  readonly #input: NodeJS.ReadStream;
  readonly #sink: ConsoleSink;
  readonly #escape: EscapeFilter | undefined;
  #waiting: Uint8Array = new Uint8Array();
  #pumping = false;
  #ended = false;

  constructor(input: NodeJS.ReadStream, sink: ConsoleSink, quit: () => void) {
    this.#input = input;
    this.#sink = sink;
    this.#escape = input.isTTY ? new EscapeFilter(quit) : undefined;
    input.on('data', this.#onData);
    // Standard input that fails or ends is no more, and the machine runs on.
    input.on('error', () => {});
  }

  end(): void {
    this.#ended = true;
    this.#input.off('data', this.#onData);
    this.#input.pause();
  }

  readonly #onData = (bytes: Buffer): void => {
    const typed = this.#escape ? this.#escape.filter(bytes) : bytes;
    this.#waiting = Buffer.concat([this.#waiting, typed]);
    // A file or a pipe waits; a terminal is read on, for the escape.
    if (this.#escape) this.#waiting = this.#waiting.subarray(0, TYPED_AHEAD_MAX);
    else this.#input.pause();
    void this.#pump();
  };

  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#waiting.length > 0 && !this.#ended) {
      this.#waiting = this.#waiting.subarray(this.#sink.queueInput(this.#waiting));
      if (this.#waiting.length > 0) await this.#sink.waitForInputSpace();
    }
    this.#pumping = false;
    if (!this.#ended && !this.#escape) this.#input.resume();
  }
}

/** Sends what arrives at `input` to the machine, as fast as the guest takes it. Returns what ends that. */
export function connectConsoleInput(input: NodeJS.ReadStream, sink: ConsoleSink, quit: () => void): () => void {
  const console = new ConsoleInput(input, sink, quit);
  return () => console.end();
}
