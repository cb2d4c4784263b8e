// Frames that are damaged, lie about themselves, or come from somebody else: each is an honest one with one fault, and gets no answer.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ANSWERED,
  ARP_REQUEST,
  answersTo,
  DHCP_HEADER,
  DHCP_OPTIONS,
  ECHO_REQUEST,
  GATEWAY,
  GUEST,
  ICMP,
  ipv4Frame,
  NAME_SERVER,
  QUERY,
  ROUTER_SOLICITATION,
  sumIpv4,
  sumUpper,
  TCP,
  tcp,
  UDP,
  udp,
} from './frames.ts';

const ETHERNET_SIZE = 14;
/** Where begins what a checksum covers, by the low half of the Ethernet type: IPv4, ARP (nothing), IPv6 (from the hop limit on). */
const COVERED: Readonly<Record<number, number>> = { 0: ETHERNET_SIZE, 6: Number.POSITIVE_INFINITY, 0xdd: 21 };

function ignored(what: string, ...frames: readonly Uint8Array[]): void {
  assert.deepEqual(answersTo(...frames), [], what);
}

/** A copy with these bytes from `at` on. */
function changed(frame: Uint8Array, at: number, ...bytes: readonly number[]): Uint8Array {
  const copy = frame.slice();
  copy.set(bytes, at);
  return copy;
}

/** As changed(), and the checksums are right again. */
function lying(frame: Uint8Array, at: number, ...bytes: readonly number[]): Uint8Array {
  const copy = changed(frame, at, ...bytes);
  sumIpv4(copy);
  sumUpper(copy);
  return copy;
}

const ping = ANSWERED['ping'] as Uint8Array;

for (const [name, frame] of Object.entries(ANSWERED)) {
  test(`${name}: answered whole, not in part, nor with one byte changed`, () => {
    assert.equal(answersTo(frame).length, 1);
    for (let length = 0; length < frame.length; length++) ignored(`${length} bytes`, frame.subarray(0, length));
    for (let at = COVERED[frame[13] as number] as number; at < frame.length; at++) {
      for (const flip of [1, 0x55, 0x80]) ignored(`byte ${at}`, changed(frame, at, (frame[at] as number) ^ flip));
    }
  });
}

test('bytes after a packet are padding', () => {
  for (const frame of Object.values(ANSWERED)) {
    assert.equal(answersTo(Uint8Array.from([...frame, ...new Array<number>(60).fill(0xee)])).length, 1);
  }
});

test('lengths that do not fit', () => {
  const syn = ANSWERED['SYN to the name server'] as Uint8Array;
  const query = ANSWERED['DNS query'] as Uint8Array;
  ignored('a packet longer than its frame', lying(ping, 16, 0, ping.length - ETHERNET_SIZE + 1));
  ignored('a packet of 64 KiB in a small frame', lying(ping, 16, 255, 255));
  ignored('a packet shorter than its header', lying(ping, 16, 0, 19));
  ignored('a header of no size', lying(ping, 14, 0x40));
  ignored('a header shorter than it is', lying(ping, 14, 0x44));
  ignored('a header longer than the packet', lying(ping, 14, 0x4f));
  ignored('version 6 in a packet of version 4', lying(ping, 14, 0x65));
  ignored('a TCP header shorter than it is', lying(syn, 46, 0x40));
  ignored('a TCP header longer than the segment', lying(syn, 46, 0xf0));
  ignored('a datagram longer than its packet', lying(query, 38, 0, query.length - 34 + 1));
  ignored('a datagram shorter than its header', lying(query, 38, 0, 7));
  ignored('a question that the datagram cuts off', lying(query, 38, 0, 8 + QUERY.length - 1));
  ignored('an IPv6 packet longer than its frame', changed(ROUTER_SOLICITATION, 18, 0, 9));
  ignored('ARP for hardware addresses of 8 bytes', changed(ARP_REQUEST, 18, 8));
});

test('fragments that overlap, leave holes or are too many bytes never become a packet', () => {
  const echo = [...ECHO_REQUEST.slice(0, 8), ...new Array<number>(24).fill(7)];
  const whole = ipv4Frame(ICMP, GATEWAY, echo).subarray(34);
  /** Bytes `from` to `to` of a ping; more: others follow. */
  const piece = (from: number, to: number, more: boolean, at = from): Uint8Array =>
    ipv4Frame(ICMP, GATEWAY, [...whole.subarray(from, to)], { id: 5, fragment: (more ? 0x2000 : 0) | (at / 8) });
  const [first, last] = [piece(0, 16, true), piece(16, 32, false)];
  assert.equal(answersTo(first, last).length, 1);
  assert.equal(answersTo(last, first).length, 1);
  ignored('one alone', first);
  ignored('a hole', first, piece(24, 32, false));
  ignored('an overlap', first, piece(8, 32, false));
  ignored('two ends', piece(16, 24, false), piece(24, 32, false), first);
  ignored('pieces of no multiple of 8', piece(0, 15, true), last);
  // A packet of more than 64 KiB, which broke many in 1996.
  ignored('beyond 65535 bytes', first, piece(16, 32, false, 65528));
  const large = new Array<number>(1400).fill(0);
  const flood = Array.from({ length: 50 }, (_, i) =>
    ipv4Frame(ICMP, GATEWAY, large, { id: 6, fragment: 0x2000 | (i * 175) }),
  );
  ignored('and no end', ...flood);
  // Others go on.
  assert.equal(answersTo(...flood, first, last, ping).length, 2);
});

