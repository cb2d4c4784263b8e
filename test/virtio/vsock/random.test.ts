// Many connections at once, from both sides, with everything that can happen to one in any order: what arrives is what was sent.
// SEED repeats a run.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EAGAIN } from '../../../src/host/errno.ts';
import { endSending, receiveBytes, sendBytes } from '../../../src/host/socket.ts';
import { Random } from '../../disk/pseudo-random.ts';
import { OP, type Packet, VsockDriver } from './driver.ts';

const SEED = Number(process.env.SEED ?? Date.now() % 2 ** 32);
const STEPS = 12_000;
const MOST = 24;
const SERVICE = 7;
const NOBODY = 8;
const RCV = 1;
const SEND = 2;
const DEVICE_BUFFER = 65536;

/** Byte number `at` of stream number `stream`. */
const byteAt = (stream: number, at: number): number => (Math.imul(stream + 1, 193) + at + (at >>> 8)) & 0xff;

/** A stream of bytes, counted at its ends. */
class Stream {
  sent = 0;
  got = 0;
  /** Its writer has ended it, its reader has seen the end. */
  closed = false;
  ended = false;
  readonly #number: number;

  constructor(number: number) {
    this.#number = number;
  }

  next(length: number): Buffer {
    return Buffer.from(Array.from({ length }, (_, i) => byteAt(this.#number, this.sent + i)));
  }

  check(data: Uint8Array): void {
    assert.ok(!this.ended, 'nothing comes after the end');
    for (const [i, byte] of data.entries()) {
      if (byte !== byteAt(this.#number, this.got + i)) assert.fail(`byte ${this.got + i} of stream ${this.#number}`);
    }
    this.got += data.length;
    assert.ok(this.got <= this.sent);
  }
}

/** A connection as the test knows it. */
class Peer {
  readonly host: number;
  readonly guest: number;
  readonly toGuest: Stream;
  readonly toHost: Stream;
  readonly bufAlloc: number;
  fd: number | undefined;
  /** The guest has sent or got the response. */
  open = false;
  /** Bytes that the guest's program has read, of those that came. */
  consumed = 0;
  /** What the device has told of its buffer. */
  deviceForwarded = 0;
  /** One side has reset it, or broken it off: what was under way may be lost. */
  broken = false;

  constructor(host: number, guest: number, number: number, bufAlloc: number) {
    this.host = host;
    this.guest = guest;
    this.toGuest = new Stream(2 * number);
    this.toHost = new Stream(2 * number + 1);
    this.bufAlloc = bufAlloc;
  }

  get said() {
    return { host: this.host, guest: this.guest, bufAlloc: this.bufAlloc, fwdCnt: this.consumed };
  }
}

class World {
  readonly driver = new VsockDriver(MOST);
  readonly random = new Random(SEED);
  readonly peers = new Map<string, Peer>();
  /** Clients that have not been answered, by their descriptors. */
  readonly clients = new Map<number, { line: string; reply: string }>();
  readonly counts = { opened: 0, completed: 0, broken: 0, bytes: 0 };
  #nextGuest = 1;
  #number = 0;

  constructor() {
    this.driver.services.set(SERVICE, []);
  }

  below(limit: number): number {
    return this.random.below(limit);
  }

  get #any(): Peer | undefined {
    return [...this.peers.values()][this.below(this.peers.size || 1)];
  }

  step(): void {
    const peer = this.#any;
    switch (this.below(16)) {
      case 0:
        this.#guestConnects();
        break;
      case 1:
        if (this.clients.size < 4)
          this.clients.set(this.driver.client(`CONNECT ${this.below(1000)}\n`), { line: '', reply: '' });
        break;
      case 2:
      case 3:
      case 4:
        if (peer) this.guestSends(peer, 1 + this.below(8000));
        break;
      case 5:
      case 6:
      case 7:
        if (peer) this.#hostSends(peer);
        break;
      case 8:
      case 9:
        if (peer) this.hostReads(peer, 1 + this.below(30_000));
        break;
      case 10:
      case 11:
        if (peer) this.guestReads(peer, this.below(8000));
        break;
      case 12:
        if (peer) this.#ends(peer);
        break;
      case 13:
        if (peer && this.below(4) === 0) this.#breaks(peer);
        break;
      case 14:
        this.driver.buffers = [0, 1, 3, 64][this.below(4)]!;
        break;
    }
    this.settle();
  }

  #guestConnects(): void {
    if (this.peers.size >= MOST - 8) return;
    const guest = this.#nextGuest++;
    const refused = this.below(6) === 0;
    const peer = new Peer(refused ? NOBODY : SERVICE, guest, this.#number++, 500 + this.below(40_000));
    this.peers.set(`${peer.host}:${guest}`, peer);
    this.driver.send({ ...peer.said, op: OP.request });
  }

  guestSends(peer: Peer, length: number): void {
    if (!peer.open || peer.toHost.closed) return;
    const room = DEVICE_BUFFER - (peer.toHost.sent - peer.deviceForwarded);
    const data = peer.toHost.next(Math.min(length, room));
    peer.toHost.sent += data.length;
    this.driver.send({ ...peer.said, op: OP.rw, data });
  }

  #hostSends(peer: Peer): void {
    if (peer.fd === undefined || peer.toGuest.closed) return;
    const data = peer.toGuest.next(1 + this.below(20_000));
    const count = sendBytes(peer.fd, data);
    if (count > 0) peer.toGuest.sent += count;
  }

  hostReads(peer: Peer, most: number): void {
    if (peer.fd === undefined || peer.toHost.ended) return;
    const buffer = Buffer.alloc(most);
    const count = receiveBytes(peer.fd, buffer);
    if (count > 0) peer.toHost.check(buffer.subarray(0, count));
    else if (count !== -EAGAIN) {
      assert.ok(peer.toHost.closed || peer.broken, 'an end that nobody made');
      peer.toHost.ended = true;
    }
  }

  guestReads(peer: Peer, most: number): void {
    const count = Math.min(peer.toGuest.got - peer.consumed, most);
    if (!peer.open || count === 0) return;
    peer.consumed += count;
    this.driver.send({ ...peer.said, op: OP.creditUpdate });
  }

  #ends(peer: Peer): void {
    if (!peer.open) return;
    if (this.below(2) === 0) this.endGuest(peer);
    else this.endHost(peer);
  }

  endGuest(peer: Peer): void {
    if (!peer.open || peer.toHost.closed) return;
    peer.toHost.closed = true;
    this.driver.send({ ...peer.said, op: OP.shutdown, flags: SEND });
  }

  endHost(peer: Peer): void {
    if (peer.fd === undefined || peer.toGuest.closed) return;
    peer.toGuest.closed = true;
    endSending(peer.fd);
  }

  /** One side goes without a word, or closes all at once. */
  #breaks(peer: Peer): void {
    peer.broken = true;
    this.counts.broken++;
    const kind = this.below(3);
    if (kind === 0 && peer.fd !== undefined) {
      this.driver.close(peer.fd);
      peer.fd = undefined;
    } else if (kind === 1) {
      this.driver.send({ ...peer.said, op: OP.shutdown, flags: RCV | SEND });
    } else {
      this.driver.send({ ...peer.said, op: OP.rst });
      this.#forget(peer);
    }
  }

  #forget(peer: Peer): void {
    this.peers.delete(`${peer.host}:${peer.guest}`);
    if (peer.fd !== undefined) this.driver.close(peer.fd);
    peer.fd = undefined;
  }

