// A guest in a process of its own, its console in our hands.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('../../../bin/vivarium', import.meta.url));

/** Time for a whole guest in an emulated machine, milliseconds. */
const LIMIT = 600_000;

const CRASHES = new Set<NodeJS.Signals>(['SIGSEGV', 'SIGTRAP', 'SIGILL', 'SIGBUS', 'SIGABRT']);

/** The shell's prompt, behind which it asks the terminal for the cursor's place. */
const PROMPT = /~# \x1b\[6n$/;
/** The terminal's answer: line and column. */
const CURSOR = '\x1b[1;20R';

export class GuestProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #ended: Promise<number | null>;
  readonly #timer: NodeJS.Timeout;
  #waiting: (() => void) | undefined;
  /** What the guest wrote. */
  output = '';
  /** What Vivarium said. */
  errors = '';
  /** The signal that ended the process, where it was one that processes raise when they break. */
  crash: NodeJS.Signals | undefined;

  constructor(args: readonly string[]) {
    this.#child = spawn(process.execPath, [PROGRAM, 'run', '--net', 'none', ...args]);
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.output += text;
      this.#waiting?.();
    });
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.errors += text;
    });
    // A guest that ends does not read on.
    this.#child.stdin.on('error', () => {});
    this.#timer = setTimeout(() => this.#child.kill('SIGKILL'), LIMIT);
    this.#ended = new Promise((resolve) => {
      this.#child.once('close', (status, signal) => {
        if (signal !== null && CRASHES.has(signal)) this.crash = signal;
        clearTimeout(this.#timer);
        resolve(status);
        this.#waiting?.();
      });
    });
  }

  /** Waits for the output to match; its end, where a line is not complete, too. Throws when the guest ends before. */
  async expect(pattern: RegExp): Promise<void> {
    let ended = false;
    void this.#ended.then(() => {
      ended = true;
    });
    while (!pattern.test(this.output)) {
      if (ended) throw new Error(`the guest ended before ${pattern}: ${this.describe()}`);
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
      });
    }
  }

  /** Waits for the shell, and gives it a line. */
  async command(line: string): Promise<void> {
    await this.expect(PROMPT);
    this.#child.stdin.write(`${CURSOR}${line}\n`);
  }

  /** Exit status of the program. */
  async end(): Promise<number | null> {
    return this.#ended;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  describe(): string {
    return `${this.crash ?? ''}\n${this.errors}\n${this.output.slice(-2000)}`;
  }
}

/** More than this is no accident. */
const TRIES = 3;

/**
 * Does something with a guest. In the lab a process that crashes has another try: QEMU before 8.1 loses some changes of code when it
 * emulates several processors, and V8 changes code all the time.
 */
export async function withGuest(args: readonly string[], body: (guest: GuestProcess) => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const guest = new GuestProcess(args);
    try {
      return await body(guest);
    } catch (error) {
      const again = guest.crash !== undefined && process.env['VIVARIUM_IN_LAB'] !== undefined && attempt < TRIES;
      if (!again) throw error;
    }
  }
}
