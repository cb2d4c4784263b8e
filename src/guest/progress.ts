/** Shows how the making of the default guest goes. */

/** What prepareGuest is doing. `fraction` goes from 0 to 1 in each step; steps that are not needed do not occur. */
export interface GuestProgress {
  readonly step: 'wait' | 'lists' | 'download' | 'unpack' | 'initramfs';
  readonly fraction: number;
}

const TEXTS: Readonly<Record<GuestProgress['step'], string>> = {
  wait: 'Waiting for another process that makes the guest',
  lists: 'Reading the package lists',
  download: 'Downloading a Debian kernel and busybox',
  unpack: 'Unpacking the packages',
  initramfs: 'Writing the initramfs',
};

const TEXT_WIDTH = Math.max(...Object.values(TEXTS).map(({ length }) => length));
const BAR_WIDTH = 20;
const ERASE_TO_END_OF_LINE = '\x1b[K';

/** Where progress goes: process.stderr, or the like. */
export interface ProgressOutput {
  readonly isTTY?: boolean;
  /** Width of the terminal in characters. */
  readonly columns?: number;
  write(text: string): unknown;
}

export interface ProgressDisplay {
  show(event: GuestProgress): void;
  /** Ends the line that is being updated, if there is one; call it before anything else is printed. */
  end(): void;
}

/** One line that is updated on a terminal; elsewhere a line for each step and each quarter of it. */
export function createProgressDisplay(output: ProgressOutput): ProgressDisplay {
  return output.isTTY ? new UpdatedLine(output) : new PlainLines(output);
}

class UpdatedLine implements ProgressDisplay {
  readonly #output: ProgressOutput;
  #line: string | undefined;
  #step: GuestProgress['step'] | undefined;

  constructor(output: ProgressOutput) {
    this.#output = output;
  }

  show({ step, fraction }: GuestProgress): void {
    if (this.#step !== undefined && this.#step !== step) this.end();
    this.#step = step;
    const done = Math.round(fraction * BAR_WIDTH);
    const bar = `[${'#'.repeat(done)}${'.'.repeat(BAR_WIDTH - done)}] ${String(percentOf(fraction)).padStart(3)}%`;
    const text = step === 'wait' ? TEXTS.wait : `${TEXTS[step].padEnd(TEXT_WIDTH)} ${bar}`;
    // A line as long as the terminal is wide would wrap, and could not be updated.
    const line = text.slice(0, (this.#output.columns ?? 80) - 1);
    if (line !== this.#line) this.#output.write(`\r${line}${ERASE_TO_END_OF_LINE}`);
    this.#line = line;
  }

  end(): void {
    if (this.#line !== undefined) this.#output.write('\n');
    this.#line = undefined;
    this.#step = undefined;
  }
}

class PlainLines implements ProgressDisplay {
  readonly #output: ProgressOutput;
  #step: GuestProgress['step'] | undefined;
  #quarter = 0;

  constructor(output: ProgressOutput) {
    this.#output = output;
  }

  show({ step, fraction }: GuestProgress): void {
    const quarter = Math.floor(fraction * 4);
    if (this.#step !== step) {
      this.#step = step;
      this.#quarter = quarter;
      this.#output.write(`${TEXTS[step]}\n`);
    } else if (quarter > this.#quarter) {
      this.#quarter = quarter;
      this.#output.write(`${TEXTS[step]}: ${percentOf(fraction)}%\n`);
    }
  }

  end(): void {}
}

function percentOf(fraction: number): number {
  return Math.floor(fraction * 100);
}