  settle(): void {
    for (const packet of this.driver.receive()) this.#packet(packet);
    for (const [fd, client] of this.clients) this.#readReply(fd, client);
  }

  #packet(packet: Packet): void {
    const key = `${packet.host}:${packet.guest}`;
    const peer = this.peers.get(key);
    if (packet.op === OP.request) {
      assert.equal(peer, undefined);
      if (this.below(4) === 0) {
        this.driver.send({ ...packet, data: new Uint8Array(), op: OP.rst });
        return;
      }
      const made = new Peer(packet.host, packet.guest, this.#number++, 500 + this.below(40_000));
      made.open = true;
      this.peers.set(key, made);
      this.driver.send({ ...made.said, op: OP.response });
      return;
    }
    if (packet.op === OP.rst) {
      if (peer === undefined) return;
      assert.ok(
        peer.broken || peer.host === NOBODY || (peer.toHost.closed && peer.toGuest.closed),
        `a reset of ${key}`,
      );
      this.#forget(peer);
      return;
    }
    // Something that was under way when the guest forgot the connection.
    if (peer === undefined) return;
    peer.deviceForwarded = packet.fwdCnt;
    assert.equal(packet.bufAlloc, DEVICE_BUFFER);
    assert.ok(packet.fwdCnt <= peer.toHost.sent);
    if (packet.op === OP.response) {
      peer.open = true;
      peer.fd = this.driver.services.get(SERVICE)!.shift();
      this.counts.opened++;
    } else if (packet.op === OP.rw) {
      peer.toGuest.check(packet.data);
      assert.ok(peer.toGuest.got - peer.consumed <= peer.bufAlloc, 'more than the guest has room for');
    } else if (packet.op === OP.shutdown) {
      assert.ok(peer.toGuest.closed || peer.broken);
      if ((packet.flags & SEND) !== 0) peer.toGuest.ended = true;
    } else if (packet.op === OP.creditRequest) {
      this.driver.send({ ...peer.said, op: OP.creditUpdate });
    }
  }

