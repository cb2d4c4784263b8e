/** The socket device: its queues, the table of connections, and where they come from. */
import { closeDescriptor } from '../../host/descriptor.ts';
import { EPOLLIN } from '../../host/epoll.ts';
import { EAGAIN } from '../../host/errno.ts';
import type { EventLoop } from '../../host/event-loop.ts';
import { acceptStream } from '../../host/stream-socket.ts';
import { receiveMessage } from '../../host/unix-socket.ts';
import type { Backend, BackendHost, Session } from '../backend.ts';
import { BrokenDriverError, type Chain } from '../chain.ts';
import type { Queue } from '../queue.ts';
import { Connection, type ConnectionOwner } from './connection.ts';
import * as C from './constants.ts';
import { Handshake } from './handshake.ts';
import type { HostEnd } from './host-end.ts';
import type { VsockParams } from './model.ts';
import { type GuestHeader, HEADER_SIZE, type Ports, readHeader, writeHeader } from './packet.ts';

/** The guest asks for a port of the host: the main process answers with a HostAnswer, where the model says. */
export type VsockEvent = { readonly kind: 'connect'; readonly id: number; readonly port: number };

/** The answer: JSON. The descriptor of the connection comes with it; none: nobody serves this port. */
export interface HostAnswer {
  readonly id: number;
}
const MAX_ANSWER = 256;

/** Packets that are taken in a turn: the sockets want theirs, too. */
const MAX_BATCH = 256;
/** Resets that wait for a driver with no buffers: with more, nothing is taken from it. */
const MAX_RESETS = 256;
/** Questions to the main process at the same time: what the channels have room for. */
const MAX_QUESTIONS = 64;
/** The host has no descriptor left: it may have one after this time, ms. */
const ACCEPT_PAUSE = 100;
/** The host's port of the first connection from the host: far above those of services. */
const FIRST_HOST_PORT = 2 ** 30;

/** A reset that has to be sent. */
interface Reset extends Ports {
  readonly type: number;
}

const keyOf = ({ host, guest }: Ports): string => `${host}:${guest}`;

export function create(host: BackendHost): Backend {
  return new VsockBackend(host);
}

class VsockBackend implements Backend, ConnectionOwner {
  readonly loop: EventLoop;
  readonly cid: number;
  readonly #host: BackendHost;
  readonly #listener: number;
  readonly #answers: number;
  readonly #most: number;
  readonly #connections = new Map<string, Connection>();
  readonly #handshakes = new Set<Handshake>();
  /** Ends of connections that the guest has left. */
  readonly #lingering = new Set<HostEnd>();
  /** Questions that were asked, by their id, and connections whose question waits. */
  readonly #asked = new Map<number, Connection>();
  #toAsk: Connection[] = [];
  #nextId = 0;
  #nextPort = FIRST_HOST_PORT;
  #receive: Queue | undefined;
  #transmit: Queue | undefined;
  #resets: Reset[] = [];
  /** Connections that have something to send: each in its turn. */
  readonly #senders = new Set<Connection>();
  /** What is to be sent waits, as more may come, or is being sent. */
  #sending = false;
  #accepting = true;

