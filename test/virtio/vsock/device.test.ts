// The socket device against a driver and a host that a test plays: connections from both sides, their ends, and what a driver may not do.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { EAGAIN, EPIPE } from '../../../src/host/errno.ts';
import { endSending, receiveBytes, sendBytes } from '../../../src/host/socket.ts';
import * as V from '../../../src/virtio/constants.ts';
import { OP, type Packet, ROOM, type Said, VsockDriver } from './driver.ts';

const PORT = 52;
const GUEST_PORT = 1024;
/** The guest's buffer. */
const BUF_ALLOC = 10_000;
/** The device's. */
const DEVICE_BUFFER = 65536;
const RCV = 1;
const SEND = 2;
const ends = { host: PORT, guest: GUEST_PORT, bufAlloc: BUF_ALLOC };

let driver: VsockDriver;
beforeEach(() => {
  driver = new VsockDriver(8);
  driver.services.set(PORT, []);
});
afterEach(() => driver.end());

const text = (data: Uint8Array): string => Buffer.from(data).toString();

/** What the host's end has to read. 'end' at the end of the stream, 'again' when there is nothing. */
function read(fd: number): string {
  const buffer = Buffer.alloc(1 << 17);
  const count = receiveBytes(fd, buffer);
  if (count === -EAGAIN) return 'again';
  return count === 0 ? 'end' : buffer.toString('latin1', 0, count);
}

/** The one packet that there is. */
function only(): Packet {
  const packets = driver.receive();
  assert.equal(packets.length, 1, JSON.stringify(packets));
  return packets[0]!;
}

function nothing(): void {
  assert.deepEqual(driver.receive(), []);
}

/** A connection of the guest to the service; returns the host's end. */
function open(more: Said = {}): number {
  driver.send({ ...ends, op: OP.request, ...more });
  assert.equal(only().op, OP.response);
  return driver.services.get(PORT)!.at(-1)!;
}

test('the guest connects to a service of the host, and both speak', () => {
  driver.send({ ...ends, op: OP.request });
  const { data, ...answer } = only();
  assert.deepEqual(answer, {
    ...{ host: PORT, guest: GUEST_PORT, type: 1, op: OP.response, flags: 0 },
    ...{ bufAlloc: DEVICE_BUFFER, fwdCnt: 0 },
  });
  assert.equal(data.length, 0);
  const [fd] = driver.services.get(PORT)!;
  driver.send({ ...ends, op: OP.rw, data: Buffer.from('hello') });
  assert.equal(read(fd!), 'hello');
  sendBytes(fd!, Buffer.from('answer'));
  const packet = only();
  assert.deepEqual([packet.op, text(packet.data), packet.fwdCnt], [OP.rw, 'answer', 5]);
  assert.ok(driver.device.writes.some((count) => count > 0));
});

test('a port without a service is refused', () => {
  driver.send({ ...ends, host: 9, op: OP.request });
  assert.deepEqual([only().op, driver.receive()], [OP.rst, []]);
});

test('the host connects to a port of the guest', () => {
  const fd = driver.client('CONN');
  driver.receive();
  sendBytes(fd, Buffer.from('ECT 1024\nat once'));
  const request = only();
  assert.deepEqual([request.op, request.guest, request.bufAlloc], [OP.request, 1024, DEVICE_BUFFER]);
  assert.ok(request.host >= 2 ** 30);
  assert.equal(read(fd), 'again');
  const there = { host: request.host, guest: 1024, bufAlloc: BUF_ALLOC };
  driver.send({ ...there, op: OP.response });
  assert.equal(read(fd), `OK ${request.host}\n`);
  assert.equal(text(only().data), 'at once');
  driver.send({ ...there, op: OP.rw, data: Buffer.from('welcome') });
  assert.equal(read(fd), 'welcome');
  // Another one has another port.
  driver.client('CONNECT 1024\n');
  assert.notEqual(only().host, request.host);
});

test('a guest that refuses, or that has no driver, is the end for the client', () => {
  const fd = driver.client('CONNECT 1024\n');
  const { host } = only();
  driver.send({ host, guest: 1024, op: OP.rst });
  assert.equal(read(fd), 'end');
  nothing();
  driver.device.reset();
  const early = driver.client('CONNECT 1024\n');
  driver.device.poll();
  assert.notEqual(read(early), 'again');
});

test('a client that says something else is turned away', () => {
  for (const line of [
    'CONNECT\n',
    'CONNECT 4294967296\n',
    'GET / HTTP/1.1\r\n',
    'CONNECT -1\n',
    'x'.repeat(100),
    'CONNECT 1 1\n',
  ]) {
    const fd = driver.client(line);
    nothing();
    // The end, or a broken connection.
    assert.ok(receiveBytes(fd, Buffer.alloc(10)) !== -EAGAIN, line);
  }
  const fd = driver.client('CONNECT 42949');
  nothing();
  driver.close(fd);
  nothing();
});

test('a client that goes before the guest answers', () => {
  const fd = driver.client('CONNECT 1024\n');
  const { host } = only();
  driver.close(fd);
  assert.equal(only().op, OP.rst);
  driver.send({ host, guest: 1024, op: OP.response });
  assert.equal(only().op, OP.rst);
});

