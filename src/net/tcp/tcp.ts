/** The guest's TCP connections. */
import { closeDescriptor } from '../../host/descriptor.ts';
import { errnoName } from '../../host/errno.ts';
import type { LoopTimer } from '../../host/event-loop.ts';
import { connectTcp } from '../../host/socket.ts';
import { formatEndPoint, type IpAddress } from '../address.ts';
import type { NameService } from '../dns/service.ts';
import { type FlowEnds, FlowTable, type GuestPort } from '../flow-table.ts';
import { isNameServer } from '../guest-network.ts';
import { sendUnreachable } from '../icmp.ts';
import { type IpPacket, PROTOCOL_TCP } from '../ip/packet.ts';
import type { FrameWriter } from '../ip/writer.ts';
import { type GuestFrame, HEAD_SIZE } from '../link.ts';
import { RING_SIZE, RingPool } from '../ring.ts';
import { admit, type Services } from '../services.ts';
import { type FlowHost, TcpFlow } from './flow.ts';
import {
  ACK,
  FIN,
  RST,
  readOptions,
  readSegment,
  type Segment,
  SYN,
  TCP_CHECKSUM,
  TCP_SIZE,
  writeSegment,
} from './segment.ts';
import { HostStream } from './stream.ts';

/** Connections at the same time. */
const MAX_FLOWS = 4096;
/** Bytes that wait in all connections together. */
const MAX_BUFFERED = 64 * 2 ** 20;
/** How exact the connections' timers are, ms. */
const TICK = 50;
/** How often silent connections are looked at, ms. */
const KEEPALIVE_TICK = 60_000;
const DNS_PORT = 53;

export class Tcp implements FlowHost {
  readonly pool = new RingPool(MAX_BUFFERED / RING_SIZE);
  readonly #services: Services;
  readonly #nameService: NameService;
  readonly #flows = new FlowTable<TcpFlow>();
  readonly #timeWait = new Set<TcpFlow>();
  readonly #later = new Set<TcpFlow>();
  readonly #blocked = new Set<TcpFlow>();
  readonly #timed = new Set<TcpFlow>();
  readonly #logged = new Map<
    TcpFlow,
    { readonly since: number; readonly remote: string; readonly names: readonly string[] }
  >();
  #tick: LoopTimer | undefined;
  #keepAlive: LoopTimer | undefined;

  constructor(services: Services, nameService: NameService) {
    this.#services = services;
    this.#nameService = nameService;
  }

  get writer(): FrameWriter {
    return this.#services.writer;
  }

  get now(): number {
    return this.#services.now;
  }

  // What flows ask for.

  later(flow: TcpFlow): void {
    this.#later.add(flow);
  }

  blocked(flow: TcpFlow): void {
    this.#blocked.add(flow);
  }

  schedule(flow: TcpFlow): void {
    if (flow.deadline === Number.POSITIVE_INFINITY) {
      this.#timed.delete(flow);
      return;
    }
    this.#timed.add(flow);
    if (flow.inTimeWait) this.#timeWait.add(flow);
    this.#tick ??= this.#services.loop.after(TICK, () => this.#onTick());
  }

  unreachable({ ends }: TcpFlow, errno: number, seq: number): void {
    sendUnreachable(this.writer, ends, PROTOCOL_TCP, errno, seq);
  }

