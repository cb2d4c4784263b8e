// The user network fed with frames that no honest guest sends. Prints its seed; NET_FUZZ_SEED takes it back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventLoop } from '../../src/host/event-loop.ts';
import { addBytes, finish, pseudoHeader } from '../../src/net/checksum.ts';
import { failure, isAnswer, readAddresses, readQuery } from '../../src/net/dns/message.ts';
import type { FrameInfo } from '../../src/net/link.ts';
import { MemoryFrame } from '../../src/net/memory-frame.ts';
import { UserNetwork } from '../../src/net/network.ts';
import { Random } from '../disk/pseudo-random.ts';

const FRAMES = 60_000;
const GUEST_MAC = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const GATEWAY_MAC = [0x52, 0x55, 10, 0, 2, 2];
const GUEST = [10, 0, 2, 15];

/** An IPv4 frame from the guest with right checksums. `field`: offset of the checksum in what follows the IP header. */
function frame(protocol: number, destination: readonly number[], upper: readonly number[], field: number): Uint8Array {
  const bytes = Uint8Array.from([
    ...GATEWAY_MAC,
    ...GUEST_MAC,
    ...[8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0],
    ...GUEST,
    ...destination,
    ...upper,
  ]);
  const view = new DataView(bytes.buffer);
  view.setUint16(16, bytes.length - 14);
  view.setUint16(24, finish(addBytes(0, bytes, 14, 34)));
  const pseudo = protocol === 1 ? 0 : pseudoHeader(bytes.slice(26, 30), bytes.slice(30, 34), protocol, upper.length);
  view.setUint16(34 + field, finish(addBytes(pseudo, bytes, 34)));
  return bytes;
}

const ports = (from: number, to: number): number[] => [from >> 8, from & 255, to >> 8, to & 255];
const tcp = (flags: number, data: readonly number[] = []): number[] => [
  ...ports(40000, 53),
  ...[0, 0, 1, 0, 0, 0, 0, 0, 0x60, flags, 255, 255, 0, 0, 0, 0, 2, 4, 5, 180],
  ...data,
];
const query = [0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 119, 119, 119, 4, 116, 101, 115, 116, 0, 0, 1, 0, 1];
const udp = (to: number, data: readonly number[]): number[] => [
  ...ports(40000, to),
  ...[(8 + data.length) >> 8, (8 + data.length) & 255, 0, 0],
  ...data,
];
const dhcp = [
  ...[1, 1, 6, 0, 1, 2, 3, 4, ...new Array<number>(20).fill(0), ...GUEST_MAC, ...new Array<number>(202).fill(0)],
  ...[0x63, 0x82, 0x53, 0x63, 53, 1, 1, 50, 4, ...GUEST, 255],
];

const SAMPLES: readonly Uint8Array[] = [
  frame(6, [10, 0, 2, 3], tcp(2), 16),
  frame(6, [10, 0, 2, 3], tcp(16, [0, query.length, ...query]), 16),
  frame(6, [10, 0, 2, 3], tcp(17), 16),
  frame(6, [10, 0, 2, 3], tcp(4), 16),
  frame(6, [10, 9, 9, 9], tcp(2), 16),
  frame(17, [10, 0, 2, 3], udp(53, query), 6),
  frame(17, [10, 0, 2, 2], udp(67, dhcp), 6),
  frame(17, [10, 9, 9, 9], udp(9, [1, 2, 3]), 6),
  frame(1, [10, 0, 2, 2], [8, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4], 2),
  Uint8Array.from([
    ...[...new Array<number>(6).fill(255), ...GUEST_MAC, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, ...GUEST_MAC, ...GUEST],
    ...[0, 0, 0, 0, 0, 0, 10, 0, 2, 2],
  ]),
  Uint8Array.from([
    ...[0x33, 0x33, 0, 0, 0, 2, ...GUEST_MAC, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58, 255],
    ...[0xfe, 0x80, ...new Array<number>(13).fill(0), 9, 0xff, 2, ...new Array<number>(13).fill(0), 2],
    ...[133, 0, 0x7b, 0xa9, 0, 0, 0, 0],
  ]),
];

