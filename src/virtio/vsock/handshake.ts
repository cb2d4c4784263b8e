/** The beginning of a connection of the host: it says `CONNECT PORT` and a newline. */
import { closeDescriptor } from '../../host/descriptor.ts';
import { EPOLLET, EPOLLIN, EPOLLRDHUP } from '../../host/epoll.ts';
import { EAGAIN } from '../../host/errno.ts';
import type { EventLoop } from '../../host/event-loop.ts';
import { peekBytes, receiveBytes } from '../../host/socket.ts';

/** Bytes of the longest line: `CONNECT 4294967295`, its end, and some to spare. */
const MAX_LINE = 32;
const NEWLINE = 0x0a;

export class Handshake {
  readonly #loop: EventLoop;
  readonly #fd: number;
  readonly #done: (port: number | undefined) => void;
  #line = '';

  /**
   * Reads what the host says on a socket. `done` is called once, with the port and the descriptor free for others, or with
   * undefined when it said something else and the descriptor is closed.
   */
  constructor(loop: EventLoop, fd: number, done: (port: number | undefined) => void) {
    this.#loop = loop;
    this.#fd = fd;
    this.#done = done;
    loop.watch(fd, EPOLLIN | EPOLLRDHUP | EPOLLET, () => this.#read());
  }

  close(): void {
    this.#loop.unwatch(this.#fd);
    closeDescriptor(this.#fd);
  }

  #read(): void {
    const buffer = Buffer.alloc(MAX_LINE);
    for (;;) {
      const count = peekBytes(this.#fd, buffer);
      if (count === -EAGAIN) return;
      if (count <= 0) break;
      const newline = buffer.subarray(0, count).indexOf(NEWLINE);
      // What comes behind the line is for the guest.
      const length = newline < 0 ? count : newline + 1;
      receiveBytes(this.#fd, buffer.subarray(0, length));
      this.#line += buffer.toString('latin1', 0, length);
      if (this.#line.length > MAX_LINE) break;
      if (newline < 0) continue;
      const port = parsePort(this.#line);
      if (port === undefined) break;
      this.#loop.unwatch(this.#fd);
      this.#done(port);
      return;
    }
    this.close();
    this.#done(undefined);
  }
}

function parsePort(line: string): number | undefined {
  const port = Number(/^CONNECT (\d{1,10})\r?\n$/.exec(line)?.[1] ?? Number.NaN);
  return port < 2 ** 32 ? port : undefined;
}
