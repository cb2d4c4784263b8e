/** A tap's queues: as many as the driver uses have frames (virtio 1.2, 5.1.6.5.5). The kernel spreads them over those alone. */
import { attachQueue } from '../../host/tap.ts';

export class TapQueues {
  readonly #fds: readonly number[];
  #used: number;

  /** All of them are in use, as a tap's queues are when they have been opened. */
  constructor(fds: readonly number[]) {
    this.#fds = fds;
    this.#used = fds.length;
  }

  /** Queues in use, the first ones. */
  get used(): number {
    return this.#used;
  }

  /** Uses the first `count` ones. */
  use(count: number): void {
    for (const [i, fd] of this.#fds.entries()) {
      if (i < count !== i < this.#used) attachQueue(fd, i < count);
    }
    this.#used = count;
  }
}
