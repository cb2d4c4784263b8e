// Resolvers that answer nonsense, and others who answer in their place: what the guest's name server makes of it.
import assert from 'node:assert/strict';
import { createSocket, type RemoteInfo } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EventLoop } from '../../src/host/event-loop.ts';
import type { SocketAddress } from '../../src/host/socket.ts';
import { ConnectionLog } from '../../src/net/connection-log.ts';
import { KnownNames } from '../../src/net/dns/known-names.ts';
import { readQuery } from '../../src/net/dns/message.ts';
import { NameService } from '../../src/net/dns/service.ts';
import { FrameWriter } from '../../src/net/ip/writer.ts';
import { NO_OFFLOADS } from '../../src/net/link.ts';
import { Policy } from '../../src/net/policy.ts';
import { QUERY } from './frames.ts';

const LOOPBACK = Uint8Array.of(127, 0, 0, 1);
const ADDRESS = Uint8Array.of(192, 88, 99, 1);
const ID = 0;
const FLAGS = 2;
const ANSWERS = 6;
const SERVFAIL = 2;
const NXDOMAIN = 3;
const FAILED = { event: 'fail', protocol: 'dns', name: 'www.test' };
/** ms. */
const PATIENCE = 20_000;

/** A right response to a question: one address. */
function response(query: Uint8Array): Buffer {
  const record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...ADDRESS];
  const message = Buffer.from([...query, ...record]);
  message.writeUInt16BE(0x8180, FLAGS);
  message.writeUInt16BE(1, ANSWERS);
  return message;
}

/** A copy with these bytes from `at` on. */
function changed(message: Uint8Array, at: number, ...bytes: readonly number[]): Buffer {
  const copy = Buffer.from(message);
  copy.set(bytes, at);
  return copy;
}

/** What is no answer to this question at all. */
function strange(query: Uint8Array): Buffer[] {
  const right = response(query);
  return [
    Buffer.alloc(0),
    right.subarray(0, 5),
    right.subarray(0, QUERY.length - 1),
    Buffer.from(query),
    changed(right, ID, (right[ID] as number) ^ 0x80),
    // Another name, another type, no question, two of them, a name without an end.
    changed(right, 13, 120),
    changed(right, QUERY.length - 3, 28),
    changed(right, 4, 0, 0),
    changed(right, 4, 0, 2),
    changed(right, 12, 0xc0, 12),
    changed(right, 12, 63),
    Buffer.alloc(600, 0xff),
  ];
}

/** Answers with records that are none. */
function malformed(query: Uint8Array): Buffer[] {
  const right = response(query);
  const record = query.length;
  return [
    right.subarray(0, -1),
    right.subarray(0, record),
    changed(right, ANSWERS, 255, 255),
    changed(right, record + 10, 0, 5),
    changed(right, record + 10, 0, 3),
    changed(right, record + 10, 255, 255),
    changed(right, record, 0x80),
    changed(right, record, 63),
  ];
}

interface Asked {
  readonly answer: Uint8Array;
  /** Names that it has learned. */
  readonly learned: readonly string[];
  /** What the log has of it, without the time. */
  readonly logged: readonly object[];
}

/** Asks the name server, whose resolver is at `port`. */
async function ask(port: number, stream: boolean): Promise<Asked> {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-log-'));
  const log = openSync(join(folder, 'log'), 'a');
  const loop = new EventLoop();
  const names = new KnownNames();
  const link = { offloads: NO_OFFLOADS, send: () => true };
  const services = {
    ...{ loop, names, now: 0, writer: new FrameWriter(link, 1500) },
    ...{ policy: new Policy([], []), log: new ConnectionLog(log) },
  };
  const server: SocketAddress = { address: LOOPBACK, port };
  const service = new NameService(services, [server]);
  try {
    let answer: Uint8Array | undefined;
    service.ask(Uint8Array.from(QUERY), stream, (message) => {
      answer = message;
    });
    for (const end = Date.now() + PATIENCE; answer === undefined; await sleep(1)) {
      assert.ok(Date.now() < end, 'no answer');
      loop.poll(0);
    }
    const lines = readFileSync(join(folder, 'log'), 'utf8').trim().split('\n');
    const logged = lines.map((line) => {
      const { time: _, ...event } = JSON.parse(line) as { time: string };
      return event;
    });
    return { answer, learned: names.of(ADDRESS, 0), logged };
  } finally {
    service.reset();
    loop.close();
    closeSync(log);
    rmSync(folder, { recursive: true });
  }
}

