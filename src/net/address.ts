/** IP addresses, in network order: 4 bytes or 16. */
import { isIPv4, isIPv6 } from 'node:net';

export type IpAddress = Uint8Array;

/** Reads an address as people write it; undefined if it is none. No zones. */
export function parseAddress(text: string): IpAddress | undefined {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number);
  if (!isIPv6(text) || text.includes('%')) return undefined;
  return parseIpv6(text);
}

function parseIpv6(text: string): IpAddress {
  // The last four bytes may be written as IPv4.
  const mapped = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  const pair = (a: string | undefined, b: string | undefined): string => (Number(a) * 256 + Number(b)).toString(16);
  const plain = mapped === null ? text : `${mapped[1]}${pair(mapped[2], mapped[3])}:${pair(mapped[4], mapped[5])}`;
  const [before = '', after] = plain.split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const head = groups(before);
  const tail = after === undefined ? [] : groups(after);
  const words = [...head, ...new Array<string>(8 - head.length - tail.length).fill('0'), ...tail];
  const bytes = new Uint8Array(16);
  words.forEach((word, i) => {
    const value = Number.parseInt(word, 16);
    bytes[2 * i] = value >> 8;
    bytes[2 * i + 1] = value & 0xff;
  });
  return bytes;
}

/** `10.0.2.15`; `fd00::1` in RFC 5952's form. */
export function formatAddress(address: IpAddress): string {
  if (address.length === 4) return address.join('.');
  const words = Array.from({ length: 8 }, (_, i) => ((address[2 * i] as number) << 8) | (address[2 * i + 1] as number));
  // The longest run of two zeroes or more, the first of several.
  let [start, length] = [0, 1];
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && words[end] === 0) end++;
    if (end - i > length) [start, length] = [i, end - i];
  }
  const text = (part: readonly number[]): string => part.map((word) => word.toString(16)).join(':');
  return length < 2 ? text(words) : `${text(words.slice(0, start))}::${text(words.slice(start + length))}`;
}

/** `10.0.2.15:80`, `[fd00::1]:80`. */
export function formatEndPoint(address: IpAddress, port: number): string {
  const text = formatAddress(address);
  return address.length === 4 ? `${text}:${port}` : `[${text}]:${port}`;
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** A network: the first `length` bits of an address. */
export interface Network {
  readonly address: IpAddress;
  readonly length: number;
}

/** Reads `10.0.0.0/8`, or an address alone, which is a network of one. Undefined if it is neither. */
export function parseNetwork(text: string): Network | undefined {
  const [, base = '', bits] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const address = parseAddress(base);
  if (address === undefined) return undefined;
  const length = bits === undefined ? address.length * 8 : Number(bits);
  return length <= address.length * 8 ? { address, length } : undefined;
}

/** Is the address in the network? Never, where one is IPv4 and the other IPv6. */
export function inNetwork(network: Network, address: IpAddress): boolean {
  if (network.address.length !== address.length) return false;
  const whole = network.length >> 3;
  for (let i = 0; i < whole; i++) if (network.address[i] !== address[i]) return false;
  const mask = (0xff00 >> (network.length & 7)) & 0xff;
  return mask === 0 || (((network.address[whole] as number) ^ (address[whole] as number)) & mask) === 0;
}
