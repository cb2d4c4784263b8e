// The socket device of the host's kernel, where there is one: a program of the host and a driver that this test plays.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasEvent } from '../../../src/host/eventfd.ts';
import { ISR_QUEUE } from '../../../src/virtio/constants.ts';
import { create } from '../../../src/virtio/vsock/vhost-backend.ts';
import { vhostVsockModel } from '../../../src/virtio/vsock/vhost-model.ts';
import { TestDevice } from '../test-device.ts';
import { CID, OP, type Packet, PacketDriver } from '../vsock/driver.ts';
import { startDevice } from './running.ts';

const skip = !existsSync('/dev/vhost-vsock') && 'no /dev/vhost-vsock';
const PORT = 1234;
/** Milliseconds: much, since a whole machine may be emulated. */
const LIMIT = 60_000;

/** Connects to the guest, says hello, and prints the answer. SO_VM_SOCKETS_CONNECT_TIMEOUT (6): the kernel waits two seconds otherwise. */
const CLIENT = `
import ctypes, socket, struct
s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
ctypes.CDLL(None).setsockopt(s.fileno(), socket.AF_VSOCK, 6, struct.pack('ll', ${LIMIT / 1000}, 0), 16)
s.settimeout(${LIMIT / 1000})
s.connect((${CID}, ${PORT}))
s.sendall(b'hello')
print(s.recv(100).decode())
`;

/** Packets as they come, one at a time. */
class Packets {
  readonly #driver: PacketDriver;
  readonly #waiting: Packet[] = [];

  constructor(driver: PacketDriver) {
    this.#driver = driver;
  }

  async next(): Promise<Packet> {
    for (const end = Date.now() + LIMIT; Date.now() < end; await sleep(5)) {
      // Of connections that are over the kernel may still say so.
      this.#waiting.push(...this.#driver.take().filter(({ op }) => op !== OP.rst));
      const packet = this.#waiting.shift();
      if (packet !== undefined) return packet;
    }
    throw new Error('no packet came');
  }
}

const KINDS = [
  { place: 'thread', line: false },
  { place: 'thread', line: true },
  { place: 'jail', line: false },
] as const;

for (const { place, line } of KINDS) {
  const how = `interrupts by ${line ? 'line' : 'vector'}, the back end in a ${place}`;
  test(`a program of the host connects to the guest, ${how}`, { skip }, async () => {
    const { device, reset, end } = await startDevice(vhostVsockModel(CID), create, place, { line });
    const driver = new PacketDriver(device);
    try {
      for (let round = 0; round < 2; round++) {
        device.bringUp();
        const packets = new Packets(driver);
        const client = spawn('python3', ['-c', CLIENT], { stdio: ['ignore', 'pipe', 'inherit'] });
        const output = client.stdout.toArray();
        const request = await packets.next();
        assert.deepEqual([request.op, request.guest], [OP.request, PORT]);
        const ends = { host: request.host, guest: PORT, bufAlloc: 65536 };
        driver.send({ ...ends, op: OP.response });
        const hello = await packets.next();
        assert.deepEqual([hello.op, Buffer.from(hello.data).toString()], [OP.rw, 'hello']);
        driver.send({ ...ends, op: OP.rw, data: Buffer.from('welcome') });
        assert.equal(Buffer.concat(await output).toString(), 'welcome\n');
        let last = OP.rw as number;
        while (last !== OP.shutdown) last = (await packets.next()).op;
        driver.send({ ...ends, op: OP.rst });
        if (line) {
          device.poll();
          assert.equal(device.transport.state.takeIsr(ISR_QUEUE), ISR_QUEUE);
          assert.ok(device.lineEdges() > 0);
        } else assert.ok(hasEvent(device.vectorEvent(0)));
        await reset();
        driver.forget();
      }
    } finally {
      await end();
    }
  });
}

test('a CID that another guest has', { skip }, () => {
  const first = new TestDevice(vhostVsockModel(CID), create);
  try {
    assert.throws(() => vhostVsockModel(CID), /^VhostError: another guest has CID 77: choose another with --cid$/);
  } finally {
    first.close();
  }
});

test('without the kernel’s device the user is told in one line', { skip: skip === false && 'there is one' }, () => {
  assert.throws(
    () => vhostVsockModel(CID),
    /^VhostError: there is no \/dev\/vhost-vsock: load the module vhost_vsock, or use sockets in user space, with --vsock$/,
  );
});
