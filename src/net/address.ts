/** IP addresses, in network order: 4 bytes or 16. */
export type IpAddress = Uint8Array;

/** A number of an IPv4 address: no leading zeroes. */
const DECIMAL = /^(?:0|[1-9]\d{0,2})$/;
/** A group of an IPv6 address. */
const HEXADECIMAL = /^[\da-f]{1,4}$/i;

/**
 * Reads an address as people write it; undefined if it is none. No zones. Node's own test whether it is one comes with all of node:net,
 * which would be a sixth of the time in which a network device starts.
 */
export function parseAddress(text: string): IpAddress | undefined {
  const bytes = text.includes(':') ? parseIpv6(text) : parseIpv4(text);
  return bytes && Uint8Array.from(bytes);
}

function parseIpv4(text: string): number[] | undefined {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => DECIMAL.test(part) && Number(part) < 256)) return undefined;
  return parts.map(Number);
}

function parseIpv6(text: string): number[] | undefined {
  const [before = '', after, ...more] = text.split('::');
  const head = parseGroups(before, after === undefined);
  if (head === undefined || more.length > 0) return undefined;
  if (after === undefined) return head.length === 16 ? head : undefined;
  const tail = parseGroups(after, true);
  // The two colons stand for a group at least.
  if (tail === undefined || head.length + tail.length > 14) return undefined;
  return [...head, ...new Array<number>(16 - head.length - tail.length).fill(0), ...tail];
}

/** The bytes of `1:ff`; `last`: an IPv4 address may be at its end. */
function parseGroups(text: string, last: boolean): number[] | undefined {
  if (text === '') return [];
  const groups = text.split(':');
  const bytes = groups.map((group, i) => {
    if (last && i === groups.length - 1 && group.includes('.')) return parseIpv4(group);
    const word = Number.parseInt(group, 16);
    return HEXADECIMAL.test(group) ? [word >> 8, word & 0xff] : undefined;
  });
  return bytes.some((some) => some === undefined) ? undefined : (bytes as number[][]).flat();
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
