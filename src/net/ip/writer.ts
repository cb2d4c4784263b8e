/** Writing frames to the guest: Ethernet and IP headers around what the protocols above give. */
import { addBytes, finish, fold, pseudoHeader } from '../checksum.ts';
import { GATEWAY_MAC } from '../guest-network.ts';
import type { FrameInfo, Link } from '../link.ts';
import {
  ETHERNET_SIZE,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  IPV4_SIZE,
  IPV6_SIZE,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  writeU16,
  writeU32,
} from './packet.ts';

const HOP_LIMIT = 64;
/** Neighbour discovery believes nothing that came through a router (RFC 4861, 7.1.1). */
const MAX_HOP_LIMIT = 255;
const DONT_FRAGMENT = 0x4000;
const MORE_FRAGMENTS = 0x2000;
const FRAGMENT_HEADER = 44;
const FRAGMENT_HEADER_SIZE = 8;

/** Where a packet goes and whence it seems to come. */
export interface Envelope {
  /** Hardware address of the guest. */
  readonly mac: Uint8Array;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
}

/** A packet's upper-layer header. */
export interface UpperHeader {
  /** PROTOCOL_*. */
  readonly protocol: number;
  /** Its checksum field is zero. */
  readonly bytes: Uint8Array;
  /** Offset of the checksum field; undefined: it has none to be filled in. */
  readonly checksumOffset: number | undefined;
}

export class FrameWriter {
  readonly #link: Link;
  readonly #head = new Uint8Array(256);
  /** Largest IP packet, bytes. */
  readonly mtu: number;
  #packetId = 0;

  constructor(link: Link, mtu: number) {
    this.#link = link;
    this.mtu = mtu;
  }

  get link(): Link {
    return this.#link;
  }

  /** A frame that is not IP. */
  sendRaw(mac: Uint8Array, etherType: number, payload: Uint8Array): boolean {
    const head = this.#head;
    this.#ethernet(mac, etherType);
    const info = { checksumStart: undefined, checksumOffset: 0, segmentSize: 0, headerLength: 0, ipv6: false };
    return this.#link.send([head.subarray(0, ETHERNET_SIZE), payload], info);
  }

  /**
   * A packet. With `segmentSize` it holds TCP segments of so many bytes of data, and the guest's driver cuts it; else a packet
   * larger than the MTU goes in fragments. False: the guest has no room.
   */
  send(to: Envelope, upper: UpperHeader, payload: readonly Uint8Array[], segmentSize = 0): boolean {
    let dataLength = upper.bytes.length;
    for (const piece of payload) dataLength += piece.length;
    const ipv6 = to.source.length === 16;
    const ipSize = ipv6 ? IPV6_SIZE : IPV4_SIZE;
    if (segmentSize === 0 && ipSize + dataLength > this.mtu) return this.#sendFragments(to, upper, payload, dataLength);
    const head = this.#head;
    this.#ethernet(to.mac, ipv6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4);
    if (ipv6) this.#ipv6(to, upper.protocol, dataLength);
    else this.#ipv4(to, upper.protocol, dataLength, DONT_FRAGMENT);
    const start = ETHERNET_SIZE + ipSize;
    const end = start + upper.bytes.length;
    head.set(upper.bytes, start);
    let checksumStart: number | undefined;
    const field = upper.checksumOffset;
    if (field !== undefined) {
      const partial =
        this.#link.offloads.checksum && (upper.protocol === PROTOCOL_TCP || upper.protocol === PROTOCOL_UDP);
      if (partial) {
        checksumStart = start;
        writeU16(head, start + field, fold(pseudoHeader(to.source, to.destination, upper.protocol, dataLength)));
      } else {
        writeU16(head, start + field, checksumOf(to, upper, payload, dataLength));
      }
    }
    const info: FrameInfo = {
      checksumStart,
      checksumOffset: field ?? 0,
      segmentSize,
      headerLength: end,
      ipv6,
    };
    return this.#link.send([head.subarray(0, end), ...payload], info);
  }

