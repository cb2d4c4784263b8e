// Time that counts instructions: each takes a nanosecond, and a halted processor skips to its next timer. Timers fire after exactly
// so many instructions, whether these are interpreted or translated, so two runs of a guest that nobody talks to are the same.

import * as L from '../../cpu/x86_64/layout.ts';
import type { Processor } from '../../cpu/x86_64/processor.ts';
import type { SharedClock } from '../../host/clock.ts';

/** What a run may take beyond its budget: regions and blocks look at it at their ends. */
const OVERSHOOT = 8192;
/** What a run of one block or one round of a region takes at most. */
const PASS = 1024;
/** Instructions between two looks at requests. */
const SLICE = 20_000;

export class InstructionTime {
  readonly #cpu: Processor;
  readonly #clock: SharedClock;
  /** Nanoseconds that passed while the processor was halted. */
  #skipped = 0;
  #random = 0x9e3779b97f4a7c15n;

  constructor(cpu: Processor, clock: SharedClock) {
    this.#cpu = cpu;
    this.#clock = clock;
  }

  /** Sets the clock to where the processor is. To be called before anybody looks at it. */
  sync(): void {
    this.#clock.set(this.#now());
  }

  /** The processor is halted until `time`. */
  skipTo(time: number): void {
    this.#skipped += Math.max(0, time - this.#now());
    this.sync();
  }

  /** Runs up to `deadline`, nanoseconds, or some instructions of the way there; `step` runs one. Returns EXIT_*. */
  run(deadline: number, step: () => number): number {
    let reason = L.EXIT_BUDGET;
    const left = (): number => deadline - this.#now();
    if (left() > OVERSHOOT) reason = this.#cpu.run(Math.min(left() - OVERSHOOT, SLICE));
    else while (left() > 0 && reason === L.EXIT_BUDGET) reason = left() > PASS ? this.#cpu.pass() : step();
    if (left() < 0) throw new Error(`${-left()} instructions too many were run`);
    this.sync();
    return reason;
  }

  /** The next number of a fixed sequence (xorshift), for RDRAND and RDSEED. */
  random(): bigint {
    let value = this.#random;
    value ^= BigInt.asUintN(64, value << 13n);
    value ^= value >> 7n;
    value ^= BigInt.asUintN(64, value << 17n);
    this.#random = value;
    return value;
  }

  #now(): number {
    return this.#skipped + this.#cpu.instructions;
  }
}
