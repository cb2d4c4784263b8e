// The console: bytes of its ports both ways, and the control messages by which a driver learns of them.
import assert from 'node:assert/strict';
import { openSync, readSync, writeSync } from 'node:fs';
import { after, test } from 'node:test';
import { closeDescriptor } from '../../src/host/descriptor.ts';
import { ENOSPC } from '../../src/host/errno.ts';
import { socketPair } from '../../src/host/stream-socket.ts';
import { create } from '../../src/virtio/console/backend.ts';
import * as C from '../../src/virtio/console/constants.ts';
import { consoleModel } from '../../src/virtio/console/model.ts';
import { features, VIRTIO_F_VERSION_1 } from '../../src/virtio/constants.ts';
import { TestDevice } from './test-device.ts';

const OUT = 0x8000;
const IN = 0x2_0000;
const ROOM = 64;

const undo: (() => void)[] = [];
after(() => {
  for (const step of undo) step();
});

/** A console and two named ports: one with somebody on the host, one whose output has no room. */
function make(bits?: bigint) {
  const [terminal, console] = socketPair({ nonBlocking: true });
  const [host, port] = socketPair({ nonBlocking: true });
  const device = new TestDevice(
    consoleModel([
      { name: 'console', console: true, input: console, output: console },
      { name: 'org.test', console: false, input: port, output: port },
      { name: 'full', console: false, input: undefined, output: openSync('/dev/full', 'w') },
    ]),
    create,
  );
  undo.push(() => {
    device.close();
    for (const fd of [terminal, host]) closeDescriptor(fd);
  });
  device.messages();
  device.bringUp(bits);
  /** Gives a queue buffers for input. */
  const giveRoom = (queue: number, count: number): void => {
    for (let i = 0; i < count; i++) {
      device.queues[queue]!.add([{ address: IN + queue * 0x4000 + i * ROOM, length: ROOM, writable: true }]);
    }
    device.notify(queue);
  };
  /** What came in on a queue, buffer by buffer. */
  const received = (queue: number): Buffer[] => {
    device.poll();
    const buffers: Buffer[] = [];
    for (let one = device.queues[queue]!.take(); one !== undefined; one = device.queues[queue]!.take()) {
      const { descriptors } = device.queues[queue]!.config;
      const address = Number(device.memory.readU64(descriptors + 16 * one.head));
      buffers.push(Buffer.from(device.memory.read(address, one.written)));
    }
    return buffers;
  };
  const send = (queue: number, text: string | Uint8Array): void => {
    device.memory.write(OUT, Buffer.from(text));
    device.queues[queue]!.add([{ address: OUT, length: text.length }]);
    device.notify(queue);
  };
  const control = (id: number, event: number, value: number): void => {
    const message = Buffer.alloc(C.CONTROL_SIZE);
    message.writeUInt32LE(id, 0);
    message.writeUInt16LE(event, 4);
    message.writeUInt16LE(value, 6);
    send(C.CONTROL_TRANSMIT, message);
    device.queues[C.CONTROL_TRANSMIT]!.take();
  };
  /** Control messages from the device: port, event, value, text. */
  const told = (): [number, number, number, string][] =>
    received(C.CONTROL_RECEIVE).map((bytes) => [
      bytes.readUInt32LE(0),
      bytes.readUInt16LE(4),
      bytes.readUInt16LE(6),
      bytes.toString('latin1', 8),
    ]);
  return { device, terminal, host, giveRoom, received, send, control, told };
}

function text(fd: number): string {
  const buffer = Buffer.alloc(1 << 20);
  try {
    return buffer.toString('latin1', 0, readSync(fd, buffer));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'EAGAIN');
    return '';
  }
}

test('the driver is told of all ports, their names, and who is there', () => {
  const { device, giveRoom, control, told } = make();
  giveRoom(C.CONTROL_RECEIVE, 32);
  control(0xffff_ffff, C.VIRTIO_CONSOLE_DEVICE_READY, 1);
  assert.deepEqual(
    told(),
    [0, 1, 2].map((port) => [port, C.VIRTIO_CONSOLE_PORT_ADD, 1, '']),
  );
  control(0, C.VIRTIO_CONSOLE_PORT_READY, 1);
  assert.deepEqual(told(), [
    [0, C.VIRTIO_CONSOLE_CONSOLE_PORT, 1, ''],
    [0, C.VIRTIO_CONSOLE_PORT_NAME, 1, 'console'],
    [0, C.VIRTIO_CONSOLE_PORT_OPEN, 1, ''],
  ]);
  control(1, C.VIRTIO_CONSOLE_PORT_READY, 1);
  assert.deepEqual(told(), [[1, C.VIRTIO_CONSOLE_PORT_NAME, 1, 'org.test']]);
  device.request({ kind: 'open', port: 1, open: true });
  device.request({ kind: 'open', port: 1, open: false });
  device.request({ kind: 'open', port: 2, open: true });
  assert.deepEqual(told(), [
    [1, C.VIRTIO_CONSOLE_PORT_OPEN, 1, ''],
    [1, C.VIRTIO_CONSOLE_PORT_OPEN, 0, ''],
  ]);
  control(9, C.VIRTIO_CONSOLE_PORT_READY, 1);
  device.request({ kind: 'size', columns: 132, rows: 50 });
  assert.deepEqual(told(), [[0, C.VIRTIO_CONSOLE_RESIZE, 0, '\x84\0\x32\0']]);
});