  #sendFragments(to: Envelope, upper: UpperHeader, payload: readonly Uint8Array[], length: number): boolean {
    const packet = Buffer.concat([upper.bytes, ...payload]);
    if (upper.checksumOffset !== undefined) {
      packet.writeUInt16BE(checksumOf(to, upper, payload, length), upper.checksumOffset);
    }
    const ipv6 = to.source.length === 16;
    const room = this.mtu - (ipv6 ? IPV6_SIZE + FRAGMENT_HEADER_SIZE : IPV4_SIZE);
    const step = room & ~7;
    const id = this.#packetId++ & 0xffff;
    for (let offset = 0; offset < length; offset += step) {
      const piece = packet.subarray(offset, Math.min(offset + step, length));
      const more = offset + step < length;
      if (!this.#sendFragment(to, upper.protocol, piece, id, offset, more)) return false;
    }
    return true;
  }

  #sendFragment(to: Envelope, protocol: number, piece: Uint8Array, id: number, offset: number, more: boolean): boolean {
    const head = this.#head;
    const ipv6 = to.source.length === 16;
    this.#ethernet(to.mac, ipv6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4);
    let end: number;
    if (ipv6) {
      this.#ipv6(to, FRAGMENT_HEADER, FRAGMENT_HEADER_SIZE + piece.length);
      const at = ETHERNET_SIZE + IPV6_SIZE;
      head[at] = protocol;
      head[at + 1] = 0;
      writeU16(head, at + 2, offset | (more ? 1 : 0));
      writeU32(head, at + 4, id);
      end = at + FRAGMENT_HEADER_SIZE;
    } else {
      this.#ipv4(to, protocol, piece.length, (offset >> 3) | (more ? MORE_FRAGMENTS : 0), id);
      end = ETHERNET_SIZE + IPV4_SIZE;
    }
    const info = { checksumStart: undefined, checksumOffset: 0, segmentSize: 0, headerLength: end, ipv6 };
    return this.#link.send([head.subarray(0, end), piece], info);
  }

  #ethernet(mac: Uint8Array, etherType: number): void {
    this.#head.set(mac, 0);
    this.#head.set(GATEWAY_MAC, 6);
    writeU16(this.#head, 12, etherType);
  }

  #ipv4({ source, destination }: Envelope, protocol: number, length: number, flags: number, id?: number): void {
    const head = this.#head;
    const at = ETHERNET_SIZE;
    writeU16(head, at, 0x4500);
    writeU16(head, at + 2, IPV4_SIZE + length);
    writeU16(head, at + 4, id ?? this.#packetId++ & 0xffff);
    writeU16(head, at + 6, flags);
    head[at + 8] = HOP_LIMIT;
    head[at + 9] = protocol;
    writeU16(head, at + 10, 0);
    head.set(source, at + 12);
    head.set(destination, at + 16);
    writeU16(head, at + 10, finish(addBytes(0, head, at, at + IPV4_SIZE)));
  }

  #ipv6({ source, destination }: Envelope, nextHeader: number, length: number): void {
    const head = this.#head;
    const at = ETHERNET_SIZE;
    writeU32(head, at, 0x6000_0000);
    writeU16(head, at + 4, length);
    head[at + 6] = nextHeader;
    head[at + 7] = MAX_HOP_LIMIT;
    head.set(source, at + 8);
    head.set(destination, at + 24);
  }
}

function checksumOf(to: Envelope, upper: UpperHeader, payload: readonly Uint8Array[], length: number): number {
  // ICMP alone has no pseudo-header.
  let sum = upper.protocol === PROTOCOL_ICMP ? 0 : pseudoHeader(to.source, to.destination, upper.protocol, length);
  sum = addBytes(sum, upper.bytes);
  let odd = upper.bytes.length & 1;
  for (const piece of payload) {
    // A piece at an odd offset has its bytes the other way round.
    const part = fold(addBytes(0, piece));
    sum += odd === 0 ? part : ((part & 0xff) << 8) | (part >> 8);
    odd ^= piece.length & 1;
  }
  const checksum = finish(sum);
  // Zero is "no checksum" in UDP.
  return checksum === 0 && upper.protocol === PROTOCOL_UDP ? 0xffff : checksum;
}
