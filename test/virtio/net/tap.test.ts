// The network device on a tap of this machine.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { closeDescriptor } from '../../../src/host/descriptor.ts';
import { EventLoop } from '../../../src/host/event-loop.ts';
import { bindUdp, receiveFrom } from '../../../src/host/socket.ts';
import { addBytes, finish, fold, pseudoHeader } from '../../../src/net/checksum.ts';
import { hasFeature } from '../../../src/virtio/constants.ts';
import { GuestRanges } from '../../../src/virtio/guest-ranges.ts';
import * as N from '../../../src/virtio/net/constants.ts';
import { create } from '../../../src/virtio/net/tap-backend.ts';
import { tapNetModel } from '../../../src/virtio/net/tap-model.ts';
import { Queue } from '../../../src/virtio/queue.ts';
import { closeModels } from '../../../src/vm/device-models.ts';
import { namespacesMissing } from '../../net/namespace.ts';
import { DriverQueue, testMemory } from '../driver.ts';
import { TestDevice } from '../test-device.ts';
import { usePairs } from './pairs.ts';

const skip = namespacesMissing();
const BUFFERS = 0x10000;
const UDP_PORT = 4711;

test('frames go through a tap in both directions, and a link that goes down is told', { skip }, () => {
  const name = `vmt${process.pid % 100000}`;
  const model = tapNetModel(
    {
      kind: 'tap',
      tap: { name },
      address: Uint8Array.of(10, 99, 7, 1),
      netmask: Uint8Array.of(255, 255, 255, 0),
      mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
    },
    1,
  );
  const loop = new EventLoop();
  try {
    const shown = spawnSync('ip', ['addr', 'show', name], { encoding: 'utf8' }).stdout;
    assert.match(shown, /inet 10\.99\.7\.1\/24/);
    assert.match(shown, /02:00:00:00:00:01/);
    assert.match(shown, /[<,]UP[,>]/);
    const memory = testMemory();
    const ranges = new GuestRanges(memory);
    const [receive, transmit] = [new DriverQueue(memory, 0x1000, 64), new DriverQueue(memory, 0x4000, 64)];
    const queues = [receive, transmit].map((driver, i) => new Queue(i, driver.config, ranges, 0n, () => {}));
    const states: number[] = [];
    const backend = create({
      loop,
      memory,
      params: model.params,
      fds: model.fds,
      config: model.config,
      changeConfig: (_, bytes) => states.push(bytes[0]!),
      log: () => {},
      event: () => {},
      releaseMemory: () => {},
      queueEvents: [],
    });
    backend.start({ features: model.features, queues });
    for (let i = 0; i < 32; i++) receive.add([{ address: BUFFERS + i * 2048, length: 2048, writable: true }]);
    queues[0]!.onNotify();

    // A name that nobody has: the host asks by ARP who is 10.99.7.9.
    spawnSync('ping', ['-c', '1', '-W', '1', '10.99.7.9']);
    for (let left = 20; left > 0; left--) loop.poll(10);
    const frames: Uint8Array[] = [];
    for (let used = receive.take(); used !== undefined; used = receive.take()) {
      const index = frames.length;
      frames.push(memory.read(BUFFERS + index * 2048 + 12, used.written - 12));
    }
    const arp = frames.find((frame) => frame[12] === 8 && frame[13] === 6);
    assert.deepEqual(arp?.subarray(38, 42), Uint8Array.of(10, 99, 7, 9));

    const count = (): number => Number(readFileSync(`/sys/class/net/${name}/statistics/rx_packets`, 'utf8'));
    const before = count();
    const send = (length: number): void => {
      memory.fill(BUFFERS + 0x20000, length, 0);
      transmit.add([{ address: BUFFERS + 0x20000, length }]);
      queues[1]!.onNotify();
      assert.notEqual(transmit.take(), undefined);
    };
    send(12 + 60);
    assert.equal(count(), before + 1);
    // What is no frame is dropped here, and no harm is done.
    for (const length of [1, 12, 20]) send(length);
    assert.equal(count(), before + 1);
    assert.deepEqual(states, []);
    spawnSync('ip', ['link', 'set', name, 'down']);
    send(12 + 60);
    assert.deepEqual(states, [0]);
    spawnSync('ip', ['link', 'set', name, 'up']);
    send(12 + 60);
    assert.deepEqual(states, [0, 1]);
    backend.reset();
  } finally {
    closeModels([model]);
    loop.close();
  }
});

