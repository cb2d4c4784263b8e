// The two transports' registers: what a driver finds, and where its writes go.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { Msi } from '../../src/hypervisor/hypervisor.ts';
import { create } from '../../src/virtio/balloon/backend.ts';
import { CONFIG_SIZE } from '../../src/virtio/balloon/constants.ts';
import { balloonModel } from '../../src/virtio/balloon/model.ts';
import { VirtioMmio } from '../../src/virtio/mmio.ts';
import { pciStateSize, VirtioPci } from '../../src/virtio/pci.ts';
import { read, sharedRange, TestLine, write } from '../devices/support.ts';
import { TestDevice } from './test-device.ts';

const QUEUES = 5;
const BAR = 0xd000_0000;
const devices: TestDevice[] = [];
after(() => {
  for (const device of devices) device.close();
});

/** The common configuration structure's fields: offset and size. */
const COMMON = {
  deviceFeatureSelect: [0x00, 4],
  deviceFeature: [0x04, 4],
  driverFeatureSelect: [0x08, 4],
  driverFeature: [0x0c, 4],
  configVector: [0x10, 2],
  queueCount: [0x12, 2],
  status: [0x14, 1],
  queueSelect: [0x16, 2],
  queueSize: [0x18, 2],
  queueVector: [0x1a, 2],
  queueEnable: [0x1c, 2],
  queueNotifyOffset: [0x1e, 2],
  queueDescriptors: [0x20, 4],
  queueDevice: [0x30, 4],
} as const;

function pci() {
  const device = new TestDevice(balloonModel(), create);
  devices.push(device);
  const line = new TestLine();
  const connected = new Map<number, Msi>();
  const events = new Map<number, number>();
  const pending = new Set<number>();
  const function_ = new VirtioPci(sharedRange(pciStateSize(QUEUES)), device.transport, {
    intx: { pin: 0, line: line.set },
    vectors: {
      connect: (vector, msi) => connected.set(vector, msi),
      disconnect: (vector) => connected.delete(vector),
      pending: (vector) => pending.has(vector),
    },
    ioEvent: (queue, { address }, present) => (present ? events.set(address, queue) : events.delete(address)),
  });
  function_.config.reset();
  function_.reset();
  const { config } = function_;
  const bar = {
    read: (offset: number, data: Uint8Array) => function_.readBar(0, offset, data),
    write: (offset: number, data: Uint8Array) => function_.writeBar(0, offset, data),
  };
  /** Capabilities by id, and the virtio ones by their type. */
  const capabilities = new Map<string, number>();
  for (let at = read(config, 0x34); at !== 0; at = read(config, at + 1)) {
    const id = read(config, at);
    capabilities.set(id === 0x09 ? `virtio ${read(config, at + 3)}` : `${id}`, at);
  }
  const common = (name: keyof typeof COMMON): number => read(bar, COMMON[name][0], COMMON[name][1]);
  const set = (name: keyof typeof COMMON, value: number): void => write(bar, COMMON[name][0], value, COMMON[name][1]);
  return { device, function_, config, bar, line, connected, events, pending, capabilities, common, set };
}

test('PCI: a driver finds all structures by the capabilities', () => {
  const { config, capabilities } = pci();
  assert.equal(read(config, 0, 4), 0x1045_1af4);
  assert.equal(read(config, 8), 1, 'revision of a device without the legacy interface');
  assert.deepEqual([...capabilities.keys()].sort(), ['17', ...[1, 2, 3, 4, 5].map((type) => `virtio ${type}`)]);
  const ranges = [1, 2, 3, 4].map((type) => {
    const at = capabilities.get(`virtio ${type}`)!;
    assert.ok(read(config, at + 2) >= 16);
    assert.equal(read(config, at + 4), 0, 'all in one BAR');
    return [read(config, at + 8, 4), read(config, at + 12, 4)] as const;
  });
  const lengths = ranges.map(([, length]) => length);
  assert.deepEqual(lengths, [0x40, QUEUES * 4, 1, CONFIG_SIZE]);
  const sorted = ranges.toSorted(([a], [b]) => a - b);
  for (const [i, [start]] of sorted.slice(1).entries()) assert.ok(start >= sorted[i]![0] + sorted[i]![1]);
});

test('PCI: features, queues and status by the common configuration; other widths are nothing', () => {
  const { device, bar, common, set } = pci();
  assert.equal(common('queueCount'), QUEUES);
  set('deviceFeatureSelect', 1);
  assert.equal(common('deviceFeature'), 1);
  set('deviceFeatureSelect', 2);
  assert.equal(common('deviceFeature'), 0);
  set('status', 3);
  set('driverFeatureSelect', 1);
  set('driverFeature', 1);
  set('status', 11);
  assert.equal(common('status'), 11);
  set('queueSelect', 4);
  assert.deepEqual([common('queueSize'), common('queueNotifyOffset'), common('queueVector')], [128, 4, 0xffff]);
  set('queueVector', QUEUES + 1);
  assert.equal(common('queueVector'), 0xffff, 'a vector that there is not');
  set('queueVector', QUEUES);
  assert.equal(common('queueVector'), QUEUES);
  set('queueDescriptors', 0x1234_5000);
  assert.equal(common('queueDescriptors'), 0x1234_5000);
  set('queueEnable', 1);
  set('queueEnable', 0);
  assert.equal(common('queueEnable'), 1);
  set('queueSelect', 9);
  assert.deepEqual([common('queueSize'), common('queueEnable'), common('queueVector')], [0, 0, 0xffff]);
  write(bar, COMMON.status[0], 0, 2);
  assert.equal(common('status'), 11);
  assert.equal(read(bar, COMMON.status[0], 4), 0);
  assert.equal(read(bar, 0x3fff, 8), 0);
  set('status', 0);
  assert.notEqual(common('status'), 0);
  device.poll();
  assert.equal(common('status'), 0);
});

