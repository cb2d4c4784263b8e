// The balloon: memory goes back to the host, and the driver's figures come out.
import assert from 'node:assert/strict';
import { fstatSync } from 'node:fs';
import { after, test } from 'node:test';
import { create } from '../../src/virtio/balloon/backend.ts';
import * as B from '../../src/virtio/balloon/constants.ts';
import { balloonModel } from '../../src/virtio/balloon/model.ts';
import { features as bits } from '../../src/virtio/constants.ts';
import { TestDevice } from './test-device.ts';

const MIB = 1 << 20;
const PFNS = 0x1000;
/** Memory that the tests give away. */
const PAGES = 2 * MIB;
const [INFLATE, DEFLATE, STATS, HINTS, REPORTS] = [0, 1, 2, 3, 4];

const devices: TestDevice[] = [];
after(() => {
  for (const device of devices) device.close();
});

function make(features?: bigint): TestDevice {
  const device = new TestDevice(balloonModel(), create, { memory: 4 * MIB });
  devices.push(device);
  device.messages();
  device.memory.fill(0, 4 * MIB, 1);
  device.bringUp(features);
  return device;
}

/** Bytes of the memory's file that the host has pages for. */
function resident(device: TestDevice): number {
  return fstatSync(device.memoryFd).blocks * 512;
}

function pages(device: TestDevice, queue: number, pfns: readonly number[]): void {
  device.memory.write(PFNS, new Uint8Array(Uint32Array.from(pfns).buffer));
  device.queues[queue]!.add([{ address: PFNS, length: 4 * pfns.length }]);
  device.notify(queue);
  assert.equal(device.queues[queue]!.take()?.written, 0);
}

function config(device: TestDevice, offset: number): number {
  const data = new Uint8Array(4);
  device.transport.readConfig(offset, data);
  return new DataView(data.buffer).getUint32(0, true);
}

test('pages of the balloon go back to the host, whatever their order, and read as zeroes', () => {
  const device = make();
  const before = resident(device);
  const pfns = Array.from({ length: 256 }, (_, i) => PAGES / 4096 + ((i * 77) % 256));
  pages(device, INFLATE, pfns);
  assert.equal(resident(device), before - MIB);
  assert.ok(device.memory.slice(PAGES, MIB).every((byte) => byte === 0));
  assert.equal(device.memory.readU8(PAGES + MIB), 1);
  assert.equal(device.memory.readU8(PAGES - 1), 1);
  // Nothing is there, and nothing happens. (What was looked at has pages again.)
  pages(device, INFLATE, [0xffff_ffff, 0x8000_0000, 4 * MIB]);
  pages(device, DEFLATE, pfns);
  assert.equal(resident(device), before);
  assert.equal(device.transport.status, 0xf);
});

test('reported free memory goes back, whole pages of it only', () => {
  const device = make();
  const before = resident(device);
  const queue = device.queues[REPORTS]!;
  queue.add([
    { address: PAGES, length: 65536, writable: true },
    { address: PAGES + 0x2_0000 + 1, length: 3 * 4096, writable: true },
  ]);
  device.notify(REPORTS);
  assert.ok(queue.take());
  assert.equal(resident(device), before - 65536 - 2 * 4096);
  assert.deepEqual(
    [0, 1].map((at) => device.memory.readU8(PAGES + 0x2_0000 + at)),
    [1, 1],
  );
});

