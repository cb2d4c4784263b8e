/** ICMP (RFC 792) and ICMPv6 (RFC 4443) messages to the guest. */
import { EACCES, ECONNREFUSED, ENETUNREACH } from '../host/errno.ts';
import { addBytes, finish } from './checksum.ts';
import type { FlowEnds } from './flow-table.ts';
import { GATEWAY, GATEWAY6 } from './guest-network.ts';
import { IPV4_SIZE, IPV6_SIZE, PROTOCOL_ICMP, PROTOCOL_ICMPV6, writeU16, writeU32 } from './ip/packet.ts';
import type { Envelope, FrameWriter } from './ip/writer.ts';

export const ICMP_SIZE = 8;
export const ECHO_REPLY = 0;
export const ECHO_REQUEST = 8;
export const ECHO_REQUEST6 = 128;
export const ECHO_REPLY6 = 129;
const DESTINATION_UNREACHABLE = 3;
const DESTINATION_UNREACHABLE6 = 1;
const CHECKSUM = 2;
/** What is quoted of the packet behind its IP header. */
const QUOTED = 8;

/** Sends a message: its type, code and what follows the checksum. */
export function sendIcmp(writer: FrameWriter, to: Envelope, type: number, code: number, rest: Uint8Array): boolean {
  const header = new Uint8Array(4);
  header[0] = type;
  header[1] = code;
  const protocol = to.source.length === 16 ? PROTOCOL_ICMPV6 : PROTOCOL_ICMP;
  return writer.send(to, { protocol, bytes: header, checksumOffset: CHECKSUM }, [rest]);
}

/** Codes for an errno, IPv4's and IPv6's. */
function codesOf(errno: number): readonly [number, number] {
  switch (errno) {
    case ECONNREFUSED:
      return [3, 4];
    case ENETUNREACH:
      return [0, 0];
    case EACCES:
      return [13, 1];
    default:
      return [1, 3];
  }
}

/**
 * Tells the guest that its packet did not get where it was to go. EACCES: it is not allowed to. `word`: the four bytes behind the
 * ports, a TCP segment's sequence number.
 */
export function sendUnreachable(writer: FrameWriter, ends: FlowEnds, protocol: number, errno: number, word = 0): void {
  const { mac, guest, guestPort, remote, remotePort } = ends;
  const ipv6 = guest.length === 16;
  const size = ipv6 ? IPV6_SIZE : IPV4_SIZE;
  // The word that is not used, then the head of the packet, as it must have been.
  const rest = new Uint8Array(4 + size + QUOTED);
  const quoted = rest.subarray(4);
  if (ipv6) {
    writeU32(quoted, 0, 0x6000_0000);
    writeU16(quoted, 4, QUOTED);
    quoted.set([protocol, 64], 6);
    quoted.set(guest, 8);
    quoted.set(remote, 24);
  } else {
    writeU16(quoted, 0, 0x4500);
    writeU16(quoted, 2, IPV4_SIZE + QUOTED);
    quoted.set([64, protocol], 8);
    quoted.set(guest, 12);
    quoted.set(remote, 16);
    writeU16(quoted, 10, finish(addBytes(0, quoted, 0, IPV4_SIZE)));
  }
  if (protocol === PROTOCOL_ICMP || protocol === PROTOCOL_ICMPV6) {
    quoted[size] = ipv6 ? ECHO_REQUEST6 : ECHO_REQUEST;
    writeU16(quoted, size + 4, guestPort);
  } else {
    writeU16(quoted, size, guestPort);
    writeU16(quoted, size + 2, remotePort);
    writeU32(quoted, size + 4, word);
  }
  const [code4, code6] = codesOf(errno);
  const envelope = { mac, source: ipv6 ? GATEWAY6 : GATEWAY, destination: guest };
  if (ipv6) sendIcmp(writer, envelope, DESTINATION_UNREACHABLE6, code6, rest);
  else sendIcmp(writer, envelope, DESTINATION_UNREACHABLE, code4, rest);
}
