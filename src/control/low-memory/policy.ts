/**
 * When the host is low on memory, the balloon takes some from the guest, and gives it back later: crosvm's policy. A state
 * machine without a clock of its own: whoever drives it says what time it is. Milliseconds, bytes.
 */

const GIB = 2 ** 30;
/** The balloon grows and shrinks by this part of its maximum. */
const STEPS = 16;
const SECOND = 1000;

/** After the host was low on memory, nobody looks for a second or so whether it still is. */
const QUIET = 1000;
const QUIET_JITTER = 200;
/** Memory may be given back after a minute, and then twice a minute; seconds. */
const FIRST_CHECK = 60;
const FIRST_CHECK_JITTER = 12;
const CHECK_INTERVAL = 30;
const CHECK_INTERVAL_JITTER = 6;

/** The most that a balloon may take from a guest with so much memory: all but a GiB, or half, or nothing of a small one. */
export function largestBalloon(ram: number): number {
  if (ram >= 1.5 * GIB) return ram - GIB;
  return ram >= GIB / 2 ? Math.floor(ram / 2) : 0;
}

/** What the host has, MiB. It is well off with more than `margin` available. */
export interface HostMemory {
  readonly available: number;
  readonly margin: number;
}

export interface PolicyParts {
  /** Memory of the guest. */
  readonly ram: number;
  /** A random integer from 0 to below `limit`: it keeps several machines from acting at the same time. */
  readonly random: (limit: number) => number;
  readonly host: () => HostMemory;
  readonly balloon: { readonly target: number; setTarget(size: number): void };
}

export class LowMemoryPolicy {
  readonly #parts: PolicyParts;
  readonly #maximum: number;
  readonly #step: number;
  /** When to look again whether the host is low on memory. */
  #watchAt: number | undefined;
  #checkAt: number | undefined;
  #checkInterval = 0;

  constructor(parts: PolicyParts) {
    this.#parts = parts;
    this.#maximum = largestBalloon(parts.ram);
    this.#step = Math.floor(this.#maximum / STEPS);
  }

  /** Whether low memory is to be told. */
  get watching(): boolean {
    return this.#watchAt === undefined;
  }

  /** When advance() has something to do; undefined: never. */
  get deadline(): number | undefined {
    const times = [this.#watchAt, this.#checkAt].filter((time) => time !== undefined);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** The host is low on memory, while `watching`. */
  lowMemory(now: number): void {
    const { balloon, random } = this.#parts;
    const target = Math.min(balloon.target + this.#step, this.#maximum);
    // A balloon that somebody made larger stays so.
    if (target > balloon.target) balloon.setTarget(target);
    this.#watchAt = now + QUIET + random(QUIET_JITTER);
    this.#checkAt = now + (FIRST_CHECK + random(FIRST_CHECK_JITTER)) * SECOND;
    this.#checkInterval = (CHECK_INTERVAL + random(CHECK_INTERVAL_JITTER)) * SECOND;
  }

  /** Does what is due at `now`. */
  advance(now: number): void {
    if (this.#watchAt !== undefined && this.#watchAt <= now) this.#watchAt = undefined;
    if (this.#checkAt !== undefined && this.#checkAt <= now) this.#check(this.#checkAt, now);
  }

  #check(due: number, now: number): void {
    const { balloon, host } = this.#parts;
    if (balloon.target === 0) {
      this.#checkAt = undefined;
      return;
    }
    // Checks that were missed are one; those to come stay in step.
    const interval = this.#checkInterval;
    this.#checkAt = due + (Math.floor((now - due) / interval) + 1) * interval;
    const { available, margin } = host();
    if (available >= margin + 2 * Math.floor(this.#step / 2 ** 20)) {
      balloon.setTarget(Math.max(balloon.target - this.#step, 0));
    }
  }
}
