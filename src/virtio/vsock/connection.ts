/** One connection between a port of the guest and a socket of the host: the stream protocol of virtio 1.2, 5.10.6. */
import { sliceRanges } from '../../disk/iovec.ts';
import type { EventLoop, LoopTimer } from '../../host/event-loop.ts';
import type { Chain } from '../chain.ts';
import * as C from './constants.ts';
import { BUFFER_SIZE, HostEnd } from './host-end.ts';
import { type GuestHeader, HEADER_SIZE, type HostHeader, type Ports, writeHeader } from './packet.ts';

/** A guest answers a host's request in this time, ms: much, as an emulated one may be busy. */
const REQUEST_TIMEOUT = 10_000;

/** Bytes that the host has taken before the guest is told, where nothing else is sent that tells it. */
const CREDIT_STEP = BUFFER_SIZE / 2;

/** What a connection has of its device. */
export interface ConnectionOwner {
  readonly loop: EventLoop;
  readonly cid: number;
  /** fill() has something to give. */
  wantsToSend(connection: Connection): void;
  /** Its ports are free. `tell`: the guest is to be sent a reset. */
  ended(connection: Connection, tell: boolean): void;
  /** The guest has gone, and the host has not taken everything yet. `drained` is called when it has. */
  lingers(end: HostEnd): () => void;
}

type State =
  /** The guest has asked, and the host's end is not there yet. */
  | 'connecting'
  /** The host has asked, and the guest has not answered. */
  | 'requested'
  | 'open'
  | 'closed';

export class Connection {
  readonly ports: Ports;
  readonly #owner: ConnectionOwner;
  #state: State;
  #host: HostEnd | undefined;
  #timer: LoopTimer | undefined;
  /** The operation that opens it, as long as it has to be sent. */
  #opening: number | undefined;
  /** The guest's buffer, bytes; how many bytes have left it, and how many were sent to it, modulo 2^32. */
  #peerBufAlloc = 0;
  #peerFwdCnt = 0;
  #sent = 0;
  /** Asked for credit since there was none. */
  #askedForCredit = false;
  /** What the guest was last told of HostEnd.forwarded; `#owesCredit`: it has asked. */
  #toldForwarded = 0;
  #owesCredit = false;
  /** SHUTDOWN flags: of the guest, and those that it was sent. */
  #guestShutdown = 0;
  #toldShutdown = 0;

  /** By a request of the guest, or, with a descriptor, of the host. */
  constructor(owner: ConnectionOwner, ports: Ports, by: GuestHeader | number) {
    this.#owner = owner;
    this.ports = ports;
    if (typeof by === 'number') {
      this.#state = 'requested';
      this.#opening = C.VIRTIO_VSOCK_OP_REQUEST;
      this.#host = this.#hostEnd(by);
      this.#timer = owner.loop.after(REQUEST_TIMEOUT, () => this.reset());
    } else {
      this.#state = 'connecting';
      this.#credit(by);
    }
  }

  #hostEnd(fd: number): HostEnd {
    return new HostEnd(this.#owner.loop, fd, () => this.#hostChanged());
  }

  /** Is it still waiting for connected()? */
  get isConnecting(): boolean {
    return this.#state === 'connecting';
  }

  /** The host's end that the guest asked for: a descriptor, which is taken. */
  connected(fd: number): void {
    this.#host = this.#hostEnd(fd);
    this.#state = 'open';
    this.#opening = C.VIRTIO_VSOCK_OP_RESPONSE;
    this.#owner.wantsToSend(this);
  }

