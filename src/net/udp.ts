/** The guest's UDP flows, each with a socket of the host that speaks with that peer alone; and those to its published ports. */
import { closeDescriptor } from '../host/descriptor.ts';
import { EPOLLIN } from '../host/epoll.ts';
import { EACCES, EAGAIN, ECONNREFUSED, errnoName } from '../host/errno.ts';
import { connectUdp, receiveBytes, receiveFrom, type SocketAddress, sendBytes, sendRanges } from '../host/socket.ts';
import { formatEndPoint, type IpAddress, sameBytes } from './address.ts';
import type { NameService } from './dns/service.ts';
import { type FlowEnds, FlowTable, type GuestPort } from './flow-table.ts';
import { behindGateway, isNameServer, isOutside } from './guest-network.ts';
import { sendUnreachable } from './icmp.ts';
import { type IpPacket, PROTOCOL_UDP, readU16, writeU16 } from './ip/packet.ts';
import type { GuestFrame } from './link.ts';
import { admit, type Services } from './services.ts';

const UDP_SIZE = 8;
/** Offset of the checksum. */
export const UDP_CHECKSUM = 6;
/** Flows at the same time. */
const MAX_FLOWS = 1024;
/** A flow without a packet ends, ms: sooner where nobody has answered. */
const IDLE_UNANSWERED = 30_000;
const IDLE = 180_000;
const SWEEP = 5000;
/** Datagrams that one socket gives in a turn: the others want theirs, too. */
const MAX_BATCH = 64;
const DNS_PORT = 53;

interface UdpFlow {
  readonly ends: FlowEnds;
  readonly fd: number;
  /** Where a published port's socket sends to. Undefined: the socket is the flow's own. */
  readonly peer: SocketAddress | undefined;
  /** For the log. */
  readonly remote: string;
  readonly since: number;
  lastUsed: number;
  answered: boolean;
  sent: number;
  received: number;
}

/** Header of a datagram. */
interface Datagram {
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Offset in the frame, and bytes, of the data. */
  readonly start: number;
  readonly length: number;
}

export function readDatagram(packet: IpPacket, frame: GuestFrame): Datagram | undefined {
  const { start } = packet;
  if (packet.length < UDP_SIZE || frame.head.length < start + UDP_SIZE) return undefined;
  const length = readU16(frame.head, start + 4);
  if (length < UDP_SIZE || length > packet.length) return undefined;
  return {
    sourcePort: readU16(frame.head, start),
    destinationPort: readU16(frame.head, start + 2),
    start: start + UDP_SIZE,
    length: length - UDP_SIZE,
  };
}

export class Udp {
  readonly #services: Services;
  readonly #nameService: NameService;
  readonly #flows = new FlowTable<UdpFlow>();
  /** Flows of published ports, by socket and peer. */
  readonly #byPeer = new Map<string, UdpFlow>();
  readonly #buffer = new Uint8Array(65536);
  #sweeping = false;

  constructor(services: Services, nameService: NameService) {
    this.#services = services;
    this.#nameService = nameService;
  }

  /** A packet of the guest whose source is the guest's. */
  input(packet: IpPacket, frame: GuestFrame): void {
    const datagram = readDatagram(packet, frame);
    if (datagram === undefined) return;
    const { source: guest, destination: remote } = packet;
    const { sourcePort: guestPort, destinationPort: remotePort } = datagram;
    const known = this.#flows.find(guest, guestPort, remote, remotePort);
    if (known !== undefined) {
      this.#send(known, datagram, frame);
      return;
    }
    const ends = { mac: frame.head.slice(6, 12), guest, guestPort, remote, remotePort };
    if (isNameServer(remote)) {
      if (remotePort === DNS_PORT)
        this.#ask(ends, frame.bytes().slice(datagram.start, datagram.start + datagram.length));
      else sendUnreachable(this.#services.writer, ends, PROTOCOL_UDP, ECONNREFUSED);
      return;
    }
    // Broadcasts and multicasts have nobody to take them.
    if (!isOutside(remote) && sameBytes(behindGateway(remote), remote)) return;
    const flow = this.#open(ends);
    if (flow !== undefined) this.#send(flow, datagram, frame);
  }

  #ask(ends: FlowEnds, query: Uint8Array): void {
    this.#nameService.ask(query, false, (message) => this.#toGuest(ends, message));
  }