  constructor(host: BackendHost) {
    const { cid, connections } = host.params as unknown as VsockParams;
    this.#host = host;
    this.loop = host.loop;
    this.cid = cid;
    this.#most = connections;
    [this.#listener, this.#answers] = host.fds as [number, number];
    this.loop.watch(this.#listener, EPOLLIN, () => this.#accept());
    this.loop.watch(this.#answers, EPOLLIN, () => this.#takeAnswers());
  }

  start({ queues }: Session): void {
    // Of events there is none here: they tell of migrations.
    const [receive, transmit] = [queues[C.RECEIVE], queues[C.TRANSMIT]];
    this.#receive = receive;
    this.#transmit = transmit;
    if (receive !== undefined) {
      receive.onNotify = () => {
        this.#send();
        // It may have stood still for want of room for answers.
        this.#take();
      };
    }
    if (transmit !== undefined) transmit.onNotify = () => this.#take();
  }

  reset(): void {
    this.#receive = this.#transmit = undefined;
    for (const connection of this.#connections.values()) connection.drop();
    for (const handshake of this.#handshakes) handshake.close();
    for (const end of this.#lingering) end.close();
    for (const table of [this.#connections, this.#handshakes, this.#lingering, this.#senders]) table.clear();
    this.#toAsk = [];
    this.#resets = [];
    this.#acceptAgain();
  }

  // ---- From the guest --------------------------------------------------------------------------------------------------

  #take(): void {
    const queue = this.#transmit;
    if (queue === undefined) return;
    let left = MAX_BATCH;
    // What is answered goes together.
    this.#sending = true;
    try {
      for (; left > 0 && this.#resets.length < MAX_RESETS; left--) {
        const chain = queue.pop();
        if (chain === undefined) break;
        this.#packet(chain);
        queue.push(chain, 0);
      }
    } finally {
      this.#sending = false;
    }
    queue.flush();
    this.#send();
    if (left === 0) this.loop.after(0, () => this.#take());
  }

  #packet(chain: Chain): void {
    const bytes = new Uint8Array(HEADER_SIZE);
    if (chain.read(bytes) < HEADER_SIZE) throw new BrokenDriverError('a packet without a whole header');
    const header = readHeader(bytes);
    // Others than this guest and the host are not here.
    if (header.srcCid !== this.cid || header.dstCid !== C.CID_HOST) return;
    const connection = this.#connections.get(keyOf(header));
    const stream = header.type === C.VIRTIO_VSOCK_TYPE_STREAM;
    const whole = header.length <= chain.readableLength - HEADER_SIZE;
    if (connection !== undefined && stream) {
      if (whole) connection.receive(header, chain);
      else connection.reset();
    } else if (header.op === C.VIRTIO_VSOCK_OP_REQUEST && stream && this.#hasRoom) this.#request(header);
    else if (header.op !== C.VIRTIO_VSOCK_OP_RST) this.#resets.push({ ...portsOf(header), type: header.type });
  }

  #request(header: GuestHeader): void {
    const connection = new Connection(this, portsOf(header), header);
    this.#connections.set(keyOf(header), connection);
    this.#toAsk.push(connection);
    this.#ask();
  }

  // ---- From the host ---------------------------------------------------------------------------------------------------

  /** Asks for connections to the host, some at a time. */
  #ask(): void {
    while (this.#asked.size < MAX_QUESTIONS) {
      const connection = this.#toAsk.shift();
      if (connection === undefined) return;
      if (!connection.isConnecting) continue;
      const id = this.#nextId++;
      this.#asked.set(id, connection);
      this.#host.event({ kind: 'connect', id, port: connection.ports.host } satisfies VsockEvent);
    }
  }

  #takeAnswers(): void {
    for (;;) {
      const message = receiveMessage(this.#answers, MAX_ANSWER, { wait: false });
      if (message === undefined) break;
      if (message === null) {
        // The main process ends, and says so elsewhere.
        this.loop.unwatch(this.#answers);
        return;
      }
      const { id } = JSON.parse(Buffer.from(message.bytes).toString()) as HostAnswer;
      this.#answered(this.#asked.get(id), message.fds[0]);
      this.#asked.delete(id);
    }
    this.#ask();
    this.#send();
  }

  #answered(connection: Connection | undefined, fd: number | undefined): void {
    const waits = connection?.isConnecting === true;
    if (fd === undefined) {
      if (waits) connection.reset();
    } else if (waits) connection.connected(fd);
    else closeDescriptor(fd);
  }

  #accept(): void {
    while (this.#hasRoom) {
      const fd = acceptStream(this.#listener);
      if (fd === -EAGAIN) return;
      if (fd < 0) {
        this.loop.after(ACCEPT_PAUSE, () => this.#acceptAgain());
        break;
      }
      // Without a driver there is no guest to connect to.
      if (this.#receive === undefined) closeDescriptor(fd);
      else this.#greet(fd);
    }
    this.#accepting = false;
    this.loop.unwatch(this.#listener);
  }

  #greet(fd: number): void {
    const handshake = new Handshake(this.loop, fd, (port) => {
      this.#handshakes.delete(handshake);
      if (port !== undefined) this.#connect(fd, port);
      this.#acceptAgain();
    });
    this.#handshakes.add(handshake);
  }

  /** A connection of the host to a port of the guest. */
  #connect(fd: number, guest: number): void {
    let ports: Ports;
    do {
      ports = { host: this.#nextPort, guest };
      this.#nextPort = this.#nextPort === 2 ** 32 - 2 ? FIRST_HOST_PORT : this.#nextPort + 1;
    } while (this.#connections.has(keyOf(ports)));
    const connection = new Connection(this, ports, fd);
    this.#connections.set(keyOf(ports), connection);
    this.wantsToSend(connection);
  }

  get #hasRoom(): boolean {
    return this.#connections.size + this.#handshakes.size + this.#lingering.size < this.#most;
  }

  #acceptAgain(): void {
    if (this.#accepting || !this.#hasRoom) return;
    this.#accepting = true;
    this.loop.watch(this.#listener, EPOLLIN, () => this.#accept());
  }

  // ---- Of the connections ----------------------------------------------------------------------------------------------

  wantsToSend(connection: Connection): void {
    this.#senders.add(connection);
    this.#send();
  }

  ended(connection: Connection, tell: boolean): void {
    this.#connections.delete(keyOf(connection.ports));
    this.#senders.delete(connection);
    if (tell) {
      this.#resets.push({ ...connection.ports, type: C.VIRTIO_VSOCK_TYPE_STREAM });
      this.#send();
    }
    this.#acceptAgain();
  }

  lingers(end: HostEnd): () => void {
    this.#lingering.add(end);
    return () => {
      this.#lingering.delete(end);
      this.#acceptAgain();
    };
  }

  // ---- To the guest ----------------------------------------------------------------------------------------------------

  /** Gives the driver what there is for it, as far as it has buffers. */
  #send(): void {
    const queue = this.#receive;
    if (queue === undefined || this.#sending) return;
    let left = MAX_BATCH;
    this.#sending = true;
    try {
      for (; left > 0 && (this.#resets.length > 0 || this.#senders.size > 0); left--) {
        const chain = queue.pop();
        if (chain === undefined) break;
        if (chain.writableLength < HEADER_SIZE)
          throw new BrokenDriverError('a receive buffer without room for a header');
        const written = this.#fill(chain);
        if (written > 0) queue.push(chain, written);
        else queue.unpop();
      }
    } finally {
      this.#sending = false;
    }
    queue.flush();
    if (left === 0) this.loop.after(0, () => this.#send());
  }

  #fill(chain: Chain): number {
    const reset = this.#resets.shift();
    if (reset !== undefined) {
      return chain.write(writeHeader(this.cid, reset, { op: C.VIRTIO_VSOCK_OP_RST, type: reset.type }));
    }
    const connection = this.#senders.values().next().value as Connection;
    this.#senders.delete(connection);
    const written = connection.fill(chain);
    // Behind the others.
    if (written > 0) this.#senders.add(connection);
    return written;
  }
}

function portsOf({ host, guest }: GuestHeader): Ports {
  return { host, guest };
}
