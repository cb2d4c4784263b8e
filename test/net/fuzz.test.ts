// The user network fed with frames that no honest guest sends. Prints its seed; NET_FUZZ_SEED takes it back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventLoop } from '../../src/host/event-loop.ts';
import { failure, isAnswer, readAddresses, readQuery } from '../../src/net/dns/message.ts';
import type { FrameInfo } from '../../src/net/link.ts';
import { MemoryFrame } from '../../src/net/memory-frame.ts';
import { UserNetwork } from '../../src/net/network.ts';
import { Random } from '../disk/pseudo-random.ts';
import { ANSWERED, CLOSED, ipv4Frame, NAME_SERVER, QUERY, sumIpv4, TCP, tcp } from './frames.ts';

const FRAMES = 60_000;
const SAMPLES: readonly Uint8Array[] = [
  ...Object.values(ANSWERED),
  ipv4Frame(TCP, NAME_SERVER, tcp(16, [0, QUERY.length, ...QUERY])),
  ipv4Frame(TCP, NAME_SERVER, tcp(4)),
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
  const network = new UserNetwork(loop, link, CLOSED, { log: undefined, published: [] });
  for (const sample of SAMPLES) network.input(new MemoryFrame(sample.slice(), false));
  network.flush();
  assert.ok(sent >= Object.keys(ANSWERED).length, `${sent} answers to honest frames`);
  for (let i = 0; i < FRAMES; i++) {
    let bytes = SAMPLES[random.below(SAMPLES.length)]!.slice();
    for (let left = random.below(4); left > 0; left--) bytes[random.below(bytes.length)] = random.below(256);
    if (random.below(6) === 0) bytes = bytes.subarray(0, random.below(bytes.length + 1));
    // With the checksum left to the device nothing stops what was changed.
    const partial = random.below(2) === 0;
    if (partial && bytes.length >= 34) sumIpv4(bytes);
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
  const good = Uint8Array.from([...QUERY, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4]);
  good.set([0x81, 0x80], 2);
  good[7] = 1;
  const question = readQuery(Uint8Array.from(QUERY))!;
  assert.equal(question.name, 'www.test');
  assert.ok(isAnswer(good, question, 9) && !isAnswer(good, question, 8));
  assert.deepEqual(readAddresses(good, question), [{ address: Uint8Array.of(1, 2, 3, 4), ttl: 60 }]);
  for (let i = 0; i < 100_000; i++) {
    const bytes = (i % 2 === 0 ? good : Uint8Array.from(QUERY)).slice(0, random.below(good.length + 1));
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