  #open(ends: FlowEnds): UdpFlow | undefined {
    const { writer, log, loop } = this.#services;
    const guest = formatEndPoint(ends.guest, ends.guestPort);
    const target = admit(this.#services, 'udp', guest, ends.remote, ends.remotePort);
    if (target === undefined) {
      sendUnreachable(writer, ends, PROTOCOL_UDP, EACCES);
      return undefined;
    }
    const remote = formatEndPoint(target.address, ends.remotePort);
    const names = target.names.length > 0 ? { names: target.names } : {};
    const fd = connectUdp({ address: target.address, port: ends.remotePort });
    if (fd < 0) {
      log.add({ event: 'fail', protocol: 'udp', guest, remote, ...names, error: errnoName(-fd) });
      sendUnreachable(writer, ends, PROTOCOL_UDP, -fd);
      return undefined;
    }
    const flow = this.#add(ends, fd, undefined, remote);
    loop.watch(fd, EPOLLIN, () => this.#receive(flow));
    log.add({ event: 'open', protocol: 'udp', guest, remote, ...names });
    return flow;
  }

  #add(ends: FlowEnds, fd: number, peer: SocketAddress | undefined, remote: string): UdpFlow {
    if (this.#flows.size >= MAX_FLOWS) {
      this.#close(this.#flows.all().reduce((oldest, flow) => (flow.lastUsed < oldest.lastUsed ? flow : oldest)));
    }
    const { now } = this.#services;
    const flow = { ends, fd, peer, remote, since: now, lastUsed: now, answered: false, sent: 0, received: 0 };
    this.#flows.add(flow);
    if (!this.#sweeping) this.#sweepLater();
    return flow;
  }

  #send(flow: UdpFlow, { start, length }: Datagram, frame: GuestFrame): void {
    flow.lastUsed = this.#services.now;
    if (flow.peer !== undefined) {
      flow.answered = true;
      flow.sent += length;
      sendBytes(flow.fd, frame.bytes().subarray(start, start + length), flow.peer);
      return;
    }
    const ranges = length === 0 ? [] : frame.ranges(start, length);
    let result = sendRanges(flow.fd, ranges);
    if (result === -ECONNREFUSED) {
      // That was the answer to an earlier one.
      sendUnreachable(this.#services.writer, flow.ends, PROTOCOL_UDP, ECONNREFUSED);
      result = sendRanges(flow.fd, ranges);
    }
    if (result >= 0) flow.sent += length;
    else if (result !== -EAGAIN) sendUnreachable(this.#services.writer, flow.ends, PROTOCOL_UDP, -result);
  }

  #receive(flow: UdpFlow): void {
    for (let left = MAX_BATCH; left > 0; left--) {
      const length = receiveBytes(flow.fd, this.#buffer);
      if (length === -EAGAIN) return;
      if (length < 0) {
        sendUnreachable(this.#services.writer, flow.ends, PROTOCOL_UDP, -length);
        return;
      }
      this.#answered(flow, length);
    }
  }

  #answered(flow: UdpFlow, length: number): void {
    flow.lastUsed = this.#services.now;
    flow.answered = true;
    flow.received += length;
    this.#toGuest(flow.ends, this.#buffer.subarray(0, length));
  }

  #toGuest({ mac, guest, guestPort, remote, remotePort }: FlowEnds, data: Uint8Array): void {
    sendDatagram(this.#services, { mac, source: remote, destination: guest }, remotePort, guestPort, data);
  }

  /** Datagrams wait in the socket of a published port. */
  receivePublished(fd: number, guest: GuestPort, gateway: IpAddress): void {
    for (let left = MAX_BATCH; left > 0; left--) {
      const datagram = receiveFrom(fd, this.#buffer);
      if (typeof datagram === 'number') return;
      const { length, peer } = datagram;
      const remote = formatEndPoint(peer.address, peer.port);
      const key = `${fd} ${remote}`;
      let flow = this.#byPeer.get(key);
      if (flow === undefined) {
        const remotePort = this.#flows.freePort(guest.address, guest.port, gateway);
        if (remotePort === undefined) continue;
        const ends = { mac: guest.mac, guest: guest.address, guestPort: guest.port, remote: gateway, remotePort };
        flow = this.#add(ends, fd, peer, remote);
        this.#byPeer.set(key, flow);
        const event = { event: 'accept', protocol: 'udp', guest: formatEndPoint(guest.address, guest.port), remote };
        this.#services.log.add(event);
      }
      flow.lastUsed = this.#services.now;
      flow.received += length;
      this.#toGuest(flow.ends, this.#buffer.subarray(0, length));
    }
  }

  #sweepLater(): void {
    this.#sweeping = true;
    this.#services.loop.after(SWEEP, () => {
      this.#sweeping = false;
      const { now } = this.#services;
      for (const flow of this.#flows.all()) {
        if (now - flow.lastUsed > (flow.answered ? IDLE : IDLE_UNANSWERED)) this.#close(flow);
      }
      if (this.#flows.size > 0) this.#sweepLater();
    });
  }

  #close(flow: UdpFlow): void {
    this.#flows.remove(flow);
    if (flow.peer === undefined) {
      this.#services.loop.unwatch(flow.fd);
      closeDescriptor(flow.fd);
    } else {
      this.#byPeer.delete(`${flow.fd} ${flow.remote}`);
    }
    this.#services.log.add({
      event: 'close',
      protocol: 'udp',
      guest: formatEndPoint(flow.ends.guest, flow.ends.guestPort),
      remote: flow.remote,
      sent: flow.sent,
      received: flow.received,
      milliseconds: Math.round(this.#services.now - flow.since),
    });
  }

  reset(): void {
    for (const flow of this.#flows.all()) this.#close(flow);
  }
}

/** Sends a datagram to the guest. */
export function sendDatagram(
  { writer }: Pick<Services, 'writer'>,
  to: { readonly mac: Uint8Array; readonly source: IpAddress; readonly destination: IpAddress },
  sourcePort: number,
  destinationPort: number,
  data: Uint8Array,
): void {
  const header = new Uint8Array(UDP_SIZE);
  writeU16(header, 0, sourcePort);
  writeU16(header, 2, destinationPort);
  writeU16(header, 4, UDP_SIZE + data.length);
  writer.send(to, { protocol: PROTOCOL_UDP, bytes: header, checksumOffset: UDP_CHECKSUM }, [data]);
}
