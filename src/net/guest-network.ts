/** The network that the guest sees: who is who. The IPv4 numbers are those of QEMU's user network, which people know. */
import { type IpAddress, inNetwork, type Network, parseAddress, sameBytes } from './address.ts';

const ip = (text: string): IpAddress => parseAddress(text) as IpAddress;

export const NETWORK: Network = { address: ip('10.0.2.0'), length: 24 };
const BROADCAST = ip('10.0.2.255');
export const GATEWAY = ip('10.0.2.2');
export const NAME_SERVER = ip('10.0.2.3');
/** The first address that DHCP gives, always to the device itself. Published ports lead to it. */
export const GUEST = ip('10.0.2.15');
/** Addresses that DHCP gives, from GUEST on: a guest may have bridged guests of its own. */
export const LEASES = 16;

/** A prefix for private use (RFC 4193): the guest prefers IPv4 for the rest of the world, as most hosts have no other. */
export const NETWORK6: Network = { address: ip('fd76:6976:6172::'), length: 64 };
export const GATEWAY6 = ip('fd76:6976:6172::2');
export const NAME_SERVER6 = ip('fd76:6976:6172::3');
/** The gateway's address on the link, from which routers advertise themselves. */
export const GATEWAY_LINK_LOCAL = ip('fe80::2');
const LINK_LOCAL: Network = { address: ip('fe80::'), length: 10 };

/** Hardware address of the gateway and the name server: locally administered. */
export const GATEWAY_MAC = Uint8Array.of(0x52, 0x55, 10, 0, 2, 2);
export const BROADCAST_MAC = new Uint8Array(6).fill(0xff);

const OWN = [GATEWAY, NAME_SERVER, GATEWAY6, NAME_SERVER6, GATEWAY_LINK_LOCAL];

/** Is it one of the network's own addresses, that answers for itself? */
export function isOwn(address: IpAddress): boolean {
  return OWN.some((own) => sameBytes(own, address));
}

export function isNameServer(address: IpAddress): boolean {
  return sameBytes(address, NAME_SERVER) || sameBytes(address, NAME_SERVER6);
}

/** Connections to the gateway are meant for the host itself: its loopback address in place of the gateway's. */
export function behindGateway(address: IpAddress): IpAddress {
  if (sameBytes(address, GATEWAY)) return Uint8Array.of(127, 0, 0, 1);
  if (sameBytes(address, GATEWAY6)) return ip('::1');
  return address;
}

/** May a packet of the guest come from this address? All others are spoofed. */
export function isGuestAddress(address: IpAddress): boolean {
  if (isOwn(address)) return false;
  if (address.length === 4) return inNetwork(NETWORK, address) && !sameBytes(address, BROADCAST) && address[3] !== 0;
  return inNetwork(NETWORK6, address) || inNetwork(LINK_LOCAL, address);
}

/** Is it an address beyond the network's own link, of one machine? */
export function isOutside(address: IpAddress): boolean {
  if (address.length === 4) {
    const first = address[0] as number;
    return first !== 0 && first < 224 && !inNetwork(NETWORK, address);
  }
  return address[0] !== 0xff && !inNetwork(NETWORK6, address) && !inNetwork(LINK_LOCAL, address);
}
