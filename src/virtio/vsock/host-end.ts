/** The host's end of a connection: a Unix stream socket, and what it has not taken yet of the guest's bytes. */
import { type HostRange, rangeOf, sliceRanges } from '../../disk/iovec.ts';
import { closeDescriptor } from '../../host/descriptor.ts';
import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../../host/epoll.ts';
import { EAGAIN } from '../../host/errno.ts';
import type { EventLoop } from '../../host/event-loop.ts';
import { endSending, sendBytes, sendRanges } from '../../host/socket.ts';
import { endReceiving } from '../../host/stream-socket.ts';
import { readRanges } from '../../host/vector-io.ts';
import { Ring } from '../../net/ring.ts';
import type { Chain } from '../chain.ts';

/** Bytes that a guest can send beyond what the host has taken: a power of two. */
export const BUFFER_SIZE = 64 * 1024;

const EVENTS = EPOLLIN | EPOLLRDHUP | EPOLLET;

export class HostEnd {
  /** read() may give something. */
  readable = false;
  /** The host will send no more. */
  ended = false;
  /** The host will take no more: what the guest sends is dropped. */
  gone = false;
  /** Bytes of the guest that have left the buffer, modulo 2^32. */
  forwarded = 0;
  readonly #loop: EventLoop;
  readonly #changed: () => void;
  #fd: number | undefined;
  #buffer: Ring | undefined;
  /** Read to its end, the socket gives the end. */
  #endSeen = false;
  /** The guest will send no more. */
  #finished = false;
  #onDrained: (() => void) | undefined;

  /** Takes the descriptor. `changed` is told of what the host does. */
  constructor(loop: EventLoop, fd: number, changed: () => void) {
    this.#loop = loop;
    this.#fd = fd;
    this.#changed = changed;
    loop.watch(fd, EVENTS, (events) => this.#ready(events));
  }

  get isOpen(): boolean {
    return this.#fd !== undefined;
  }

  /** Bytes that wait for the host. */
  get waiting(): number {
    return this.#buffer?.length ?? 0;
  }

  #ready(events: number): void {
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) !== 0) this.readable = !this.ended;
    if ((events & (EPOLLRDHUP | EPOLLHUP)) !== 0) this.#endSeen = true;
    if ((events & (EPOLLHUP | EPOLLERR)) !== 0) this.#lose();
    else if ((events & EPOLLOUT) !== 0) this.#drain();
    this.#changed();
  }

  // ---- From the guest --------------------------------------------------------------------------------------------------

  /** The first bytes on a socket, which has room for them. False: it is of no use. */
  greet(bytes: Uint8Array): boolean {
    return this.#fd !== undefined && sendBytes(this.#fd, bytes) === bytes.length;
  }

  /** Takes `length` readable bytes of a chain from `offset` on. False: there is no room for them. */
  write(chain: Chain, offset: number, length: number): boolean {
    if (length > BUFFER_SIZE - this.waiting) return false;
    let done = this.waiting > 0 || length === 0 ? 0 : this.#send(sliceRanges(chain.readable, offset, length));
    if (this.#fd === undefined || this.gone) {
      this.#forward(length - done);
      return true;
    }
    if (done === length) return true;
    if (this.#buffer === undefined) {
      this.#buffer = new Ring(new Uint8Array(BUFFER_SIZE));
      // Not before: each read of the host would be an event.
      this.#loop.change(this.#fd, EVENTS | EPOLLOUT);
    }
    while (done < length) {
      const space = this.#buffer.space();
      const count = chain.read(space.subarray(0, length - done), offset + done);
      this.#buffer.produced(count);
      done += count;
    }
    return true;
  }

  /** The guest sends no more: the host is told when it has taken what waits. */
  finish(): void {
    this.#finished = true;
    if (this.waiting === 0 && this.#fd !== undefined) endSending(this.#fd);
  }

  /** The guest has gone: closes when the host has taken what waits, and says so. */
  closeDrained(done: () => void): void {
    this.#onDrained = done;
    this.#afterDrain();
  }

  #drain(): void {
    const buffer = this.#buffer;
    if (buffer === undefined) return;
    while (buffer.length > 0) {
      const count = this.#send(buffer.pieces(0, buffer.length).map(rangeOf));
      if (count === 0) break;
      buffer.consume(count);
    }
    if (buffer.length === 0) this.#afterDrain();
  }

  #afterDrain(): void {
    if (this.waiting > 0) return;
    // Most connections never need one.
    if (this.#buffer !== undefined && this.#fd !== undefined) this.#loop.change(this.#fd, EVENTS);
    this.#buffer = undefined;
    if (this.#onDrained !== undefined) {
      this.close();
      this.#onDrained();
    } else if (this.#finished && this.#fd !== undefined) endSending(this.#fd);
  }

  /** Bytes that the socket took. */
  #send(ranges: readonly HostRange[]): number {
    if (this.#fd === undefined || this.gone) return 0;
    const count = sendRanges(this.#fd, ranges);
    if (count >= 0) {
      this.#forward(count);
      return count;
    }
    if (count !== -EAGAIN) this.#lose();
    return 0;
  }

  #forward(count: number): void {
    this.forwarded = (this.forwarded + count) >>> 0;
  }

  #lose(): void {
    this.gone = true;
    this.#forward(this.waiting);
    this.#buffer = undefined;
    this.#afterDrain();
  }

  // ---- To the guest ----------------------------------------------------------------------------------------------------

  /** Reads into memory. Returns bytes, 0 where there are none: now, or, when it has ended, any more. */
  read(ranges: readonly HostRange[], length: number): number {
    if (!this.readable || this.#fd === undefined) return 0;
    const count = readRanges(this.#fd, ranges);
    if (count > 0) {
      // A stream that gives less than was asked for has no more, but its end.
      if (count < length && !this.#endSeen) this.readable = false;
      return count;
    }
    this.readable = false;
    if (count !== -EAGAIN) {
      this.ended = true;
      // It broke: ECONNRESET, where the peer left something unread.
      if (count < 0) this.#lose();
    }
    return 0;
  }

  /** The guest takes no more. */
  stopReading(): void {
    if (this.ended) return;
    this.ended = true;
    this.readable = false;
    if (this.#fd !== undefined) endReceiving(this.#fd);
  }

  close(): void {
    if (this.#fd === undefined) return;
    this.#loop.unwatch(this.#fd);
    closeDescriptor(this.#fd);
    this.#fd = undefined;
    this.#buffer = undefined;
    this.readable = false;
  }
}
