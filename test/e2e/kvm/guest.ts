// A guest in a process of its own, its console in our hands.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('../../../bin/vivarium', import.meta.url));

/** Time for a whole guest in an emulated machine, milliseconds. */
const LIMIT = 90_000;

/** The shell's prompt, behind which it asks the terminal for the cursor's place. */
const PROMPT = /~# \x1b\[6n$/;
/** The terminal's answer: line and column. */
const CURSOR = '\x1b[1;20R';

export class GuestProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #ended: Promise<number | null>;
  readonly #timer: NodeJS.Timeout;
  #waiting: (() => void) | undefined;
  /** What the guest wrote, and behind it what Vivarium said. */
  output = '';
  errors = '';

  constructor(args: readonly string[]) {
    this.#child = spawn(process.execPath, [PROGRAM, 'run', ...args]);
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
      this.#child.once('close', (status) => {
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
    return `${this.errors}\n${this.output.slice(-2000)}`;
  }
}