test('hints of free pages are asked for, taken until the driver has no more, and not a moment longer', () => {
  const device = make();
  const before = resident(device);
  const queue = device.queues[HINTS]!;
  const id = (value: number): void => {
    device.memory.writeU32(PFNS, value);
    queue.add([{ address: PFNS, length: 4 }]);
    device.notify(HINTS);
    assert.ok(queue.take());
  };
  const hint = (address: number): void => {
    queue.add([{ address, length: 0x1_0000, writable: true }]);
    device.notify(HINTS);
    assert.ok(queue.take());
  };
  hint(PAGES);
  assert.equal(resident(device), before, 'nobody has asked');
  device.request({ kind: 'hint' });
  device.request({ kind: 'hint' });
  const command = config(device, B.CONFIG_FREE_PAGE_HINT_CMD_ID);
  assert.ok(command >= B.FIRST_COMMAND);
  assert.equal(device.interrupts('config'), 1);
  id(command);
  hint(PAGES);
  hint(PAGES + 0x1_0000);
  assert.equal(resident(device), before - 0x2_0000);
  assert.equal(device.hasMessage, false, 'the driver may have more');
  id(B.VIRTIO_BALLOON_CMD_ID_STOP);
  assert.deepEqual(
    device.messages(),
    [0, 1].map((id) => ({ id, answer: 0x2_0000 })),
  );
  assert.equal(config(device, B.CONFIG_FREE_PAGE_HINT_CMD_ID), B.VIRTIO_BALLOON_CMD_ID_DONE);
  hint(PAGES + 0x2_0000);
  assert.equal(resident(device), before - 0x2_0000);
  device.request({ kind: 'hint' });
  assert.equal(config(device, B.CONFIG_FREE_PAGE_HINT_CMD_ID), command + 1);
  device.reset();
  assert.deepEqual(device.messages(), [{ id: 2, answer: 0 }], 'a driver that goes gives no more');
});

test('its size is set and read by the main process; the driver writes what it has', () => {
  const device = make();
  device.request({ kind: 'set', size: MIB });
  assert.equal(config(device, B.CONFIG_NUM_PAGES), 256);
  assert.equal(device.interrupts('config'), 1);
  device.transport.writeConfig(B.CONFIG_ACTUAL, Uint8Array.of(100, 0, 0, 0));
  device.transport.writeConfig(B.CONFIG_NUM_PAGES, Uint8Array.of(1, 1, 1, 1));
  device.request({ kind: 'get' });
  for (const size of [-4096, 100, 8 * MIB, 0.5]) device.request({ kind: 'set', size });
  const messages = device.messages();
  assert.deepEqual(messages.slice(0, 2), [
    { id: 0, answer: null },
    { id: 1, answer: { target: MIB, actual: 100 * 4096 } },
  ]);
  assert.ok(messages.slice(2).every((message) => 'error' in message));
  assert.equal(messages.length, 6);
});

test('statistics are asked of the driver, and answered when it has given them', () => {
  const device = make();
  const queue = device.queues[STATS]!;
  const give = (...figures: readonly (readonly [number, bigint])[]): void => {
    for (const [i, [tag, value]] of figures.entries()) {
      device.memory.writeU16(PFNS + 10 * i, tag);
      device.memory.writeU64(PFNS + 10 * i + 2, value);
    }
    queue.add([{ address: PFNS, length: 10 * figures.length }]);
    device.notify(STATS);
  };
  give([4, 1000n]);
  assert.equal(queue.take(), undefined, 'the device keeps the buffer until it wants more');
  device.request({ kind: 'statistics' });
  assert.ok(queue.take());
  give([4, 2000n], [5, 4000n], [77, 1n], [6, 0xffff_ffff_ffff_ffffn]);
  assert.deepEqual(device.messages(), [{ id: 0, answer: { freeMemory: 2000, totalMemory: 4000 } }]);
});

test('queues are numbered without those of features that the driver did not take', () => {
  const { features } = balloonModel();
  const device = make(features & ~bits(B.VIRTIO_BALLOON_F_STATS_VQ, B.VIRTIO_BALLOON_F_FREE_PAGE_HINT));
  const before = resident(device);
  const queue = device.queues[2]!;
  queue.add([{ address: PAGES, length: 65536, writable: true }]);
  device.notify(2);
  assert.ok(queue.take());
  assert.equal(resident(device), before - 65536);
  device.request({ kind: 'hint' });
  assert.match(JSON.stringify(device.messages()), /no hints/);
});