/** A resolver that sends these for a question, all of them. */
async function datagrams(answers: (query: Buffer) => readonly Buffer[]): Promise<{ port: number; close(): void }> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  socket.on('message', (query: Buffer, { port, address }: RemoteInfo) => {
    for (const answer of answers(query)) socket.send(answer, port, address);
  });
  return { port: socket.address().port, close: () => socket.close() };
}

const codeOf = (message: Uint8Array): number => (message[3] as number) & 15;

test('what is no answer is not taken for one, and the right one still is', async () => {
  const resolver = await datagrams((query) => [...strange(query), response(query)]);
  try {
    const { answer, learned, logged } = await ask(resolver.port, false);
    assert.deepEqual(Buffer.from(answer), response(Uint8Array.from(QUERY)));
    assert.deepEqual(learned, ['www.test']);
    assert.deepEqual(logged, [{ event: 'query', protocol: 'dns', name: 'www.test', addresses: ['192.88.99.1'] }]);
  } finally {
    resolver.close();
  }
});

test('a name that does not exist is in the log, too: the question has left the house', async () => {
  const resolver = await datagrams((query) => [changed(query, FLAGS, 0x81, 0x80 | NXDOMAIN)]);
  try {
    const { answer, logged } = await ask(resolver.port, false);
    assert.equal(codeOf(answer), NXDOMAIN);
    assert.deepEqual(logged, [{ event: 'query', protocol: 'dns', name: 'www.test', addresses: [] }]);
  } finally {
    resolver.close();
  }
});

test('an answer whose records are broken is a failure, and teaches nothing', async () => {
  for (let i = 0; i < malformed(Buffer.from(QUERY)).length; i++) {
    const resolver = await datagrams((query) => [malformed(query)[i] as Buffer]);
    try {
      const { answer, learned, logged } = await ask(resolver.port, false);
      assert.equal(codeOf(answer), SERVFAIL, `${i}`);
      assert.deepEqual(logged, [FAILED], `${i}`);
      assert.equal(readQuery(changed(answer, FLAGS, 1, 0))?.name, 'www.test');
      assert.deepEqual(learned, [], `${i}`);
    } finally {
      resolver.close();
    }
  }
});

test('a stream that breaks off, or lies about lengths, is a failure when all have been asked', async () => {
  const framed = (message: Uint8Array, length = message.length): Buffer =>
    Buffer.concat([Buffer.of(length >> 8, length & 255), message]);
  let connections = 0;
  const broken: ((query: Buffer) => Buffer)[] = [
    () => Buffer.alloc(0),
    () => Buffer.of(0),
    (query) => framed(response(query), 65535),
    (query) => framed(response(query)).subarray(0, -1),
    () => framed(Buffer.alloc(0)),
    ...strange(Buffer.from(QUERY)).map((_, i) => (query: Buffer) => framed(strange(query)[i] as Buffer)),
  ];
  for (const [i, answer] of broken.entries()) {
    const server = createServer((socket) => {
      connections++;
      socket.on('error', () => {});
      socket.once('data', (data: Buffer) => socket.end(answer(data.subarray(2))));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const before = connections;
    const { answer: failure, learned, logged } = await ask((server.address() as { port: number }).port, true);
    assert.equal(codeOf(failure), SERVFAIL, `${i}`);
    assert.deepEqual(logged, [FAILED], `${i}`);
    assert.deepEqual(learned, []);
    assert.equal(connections - before, 2);
    server.close();
  }
});
