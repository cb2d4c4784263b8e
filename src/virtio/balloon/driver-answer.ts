import type { LoopTimer } from '../../host/event-loop.ts';
import { type BackendHost, type Json, Later } from '../backend.ts';

/** Who waits for something of the driver's. */
export class DriverAnswer {
  readonly #loop: BackendHost['loop'];
  readonly #timeout: number;
  readonly #answer: () => Json;
  #waiting: { readonly later: Later; readonly timer: LoopTimer }[] = [];

  /** A driver that has said nothing after `timeout` ms is not waited for: `answer` is what is known then, or when it has. */
  constructor(loop: BackendHost['loop'], timeout: number, answer: () => Json) {
    this.#loop = loop;
    this.#timeout = timeout;
    this.#answer = answer;
  }

  get isAwaited(): boolean {
    return this.#waiting.length > 0;
  }

  wait(): Later {
    const later = new Later();
    const timer = this.#loop.after(this.#timeout, () => {
      this.#waiting = this.#waiting.filter((one) => one.later !== later);
      later.answer(this.#answer());
    });
    this.#waiting.push({ later, timer });
    return later;
  }

  /** The driver has answered, or will not. */
  arrive(): void {
    for (const { later, timer } of this.#waiting) {
      this.#loop.cancel(timer);
      later.answer(this.#answer());
    }
    this.#waiting = [];
  }
}
