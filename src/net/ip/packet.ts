/** Reading the headers of frames: Ethernet, IPv4 (RFC 791), IPv6 with its extension headers (RFC 8200). */
import { addBytes, finish } from '../checksum.ts';

export const ETHERNET_SIZE = 14;
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_IPV6 = 0x86dd;
export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ICMPV6 = 58;
export const IPV4_SIZE = 20;
export const IPV6_SIZE = 40;

const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const DESTINATION_OPTIONS = 60;
/** More extension headers than this are an attack. */
const MAX_EXTENSIONS = 4;

/** A piece of a packet. */
export interface Fragment {
  readonly id: number;
  /** Bytes. */
  readonly offset: number;
  readonly more: boolean;
}

/** What an IP header says, checked against the frame's length. */
export interface IpPacket {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** PROTOCOL_*: of what follows all headers. */
  readonly protocol: number;
  readonly hopLimit: number;
  /** Offset in the frame, and bytes, of what follows all headers. */
  readonly start: number;
  readonly length: number;
  readonly fragment: Fragment | undefined;
}

export function readU16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

export function readU32(bytes: Uint8Array, at: number): number {
  return (((bytes[at] as number) << 24) | ((bytes[at + 1] as number) << 16) | readU16(bytes, at + 2)) >>> 0;
}

export function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value;
}

export function writeU32(bytes: Uint8Array, at: number, value: number): void {
  writeU16(bytes, at, value >>> 16);
  writeU16(bytes, at + 2, value & 0xffff);
}

/** Reads an IPv4 header. `head`: the frame's first bytes; `frameLength`: all of it. Undefined: it is no packet that anybody should take. */
export function readIpv4(head: Uint8Array, frameLength: number): IpPacket | undefined {
  const at = ETHERNET_SIZE;
  if (head.length < at + IPV4_SIZE) return undefined;
  const first = head[at] as number;
  const headerLength = (first & 15) * 4;
  const total = readU16(head, at + 2);
  if (first >> 4 !== 4 || headerLength < IPV4_SIZE || total < headerLength || at + total > frameLength)
    return undefined;
  if (head.length < at + headerLength || finish(addBytes(0, head, at, at + headerLength)) !== 0) return undefined;
  const flags = readU16(head, at + 6);
  const fragmented = (flags & 0x3fff) !== 0;
  return {
    source: head.slice(at + 12, at + 16),
    destination: head.slice(at + 16, at + 20),
    protocol: head[at + 9] as number,
    hopLimit: head[at + 8] as number,
    start: at + headerLength,
    length: total - headerLength,
    fragment: fragmented
      ? { id: readU16(head, at + 4), offset: (flags & 0x1fff) * 8, more: (flags & 0x2000) !== 0 }
      : undefined,
  };
}

/** As readIpv4(), for IPv6. */
export function readIpv6(head: Uint8Array, frameLength: number): IpPacket | undefined {
  const at = ETHERNET_SIZE;
  if (head.length < at + IPV6_SIZE || (head[at] as number) >> 4 !== 6) return undefined;
  const end = at + IPV6_SIZE + readU16(head, at + 4);
  if (end > frameLength) return undefined;
  let protocol = head[at + 6] as number;
  let start = at + IPV6_SIZE;
  let fragment: Fragment | undefined;
  for (let left = MAX_EXTENSIONS; isExtension(protocol); left--) {
    if (left === 0 || start + 8 > head.length) return undefined;
    const next = start + (protocol === FRAGMENT ? 8 : ((head[start + 1] as number) + 1) * 8);
    if (next > end) return undefined;
    if (protocol === FRAGMENT) {
      const word = readU16(head, start + 2);
      fragment = { id: readU32(head, start + 4), offset: word & 0xfff8, more: (word & 1) !== 0 };
    }
    protocol = head[start] as number;
    start = next;
    // What follows is data, but in the first piece.
    if (fragment !== undefined) break;
  }
  return {
    source: head.slice(at + 8, at + 24),
    destination: head.slice(at + 24, at + 40),
    protocol,
    hopLimit: head[at + 7] as number,
    start,
    length: end - start,
    fragment,
  };
}

function isExtension(protocol: number): boolean {
  return protocol === HOP_BY_HOP || protocol === ROUTING || protocol === FRAGMENT || protocol === DESTINATION_OPTIONS;
}
