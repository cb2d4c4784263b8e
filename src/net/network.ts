/**
 * The user-mode network: the guest's gateway, name server and every peer beyond, by ordinary sockets of the host. It reads frames
 * of a hostile guest, and needs nothing but sockets, so that it can run in a jail.
 */
import { EPOLLIN } from '../host/epoll.ts';
import type { EventLoop, LoopTimer } from '../host/event-loop.ts';
import { acceptTcp } from '../host/socket.ts';
import { formatEndPoint, type IpAddress, parseAddress, sameBytes } from './address.ts';
import { answerArp } from './arp.ts';
import { addBytes, finish, pseudoHeader } from './checksum.ts';
import type { PublishedPort, UserNetworkConfig, UserNetworkDescriptors } from './config.ts';
import { ConnectionLog } from './connection-log.ts';
import { DHCP_SERVER_PORT, DhcpServer } from './dhcp.ts';
import { answerDhcp6, DHCP6_SERVER_PORT } from './dhcp6.ts';
import { KnownNames } from './dns/known-names.ts';
import { NameService } from './dns/service.ts';
import type { GuestPort } from './flow-table.ts';
import { GATEWAY, GUEST, isGuestAddress } from './guest-network.ts';
import {
  ETHERNET_SIZE,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  type IpPacket,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  readIpv4,
  readIpv6,
  readU16,
} from './ip/packet.ts';
import { FrameWriter } from './ip/writer.ts';
import type { GuestFrame, Link } from './link.ts';
import { ADVERTISEMENT_INTERVAL, advertiseRouter, answerNeighbourDiscovery } from './ndp.ts';
import { Ping } from './ping.ts';
import { Policy, parseRule } from './policy.ts';
import { Reassembly } from './reassembly.ts';
import type { Services } from './services.ts';
import { Tcp } from './tcp/tcp.ts';
import { readDatagram, UDP_CHECKSUM, Udp } from './udp.ts';

const DNS_PORT = 53;
/** Connections of a published port that are taken in a turn. */
const MAX_ACCEPTS = 16;

export class UserNetwork {
  readonly #services: Services & { now: number };
  readonly #nameService: NameService;
  readonly #tcp: Tcp;
  readonly #udp: Udp;
  readonly #ping: Ping;
  readonly #dhcp: DhcpServer;
  readonly #reassembly = new Reassembly();
  readonly #published: readonly number[];
  #guestMac: Uint8Array;
  #advertisement: LoopTimer | undefined;

