/** ARP (RFC 826): the network's own addresses are at the gateway. */
import type { IpAddress } from './address.ts';
import { GATEWAY_MAC, isGuestAddress, isOwn } from './guest-network.ts';
import { ETHERNET_SIZE, ETHERTYPE_ARP, readU16, readU32, writeU16 } from './ip/packet.ts';
import type { FrameWriter } from './ip/writer.ts';

const ARP_SIZE = 28;
/** Ethernet, IPv4, and the sizes of their addresses. */
const TYPES = 0x0001_0800;
const SIZES = 0x0604;
const REQUEST = 1;
const REPLY = 2;

/** Who an ARP message comes from. */
export interface Neighbour {
  readonly mac: Uint8Array;
  readonly address: IpAddress;
}

/** Answers a message of the guest. Returns who sent it, if it is one of the guest's addresses. */
export function answerArp(writer: FrameWriter, frame: Uint8Array): Neighbour | undefined {
  const message = frame.subarray(ETHERNET_SIZE, ETHERNET_SIZE + ARP_SIZE);
  if (message.length < ARP_SIZE || readU32(message, 0) !== TYPES || readU16(message, 4) !== SIZES) return undefined;
  const mac = message.slice(8, 14);
  const address = message.slice(14, 18);
  const target = message.slice(24, 28);
  if (readU16(message, 6) === REQUEST && isOwn(target)) {
    const reply = new Uint8Array(ARP_SIZE);
    reply.set(message.subarray(0, 6));
    writeU16(reply, 6, REPLY);
    reply.set(GATEWAY_MAC, 8);
    reply.set(target, 14);
    reply.set(mac, 18);
    reply.set(address, 24);
    writer.sendRaw(frame.slice(6, 12), ETHERTYPE_ARP, reply);
  }
  return isGuestAddress(address) ? { mac, address } : undefined;
}