test('PCI: notifications follow the BAR', () => {
  const { function_, events } = pci();
  function_.barMoved(0, BAR);
  const first = [...events.keys()].sort((a, b) => a - b);
  assert.equal(first.length, QUEUES);
  assert.deepEqual([...events.values()], [0, 1, 2, 3, 4]);
  function_.barMoved(0, BAR + 0x10_0000);
  assert.deepEqual(
    [...events.keys()].sort((a, b) => a - b),
    first.map((address) => address + 0x10_0000),
  );
  function_.barMoved(0, undefined);
  assert.equal(events.size, 0);
});

test('PCI: INTx follows the ISR status until messages are on', () => {
  const { device, function_, config, bar, line, connected, pending, capabilities } = pci();
  device.transport.state.addIsr(1);
  function_.updateIntx();
  assert.equal(line.level, true);
  const isr = read(config, capabilities.get('virtio 3')! + 8, 4);
  assert.equal(read(bar, isr), 1);
  assert.equal(line.level, false);
  assert.equal(read(bar, isr), 0);
  const msix = capabilities.get('17')!;
  const table = read(config, msix + 4, 4);
  const pba = read(config, msix + 8, 4);
  write(config, msix + 2, 0x8000, 2);
  assert.equal(device.transport.state.msix, true);
  write(bar, table + 16, 0xfee0_1000, 4);
  write(bar, table + 16 + 8, 0x41, 4);
  assert.equal(connected.size, 0);
  pending.add(1);
  assert.equal(read(bar, pba, 8), 2);
  write(bar, table + 16 + 12, 0, 4);
  assert.deepEqual([...connected], [[1, { address: 0xfee0_1000n, data: 0x41 }]]);
  assert.equal(read(bar, pba, 8), 0);
  write(config, msix + 2, 0, 2);
  assert.deepEqual([connected.size, device.transport.state.msix], [0, false]);
});

test('PCI: the window in configuration space reaches the BAR, and nothing else', () => {
  const { config, capabilities, common } = pci();
  const at = capabilities.get('virtio 5')!;
  const reach = (offset: number, length: number, bar = 0): void => {
    write(config, at + 4, bar);
    write(config, at + 8, offset, 4);
    write(config, at + 12, length, 4);
  };
  reach(COMMON.status[0], 1);
  write(config, at + 16, 3, 4);
  assert.equal(common('status'), 3);
  reach(COMMON.queueCount[0], 2);
  assert.equal(read(config, at + 16, 2), QUEUES);
  for (const [offset, length, bar] of [
    [0x4000, 4, 0],
    [0x3fff, 2, 0],
    [0xffff_fffc, 4, 0],
    [0, 3, 0],
    [2, 4, 0],
    [0, 4, 1],
  ] as const) {
    reach(offset, length, bar);
    write(config, at + 16, 0, 4);
    read(config, at + 16, 4);
  }
  assert.equal(common('status'), 3);
});

test('MMIO: registers of 32 bits, the configuration in any width', () => {
  const device = new TestDevice(balloonModel(), create, { line: true });
  devices.push(device);
  const mmio = new VirtioMmio(device.transport);
  assert.deepEqual(
    [0, 4, 8, 0xc].map((at) => read(mmio, at, 4)),
    [0x7472_6976, 2, 5, 0],
  );
  assert.equal(read(mmio, 0x34, 4), 128);
  assert.equal(read(mmio, 0, 2), 0, 'half a register');
  write(mmio, 0x14, 1, 4);
  assert.equal(read(mmio, 0x10, 4), 1);
  write(mmio, 0x24, 1, 4);
  write(mmio, 0x20, 1, 4);
  write(mmio, 0x70, 3, 4);
  write(mmio, 0x70, 11, 4);
  assert.equal(read(mmio, 0x70, 4), 11);
  write(mmio, 0x30, 1, 4);
  write(mmio, 0x38, 64, 4);
  write(mmio, 0x80, 0x1_0000, 4);
  write(mmio, 0x90, 0x1_1000, 4);
  write(mmio, 0xa0, 0x1_2000, 4);
  write(mmio, 0x44, 1, 4);
  assert.equal(read(mmio, 0x44, 4), 1);
  write(mmio, 0x44, 0, 4);
  assert.equal(read(mmio, 0x44, 4), 0, 'taken back before it was in use');
  write(mmio, 0x44, 1, 4);
  write(mmio, 0x70, 15, 4);
  write(mmio, 0x44, 0, 4);
  assert.equal(read(mmio, 0x44, 4), 1);
  device.poll();
  assert.equal(read(mmio, 0x70, 4), 15);
  device.transport.state.addIsr(3);
  assert.equal(read(mmio, 0x60, 4), 3);
  write(mmio, 0x64, 1, 4);
  assert.equal(read(mmio, 0x60, 4), 2);
  write(mmio, 0x104, 0x77, 1);
  assert.equal(read(mmio, 0x104), 0x77);
  assert.equal(read(mmio, 0xffc, 8), 0);
  assert.equal(read(mmio, 0xb0, 4), 0xffff_ffff);
});
