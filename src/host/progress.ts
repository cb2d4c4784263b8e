/** Shows how long work goes on: steps, each from 0 to 1. */

/** Work in a step. `fraction` goes from 0 to 1 in each. */
export interface Progress<Step extends string> {
  readonly step: Step;
  readonly fraction: number;
}

/** What is printed for each step. */
export interface StepTexts<Step extends string> {
  readonly texts: Readonly<Record<Step, string>>;
  /** Steps of which nobody knows how far they are. */
  readonly withoutBar: readonly Step[];
}

const BAR_WIDTH = 20;
const ERASE_TO_END_OF_LINE = '\x1b[K';

/** Where progress goes: process.stderr, or the like. */
export interface ProgressOutput {
  readonly isTTY?: boolean;
  /** Width of the terminal in characters. */
  readonly columns?: number;
  write(text: string): unknown;
}

export interface StepDisplay<Step extends string> {
  show(event: Progress<Step>): void;
  /** Ends the line that is being updated, if there is one; call it before anything else is printed. */
  end(): void;
}

/** One line that is updated on a terminal; elsewhere a line for each step and each quarter of it. */
export function createStepDisplay<Step extends string>(
  output: ProgressOutput,
  steps: StepTexts<Step>,
): StepDisplay<Step> {
  return output.isTTY ? new UpdatedLine(output, steps) : new PlainLines(output, steps);
}

class UpdatedLine<Step extends string> implements StepDisplay<Step> {
  readonly #output: ProgressOutput;
  readonly #steps: StepTexts<Step>;
  readonly #textWidth: number;
  #line: string | undefined;
  #step: Step | undefined;

  constructor(output: ProgressOutput, steps: StepTexts<Step>) {
    this.#output = output;
    this.#steps = steps;
    this.#textWidth = Math.max(...Object.values<string>(steps.texts).map(({ length }) => length));
  }

  show({ step, fraction }: Progress<Step>): void {
    if (this.#step !== undefined && this.#step !== step) this.end();
    this.#step = step;
    const { texts, withoutBar } = this.#steps;
    const done = Math.round(fraction * BAR_WIDTH);
    const bar = `[${'#'.repeat(done)}${'.'.repeat(BAR_WIDTH - done)}] ${String(percentOf(fraction)).padStart(3)}%`;
    const text = withoutBar.includes(step) ? texts[step] : `${texts[step].padEnd(this.#textWidth)} ${bar}`;
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

class PlainLines<Step extends string> implements StepDisplay<Step> {
  readonly #output: ProgressOutput;
  readonly #steps: StepTexts<Step>;
  #step: Step | undefined;
  #quarter = 0;

  constructor(output: ProgressOutput, steps: StepTexts<Step>) {
    this.#output = output;
    this.#steps = steps;
  }

  show({ step, fraction }: Progress<Step>): void {
    const quarter = Math.floor(fraction * 4);
    const text = this.#steps.texts[step];
    if (this.#step !== step) {
      this.#step = step;
      this.#quarter = quarter;
      this.#output.write(`${text}\n`);
    } else if (quarter > this.#quarter) {
      this.#quarter = quarter;
      this.#output.write(`${text}: ${percentOf(fraction)}%\n`);
    }
  }

  end(): void {}
}

function percentOf(fraction: number): number {
  return Math.floor(fraction * 100);
}