/** A UDP datagram over IPv4 in a frame with its virtio_net_hdr: to be cut into pieces of `size` bytes, its checksum left to others. */
function largeDatagram(data: Uint8Array, size: number): Buffer {
  const frame = Buffer.alloc(12 + 14 + 20 + 8 + data.length);
  const header = frame.subarray(0, 12);
  // VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_UDP_L4, hdr_len, gso_size, csum_start, csum_offset
  header.set([1, 5]);
  for (const [i, word] of [42, size, 34, 6].entries()) header.writeUInt16LE(word, 2 + 2 * i);
  frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0], 12);
  const ip = frame.subarray(26, 46);
  ip.set([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 99, 7, 2, 10, 99, 7, 1]);
  ip.writeUInt16BE(28 + data.length, 2);
  ip.writeUInt16BE(finish(addBytes(0, ip)), 10);
  const udp = frame.subarray(46);
  udp.writeUInt16BE(4000, 0);
  udp.writeUInt16BE(UDP_PORT, 2);
  udp.writeUInt16BE(8 + data.length, 4);
  // Of the pseudo-header alone, not inverted.
  udp.writeUInt16BE(fold(pseudoHeader(ip.subarray(12, 16), ip.subarray(16), 17, 8 + data.length)), 6);
  udp.set(data, 8);
  return frame;
}

test('a large datagram is cut by the kernel, where it can', { skip }, (t) => {
  const config = { address: Uint8Array.of(10, 99, 7, 1), netmask: Uint8Array.of(255, 255, 255, 0) };
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
  const model = tapNetModel({ kind: 'tap', tap: { name: `vmt${process.pid % 100000}` }, ...config, mac }, 1);
  const device = new TestDevice(model, create);
  const socket = bindUdp({ address: config.address, port: UDP_PORT });
  try {
    if (!hasFeature(model.features, N.VIRTIO_NET_F_HOST_USO)) return t.skip('this kernel does not cut UDP (Linux 6.2)');
    device.bringUp();
    const data = Buffer.from(Array.from({ length: 300 }, (_, i) => i & 0xff));
    const frame = largeDatagram(data, 120);
    device.memory.write(BUFFERS, frame);
    device.queues[1]!.add([{ address: BUFFERS, length: frame.length }]);
    device.notify(1);
    assert.notEqual(device.queues[1]!.take(), undefined);
    const pieces: Buffer[] = [];
    const buffer = Buffer.alloc(1000);
    for (let left = 100; pieces.length < 3 && left > 0; left--) {
      const got = receiveFrom(socket, buffer);
      if (typeof got === 'object') pieces.push(Buffer.from(buffer.subarray(0, got.length)));
      else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
    assert.deepEqual(
      pieces.map(({ length }) => length),
      [120, 120, 60],
    );
    assert.deepEqual(Buffer.concat(pieces), data);
  } finally {
    closeDescriptor(socket);
    device.close();
  }
});

test('a tap that vanishes is a link that is down, and costs nothing', { skip }, () => {
  const name = `vmt${process.pid % 100000}`;
  const device = new TestDevice(
    tapNetModel({ kind: 'tap', tap: { name }, mac: Uint8Array.of(2, 0, 0, 0, 0, 1) }, 1),
    create,
  );
  const linkUp = (): boolean => (device.transport.state.config[N.CONFIG_STATUS]! & N.VIRTIO_NET_S_LINK_UP) !== 0;
  try {
    device.bringUp();
    device.queues[0]!.add([{ address: BUFFERS, length: 2048, writable: true }]);
    device.notify(0);
    assert.ok(linkUp());
    assert.equal(spawnSync('ip', ['link', 'del', name]).status, 0);
    device.poll();
    assert.ok(!linkUp());
    assert.equal(device.interrupts('config'), 1);
    // Frames are lost as on a cable that is out, and the driver has its buffers back.
    for (let i = 0; i < 3; i++) {
      device.queues[1]!.add([{ address: BUFFERS + 4096, length: 72 }]);
      device.notify(1);
      assert.notEqual(device.queues[1]!.take(), undefined);
    }
    device.reset();
    device.bringUp();
    device.notify(0);
    assert.ok(!linkUp());
    assert.equal(device.interrupts('config'), 0);
  } finally {
    device.close();
  }
});

for (const place of ['thread', 'jail'] as const) {
  test(
    `frames come to the pairs of queues that the driver uses, and to no others; the back end in a ${place}`,
    { skip },
    () => usePairs(create, place),
  );
}

test('what is no tap is told in one line', () => {
  const fd = openSync('/dev/null', 'r');
  assert.throws(
    () => tapNetModel({ kind: 'tap', tap: { fd } }, 1),
    /descriptor \d+ is no tap: give one with --tap-fd$/,
  );
  closeSync(fd);
  assert.throws(() => tapNetModel({ kind: 'tap', tap: { name: 'lo' } }, 1), /^NetError: lo: the tap cannot be used: /);
});
