import type { SharedRange } from '../host/shared-state.ts';

/** Why a device ends the machine's run. */
export type ExitReason =
  /** ACPI soft off (S5). */
  | { readonly kind: 'power-off' }
  /** Reset asked for through the 8042 or the reset register. */
  | { readonly kind: 'reset' }
  /** The debug exit port was written. */
  | { readonly kind: 'debug-exit'; readonly value: number };

export const MACHINE_EXIT_SIZE = 64;
const KIND = 0;
const VALUE = 1;
const KINDS = ['power-off', 'reset', 'debug-exit'] as const;

/** The first reason that any device gave in any thread: it stays, so that all threads see the same. */
export class MachineExit {
  readonly #words: Int32Array;
  readonly #onExit: (reason: ExitReason) => void;

  /** `onExit` is called once, in the thread whose device reported first. */
  constructor(range: SharedRange, onExit: (reason: ExitReason) => void) {
    this.#words = new Int32Array(range.buffer, range.offset, MACHINE_EXIT_SIZE / 4);
    this.#onExit = onExit;
  }

  /** Power-on state: once, before any other call in any thread. */
  reset(): void {
    this.#words.fill(0);
  }

  report(reason: ExitReason): void {
    const code = KINDS.indexOf(reason.kind) + 1;
    const value = reason.kind === 'debug-exit' ? reason.value | 0 : 0;
    // Whoever sees the kind sees the value too.
    if (Atomics.compareExchange(this.#words, KIND, 0, -1) !== 0) return;
    Atomics.store(this.#words, VALUE, value);
    Atomics.store(this.#words, KIND, code);
    this.#onExit(reason);
  }

  /** The reason, undefined while there is none. */
  get reason(): ExitReason | undefined {
    const code = Atomics.load(this.#words, KIND);
    const kind = KINDS[code - 1];
    if (kind === undefined) return undefined;
    if (kind === 'debug-exit') return { kind, value: Atomics.load(this.#words, VALUE) >>> 0 };
    return { kind };
  }
}
