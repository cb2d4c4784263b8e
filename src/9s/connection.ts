/** One client of the 9P server: its messages come on a stream, one after the other. */
import { type HostRange, rangeOf, sliceRanges } from '../disk/iovec.ts';
import type { Exchange } from '../fs/exchange.ts';
import type { FileServer } from '../fs/server.ts';
import { closeDescriptor } from '../host/descriptor.ts';
import { EPOLLIN, EPOLLOUT } from '../host/epoll.ts';
import { EAGAIN } from '../host/errno.ts';
import type { EventLoop } from '../host/event-loop.ts';
import { receiveBytes, sendBytes } from '../host/socket.ts';
import { HEADER_SIZE } from '../virtio/p9/protocol.ts';
import { MAX_MSIZE, P9Session } from '../virtio/p9/session.ts';

/** size[4] of a message. */
const SIZE_FIELD = 4;

/** A message in one buffer, and its answer in another. */
class Message implements Exchange {
  readonly readable: readonly HostRange[];
  readonly readableLength: number;
  readonly writable: readonly HostRange[];
  readonly writableLength: number;
  readonly #request: Uint8Array;
  readonly #answer: Uint8Array;

  constructor(request: Uint8Array, readable: readonly HostRange[], answer: Uint8Array, writable: HostRange) {
    this.#request = request;
    this.#answer = answer;
    this.readable = readable;
    this.readableLength = request.length;
    this.writable = [writable];
    this.writableLength = writable.length;
  }

  read(target: Uint8Array, offset = 0): number {
    const bytes = this.#request.subarray(offset, offset + target.length);
    target.set(bytes);
    return bytes.length;
  }

  write(source: Uint8Array, offset = 0): number {
    const bytes = source.subarray(0, Math.max(this.#answer.length - offset, 0));
    this.#answer.set(bytes, offset);
    return bytes.length;
  }
}

export class Connection {
  readonly #loop: EventLoop;
  readonly #fd: number;
  readonly #server: FileServer;
  readonly #session: P9Session;
  readonly #onEnd: () => void;
  readonly #input = Buffer.alloc(MAX_MSIZE);
  readonly #inputRange = rangeOf(this.#input);
  /** Bytes of #input that have come. */
  #filled = 0;
  readonly #answer = Buffer.alloc(MAX_MSIZE);
  readonly #answerRange = rangeOf(this.#answer);
  /** What the client has not taken yet: until it has, nothing more is done for it. */
  #unsent: Buffer = Buffer.alloc(0);
  #open = true;

  /** Takes the descriptor, which does not block, and the server. `onEnd` is called once. */
  constructor(loop: EventLoop, fd: number, server: FileServer, onEnd: () => void) {
    this.#loop = loop;
    this.#fd = fd;
    this.#server = server;
    this.#session = new P9Session(server, loop);
    this.#onEnd = onEnd;
    loop.watch(fd, EPOLLIN, () => this.#ready());
  }

  #ready(): void {
    if (this.#unsent.length > 0) {
      const waiting = this.#unsent;
      this.#unsent = Buffer.alloc(0);
      this.#send(waiting);
    } else {
      const count = receiveBytes(this.#fd, this.#input.subarray(this.#filled));
      if (count === -EAGAIN) return;
      if (count <= 0) return this.close();
      this.#filled += count;
    }
    this.#serve();
    if (this.#open) this.#loop.change(this.#fd, this.#unsent.length > 0 ? EPOLLOUT : EPOLLIN);
  }

  /** Serves the messages that are there as a whole. */
  #serve(): void {
    let at = 0;
    while (this.#open && this.#unsent.length === 0 && this.#filled - at >= SIZE_FIELD) {
      const size = this.#input.readUInt32LE(at);
      // Where the next message begins is not known then.
      if (size < HEADER_SIZE || size > MAX_MSIZE) return this.close();
      if (this.#filled - at < size) break;
      const request = this.#input.subarray(at, at + size);
      const readable = sliceRanges([this.#inputRange], at, size);
      const message = new Message(request, readable, this.#answer, this.#answerRange);
      this.#session.serve(message, (written) => this.#send(this.#answer.subarray(0, written)));
      at += size;
    }
    this.#input.copyWithin(0, at, this.#filled);
    this.#filled -= at;
  }

  /** An answer; one that had to wait may come at any time. */
  #send(bytes: Buffer): void {
    if (!this.#open) return;
    let sent = 0;
    if (this.#unsent.length === 0) {
      sent = sendBytes(this.#fd, bytes);
      if (sent < 0 && sent !== -EAGAIN) return this.close();
      sent = Math.max(sent, 0);
    }
    if (sent === bytes.length) return;
    this.#unsent = Buffer.concat([this.#unsent, bytes.subarray(sent)]);
    this.#loop.change(this.#fd, EPOLLOUT);
  }

  /** Ends it: all that the client holds is given back. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#session.reset();
    this.#server.end();
    this.#loop.unwatch(this.#fd);
    closeDescriptor(this.#fd);
    this.#onEnd();
  }
}
