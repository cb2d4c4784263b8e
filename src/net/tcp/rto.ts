/** When to send again: the round trip's time, measured on one segment after the other (RFC 6298). Times in ms. */
import { seqDiff } from './segment.ts';

/** Before anything is measured. A guest on the built-in processor may be slow. */
const INITIAL = 1000;
const LEAST = 200;
const MOST = 60_000;

export class RetransmissionTimer {
  #smoothed: number | undefined;
  #variation = 0;
  /** The segment that is timed. */
  #seq = 0;
  #since: number | undefined;

  sent(seq: number, now: number): void {
    if (this.#since !== undefined) return;
    this.#seq = seq;
    this.#since = now;
  }

  /** Something was sent again: its acknowledgement would tell nothing (Karn's algorithm). */
  discard(): void {
    this.#since = undefined;
  }

  acknowledged(ack: number, now: number): void {
    if (this.#since === undefined || seqDiff(ack, this.#seq) <= 0) return;
    const time = now - this.#since;
    this.#since = undefined;
    if (this.#smoothed === undefined) {
      this.#smoothed = time;
      this.#variation = time / 2;
    } else {
      this.#variation += (Math.abs(this.#smoothed - time) - this.#variation) / 4;
      this.#smoothed += (time - this.#smoothed) / 8;
    }
  }

  /** Time to wait after `tries` that were in vain. */
  timeout(tries: number): number {
    const base = this.#smoothed === undefined ? INITIAL : Math.max(this.#smoothed + 4 * this.#variation, LEAST);
    return Math.min(base * 2 ** tries, MOST);
  }
}
