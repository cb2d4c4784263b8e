/** Frames that an honest guest sends, for tests that damage them; and a network that lets nothing out, to send them to. */
import { EventLoop } from '../../src/host/event-loop.ts';
import { addBytes, finish, pseudoHeader } from '../../src/net/checksum.ts';
import type { UserNetworkConfig } from '../../src/net/config.ts';
import { MemoryFrame } from '../../src/net/memory-frame.ts';
import { UserNetwork } from '../../src/net/network.ts';

export const GUEST_MAC: readonly number[] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
export const GATEWAY_MAC: readonly number[] = [0x52, 0x55, 10, 0, 2, 2];
export const GUEST: readonly number[] = [10, 0, 2, 15];
export const GATEWAY: readonly number[] = [10, 0, 2, 2];
export const NAME_SERVER: readonly number[] = [10, 0, 2, 3];
export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
const ICMPV6 = 58;
/** Offset of the checksum in the header of each. */
const CHECKSUM_AT: Readonly<Record<number, number>> = { [ICMP]: 2, [TCP]: 16, [UDP]: 6, [ICMPV6]: 2 };

/** A frame from the guest with an IPv4 packet, whose checksums are right. */
export function ipv4Frame(
  protocol: number,
  destination: readonly number[],
  upper: readonly number[],
  { source = GUEST, id = 0, fragment = 0 } = {},
): Uint8Array {
  const bytes = Uint8Array.from([
    ...GATEWAY_MAC,
    ...GUEST_MAC,
    ...[8, 0, 0x45, 0, 0, 0, id >> 8, id & 255, fragment >> 8, fragment & 255, 64, protocol, 0, 0],
    ...source,
    ...destination,
    ...upper,
  ]);
  new DataView(bytes.buffer).setUint16(16, bytes.length - 14);
  sumIpv4(bytes);
  // In a fragment there may be no header.
  if (fragment === 0) sumUpper(bytes);
  return bytes;
}

/** Makes the checksum of the IPv4 header right. */
export function sumIpv4(frame: Uint8Array): void {
  put(frame, 24, () => addBytes(0, frame, 14, 34));
}

/** Makes the checksum right of what begins at `start`, behind an IP header without options or extensions. */
export function sumUpper(frame: Uint8Array, start = 34): void {
  const protocol = frame[start === 34 ? 23 : 20] as number;
  const [source, destination] = start === 34 ? [26, 30] : [22, 38];
  const pseudo =
    protocol === ICMP
      ? 0
      : pseudoHeader(frame.slice(source, destination), frame.slice(destination, start), protocol, frame.length - start);
  put(frame, start + (CHECKSUM_AT[protocol] as number), () => addBytes(pseudo, frame, start));
}

function put(frame: Uint8Array, at: number, sum: () => number): void {
  const view = new DataView(frame.buffer, frame.byteOffset);
  view.setUint16(at, 0);
  view.setUint16(at, finish(sum()));
}

const ports = (from: number, to: number): number[] => [from >> 8, from & 255, to >> 8, to & 255];

/** A TCP segment; `data` after 4 bytes of options. */
export function tcp(flags: number, data: readonly number[] = []): number[] {
  return [...ports(40000, 53), ...[0, 0, 1, 0, 0, 0, 0, 0, 0x60, flags, 255, 255, 0, 0, 0, 0, 2, 4, 5, 180], ...data];
}

export function udp(to: number, data: readonly number[], from = 40000): number[] {
  return [...ports(from, to), (8 + data.length) >> 8, (8 + data.length) & 255, 0, 0, ...data];
}

export const ECHO_REQUEST: readonly number[] = [8, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4];
/** A question for the address of www.test. */
export const QUERY: readonly number[] = [
  ...[0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 119, 119, 119, 4, 116, 101, 115, 116, 0, 0, 1, 0, 1],
];
/** DHCPDISCOVER without its options, and the options. */
export const DHCP_HEADER: readonly number[] = [
  ...[1, 1, 6, 0, 1, 2, 3, 4, ...new Array<number>(20).fill(0), ...GUEST_MAC, ...new Array<number>(202).fill(0)],
  ...[0x63, 0x82, 0x53, 0x63],
];
export const DHCP_OPTIONS: readonly number[] = [53, 1, 1, 50, 4, ...GUEST, 255];
export const ARP_REQUEST = Uint8Array.from([
  ...[...new Array<number>(6).fill(255), ...GUEST_MAC, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, ...GUEST_MAC, ...GUEST],
  ...[0, 0, 0, 0, 0, 0, ...GATEWAY],
]);
/** The guest asks for routers, from fe80::9. */
export const ROUTER_SOLICITATION = Uint8Array.from([
  ...[0x33, 0x33, 0, 0, 0, 2, ...GUEST_MAC, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, ICMPV6, 255],
  ...[0xfe, 0x80, ...new Array<number>(13).fill(0), 9, 0xff, 2, ...new Array<number>(13).fill(0), 2],
  ...[133, 0, 0, 0, 0, 0, 0, 0],
]);
sumUpper(ROUTER_SOLICITATION, 54);

/** One of each kind that the network answers, to whatever guest. */
export const ANSWERED: Readonly<Record<string, Uint8Array>> = {
  'SYN to the name server': ipv4Frame(TCP, NAME_SERVER, tcp(2)),
  'SYN to what is denied': ipv4Frame(TCP, [10, 9, 9, 9], tcp(2)),
  'segment of no connection': ipv4Frame(TCP, NAME_SERVER, tcp(17)),
  'DNS query': ipv4Frame(UDP, NAME_SERVER, udp(53, QUERY)),
  DHCPDISCOVER: ipv4Frame(UDP, GATEWAY, udp(67, [...DHCP_HEADER, ...DHCP_OPTIONS])),
  'datagram to what is denied': ipv4Frame(UDP, [10, 9, 9, 9], udp(9, [1, 2, 3])),
  ping: ipv4Frame(ICMP, GATEWAY, ECHO_REQUEST),
  'ARP request': ARP_REQUEST,
  'router solicitation': ROUTER_SOLICITATION,
};

/** Nothing is allowed: no packet leaves this machine, whatever the frames say. */
export const CLOSED: UserNetworkConfig = {
  mac: [...GUEST_MAC],
  mtu: 1500,
  allow: [],
  deny: ['*', '0.0.0.0/1', '128.0.0.0/1', '::/1', '8000::/1'],
  nameServers: [],
  hostAddresses: [],
  published: [],
};

/** Frames that a new network, which is closed, sends for these. */
export function answersTo(...frames: readonly Uint8Array[]): Uint8Array[] {
  const loop = new EventLoop();
  const answers: Uint8Array[] = [];
  const link = {
    offloads: { checksum: true, tso4: true, tso6: true },
    send(pieces: readonly Uint8Array[]): boolean {
      answers.push(Uint8Array.from(Buffer.concat(pieces)));
      return true;
    },
  };
  const network = new UserNetwork(loop, link, CLOSED, { log: undefined, published: [] });
  for (const frame of frames) network.input(new MemoryFrame(frame.slice(), false));
  network.flush();
  network.close();
  loop.close();
  return answers;
}