test('frames of any kind break nothing, and what they cost is bounded', (t) => {
  const seed = Number(process.env['NET_FUZZ_SEED'] ?? Date.now() % 2 ** 31);
  t.diagnostic(`NET_FUZZ_SEED=${seed}`);
  const random = new Random(seed);
  const loop = new EventLoop();
  let sent = 0;
  const link = {
    offloads: { checksum: true, tso4: true, tso6: true },
    send: (pieces: readonly Uint8Array[], _: FrameInfo): boolean => {
      sent++;
      assert.ok(pieces.reduce((sum, { length }) => sum + length, 0) <= 14 + 65535);
      return random.below(8) !== 0;
    },
  };
  // Nothing is allowed: no packet leaves this machine, whatever the frames say.
  const config = {
    mac: GUEST_MAC,
    mtu: 1500,
    allow: [],
    deny: ['*', '0.0.0.0/1', '128.0.0.0/1', '::/1', '8000::/1'],
    nameServers: [],
    hostAddresses: [],
    published: [],
  };
  const network = new UserNetwork(loop, link, config, { log: undefined, published: [] });
  for (const sample of SAMPLES) network.input(new MemoryFrame(sample.slice(), false));
  network.flush();
  assert.ok(sent >= 8, `${sent} answers to honest frames`);
  for (let i = 0; i < FRAMES; i++) {
    let bytes = SAMPLES[random.below(SAMPLES.length)]!.slice();
    for (let left = random.below(4); left > 0; left--) bytes[random.below(bytes.length)] = random.below(256);
    if (random.below(6) === 0) bytes = bytes.subarray(0, random.below(bytes.length + 1));
    // With the checksum left to the device nothing stops what was changed.
    const partial = random.below(2) === 0;
    if (partial && bytes.length >= 34) {
      bytes[24] = bytes[25] = 0;
      const sum = finish(addBytes(0, bytes, 14, 34));
      bytes[24] = sum >> 8;
      bytes[25] = sum;
    }
    network.input(new MemoryFrame(bytes, partial));
    if (random.below(16) === 0) network.flush();
    if (random.below(64) === 0) network.linkReady();
    if (random.below(512) === 0) loop.poll(0);
    if (random.below(20_000) === 0) network.reset();
  }
  network.flush();
  network.close();
  loop.close();
});

test('DNS messages of any kind are read or refused', (t) => {
  const seed = Number(process.env['NET_FUZZ_SEED'] ?? Date.now() % 2 ** 31);
  t.diagnostic(`NET_FUZZ_SEED=${seed}`);
  const random = new Random(seed);
  const good = Uint8Array.from([...query, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4]);
  good.set([0x81, 0x80], 2);
  good[7] = 1;
  const question = readQuery(Uint8Array.from(query))!;
  assert.equal(question.name, 'www.test');
  assert.ok(isAnswer(good, question, 9) && !isAnswer(good, question, 8));
  assert.deepEqual(readAddresses(good, question), [{ address: Uint8Array.of(1, 2, 3, 4), ttl: 60 }]);
  for (let i = 0; i < 100_000; i++) {
    const bytes = (i % 2 === 0 ? good : Uint8Array.from(query)).slice(0, random.below(good.length + 1));
    for (let left = 1 + random.below(5); left > 0; left--) {
      if (bytes.length > 0) bytes[random.below(bytes.length)] = random.below(256);
    }
    const asked = readQuery(bytes);
    if (asked !== undefined) {
      assert.match(asked.name, /^[!-~]*$/);
      assert.ok(failure(bytes, asked, 5).length <= bytes.length);
    }
    for (const { address } of readAddresses(bytes, question) ?? []) assert.ok([4, 16].includes(address.length));
  }
});