test('each half ends by itself: the guest first', () => {
  const fd = open();
  driver.send({ ...ends, op: OP.rw, data: Buffer.from('last') });
  driver.send({ ...ends, op: OP.shutdown, flags: SEND });
  assert.deepEqual([read(fd), read(fd)], ['last', 'end']);
  sendBytes(fd, Buffer.from('answer'));
  assert.equal(text(only().data), 'answer');
  driver.close(fd);
  const packet = only();
  assert.deepEqual([packet.op, packet.flags & SEND], [OP.shutdown, SEND]);
  driver.send({ ...ends, op: OP.shutdown, flags: RCV | SEND });
  assert.equal(only().op, OP.rst);
});

test('each half ends by itself: the host first', () => {
  const fd = open();
  sendBytes(fd, Buffer.from('last'));
  endSending(fd);
  const packets = driver.receive();
  assert.deepEqual(
    packets.map(({ op, flags }) => [op, flags]),
    [
      [OP.rw, 0],
      [OP.shutdown, SEND],
    ],
  );
  driver.send({ ...ends, op: OP.rw, data: Buffer.from('answer') });
  assert.equal(read(fd), 'answer');
  driver.close(fd);
  const packet = only();
  assert.deepEqual([packet.op, packet.flags], [OP.shutdown, RCV | SEND]);
  // What was under way is lost, and no fault.
  driver.send({ ...ends, op: OP.rw, data: Buffer.from('too late') });
  nothing();
  driver.send({ ...ends, op: OP.rst });
  nothing();
  driver.send({ ...ends, op: OP.rw, data: Buffer.from('nobody') });
  assert.equal(only().op, OP.rst);
});

test('a guest that takes no more: writes of the host fail', () => {
  const fd = open();
  driver.send({ ...ends, op: OP.shutdown, flags: RCV });
  driver.receive();
  assert.equal(sendBytes(fd, Buffer.from('x')), -EPIPE);
  driver.send({ ...ends, op: OP.rw, data: Buffer.from('still') });
  assert.equal(read(fd), 'still');
});

test('a host that goes with much unsent: the guest gets all of it before it learns', () => {
  const fd = open();
  const sent = Buffer.alloc(BUF_ALLOC, 'abcdefg');
  assert.equal(sendBytes(fd, sent), sent.length);
  driver.close(fd);
  const packets = driver.receive();
  assert.deepEqual(Buffer.concat(packets.map(({ data }) => data)), sent);
  driver.send({ ...ends, op: OP.creditUpdate, fwdCnt: sent.length });
  const last = only();
  assert.deepEqual([last.op, last.flags], [OP.shutdown, RCV | SEND]);
});

test('the guest gets no more than it has room for, and is asked when it has none', () => {
  const fd = open();
  const sent = Buffer.alloc(3 * BUF_ALLOC, '0123456789');
  sendBytes(fd, sent);
  let packets = driver.receive();
  assert.equal(packets.at(-1)?.op, OP.creditRequest);
  let got = Buffer.concat(packets.map(({ data }) => data));
  assert.equal(got.length, BUF_ALLOC);
  driver.send({ ...ends, op: OP.creditUpdate, fwdCnt: 0 });
  nothing();
  driver.send({ ...ends, op: OP.creditUpdate, fwdCnt: 1 });
  packets = driver.receive();
  assert.deepEqual([packets[0]!.data.length, packets.at(-1)?.op], [1, OP.creditRequest]);
  got = Buffer.concat([got, packets[0]!.data]);
  while (got.length < sent.length) {
    driver.send({ ...ends, op: OP.creditUpdate, fwdCnt: got.length });
    got = Buffer.concat([got, ...driver.receive().map(({ data }) => data)]);
  }
  assert.deepEqual(got, sent);
  // A guest that makes its buffer smaller than what is in it.
  driver.send({ ...ends, op: OP.creditUpdate, bufAlloc: 10, fwdCnt: got.length - 100 });
  sendBytes(fd, Buffer.from('more'));
  assert.equal(only().op, OP.creditRequest);
});

test('what the host does not take waits, up to the buffer; the guest learns what was taken', () => {
  const fd = open();
  const piece = Buffer.alloc(ROOM, 'p');
  let sent = 0;
  let told = 0;
  const hasRoom = (): boolean => sent - told + piece.length <= DEVICE_BUFFER;
  for (; hasRoom(); sent += piece.length) {
    driver.send({ ...ends, op: OP.rw, data: piece });
    for (const { fwdCnt } of driver.receive()) told = fwdCnt;
    if (hasRoom()) continue;
    // It is not told of each byte that is taken.
    driver.send({ ...ends, op: OP.creditRequest });
    const { op, fwdCnt } = only();
    assert.equal(op, OP.creditUpdate);
    told = fwdCnt;
  }
  assert.ok(sent > DEVICE_BUFFER && told > 0);
  driver.send({ ...ends, op: OP.shutdown, flags: SEND });
  let got = 0;
  for (let said = read(fd); said !== 'end'; said = read(fd)) {
    if (said === 'again') driver.device.poll();
    else got += said.length;
  }
  assert.equal(got, sent);
  assert.ok(driver.receive().some((packet) => packet.fwdCnt === sent));
});

