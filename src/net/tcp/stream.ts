/** The far ends of the guest's connections: a socket of the host, or a service of the network itself. */
import type { HostRange } from '../../disk/iovec.ts';
import { closeDescriptor } from '../../host/descriptor.ts';
import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../../host/epoll.ts';
import type { EventLoop } from '../../host/event-loop.ts';
import { endSending, receiveBytes, resetSocket, sendRanges, socketError } from '../../host/socket.ts';

/** Who is told what a stream does. */
export interface StreamOwner {
  /** It is connected. */
  opened(): void;
  /** It could not be connected: an errno. */
  failed(errno: number): void;
  /**
   * read() or write() may have an answer other than EAGAIN; it is told once, until that comes. `ended`: after the data
   * that is there the stream ends.
   */
  ready(readable: boolean, writable: boolean, ended: boolean): void;
}

/** A stream of bytes in both directions. Nothing blocks; failing calls return the negated errno. */
export interface Stream {
  /** Bytes taken. */
  write(ranges: readonly HostRange[]): number;
  /** Bytes given; 0: the end. */
  read(into: Uint8Array): number;
  /** Nothing more will be written. */
  endWrite(): void;
  close(): void;
  /** Ends it at once; the far end learns that it broke. */
  reset(): void;
}

/** A TCP socket of the host. */
export class HostStream implements Stream {
  readonly #loop: EventLoop;
  readonly #fd: number;
  readonly #owner: StreamOwner;
  #connecting: boolean;

  /** `connecting`: opened() or failed() will be called. The descriptor is the stream's from now on. */
  constructor(loop: EventLoop, fd: number, owner: StreamOwner, connecting: boolean) {
    this.#loop = loop;
    this.#fd = fd;
    this.#owner = owner;
    this.#connecting = connecting;
    loop.watch(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, (events) => this.#event(events));
  }

  #event(events: number): void {
    if (this.#connecting) {
      const errno = socketError(this.#fd);
      if (errno !== 0) {
        this.#owner.failed(errno);
        return;
      }
      if ((events & EPOLLOUT) === 0) return;
      this.#connecting = false;
      this.#owner.opened();
    }
    const broken = (events & (EPOLLERR | EPOLLHUP)) !== 0;
    const ended = broken || (events & EPOLLRDHUP) !== 0;
    this.#owner.ready(ended || (events & EPOLLIN) !== 0, broken || (events & EPOLLOUT) !== 0, ended);
  }

  write(ranges: readonly HostRange[]): number {
    return sendRanges(this.#fd, ranges);
  }

  read(into: Uint8Array): number {
    return receiveBytes(this.#fd, into);
  }

  endWrite(): void {
    endSending(this.#fd);
  }

  close(): void {
    this.#loop.unwatch(this.#fd);
    closeDescriptor(this.#fd);
  }

  reset(): void {
    this.#loop.unwatch(this.#fd);
    resetSocket(this.#fd);
  }
}