  #readReply(fd: number, client: { line: string; reply: string }): void {
    const byte = Buffer.alloc(1);
    let count = 1;
    while (!client.reply.endsWith('\n') && (count = receiveBytes(fd, byte)) > 0) client.reply += byte.toString();
    if (count === -EAGAIN) return;
    this.clients.delete(fd);
    if (count <= 0) {
      this.driver.close(fd);
      return;
    }
    const port = /^OK (\d+)\n$/.exec(client.reply)?.[1];
    assert.ok(port, client.reply);
    const peer = [...this.peers.values()].find(({ host }) => host === Number(port));
    if (peer === undefined) {
      this.driver.close(fd);
      return;
    }
    peer.fd = fd;
    this.counts.opened++;
  }

  /** All that is open ends in order, and nothing is lost of it. */
  finish(): void {
    this.driver.buffers = 64;
    for (let rounds = 0; this.peers.size + this.clients.size > 0; rounds++) {
      assert.ok(rounds < 1000, `${this.peers.size} connections do not end`);
      this.settle();
      for (const peer of this.peers.values()) {
        this.endGuest(peer);
        this.endHost(peer);
        this.hostReads(peer, 1 << 17);
        this.guestReads(peer, 1 << 17);
        if (!peer.broken && !(peer.toGuest.ended && peer.toHost.ended)) continue;
        if (!peer.broken) {
          assert.deepEqual([peer.toGuest.got, peer.toHost.got], [peer.toGuest.sent, peer.toHost.sent]);
          this.counts.completed++;
          this.counts.bytes += peer.toGuest.got + peer.toHost.got;
          peer.broken = true;
        }
        if (peer.open || rounds > 500) this.driver.send({ ...peer.said, op: OP.shutdown, flags: RCV | SEND });
      }
    }
  }
}

test(`${STEPS} steps, SEED=${SEED}`, () => {
  const world = new World();
  for (let round = 0; round < 4; round++) {
    for (let step = 0; step < STEPS / 4; step++) world.step();
    world.finish();
  }
  const { opened, completed, broken, bytes } = world.counts;
  assert.ok(opened > 100 && completed > 20 && broken > 20 && bytes > 1 << 20, JSON.stringify(world.counts));
  world.driver.end();
});