test('a guest that goes: what it sent before reaches the host', () => {
  for (const last of [{ op: OP.rst }, { op: OP.shutdown, flags: RCV | SEND }]) {
    const fd = open();
    let sent = 0;
    for (let count = 0; sent - count + ROOM <= DEVICE_BUFFER; sent += ROOM) {
      driver.send({ ...ends, op: OP.rw, data: Buffer.alloc(ROOM, 'l') });
      for (const { fwdCnt } of driver.receive()) count = fwdCnt;
    }
    driver.send({ ...ends, ...last });
    if (last.op === OP.rst) nothing();
    let got = 0;
    for (let said = read(fd); said !== 'end'; said = read(fd)) {
      if (said === 'again') driver.device.poll();
      else got += said.length;
    }
    assert.equal(got, sent);
    const answers = driver.receive();
    assert.equal(answers.at(-1)?.op, last.op === OP.rst ? undefined : OP.rst);
  }
});

test('a guest that sends more than it may, or what makes no sense, loses the connection', () => {
  const bad: readonly Said[] = [
    { op: 0 },
    { op: 8 },
    { op: OP.request },
    { op: OP.response },
    { op: OP.rw, length: 6, data: Buffer.from('short') },
    { op: OP.rw, length: 2 ** 32 - 1 },
  ];
  for (const said of bad) {
    const fd = open();
    driver.send({ ...ends, ...said });
    assert.equal(only().op, OP.rst, JSON.stringify(said));
    assert.equal(read(fd), 'end');
  }
  // With nobody reading, at some time it has sent more than the host's socket and the buffer hold.
  open();
  let answers: Packet[] = [];
  for (let i = 0; i < 400 && answers.at(-1)?.op !== OP.rst; i++) {
    driver.send({ ...ends, op: OP.rw, data: Buffer.alloc(ROOM) });
    answers = driver.receive();
  }
  assert.equal(answers.at(-1)?.op, OP.rst);
  const fd = open();
  driver.send({ ...ends, op: OP.shutdown, flags: SEND });
  driver.send({ ...ends, op: OP.rw, data: Buffer.from('after the end') });
  assert.equal(only().op, OP.rst);
  assert.equal(read(fd), 'end');
});

test('packets of others, to others, of other kinds', () => {
  driver.send({ ...ends, op: OP.request, srcCid: 78n });
  driver.send({ ...ends, op: OP.request, srcCid: 77n + 2n ** 32n });
  driver.send({ ...ends, op: OP.request, dstCid: 3n });
  nothing();
  driver.send({ ...ends, op: OP.request, type: 2 });
  assert.deepEqual(
    driver.receive().map(({ op, type }) => [op, type]),
    [[OP.rst, 2]],
  );
  const fd = open();
  driver.send({ ...ends, op: OP.rw, type: 2, data: Buffer.from('x') });
  assert.equal(only().type, 2);
  assert.equal(read(fd), 'again');
});

test('connections have a limit, for both sides', () => {
  for (let i = 0; i < 8; i++) open({ guest: 2000 + i });
  driver.send({ ...ends, guest: 3000, op: OP.request });
  assert.equal(only().op, OP.rst);
  const waits = driver.client('CONNECT 5\n');
  nothing();
  assert.equal(read(waits), 'again');
  driver.send({ ...ends, guest: 2003, op: OP.rst });
  assert.equal(only().op, OP.request);
});

test('a driver without receive buffers is not listened to for ever', () => {
  driver.buffers = 0;
  let taken = 0;
  // Nobody serves this port: each packet makes a reset.
  while (taken < 1000 && driver.send({ ...ends, host: 9, guest: taken, op: OP.rw })) taken++;
  assert.ok(taken >= 100 && taken < 500, String(taken));
  driver.buffers = 64;
  assert.equal(driver.receive().length, taken + 1);
});

test('receive buffers and packets without room for a header break the driver', () => {
  driver.device.queues[1]!.add([{ address: 0x30_0000, length: 43 }]);
  driver.device.notify(1);
  assert.equal(driver.device.transport.status & V.DEVICE_NEEDS_RESET, V.DEVICE_NEEDS_RESET);
  driver.device.reset();
  driver.device.bringUp();
  driver.device.queues[0]!.add([{ address: 0x30_0000, length: 43, writable: true }]);
  driver.buffers = 0;
  driver.send({ ...ends, host: 9, op: OP.rw });
  assert.equal(driver.device.transport.status & V.DEVICE_NEEDS_RESET, V.DEVICE_NEEDS_RESET);
});

test('a reset ends all connections, and the device begins anew', () => {
  const fd = open();
  const client = driver.client('CONNECT 1024\n');
  driver.send({ ...ends, guest: 1, op: OP.request });
  driver.device.reset();
  assert.deepEqual([read(fd), read(client)], ['end', 'end']);
});
