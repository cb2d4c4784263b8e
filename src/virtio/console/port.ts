/** One port of a console device: bytes between its two queues and the host. */
import { EPOLLHUP, EPOLLIN, EPOLLOUT } from '../../host/epoll.ts';
import { EAGAIN, EPERM, OsError } from '../../host/errno.ts';
import type { EventLoop } from '../../host/event-loop.ts';
import { readInto, writeFrom } from '../../host/transfer.ts';
import type { Chain } from '../chain.ts';
import type { Queue } from '../queue.ts';

/** Where a port's bytes go on the host: descriptors. */
export interface PortHost {
  readonly input: number | undefined;
  readonly output: number | undefined;
}

export class Port {
  readonly #loop: EventLoop;
  readonly #failed: (errno: number) => void;
  #input: number | undefined;
  #output: number | undefined;
  /** Does the guest take what comes? What does not go to it yet waits on the host. */
  #heard = true;
  #receive: Queue | undefined;
  #transmit: Queue | undefined;
  /** What the output did not take yet: a chain, and how many of its bytes are done. */
  #pending: { readonly chain: Chain; done: number } | undefined;
  /** Events that each descriptor is watched for. */
  readonly #watched = new Map<number, number>();

  /** `failed` is told that the output cannot be written: it is dropped from then on. */
  constructor(loop: EventLoop, host: PortHost, failed: (errno: number) => void) {
    this.#loop = loop;
    this.#input = host.input;
    this.#output = host.output;
    this.#failed = failed;
  }

  start(receive: Queue | undefined, transmit: Queue | undefined): void {
    this.#receive = receive;
    this.#transmit = transmit;
    if (receive !== undefined) receive.onNotify = () => this.#update();
    if (transmit !== undefined) transmit.onNotify = () => this.#send();
    this.#update();
  }

  reset(): void {
    this.#receive = undefined;
    this.#transmit = undefined;
    this.#pending = undefined;
    this.#update();
  }

  /** Has the guest opened the port? A driver drops what comes before that. */
  hear(heard: boolean): void {
    this.#heard = heard;
    this.#update();
  }

  // ---- To the guest ------------------------------------------------------------------------------------------------------------

  /** Reads what there is into what the driver has made available. */
  #read(): void {
    const queue = this.#receive;
    if (!this.#heard) return;
    for (let turns = 0; queue !== undefined && this.#input !== undefined && turns < 16; turns++) {
      const chain = queue.pop();
      if (chain === undefined) break;
      const [range] = chain.writable;
      // A buffer without room is given back as it is.
      const count = range === undefined ? 0 : readInto(this.#input, range.address, range.length);
      if (count > 0 || range === undefined || range.length === 0) {
        queue.push(chain, Math.max(count, 0));
        continue;
      }
      queue.unpop();
      if (count !== -EAGAIN) this.#forget(this.#input);
      break;
    }
    queue?.flush();
  }

  // ---- From the guest ------------------------------------------------------------------------------------------------------------

  #send(): void {
    const queue = this.#transmit;
    while (queue !== undefined) {
      const chain = this.#pending?.chain ?? queue.pop();
      if (chain === undefined) break;
      this.#pending ??= { chain, done: 0 };
      if (!this.#write(this.#pending)) break;
      this.#pending = undefined;
      queue.push(chain, 0);
    }
    queue?.flush();
    this.#update();
  }

  /** False: the output takes no more now. */
  #write(pending: { readonly chain: Chain; done: number }): boolean {
    let skip = pending.done;
    for (const { address, length } of pending.chain.readable) {
      while (skip < length) {
        // Without anybody there it is lost, as on a line that nothing is plugged into.
        if (this.#output === undefined) return true;
        const count = writeFrom(this.#output, address + skip, length - skip);
        if (count === -EAGAIN) return false;
        if (count < 0) {
          this.#forget(this.#output);
          this.#failed(-count);
          return true;
        }
        skip += count;
        pending.done += count;
      }
      skip -= length;
    }
    return true;
  }

  // ---- The host's side -----------------------------------------------------------------------------------------------------------

  /** Waits for what can be done: input while there is room for it, output while some is left. */
  #update(): void {
    const read = this.#heard && this.#receive?.ready === true ? EPOLLIN : 0;
    const write = this.#pending === undefined ? 0 : EPOLLOUT;
    if (this.#input !== undefined && this.#input === this.#output) this.#watch(this.#input, read | write);
    else {
      if (this.#input !== undefined) this.#watch(this.#input, read);
      if (this.#output !== undefined) this.#watch(this.#output, write);
    }
  }

  #watch(fd: number, events: number): void {
    const before = this.#watched.get(fd);
    if (before === events || (before === undefined && events === 0)) return;
    if (events === 0) this.#unwatch(fd);
    else if (before !== undefined) this.#loop.change(fd, events);
    else {
      try {
        this.#loop.watch(fd, events, (ready) => this.#ready(fd, ready));
      } catch (error) {
        // A regular file is always ready, and cannot be waited for.
        if (!(error instanceof OsError) || error.errno !== EPERM) throw error;
        if (fd === this.#input) this.#read();
        return;
      }
    }
    if (events !== 0) this.#watched.set(fd, events);
  }

  #unwatch(fd: number): void {
    if (!this.#watched.delete(fd)) return;
    this.#loop.unwatch(fd);
  }

  #ready(fd: number, events: number): void {
    if ((events & (EPOLLIN | EPOLLHUP)) !== 0 && fd === this.#input) this.#read();
    if ((events & (EPOLLOUT | EPOLLHUP)) !== 0 && fd === this.#output) this.#send();
    // Gone, and nobody would read what is left.
    if (events === EPOLLHUP && this.#watched.has(fd)) this.#unwatch(fd);
    this.#update();
  }

  /** A descriptor that has ended, or failed. */
  #forget(fd: number): void {
    this.#unwatch(fd);
    if (fd === this.#input) this.#input = undefined;
    if (fd === this.#output) this.#output = undefined;
  }
}
