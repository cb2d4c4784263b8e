// A device's life, by the entropy device: status, features, resets, broken drivers, interrupts.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import * as V from '../../src/virtio/constants.ts';
import { create } from '../../src/virtio/rng/backend.ts';
import { rngModel } from '../../src/virtio/rng/model.ts';
import { TestDevice, type TestDeviceOptions } from './test-device.ts';

const BUFFER = 0x8000;
const devices: TestDevice[] = [];
after(() => {
  for (const device of devices) device.close();
});

function make(options: TestDeviceOptions = {}): TestDevice {
  const device = new TestDevice(rngModel(), create, options);
  devices.push(device);
  assert.deepEqual(device.messages(), [{ ready: true }]);
  return device;
}

/** Asks for random bytes and takes them. */
function ask(device: TestDevice, length = 64): number {
  device.queues[0]!.add([{ address: BUFFER, length, writable: true }]);
  device.notify(0);
  return device.queues[0]!.take()?.written ?? -1;
}

test('a driver gets random bytes, in all of its buffer, and their pages are counted as written', () => {
  const device = make();
  device.bringUp();
  assert.equal(ask(device, 5000), 5000);
  assert.equal(device.interrupts(0), 1);
  const bytes = device.memory.read(BUFFER, 5000);
  assert.ok(new Set(bytes).size > 200);
  assert.ok(bytes.subarray(4900).some((byte) => byte !== 0));
  assert.deepEqual([...device.writes.subarray(7, 11)], [0, 1, 1, 0]);
  device.queues[0]!.add([{ address: BUFFER, length: 4 }]);
  device.notify(0);
  assert.equal(device.queues[0]!.take()?.written, 0, 'nothing to write to');
});

test('pages that were written to are not counted where no processor looks', () => {
  const device = make({ countsWrites: false });
  device.bringUp();
  assert.equal(ask(device, 5000), 5000);
  assert.ok(device.writes.every((count) => count === 0));
});

test('features that are not on offer, or too few of them, are not taken', () => {
  const device = make();
  assert.equal(device.negotiate(device.model.features | (1n << 40n)), false);
  device.reset();
  assert.equal(device.negotiate(V.features(V.VIRTIO_F_EVENT_IDX)), false, 'a legacy driver');
  device.transport.writeStatus(V.ACKNOWLEDGE | V.DRIVER | V.FEATURES_OK | V.DRIVER_OK);
  assert.equal(device.transport.status & V.DRIVER_OK, 0, 'nothing starts without features');
  device.reset();
  assert.equal(device.negotiate(V.features(V.VIRTIO_F_VERSION_1)), true);
  device.transport.driverFeatureSelect = 0;
  device.transport.driverFeatures = 0xffff_ffff;
  assert.equal(device.transport.driverFeatures, 0, 'settled');
});

test('a reset takes everything back, at any moment', () => {
  const device = make();
  device.bringUp();
  const { transport } = device;
  assert.equal(ask(device), 64);
  device.queues[0]!.add([{ address: BUFFER, length: 64, writable: true }]);
  transport.notify(0);
  transport.writeStatus(0);
  assert.notEqual(transport.status, 0, 'not done yet');
  assert.equal(transport.resetPending, true);
  transport.writeStatus(V.ACKNOWLEDGE);
  device.poll();
  assert.equal(transport.status, 0);
  assert.equal(transport.resetPending, false);
  transport.queueSelect = 0;
  assert.equal(transport.queueEnabled, false);
  assert.equal(transport.queueSize, 256);
  assert.equal(transport.queueVector, V.VIRTIO_MSI_NO_VECTOR);
  for (let i = 0; i < 3; i++) {
    device.bringUp();
    assert.equal(ask(device), 64);
    device.reset();
  }
});

test('a driver need not wait for a back end that has not begun', () => {
  const device = new TestDevice(rngModel(), undefined);
  devices.push(device);
  const { transport } = device;
  transport.writeStatus(0);
  assert.equal(transport.status, 0, 'there is nothing to let go of');
  assert.equal(device.negotiate(), true);
  transport.writeStatus(0);
  assert.notEqual(transport.status, 0);
  assert.equal(transport.resetPending, true);
});

test('a reset reads as done when the driver may go on, not before', () => {
  const device = new TestDevice(rngModel(), undefined);
  devices.push(device);
  const { transport } = device;
  transport.writeStatus(V.ACKNOWLEDGE);
  transport.writeStatus(0);
  // What the back end does, in two steps.
  transport.state.clearStatus();
  assert.notEqual(transport.status, 0);
  transport.state.resetDone = transport.state.resetWanted;
  assert.equal(transport.status, 0);
  transport.writeStatus(V.ACKNOWLEDGE);
  assert.equal(transport.status, V.ACKNOWLEDGE);
});

test('a driver that breaks the rules stops its device until it resets it', () => {
  const device = make();
  device.bringUp();
  for (let round = 0; round < 2; round++) {
    device.queues[0]!.add([{ address: 2 ** 40, length: 1, writable: true }]);
    device.notify(0);
    assert.equal(device.transport.status & V.DEVICE_NEEDS_RESET, V.DEVICE_NEEDS_RESET);
    assert.equal(device.interrupts('config'), 1);
    assert.equal(ask(device), -1);
    device.reset();
    assert.equal(device.transport.status, 0);
    device.bringUp();
    assert.equal(ask(device), 64);
  }
  const said = device.messages();
  assert.equal(said.length, 1, 'the log is told once');
  assert.match(JSON.stringify(said), /broke the rules.*not guest memory/);
});

test('queues in impossible places, or half set up, break the driver, not the device', () => {
  const device = make();
  for (const [which, value] of [
    ['descriptors', 8],
    ['driver', 0xffff_fff0],
    ['device', 2],
  ] as const) {
    device.negotiate();
    device.setUpQueue(0);
    device.transport.state.setQueueAddressHalf(0, which, 0, value);
    device.transport.writeStatus(0xf);
    device.poll();
    assert.equal(device.transport.status & V.DEVICE_NEEDS_RESET, V.DEVICE_NEEDS_RESET, which);
    device.reset();
  }
  device.negotiate();
  device.transport.writeStatus(0xf);
  device.poll();
  device.notify(0);
  assert.equal(device.transport.status, 0xf, 'a driver may use no queue at all');
});

test('a queue that is in use keeps its registers; sizes are powers of two', () => {
  const { transport, ...device } = make();
  assert.ok(device);
  transport.queueSelect = 0;
  for (const size of [0, 3, 512, 65535]) {
    transport.queueSize = size;
    assert.equal(transport.queueSize, 256);
  }
  transport.queueSize = 8;
  assert.equal(transport.queueSize, 8);
  transport.enableQueue();
  transport.queueSize = 16;
  transport.setQueueAddressHalf('driver', 0, 0x1000);
  assert.equal(transport.queueSize, 8);
  assert.equal(transport.queueAddressHalf('driver', 0), 0);
  transport.queueSelect = 1;
  transport.queueSize = 8;
  transport.enableQueue();
  assert.deepEqual([transport.queueSize, transport.maxQueueSize, transport.queueEnabled], [0, 0, false]);
});

test('without vectors, the ISR status tells what an interrupt was for', () => {
  const device = make({ line: true });
  device.bringUp();
  assert.equal(ask(device), 64);
  assert.equal(device.lineEdges(), 1);
  assert.equal(device.transport.state.takeIsr(3), V.ISR_QUEUE);
  device.queues[0]!.offer(300);
  device.notify(0);
  assert.equal(device.transport.state.takeIsr(3), V.ISR_CONFIG);
  assert.equal(device.lineEdges(), 1);
});