test('sources that are not the guest', () => {
  const sources = [
    ...[GATEWAY, NAME_SERVER, [10, 0, 2, 0], [10, 0, 2, 255], [10, 0, 3, 15], [127, 0, 0, 1], [0, 0, 0, 0]],
    ...[
      [192, 0, 2, 1],
      [224, 0, 0, 1],
      [255, 255, 255, 255],
    ],
  ];
  for (const source of sources) {
    for (const [protocol, to, upper] of [
      [ICMP, GATEWAY, ECHO_REQUEST],
      [TCP, NAME_SERVER, tcp(2)],
      [TCP, [10, 9, 9, 9], tcp(2)],
      [UDP, NAME_SERVER, udp(53, QUERY)],
    ] as const) {
      ignored(`${source}, protocol ${protocol}`, ipv4Frame(protocol, to, upper, { source }));
      assert.equal(answersTo(ipv4Frame(protocol, to, upper, { source: [10, 0, 2, 77] })).length, 1);
    }
  }
});

test('what is no question for a DHCP server', () => {
  const offer = (...message: readonly number[]): Uint8Array[] =>
    answersTo(ipv4Frame(UDP, GATEWAY, udp(67, message), { source: [0, 0, 0, 0] }));
  /** With a byte of its header changed. */
  const header = (at: number, value: number): number[] => DHCP_HEADER.map((byte, i) => (i === at ? value : byte));
  assert.equal(offer(...DHCP_HEADER, ...DHCP_OPTIONS).length, 1);
  // What comes after a broken option is not read; the kind of message stands before it.
  for (const options of [
    [53, 1, 1],
    [53, 1, 1, 55, 200, 1],
    [0, 0, 53, 1, 1, 55],
    [53, 1, 1, 53, 1, 3, 255],
  ]) {
    assert.equal(offer(...DHCP_HEADER, ...options).length, 1, `${options}`);
  }
  for (const [what, message] of Object.entries({
    nothing: [],
    'half a header': DHCP_HEADER.slice(0, 120),
    'no options': DHCP_HEADER,
    'a server’s message': [...header(0, 2), ...DHCP_OPTIONS],
    'hardware of another kind': [...header(1, 6), ...DHCP_OPTIONS],
    'hardware addresses of 16 bytes': [...header(2, 16), ...DHCP_OPTIONS],
    'another magic number': [...header(236, 0), ...DHCP_OPTIONS],
    'a kind of no length': [...DHCP_HEADER, 53, 0, 255],
    'a kind that is cut off': [...DHCP_HEADER, 53, 1],
    'a kind behind the end': [...DHCP_HEADER, 255, 53, 1, 1],
    'an unknown kind': [...DHCP_HEADER, 53, 1, 77, 255],
    'options without an end': [...DHCP_HEADER, ...new Array<number>(200).fill(55)],
    'a request to another server': [...DHCP_HEADER, 53, 1, 3, 54, 4, 10, 0, 2, 99, 255],
  })) {
    assert.deepEqual(offer(...message), [], what);
  }
  // An address that is another's is refused (DHCPNAK).
  const [refusal] = offer(...DHCP_HEADER, 53, 1, 3, 50, 4, 10, 0, 2, 99, 255);
  assert.deepEqual(refusal?.subarray(42 + 240, 42 + 243), Uint8Array.of(53, 1, 6));
});

test('hardware addresses without number get no more leases than there are', () => {
  const discover = (i: number): Uint8Array =>
    ipv4Frame(UDP, GATEWAY, udp(67, [...DHCP_HEADER.map((byte, at) => (at === 33 ? i : byte)), ...DHCP_OPTIONS]));
  const offers = answersTo(...Array.from({ length: 256 }, (_, i) => discover(i)));
  const addresses = new Set(offers.map((frame) => frame.subarray(42 + 16, 42 + 20).join('.')));
  assert.equal(addresses.size, offers.length);
  assert.equal(offers.length, 16);
});

test('what is no question for a name server', () => {
  const ask = (...message: readonly number[]): Uint8Array[] =>
    answersTo(ipv4Frame(UDP, NAME_SERVER, udp(53, message)), ipv4Frame(UDP, GATEWAY, udp(1, []), { source: GUEST }));
  /** With the bytes at `at` changed. */
  const query = (at: number, ...bytes: readonly number[]): number[] => [
    ...changed(Uint8Array.from(QUERY), at, ...bytes),
  ];
  // The second frame, to a port that is denied, has one answer; a question another.
  assert.equal(ask(...QUERY).length, 2);
  const name = (...labels: readonly number[]): number[] => [...QUERY.slice(0, 12), ...labels, 0, 0, 1, 0, 1];
  const label = [63, ...new Array<number>(63).fill(97)];
  for (const [what, message] of Object.entries({
    nothing: [],
    'half a header': QUERY.slice(0, 6),
    'no name': QUERY.slice(0, 12),
    'a name that is cut off': QUERY.slice(0, 15),
    'no type': QUERY.slice(0, -4),
    'an answer': query(2, 0x81),
    'another kind of question': query(2, 0x10),
    'no questions': query(4, 0, 0),
    'two questions': query(4, 0, 2),
    'a name that points to itself': name(0xc0, 12),
    'a label of 64 bytes': name(64, ...new Array<number>(64).fill(97)),
    'a name of 256 bytes': name(...label, ...label, ...label, ...label),
    '4 KiB and more': [...QUERY, ...new Array<number>(4096).fill(0)],
  })) {
    assert.equal(ask(...message).length, 1, what);
  }
});
