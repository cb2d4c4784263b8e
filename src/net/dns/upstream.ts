/** One question to the host's resolvers: the first that answers counts. */
import { closeDescriptor } from '../../host/descriptor.ts';
import { EPOLLIN, EPOLLOUT } from '../../host/epoll.ts';
import type { EventLoop, LoopTimer } from '../../host/event-loop.ts';
import { randomU32 } from '../../host/random.ts';
import { connectTcp, connectUdp, receiveBytes, type SocketAddress, sendBytes } from '../../host/socket.ts';
import { writeU16 } from '../ip/packet.ts';
import { isAnswer, type Question } from './message.ts';

/** A resolver's time to answer, ms, before the next is asked. */
const PATIENCE = 2500;
/** Times that each is asked. */
const ROUNDS = 2;
const MAX_MESSAGE = 65535;

/** One for all: what is received is copied at once. */
const buffer = new Uint8Array(MAX_MESSAGE + 2);

/** Asks and calls back once: with the answer, which has the query's own number, or with undefined. */
export class UpstreamQuery {
  readonly #loop: EventLoop;
  readonly #servers: readonly SocketAddress[];
  readonly #query: Uint8Array;
  readonly #question: Question;
  readonly #stream: boolean;
  readonly #done: (answer: Uint8Array | undefined) => void;
  readonly #id = randomU32() & 0xffff;
  #fd: number | undefined;
  #timer: LoopTimer | undefined;
  #asked = 0;
  #received = new Uint8Array(0);

  /** `stream`: by TCP. */
  constructor(
    loop: EventLoop,
    servers: readonly SocketAddress[],
    query: Uint8Array,
    question: Question,
    stream: boolean,
    done: (answer: Uint8Array | undefined) => void,
  ) {
    this.#loop = loop;
    this.#servers = servers;
    this.#query = query.slice();
    writeU16(this.#query, 0, this.#id);
    this.#question = question;
    this.#stream = stream;
    this.#done = done;
  }

  /** Asks the next resolver. */
  start(): void {
    this.cancel();
    if (this.#asked >= this.#servers.length * ROUNDS) {
      this.#done(undefined);
      return;
    }
    const server = this.#servers[this.#asked++ % this.#servers.length] as SocketAddress;
    // Another socket each time: its port is one more thing that a forged answer has to guess.
    const fd = this.#stream ? connectTcp(server) : connectUdp(server);
    // One that cannot be reached is left out, but not at once: the stack must not grow with their number.
    this.#timer = this.#loop.after(fd < 0 ? 0 : PATIENCE, () => this.start());
    if (fd < 0) return;
    this.#fd = fd;
    this.#received = new Uint8Array(0);
    if (!this.#stream) sendBytes(fd, this.#query);
    this.#loop.watch(fd, this.#stream ? EPOLLOUT : EPOLLIN, () =>
      this.#stream ? this.#onStream(fd) : this.#onDatagram(fd),
    );
  }

  /** Does not call back any more. */
  cancel(): void {
    if (this.#timer !== undefined) this.#loop.cancel(this.#timer);
    this.#timer = undefined;
    if (this.#fd === undefined) return;
    this.#loop.unwatch(this.#fd);
    closeDescriptor(this.#fd);
    this.#fd = undefined;
  }

  #onDatagram(fd: number): void {
    const length = receiveBytes(fd, buffer);
    if (length < 0) this.start();
    else this.#take(buffer.subarray(0, length));
  }

  #onStream(fd: number): void {
    const framed = new Uint8Array(2 + this.#query.length);
    writeU16(framed, 0, this.#query.length);
    framed.set(this.#query, 2);
    this.#loop.unwatch(fd);
    // It is ready for writing when it is connected, and then has room for as little as this; or when it failed.
    if (sendBytes(fd, framed) === framed.length) this.#loop.watch(fd, EPOLLIN, () => this.#onAnswer(fd));
    else this.start();
  }

  #onAnswer(fd: number): void {
    const length = receiveBytes(fd, buffer);
    if (length <= 0) {
      this.start();
      return;
    }
    this.#received = Uint8Array.from(Buffer.concat([this.#received, buffer.subarray(0, length)]));
    if (this.#received.length < 2) return;
    const wanted = ((this.#received[0] as number) << 8) | (this.#received[1] as number);
    if (this.#received.length >= 2 + wanted) this.#take(this.#received.subarray(2, 2 + wanted));
  }

  #take(message: Uint8Array): void {
    // Others may have sent it: the right one may still come.
    if (!isAnswer(message, this.#question, this.#id)) return;
    const answer = message.slice();
    writeU16(answer, 0, this.#question.id);
    this.cancel();
    this.#done(answer);
  }
}
