/**
 * The guest's name server: asks the host's resolvers, nothing else (/etc/hosts tells of the host), and only for names that the
 * policy lets the guest know. What the answers say is remembered: it is what rules for names allow.
 */
import { copyFrom, type HostRange, lengthOf } from '../../disk/iovec.ts';
import { EAGAIN } from '../../host/errno.ts';
import type { SocketAddress } from '../../host/socket.ts';
import { formatAddress } from '../address.ts';
import { writeU16 } from '../ip/packet.ts';
import type { Services } from '../services.ts';
import type { Stream, StreamOwner } from '../tcp/stream.ts';
import { failure, type Question, REFUSED, readAddresses, readQuery, SERVFAIL } from './message.ts';
import { UpstreamQuery } from './upstream.ts';

/** Questions that wait for an answer, of all askers together. More are dropped: the guest asks again. */
const MAX_OPEN = 256;
/** Questions that one connection may have open, and bytes that may wait in it. */
const MAX_STREAM_OPEN = 16;
const MAX_STREAM_BYTES = 128 * 1024;
/** Longest question that anybody needs. */
const MAX_QUERY = 4096;

export class NameService {
  readonly #services: Services;
  readonly #servers: readonly SocketAddress[];
  readonly #open = new Set<UpstreamQuery>();

  /** `servers`: the host's resolvers. */
  constructor(services: Services, servers: readonly SocketAddress[]) {
    this.#services = services;
    this.#servers = servers;
  }

  /** Answers a query, now or later, or not at all. `stream`: by TCP, so that long answers come whole. */
  ask(query: Uint8Array, stream: boolean, answer: (message: Uint8Array) => void): void {
    const question = query.length > MAX_QUERY ? undefined : readQuery(query);
    if (question === undefined || this.#open.size >= MAX_OPEN) return;
    const verdict = this.#services.policy.decideName(question.name);
    if (!verdict.allowed) {
      this.#refuse(question, verdict.rule ?? 'not allowed by any rule');
      answer(failure(query, question, REFUSED));
      return;
    }
    const upstream = new UpstreamQuery(this.#services.loop, this.#servers, query, question, stream, (message) => {
      this.#open.delete(upstream);
      answer(this.#checked(query, question, message));
    });
    this.#open.add(upstream);
    upstream.start();
  }

  /** Remembers what an answer says. One that leads to where the guest may not go is not passed on. `message`: undefined if there is none. */
  #checked(query: Uint8Array, question: Question, message: Uint8Array | undefined): Uint8Array {
    const { policy, names, log, now } = this.#services;
    const { name } = question;
    const records = message === undefined ? undefined : readAddresses(message, question);
    if (message === undefined || records === undefined) {
      log.add({ event: 'fail', protocol: 'dns', name });
      return failure(query, question, SERVFAIL);
    }
    const hidden = records.find(({ address }) => policy.hides(address));
    if (hidden !== undefined) {
      this.#refuse(question, `it is ${formatAddress(hidden.address)}, which is not allowed`);
      return failure(query, question, REFUSED);
    }
    for (const { address, ttl } of records) names.learn(address, name, ttl, now);
    const addresses = records.map(({ address }) => formatAddress(address));
    log.add({ event: 'query', protocol: 'dns', name, addresses });
    return message;
  }

  #refuse(question: Question, rule: string): void {
    this.#services.log.add({ event: 'refuse', protocol: 'dns', name: question.name, rule });
  }

  /** A connection to the name server. */
  stream(owner: StreamOwner): Stream {
    return new NameStream(this, owner);
  }

  /** Calls back when what is under way now is done: owners of streams are not called from within their own calls. */
  defer(callback: () => void): void {
    this.#services.loop.after(0, callback);
  }

  reset(): void {
    for (const query of this.#open) query.cancel();
    this.#open.clear();
  }
}

/** DNS over TCP: messages with their length before them (RFC 7766). */
class NameStream implements Stream {
  readonly #service: NameService;
  readonly #owner: StreamOwner;
  #input = Buffer.alloc(0);
  #output = Buffer.alloc(0);
  #open = 0;
  #ended = false;
  #closed = false;

  constructor(service: NameService, owner: StreamOwner) {
    this.#service = service;
    this.#owner = owner;
  }

  write(ranges: readonly HostRange[]): number {
    if (this.#open >= MAX_STREAM_OPEN || this.#output.length >= MAX_STREAM_BYTES) return -EAGAIN;
    const length = Math.min(lengthOf(ranges), MAX_QUERY);
    const bytes = Buffer.alloc(length);
    copyFrom(ranges, bytes);
    this.#input = Buffer.concat([this.#input, bytes]);
    this.#askAll();
    return length;
  }

  #askAll(): void {
    while (this.#input.length >= 2 && this.#open < MAX_STREAM_OPEN) {
      const length = this.#input.readUInt16BE(0);
      if (this.#input.length < 2 + length) break;
      const query = Uint8Array.from(this.#input.subarray(2, 2 + length));
      this.#input = this.#input.subarray(2 + length);
      this.#open++;
      this.#service.ask(query, true, (message) => this.#answer(message));
    }
  }

  #answer(message: Uint8Array): void {
    this.#open--;
    if (this.#closed) return;
    const length = Buffer.alloc(2);
    writeU16(length, 0, message.length);
    this.#output = Buffer.concat([this.#output, length, message]);
    this.#service.defer(() => this.#resume());
  }

  #resume(): void {
    if (this.#closed) return;
    this.#askAll();
    this.#owner.ready(true, true, this.#ended);
  }

  read(into: Uint8Array): number {
    if (this.#output.length === 0) return this.#ended && this.#open === 0 ? 0 : -EAGAIN;
    const piece = this.#output.subarray(0, into.length);
    into.set(piece);
    this.#output = this.#output.subarray(piece.length);
    return piece.length;
  }

  endWrite(): void {
    this.#ended = true;
    this.#service.defer(() => this.#resume());
  }

  close(): void {
    this.#closed = true;
  }

  reset(): void {
    this.#closed = true;
  }
}
