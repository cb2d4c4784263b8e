/** The network's DHCP server (RFC 2131, options: RFC 2132). */
import { formatAddress, type IpAddress, sameBytes } from './address.ts';
import { BROADCAST_MAC, GATEWAY, GUEST, LEASES, NAME_SERVER } from './guest-network.ts';
import { readU16, readU32, writeU32 } from './ip/packet.ts';
import type { Services } from './services.ts';
import { sendDatagram } from './udp.ts';

export const DHCP_SERVER_PORT = 67;
const DHCP_CLIENT_PORT = 68;

/** Fixed fields and the magic cookie. */
const HEADER_SIZE = 240;
const MAGIC = 0x6382_5363;
const BOOTREQUEST = 1;
const BOOTREPLY = 2;
const ETHERNET = 1;
// Offsets.
const FLAGS = 10;
const CIADDR = 12;
const YIADDR = 16;
const SIADDR = 20;
const CHADDR = 28;
const COOKIE = 236;
const BROADCAST_FLAG = 0x8000;

const OPTION_PAD = 0;
const OPTION_MASK = 1;
const OPTION_ROUTER = 3;
const OPTION_NAME_SERVER = 6;
const OPTION_MTU = 26;
const OPTION_REQUESTED_ADDRESS = 50;
const OPTION_LEASE_TIME = 51;
const OPTION_MESSAGE_TYPE = 53;
const OPTION_SERVER = 54;
const OPTION_END = 255;

const DISCOVER = 1;
const OFFER = 2;
const REQUEST = 3;
const ACKNOWLEDGE = 5;
const REFUSE = 6;
const INFORM = 8;

/** Seconds. */
const LEASE_TIME = 86_400;
/** What a BOOTP client has room for (RFC 1542, 2.1). */
const LEAST_SIZE = 300;

const ALL_HOSTS: IpAddress = new Uint8Array(4).fill(255);

export class DhcpServer {
  readonly #services: Services;
  /** Hardware addresses by lease, the device's own first. */
  readonly #leases: Uint8Array[];

  /** `mac`: the device's, which gets the address that published ports lead to. */
  constructor(services: Services, mac: Uint8Array) {
    this.#services = services;
    this.#leases = [mac];
  }

  /** A message that came to the server's port. */
  input(message: Uint8Array): void {
    if (message.length < HEADER_SIZE || message[0] !== BOOTREQUEST || message[1] !== ETHERNET || message[2] !== 6)
      return;
    if (readU32(message, COOKIE) !== MAGIC) return;
    const options = readOptions(message);
    const type = options.get(OPTION_MESSAGE_TYPE)?.[0];
    const mac = message.slice(CHADDR, CHADDR + 6);
    if (type === INFORM) {
      this.#reply(message, ACKNOWLEDGE, undefined);
      return;
    }
    if (type !== DISCOVER && type !== REQUEST) return;
    const server = options.get(OPTION_SERVER);
    // It chose another's offer; there is none, but it may say so.
    if (type === REQUEST && server !== undefined && !sameBytes(server, GATEWAY)) return;
    const address = this.#lease(mac);
    if (address === undefined) return;
    if (type === DISCOVER) {
      this.#reply(message, OFFER, address);
      return;
    }
    const wanted = options.get(OPTION_REQUESTED_ADDRESS) ?? message.slice(CIADDR, CIADDR + 4);
    this.#reply(message, sameBytes(wanted, address) ? ACKNOWLEDGE : REFUSE, address);
  }

  /** The address of a client; undefined: there is none left. */
  #lease(mac: Uint8Array): IpAddress | undefined {
    let index = this.#leases.findIndex((known) => sameBytes(known, mac));
    if (index < 0) {
      if (this.#leases.length === LEASES) return undefined;
      index = this.#leases.push(mac) - 1;
    }
    const address = Uint8Array.from(GUEST);
    address[3] = (GUEST[3] as number) + index;
    return address;
  }

  /** `address`: the client's; undefined: it has one. */
  #reply(request: Uint8Array, type: number, address: IpAddress | undefined): void {
    const refused = type === REFUSE;
    const options = [
      ...[OPTION_MESSAGE_TYPE, 1, type],
      ...[OPTION_SERVER, 4, ...GATEWAY],
      ...(refused ? [] : [OPTION_MASK, 4, 255, 255, 255, 0]),
      ...(refused ? [] : [OPTION_ROUTER, 4, ...GATEWAY]),
      ...(refused ? [] : [OPTION_NAME_SERVER, 4, ...NAME_SERVER]),
      ...(refused ? [] : [OPTION_MTU, 2, this.#services.writer.mtu >> 8, this.#services.writer.mtu & 0xff]),
    ];
    if (!refused && address !== undefined) {
      const time = new Uint8Array(4);
      writeU32(time, 0, LEASE_TIME);
      options.push(OPTION_LEASE_TIME, 4, ...time);
    }
    options.push(OPTION_END);
    const reply = new Uint8Array(Math.max(HEADER_SIZE + options.length, LEAST_SIZE));
    // Kind of hardware, transaction, flags, addresses of the client: as they came.
    reply.set(request.subarray(0, HEADER_SIZE));
    reply.fill(0, 8, 10);
    reply.fill(0, YIADDR, CHADDR);
    reply.fill(0, CHADDR + 16, COOKIE);
    reply[0] = BOOTREPLY;
    reply[3] = 0;
    reply.set(GATEWAY, SIADDR);
    if (address !== undefined && !refused) reply.set(address, YIADDR);
    reply.set(options, HEADER_SIZE);
    const has = request.slice(CIADDR, CIADDR + 4);
    const configured = formatAddress(has) !== '0.0.0.0' && !refused;
    const broadcast = !configured && (refused || (readU16(request, FLAGS) & BROADCAST_FLAG) !== 0);
    const destination = configured ? has : broadcast ? ALL_HOSTS : (address ?? ALL_HOSTS);
    const mac = broadcast ? BROADCAST_MAC : request.slice(CHADDR, CHADDR + 6);
    sendDatagram(this.#services, { mac, source: GATEWAY, destination }, DHCP_SERVER_PORT, DHCP_CLIENT_PORT, reply);
  }
}

/** Options by code; of one that comes twice the first. What is cut off ends them. */
function readOptions(message: Uint8Array): Map<number, Uint8Array> {
  const options = new Map<number, Uint8Array>();
  for (let at = HEADER_SIZE; at < message.length; ) {
    const code = message[at] as number;
    if (code === OPTION_END) break;
    if (code === OPTION_PAD) {
      at++;
      continue;
    }
    const length = message[at + 1];
    if (length === undefined || at + 2 + length > message.length) break;
    if (!options.has(code)) options.set(code, message.slice(at + 2, at + 2 + length));
    at += 2 + length;
  }
  return options;
}