test('a driver that has things said for ever and gives no room for them is stopped', () => {
  const { device, control } = make();
  for (let i = 0; i < 200; i++) control(0, C.VIRTIO_CONSOLE_DEVICE_READY, 1);
  assert.equal(device.transport.status & 64, 64);
});

test('bytes go both ways, each port for itself; what comes before the guest opens a port waits', () => {
  const { device, terminal, host, giveRoom, received, send, control } = make();
  const queue = C.portQueue(1);
  send(1, 'to the terminal');
  send(queue + 1, 'to the host');
  assert.equal(text(terminal), 'to the terminal');
  assert.equal(text(host), 'to the host');
  writeSync(terminal, 'typed ahead');
  writeSync(host, 'x'.repeat(3 * ROOM + 1));
  device.poll();
  giveRoom(0, 2);
  giveRoom(queue, 2);
  assert.equal(Buffer.concat(received(0)).toString(), 'typed ahead');
  assert.deepEqual(received(queue), []);
  control(1, C.VIRTIO_CONSOLE_PORT_OPEN, 1);
  assert.deepEqual(
    received(queue).map(({ length }) => length),
    [ROOM, ROOM],
  );
  giveRoom(queue, 3);
  assert.deepEqual(
    received(queue).map(({ length }) => length),
    [ROOM, 1],
  );
  writeSync(host, 'and more');
  assert.equal(Buffer.concat(received(queue)).toString(), 'and more');
  giveRoom(queue, 1);
  control(1, C.VIRTIO_CONSOLE_PORT_OPEN, 0);
  writeSync(host, 'for the next');
  assert.deepEqual(received(queue), []);
  control(1, C.VIRTIO_CONSOLE_PORT_OPEN, 1);
  assert.equal(Buffer.concat(received(queue)).toString(), 'for the next');
});

test('a host that does not read holds up its port alone, and loses nothing', () => {
  const { device, terminal, host, send } = make();
  const queue = device.queues[C.portQueue(1) + 1]!;
  const length = 1 << 20;
  device.memory.fill(OUT, length, 'y'.charCodeAt(0));
  queue.add([
    { address: OUT, length: 100 },
    { address: OUT + 100, length: length - 100 },
  ]);
  device.notify(C.portQueue(1) + 1);
  assert.equal(queue.take(), undefined, 'more than the socket holds');
  send(1, 'meanwhile');
  assert.equal(text(terminal), 'meanwhile');
  let got = 0;
  for (let i = 0; i < 1000 && got < length; i++) {
    got += text(host).length;
    device.poll();
  }
  assert.equal(got, length);
  assert.ok(queue.take());
});

test('an output that fails is told of once, and the guest goes on', () => {
  const { device, send } = make();
  for (let i = 0; i < 3; i++) send(C.portQueue(2) + 1, 'lost');
  assert.deepEqual(device.messages(), [{ event: { kind: 'output-failed', port: 'full', errno: ENOSPC } }]);
  for (let i = 0; i < 3; i++) assert.ok(device.queues[C.portQueue(2) + 1]!.take());
});

test('a reset in the middle of everything; a driver that knows one port only', () => {
  const { device, terminal, host, giveRoom, received } = make();
  const length = 1 << 20;
  device.queues[C.portQueue(1) + 1]!.add([{ address: OUT, length }]);
  device.notify(C.portQueue(1) + 1);
  writeSync(terminal, 'early');
  device.reset();
  text(host);
  device.poll();
  device.bringUp(features(VIRTIO_F_VERSION_1));
  giveRoom(0, 1);
  assert.equal(Buffer.concat(received(0)).toString(), 'early');
  giveRoom(C.portQueue(1), 1);
  writeSync(host, 'nobody');
  assert.deepEqual(received(C.portQueue(1)), []);
});