  /** The descriptors are the network's from now on. */
  constructor(loop: EventLoop, link: Link, config: UserNetworkConfig, descriptors: UserNetworkDescriptors) {
    const rules = [
      ...config.allow.map((text) => parseRule(text, true)),
      ...config.deny.map((text) => parseRule(text, false)),
    ];
    const addresses = (texts: readonly string[]): IpAddress[] =>
      texts.map(parseAddress).filter((address) => address !== undefined);
    this.#services = {
      loop,
      writer: new FrameWriter(link, config.mtu),
      policy: new Policy(rules, addresses(config.hostAddresses)),
      names: new KnownNames(),
      log: new ConnectionLog(descriptors.log),
      get now() {
        return performance.now();
      },
    };
    this.#nameService = new NameService(
      this.#services,
      addresses(config.nameServers).map((address) => ({ address, port: DNS_PORT })),
    );
    this.#tcp = new Tcp(this.#services, this.#nameService);
    this.#udp = new Udp(this.#services, this.#nameService);
    this.#ping = new Ping(this.#services);
    this.#guestMac = Uint8Array.from(config.mac);
    this.#dhcp = new DhcpServer(this.#services, this.#guestMac);
    this.#published = descriptors.published;
    config.published.forEach((port, i) => this.#publish(port, descriptors.published[i] as number));
  }

  #publish({ protocol, guestPort }: PublishedPort, fd: number): void {
    const { loop } = this.#services;
    loop.watch(fd, EPOLLIN, () => {
      const guest: GuestPort = { mac: this.#guestMac, address: GUEST, port: guestPort };
      if (protocol === 'udp') {
        this.#udp.receivePublished(fd, guest, GATEWAY);
        return;
      }
      for (let left = MAX_ACCEPTS; left > 0; left--) {
        const accepted = acceptTcp(fd);
        if (typeof accepted === 'number') return;
        this.#tcp.carry(accepted.fd, guest, GATEWAY, formatEndPoint(accepted.peer.address, accepted.peer.port));
      }
    });
  }

  /** A frame of the guest. flush() is to be called after the last of several. */
  input(frame: GuestFrame): void {
    if (frame.head.length < ETHERNET_SIZE) return;
    switch (readU16(frame.head, 12)) {
      case ETHERTYPE_ARP: {
        const neighbour = answerArp(this.#services.writer, frame.bytes());
        if (neighbour !== undefined && sameBytes(neighbour.address, GUEST)) this.#guestMac = neighbour.mac;
        break;
      }
      case ETHERTYPE_IPV4:
        this.#inputIp(readIpv4(frame.head, frame.length), frame);
        break;
      case ETHERTYPE_IPV6:
        this.#advertisement ??= this.#advertiseLater();
        this.#inputIp(readIpv6(frame.head, frame.length), frame);
        break;
    }
  }

  #inputIp(packet: IpPacket | undefined, frame: GuestFrame): void {
    if (packet === undefined) return;
    if (packet.fragment !== undefined) {
      const whole = this.#reassembly.add(packet, frame, this.#services.now);
      if (whole !== undefined) this.#inputPacket(whole.packet, whole.frame);
      return;
    }
    this.#inputPacket(packet, frame);
  }

  #inputPacket(packet: IpPacket, frame: GuestFrame): void {
    const { protocol } = packet;
    if (!hasChecksum(packet, frame)) return;
    const bytes = (): Uint8Array => frame.bytes();
    // These come from guests that have no address yet.
    if (protocol === PROTOCOL_UDP && this.#inputDhcp(packet, frame)) return;
    if (protocol === PROTOCOL_ICMPV6 && answerNeighbourDiscovery(this.#services.writer, packet, bytes())) return;
    if (!isGuestAddress(packet.source)) return;
    switch (protocol) {
      case PROTOCOL_TCP:
        this.#tcp.input(packet, frame);
        break;
      case PROTOCOL_UDP:
        this.#udp.input(packet, frame);
        break;
      case PROTOCOL_ICMP:
      case PROTOCOL_ICMPV6:
        if ((protocol === PROTOCOL_ICMPV6) === (packet.source.length === 16)) this.#ping.input(packet, frame);
        break;
    }
  }

  /** False: it is nothing for a DHCP server. */
  #inputDhcp(packet: IpPacket, frame: GuestFrame): boolean {
    const datagram = readDatagram(packet, frame);
    const ipv6 = packet.source.length === 16;
    if (datagram?.destinationPort !== (ipv6 ? DHCP6_SERVER_PORT : DHCP_SERVER_PORT)) return false;
    const message = frame.bytes().slice(datagram.start, datagram.start + datagram.length);
    if (ipv6) answerDhcp6(this.#services, frame.head.slice(6, 12), packet.source, message);
    else this.#dhcp.input(message);
    return true;
  }

  #advertiseLater(): LoopTimer {
    return this.#services.loop.after(ADVERTISEMENT_INTERVAL, () => {
      advertiseRouter(this.#services.writer);
      this.#advertisement = this.#advertiseLater();
    });
  }

  /** Sends what the frames gave rise to. */
  flush(): void {
    this.#tcp.flush();
  }

  /** The guest has room for frames again. */
  linkReady(): void {
    this.#tcp.linkReady();
  }

  /** The guest's device was reset: what it had open is closed. */
  reset(): void {
    this.#tcp.reset();
    this.#udp.reset();
    this.#ping.reset();
    this.#nameService.reset();
    this.#reassembly.forget();
    if (this.#advertisement !== undefined) this.#services.loop.cancel(this.#advertisement);
    this.#advertisement = undefined;
  }

  /** The end of the network. Its descriptors are not watched any more. */
  close(): void {
    this.reset();
    for (const fd of this.#published) this.#services.loop.unwatch(fd);
  }
}

/** Is the checksum behind the IP header right, or somebody else's work? */
function hasChecksum(packet: IpPacket, frame: GuestFrame): boolean {
  const { protocol, start, length, source, destination } = packet;
  if (frame.partialChecksum && (protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP)) return true;
  if (![PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_ICMP, PROTOCOL_ICMPV6].includes(protocol)) return false;
  // UDP on IPv4 may go without.
  const field = start + UDP_CHECKSUM;
  if (
    protocol === PROTOCOL_UDP &&
    source.length === 4 &&
    field + 2 <= frame.head.length &&
    readU16(frame.head, field) === 0
  ) {
    return true;
  }
  const pseudo = protocol === PROTOCOL_ICMP ? 0 : pseudoHeader(source, destination, protocol, length);
  return finish(addBytes(pseudo, frame.bytes(), start, start + length)) === 0;
}