  /** Ends it on both sides; what waits for the host is lost. */
  reset(): void {
    if (this.#state === 'closed') return;
    const unknown = this.#opening === C.VIRTIO_VSOCK_OP_REQUEST;
    this.#close();
    // A guest that was not asked yet knows nothing of it.
    this.#owner.ended(this, !unknown);
  }

  /** The driver has gone. */
  drop(): void {
    this.#close();
  }

  #close(): void {
    this.#state = 'closed';
    this.#opening = undefined;
    if (this.#timer !== undefined) this.#owner.loop.cancel(this.#timer);
    this.#host?.close();
  }

  // ---- From the guest --------------------------------------------------------------------------------------------------

  /** A packet of the guest for this connection; its data lie behind the header, all of them. */
  receive(header: GuestHeader, chain: Chain): void {
    this.#credit(header);
    switch (header.op) {
      case C.VIRTIO_VSOCK_OP_RST:
        this.#guestReset();
        return;
      case C.VIRTIO_VSOCK_OP_RESPONSE:
        if (this.#state === 'requested') this.#accepted();
        else this.reset();
        return;
    }
    if (this.#state !== 'open') {
      this.reset();
      return;
    }
    switch (header.op) {
      case C.VIRTIO_VSOCK_OP_RW:
        this.#data(header, chain);
        break;
      case C.VIRTIO_VSOCK_OP_SHUTDOWN:
        this.#shutdown(header.flags & C.SHUTDOWN_BOTH);
        break;
      case C.VIRTIO_VSOCK_OP_CREDIT_UPDATE:
        break;
      case C.VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        this.#owesCredit = true;
        break;
      default:
        this.reset();
        return;
    }
    this.#settle();
  }

  #credit({ bufAlloc, fwdCnt }: GuestHeader): void {
    this.#peerBufAlloc = bufAlloc;
    this.#peerFwdCnt = fwdCnt;
  }

  #accepted(): void {
    if (this.#timer !== undefined) this.#owner.loop.cancel(this.#timer);
    this.#timer = undefined;
    const greeting = Buffer.from(`OK ${this.ports.host}\n`);
    if (this.#host?.greet(greeting) !== true) {
      this.reset();
      return;
    }
    this.#state = 'open';
    this.#settle();
  }

  #data(header: GuestHeader, chain: Chain): void {
    const allowed = (this.#guestShutdown & C.VIRTIO_VSOCK_SHUTDOWN_SEND) === 0;
    if (!allowed || this.#host?.write(chain, HEADER_SIZE, header.length) !== true) this.reset();
  }

  #shutdown(flags: number): void {
    const news = flags & ~this.#guestShutdown;
    this.#guestShutdown |= flags;
    if ((news & C.VIRTIO_VSOCK_SHUTDOWN_SEND) !== 0) this.#host?.finish();
    if ((news & C.VIRTIO_VSOCK_SHUTDOWN_RCV) !== 0) this.#host?.stopReading();
  }

  /** The guest knows no such connection any more. What it sent before is still the host's. */
  #guestReset(): void {
    const host = this.#host;
    const lingers = this.#state === 'open' && host?.isOpen === true && host.waiting > 0;
    if (lingers) this.#state = 'closed';
    else this.#close();
    this.#owner.ended(this, false);
    if (lingers) host.closeDrained(this.#owner.lingers(host));
  }

  // ---- From the host ---------------------------------------------------------------------------------------------------

  #hostChanged(): void {
    if (this.#state === 'requested' && this.#host?.gone === true) this.reset();
    else if (this.#state === 'open') this.#settle();
  }

  /** After any change: is there something to be sent, or is it over? */
  #settle(): void {
    const host = this.#host;
    if (this.#state !== 'open' || host === undefined) return;
    const guestDone = (this.#guestShutdown & C.VIRTIO_VSOCK_SHUTDOWN_SEND) !== 0 && host.waiting === 0;
    if (guestDone && this.#guestShutdown === C.SHUTDOWN_BOTH) {
      this.reset();
      return;
    }
    // Nothing goes on in either direction: the guest's end may still live long.
    if (host.ended && (host.gone || guestDone)) host.close();
    if (this.#hasMessage || this.#canRead) this.#owner.wantsToSend(this);
  }

  // ---- To the guest ----------------------------------------------------------------------------------------------------

  /** Bytes that the guest has room for. */
  get #room(): number {
    const underWay = (this.#sent - this.#peerFwdCnt) >>> 0;
    return Math.max(this.#peerBufAlloc - underWay, 0);
  }

  get #canRead(): boolean {
    if (this.#host?.readable !== true) return false;
    return this.#room > 0 || !this.#askedForCredit;
  }

  get #hasMessage(): boolean {
    return (
      this.#opening !== undefined || this.#owesCredit || this.#owesUpdate || this.#shutdownFlags !== this.#toldShutdown
    );
  }

  get #owesUpdate(): boolean {
    return ((this.#host?.forwarded ?? 0) - this.#toldForwarded) >>> 0 >= CREDIT_STEP;
  }

  /** What the guest has to know of the host's end. */
  get #shutdownFlags(): number {
    const host = this.#host;
    if (host === undefined) return 0;
    const send = host.ended ? C.VIRTIO_VSOCK_SHUTDOWN_SEND : 0;
    // As long as the host's bytes are not all sent, the guest is not told that it cannot answer: it might stop to read.
    return send | (host.gone && host.ended ? C.VIRTIO_VSOCK_SHUTDOWN_RCV : 0);
  }

  /** Puts one packet into a receive buffer, which has room for a header. Returns bytes written; 0: there is nothing to send. */
  fill(chain: Chain): number {
    const opening = this.#opening;
    if (opening !== undefined) {
      this.#opening = undefined;
      return this.#write(chain, { op: opening });
    }
    if (this.#state !== 'open') return 0;
    if (this.#host?.readable === true) {
      const room = this.#room;
      if (room > 0) {
        const count = this.#readInto(chain, room);
        if (count > 0) return this.#write(chain, { op: C.VIRTIO_VSOCK_OP_RW, length: count }) + count;
      } else if (!this.#askedForCredit) {
        this.#askedForCredit = true;
        return this.#write(chain, { op: C.VIRTIO_VSOCK_OP_CREDIT_REQUEST });
      }
    }
    const flags = this.#shutdownFlags;
    if (flags !== this.#toldShutdown) {
      this.#toldShutdown = flags;
      this.#settle();
      return this.#write(chain, { op: C.VIRTIO_VSOCK_OP_SHUTDOWN, flags });
    }
    if (!this.#owesCredit && !this.#owesUpdate) return 0;
    return this.#write(chain, { op: C.VIRTIO_VSOCK_OP_CREDIT_UPDATE });
  }

  #readInto(chain: Chain, room: number): number {
    const length = Math.min(room, chain.writableLength - HEADER_SIZE);
    if (length === 0) return 0;
    const count = this.#host?.read(sliceRanges(chain.writable, HEADER_SIZE, length), length) ?? 0;
    this.#sent = (this.#sent + count) >>> 0;
    if (count > 0) this.#askedForCredit = false;
    return count;
  }

  #write(chain: Chain, header: HostHeader): number {
    const forwarded = this.#host?.forwarded ?? 0;
    this.#toldForwarded = forwarded;
    this.#owesCredit = false;
    return chain.write(
      writeHeader(this.#owner.cid, this.ports, { ...header, bufAlloc: BUFFER_SIZE, fwdCnt: forwarded }),
    );
  }
}
