/** Echo requests of the guest: the network answers for its own addresses, the host's ping sockets carry the others. */
import { closeDescriptor } from '../host/descriptor.ts';
import { EPOLLIN } from '../host/epoll.ts';
import { EACCES, errnoName } from '../host/errno.ts';
import { connectPing, receiveBytes, sendBytes } from '../host/socket.ts';
import { formatAddress } from './address.ts';
import { type FlowEnds, FlowTable } from './flow-table.ts';
import { isOwn } from './guest-network.ts';
import { ECHO_REPLY, ECHO_REPLY6, ECHO_REQUEST, ECHO_REQUEST6, ICMP_SIZE, sendIcmp, sendUnreachable } from './icmp.ts';
import { type IpPacket, PROTOCOL_ICMP, PROTOCOL_ICMPV6, readU16, writeU16 } from './ip/packet.ts';
import type { GuestFrame } from './link.ts';
import { admit, type Services } from './services.ts';

/** Sockets at the same time. */
const MAX_FLOWS = 64;
/** After so long without a request a socket is closed, ms. */
const IDLE = 30_000;
const SWEEP = 10_000;

interface PingFlow {
  readonly ends: FlowEnds;
  readonly fd: number;
  lastUsed: number;
}

export class Ping {
  readonly #services: Services;
  readonly #flows = new FlowTable<PingFlow>();
  readonly #buffer = new Uint8Array(65535);
  #sweeping = false;

  constructor(services: Services) {
    this.#services = services;
  }

  /** An ICMP or ICMPv6 message of the guest. */
  input(packet: IpPacket, frame: GuestFrame): void {
    const ipv6 = packet.source.length === 16;
    const type = frame.head[packet.start];
    if (packet.length < ICMP_SIZE || type !== (ipv6 ? ECHO_REQUEST6 : ECHO_REQUEST)) return;
    const message = frame.bytes().slice(packet.start, packet.start + packet.length);
    const mac = frame.head.slice(6, 12);
    if (isOwn(packet.destination)) {
      const envelope = { mac, source: packet.destination, destination: packet.source };
      sendIcmp(this.#services.writer, envelope, ipv6 ? ECHO_REPLY6 : ECHO_REPLY, 0, message.subarray(4));
      return;
    }
    // The identifier stands for a port.
    const id = readU16(message, 4);
    const ends = { mac, guest: packet.source, guestPort: id, remote: packet.destination, remotePort: 0 };
    const flow = this.#flows.find(ends.guest, id, ends.remote, 0) ?? this.#open(ends);
    if (flow === undefined) return;
    flow.lastUsed = this.#services.now;
    sendBytes(flow.fd, message);
  }

  #open(ends: FlowEnds): PingFlow | undefined {
    const { writer, log, loop, now } = this.#services;
    const protocol = ends.guest.length === 16 ? PROTOCOL_ICMPV6 : PROTOCOL_ICMP;
    const guest = formatAddress(ends.guest);
    if (ends.remote[0] === 0xff || (ends.remote.length === 4 && (ends.remote[0] as number) >= 224)) return undefined;
    const target = admit(this.#services, 'icmp', guest, ends.remote, 0);
    if (target === undefined) {
      sendUnreachable(writer, ends, protocol, EACCES);
      return undefined;
    }
    if (this.#flows.size >= MAX_FLOWS) return undefined;
    const fd = connectPing({ address: target.address, port: 0 });
    if (fd < 0) {
      log.add({ event: 'fail', protocol: 'icmp', guest, remote: formatAddress(target.address), error: errnoName(-fd) });
      sendUnreachable(writer, ends, protocol, -fd);
      return undefined;
    }
    const flow = { ends, fd, lastUsed: now };
    this.#flows.add(flow);
    loop.watch(fd, EPOLLIN, () => this.#receive(flow));
    log.add({ event: 'open', protocol: 'icmp', guest, remote: formatAddress(target.address) });
    if (!this.#sweeping) this.#sweepLater();
    return flow;
  }

  #receive({ ends, fd }: PingFlow): void {
    const length = receiveBytes(fd, this.#buffer);
    if (length < ICMP_SIZE) return;
    const ipv6 = ends.guest.length === 16;
    if (this.#buffer[0] !== (ipv6 ? ECHO_REPLY6 : ECHO_REPLY)) return;
    // The kernel has put an identifier of its own.
    writeU16(this.#buffer, 4, ends.guestPort);
    const envelope = { mac: ends.mac, source: ends.remote, destination: ends.guest };
    sendIcmp(this.#services.writer, envelope, this.#buffer[0] as number, 0, this.#buffer.subarray(4, length));
  }

  #sweepLater(): void {
    this.#sweeping = true;
    this.#services.loop.after(SWEEP, () => {
      this.#sweeping = false;
      for (const flow of this.#flows.all()) if (this.#services.now - flow.lastUsed > IDLE) this.#close(flow);
      if (this.#flows.size > 0) this.#sweepLater();
    });
  }

  #close(flow: PingFlow): void {
    this.#flows.remove(flow);
    this.#services.loop.unwatch(flow.fd);
    closeDescriptor(flow.fd);
  }

  reset(): void {
    for (const flow of this.#flows.all()) this.#close(flow);
  }
}