  failed(flow: TcpFlow, errno: number): void {
    const { ends } = flow;
    const told = this.#logged.get(flow);
    this.#logged.delete(flow);
    this.#services.log.add({
      event: 'fail',
      protocol: 'tcp',
      guest: formatEndPoint(ends.guest, ends.guestPort),
      remote: told?.remote,
      error: errnoName(errno),
    });
  }

  done(flow: TcpFlow): void {
    const told = this.#logged.get(flow);
    if (told === undefined) return;
    this.#logged.delete(flow);
    this.#services.log.add({
      event: 'close',
      protocol: 'tcp',
      guest: formatEndPoint(flow.ends.guest, flow.ends.guestPort),
      remote: told.remote,
      ...(told.names.length > 0 ? { names: told.names } : {}),
      sent: flow.sent,
      received: flow.received,
      milliseconds: Math.round(this.now - told.since),
    });
  }

  gone(flow: TcpFlow): void {
    this.done(flow);
    this.#flows.remove(flow);
    for (const set of [this.#later, this.#blocked, this.#timed, this.#timeWait]) set.delete(flow);
  }

  // What the network calls.

  /** A packet of the guest whose source is the guest's. */
  input(packet: IpPacket, frame: GuestFrame): void {
    const segment = readSegment(frame.head, packet.start, packet.length);
    if (segment === undefined) return;
    const { sourcePort, destinationPort } = segment;
    const flow = this.#flows.find(packet.source, sourcePort, packet.destination, destinationPort);
    const syn = (segment.flags & (SYN | RST)) === SYN;
    if (flow !== undefined && !(syn && (segment.flags & ACK) === 0 && flow.inTimeWait)) {
      flow.input(segment, syn ? optionsOf(frame, packet, segment) : undefined, frame);
      return;
    }
    flow?.drop();
    if (syn && (segment.flags & ACK) === 0) this.#open(packet, segment, frame);
    else this.#refuse(packet, segment, frame);
  }

  #open(packet: IpPacket, syn: Segment, frame: GuestFrame): void {
    const ends: FlowEnds = {
      mac: frame.head.slice(6, 12),
      guest: packet.source,
      guestPort: syn.sourcePort,
      remote: packet.destination,
      remotePort: syn.destinationPort,
    };
    const guest = formatEndPoint(ends.guest, ends.guestPort);
    const options = optionsOf(frame, packet, syn);
    if (isNameServer(ends.remote)) {
      if (ends.remotePort !== DNS_PORT || !this.#hasRoom(guest)) {
        this.#refuse(packet, syn, frame);
        return;
      }
      const flow = this.#add(TcpFlow.fromGuest(this, ends, syn, options));
      flow.attach(this.#nameService.stream(flow));
      flow.opened();
      return;
    }
    const target = admit(this.#services, 'tcp', guest, ends.remote, ends.remotePort);
    if (target === undefined || !this.#hasRoom(guest)) {
      this.#refuse(packet, syn, frame);
      return;
    }
    const flow = this.#add(TcpFlow.fromGuest(this, ends, syn, options));
    const remote = formatEndPoint(target.address, ends.remotePort);
    this.#logged.set(flow, { since: this.now, remote, names: target.names });
    const fd = connectTcp({ address: target.address, port: ends.remotePort });
    if (fd < 0) {
      flow.failed(-fd);
      return;
    }
    flow.attach(new HostStream(this.#services.loop, fd, flow, true));
    this.#services.log.add({
      event: 'open',
      protocol: 'tcp',
      guest,
      remote,
      ...(target.names.length > 0 ? { names: target.names } : {}),
    });
  }

  /** Carries a connection that the host accepted to a port of the guest. The descriptor is the flow's from now on. */
  carry(fd: number, guest: GuestPort, gateway: IpAddress, peer: string): void {
    const remotePort = this.#flows.freePort(guest.address, guest.port, gateway);
    if (remotePort === undefined || !this.#hasRoom(peer)) {
      closeDescriptor(fd);
      return;
    }
    const ends = { mac: guest.mac, guest: guest.address, guestPort: guest.port, remote: gateway, remotePort };
    const flow = this.#add(TcpFlow.toGuest(this, ends));
    this.#logged.set(flow, { since: this.now, remote: peer, names: [] });
    this.#services.log.add({
      event: 'accept',
      protocol: 'tcp',
      guest: formatEndPoint(guest.address, guest.port),
      remote: peer,
    });
    flow.attach(new HostStream(this.#services.loop, fd, flow, false));
    this.flush();
  }

  #hasRoom(guest: string): boolean {
    if (this.#flows.size >= MAX_FLOWS) {
      const [oldest] = this.#timeWait;
      if (oldest === undefined) {
        this.#services.log.add({ event: 'deny', protocol: 'tcp', guest, rule: `more than ${MAX_FLOWS} connections` });
        return false;
      }
      oldest.drop();
    }
    return true;
  }

  #add(flow: TcpFlow): TcpFlow {
    this.#flows.add(flow);
    this.#keepAlive ??= this.#services.loop.after(KEEPALIVE_TICK, () => this.#onKeepAlive());
    return flow;
  }

  /** Answers a segment that belongs to nothing (RFC 9293, 3.10.7.1). */
  #refuse(packet: IpPacket, segment: Segment, frame: GuestFrame): void {
    if ((segment.flags & RST) !== 0) return;
    const acked = (segment.flags & ACK) !== 0;
    const extent = segment.length + ((segment.flags & SYN) !== 0 ? 1 : 0) + ((segment.flags & FIN) !== 0 ? 1 : 0);
    const header = new Uint8Array(TCP_SIZE);
    writeSegment(header, {
      sourcePort: segment.destinationPort,
      destinationPort: segment.sourcePort,
      seq: acked ? segment.ack : 0,
      ack: acked ? 0 : (segment.seq + extent) >>> 0,
      flags: acked ? RST : RST | ACK,
      window: 0,
    });
    const envelope = { mac: frame.head.slice(6, 12), source: packet.destination, destination: packet.source };
    this.writer.send(envelope, { protocol: PROTOCOL_TCP, bytes: header, checksumOffset: TCP_CHECKSUM }, []);
  }

  /** Sends what the packets or events since the last call gave rise to. */
  flush(): void {
    for (const flow of this.#later) {
      this.#later.delete(flow);
      flow.output();
    }
  }

  /** The guest has room again. */
  linkReady(): void {
    const waiting = [...this.#blocked];
    this.#blocked.clear();
    for (const flow of waiting) flow.output();
    this.flush();
  }

  /** The guest is not there any more: all connections end. */
  reset(): void {
    for (const flow of this.#flows.all()) flow.drop();
    for (const timer of [this.#tick, this.#keepAlive]) if (timer !== undefined) this.#services.loop.cancel(timer);
    this.#tick = this.#keepAlive = undefined;
  }

  #onTick(): void {
    this.#tick = undefined;
    for (const flow of this.#timed) if (flow.deadline <= this.now) flow.timer();
    this.flush();
    if (this.#timed.size > 0) this.#tick ??= this.#services.loop.after(TICK, () => this.#onTick());
  }

  #onKeepAlive(): void {
    this.#keepAlive = undefined;
    for (const flow of this.#flows.all()) flow.keepAlive();
    if (this.#flows.size > 0) this.#keepAlive = this.#services.loop.after(KEEPALIVE_TICK, () => this.#onKeepAlive());
  }
}

function optionsOf(frame: GuestFrame, packet: IpPacket, segment: Segment) {
  return readOptions(frame.head, packet.start, Math.min(segment.start, HEAD_SIZE, frame.head.length));
}
