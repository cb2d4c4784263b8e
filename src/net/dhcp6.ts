/** Stateless DHCPv6 (RFC 8415, 6.1): the name server for those that do not read it in router advertisements. */
import { GATEWAY_LINK_LOCAL, GATEWAY_MAC, NAME_SERVER6 } from './guest-network.ts';
import { readU16 } from './ip/packet.ts';
import type { Services } from './services.ts';
import { sendDatagram } from './udp.ts';

export const DHCP6_SERVER_PORT = 547;
const DHCP6_CLIENT_PORT = 546;
const INFORMATION_REQUEST = 11;
const REPLY = 7;
const OPTION_CLIENT_ID = 1;
const OPTION_SERVER_ID = 2;
const OPTION_NAME_SERVERS = 23;
/** Longest identifier (11.1). */
const MAX_DUID = 130;
/** The server's: made of its hardware address (11.4). */
const SERVER_DUID = [0, 3, 0, 1, ...GATEWAY_MAC];

/** Answers a message that came to the server's port. */
export function answerDhcp6(services: Services, mac: Uint8Array, client: Uint8Array, message: Uint8Array): void {
  if (message.length < 4 || message[0] !== INFORMATION_REQUEST) return;
  let clientId: Uint8Array | undefined;
  for (let at = 4; at + 4 <= message.length; ) {
    const length = readU16(message, at + 2);
    if (at + 4 + length > message.length) return;
    if (readU16(message, at) === OPTION_CLIENT_ID && length <= MAX_DUID)
      clientId = message.slice(at + 4, at + 4 + length);
    at += 4 + length;
  }
  const option = (code: number, data: readonly number[]): number[] => [0, code, 0, data.length, ...data];
  const reply = Uint8Array.from([
    ...message.subarray(0, 4),
    ...option(OPTION_SERVER_ID, SERVER_DUID),
    ...(clientId === undefined ? [] : option(OPTION_CLIENT_ID, [...clientId])),
    ...option(OPTION_NAME_SERVERS, [...NAME_SERVER6]),
  ]);
  reply[0] = REPLY;
  const envelope = { mac, source: GATEWAY_LINK_LOCAL, destination: client };
  sendDatagram(services, envelope, DHCP6_SERVER_PORT, DHCP6_CLIENT_PORT, reply);
}
