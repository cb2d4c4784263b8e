/** Neighbour discovery and router advertisements (RFC 4861, 4862; name servers: RFC 8106). */
import { sameBytes } from './address.ts';
import { GATEWAY_LINK_LOCAL, GATEWAY_MAC, isOwn, NAME_SERVER6, NETWORK6 } from './guest-network.ts';
import { sendIcmp } from './icmp.ts';
import type { IpPacket } from './ip/packet.ts';
import { writeU16, writeU32 } from './ip/packet.ts';
import type { FrameWriter } from './ip/writer.ts';

const ROUTER_SOLICITATION = 133;
const ROUTER_ADVERTISEMENT = 134;
const NEIGHBOUR_SOLICITATION = 135;
const NEIGHBOUR_ADVERTISEMENT = 136;

const OPTION_SOURCE_LINK_ADDRESS = 1;
const OPTION_TARGET_LINK_ADDRESS = 2;
const OPTION_PREFIX = 3;
const OPTION_MTU = 5;
const OPTION_RDNSS = 25;

const MAX_HOP_LIMIT = 255;
const HOP_LIMIT = 64;
/** More configuration, the name servers, by DHCPv6. */
const FLAG_OTHER = 0x40;
const FLAGS_ON_LINK_AUTONOMOUS = 0xc0;
/** Seconds; told again long before they are over. */
const ROUTER_LIFETIME = 9000;
const PREFIX_LIFETIME = 86_400;
/** How often the router tells of itself unasked, ms. */
export const ADVERTISEMENT_INTERVAL = 1800_000;

const ALL_NODES = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1);
const UNSPECIFIED = new Uint8Array(16);

/** Answers a message of the guest; false: it is none of this protocol's. `bytes`: the whole frame. */
export function answerNeighbourDiscovery(writer: FrameWriter, packet: IpPacket, bytes: Uint8Array): boolean {
  const message = bytes.subarray(packet.start, packet.start + packet.length);
  const type = message[0] as number;
  if (type < ROUTER_SOLICITATION || type > NEIGHBOUR_ADVERTISEMENT) return false;
  if (packet.hopLimit !== MAX_HOP_LIMIT || message[1] !== 0) return true;
  if (type === ROUTER_SOLICITATION) advertiseRouter(writer);
  if (type === NEIGHBOUR_SOLICITATION && message.length >= 24) {
    const target = message.slice(8, 24);
    if (isOwn(target)) advertiseNeighbour(writer, packet.source, target, bytes.slice(6, 12));
  }
  return true;
}

function advertiseNeighbour(writer: FrameWriter, asker: Uint8Array, target: Uint8Array, mac: Uint8Array): void {
  // Who has no address yet asks whether this one is taken: the answer goes to all.
  const toAll = sameBytes(asker, UNSPECIFIED);
  const rest = new Uint8Array(28);
  rest[0] = toAll ? 0xa0 : 0xe0; // router, solicited, override
  rest.set(target, 4);
  rest.set([OPTION_TARGET_LINK_ADDRESS, 1], 20);
  rest.set(GATEWAY_MAC, 22);
  const to = toAll ? { mac: ALL_NODES_MAC, destination: ALL_NODES } : { mac, destination: asker };
  sendIcmp(writer, { ...to, source: target }, NEIGHBOUR_ADVERTISEMENT, 0, rest);
}

/** Tells all nodes of the router, the prefix and the name server. */
export function advertiseRouter(writer: FrameWriter): void {
  const rest = new Uint8Array(12 + 8 + 8 + 32 + 24);
  rest[0] = HOP_LIMIT;
  rest[1] = FLAG_OTHER;
  writeU16(rest, 2, ROUTER_LIFETIME);
  let at = 12;
  rest.set([OPTION_SOURCE_LINK_ADDRESS, 1], at);
  rest.set(GATEWAY_MAC, at + 2);
  at += 8;
  rest.set([OPTION_MTU, 1], at);
  writeU32(rest, at + 4, writer.mtu);
  at += 8;
  rest.set([OPTION_PREFIX, 4, NETWORK6.length, FLAGS_ON_LINK_AUTONOMOUS], at);
  writeU32(rest, at + 4, PREFIX_LIFETIME);
  writeU32(rest, at + 8, PREFIX_LIFETIME / 2);
  rest.set(NETWORK6.address, at + 16);
  at += 32;
  rest.set([OPTION_RDNSS, 3], at);
  writeU32(rest, at + 4, ROUTER_LIFETIME);
  rest.set(NAME_SERVER6, at + 8);
  const envelope = { mac: ALL_NODES_MAC, source: GATEWAY_LINK_LOCAL, destination: ALL_NODES };
  sendIcmp(writer, envelope, ROUTER_ADVERTISEMENT, 0, rest);
}
