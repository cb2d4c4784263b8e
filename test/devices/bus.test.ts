import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Bus, type BusDevice, BusOverlapError } from '../../src/devices/bus.ts';
import { NullDevice } from '../../src/devices/null-device.ts';
import { read, write } from './support.ts';

class Recorder implements BusDevice {
  readonly log: string[] = [];

  read(offset: number, data: Uint8Array): void {
    this.log.push(`r${offset}:${data.length}`);
    data.fill(0x11);
  }

  write(offset: number, data: Uint8Array): void {
    this.log.push(`w${offset}:${data.join()}`);
  }
}

test('the device that has an address gets the access, with its own offset', () => {
  const bus = new Bus();
  const [a, b] = [new Recorder(), new Recorder()];
  bus.insert(0x20, 0x10, b);
  bus.insert(0x10, 0x10, a);
  assert.equal(bus.read(0x1f, new Uint8Array(1)), true);
  assert.equal(bus.write(0x20, Uint8Array.of(1, 2)), true);
  assert.equal(bus.read(0x2f, new Uint8Array(4)), true);
  assert.deepEqual(a.log, ['r15:1']);
  assert.deepEqual(b.log, ['w0:1,2', 'r15:4']);
});

test('where nobody is, data stays as it is', () => {
  const bus = new Bus();
  bus.insert(0x10, 0x10, new Recorder());
  const data = Uint8Array.of(7);
  for (const address of [0, 0xf, 0x20, 2 ** 40]) {
    assert.equal(bus.read(address, data), false);
    assert.equal(bus.write(address, data), false);
  }
  assert.deepEqual([...data], [7]);
});

test('ranges may touch, not overlap', () => {
  const bus = new Bus();
  const device = new NullDevice();
  bus.insert(0x10, 0x10, device);
  bus.insert(0x30, 0x10, device);
  for (const [start, size] of [
    [0x10, 1],
    [0x1f, 1],
    [0x0f, 2],
    [0x1f, 0x20],
    [0, 0x100],
    [0x18, 4],
  ] as const) {
    assert.throws(() => bus.insert(start, size, device), BusOverlapError);
    assert.equal(bus.isFree(start, size), false);
  }
  assert.equal(bus.isFree(0x20, 0x10), true);
  bus.insert(0x20, 0x10, device);
  for (const [start, size] of [
    [-1, 2],
    [0, 0],
    [0.5, 1],
    [2 ** 53, 1],
    [Number.NaN, 1],
  ] as const) {
    assert.throws(() => bus.insert(start, size, device), RangeError);
  }
});

test('ranges that move are asked for each time, and only where no fixed one is', () => {
  const bus = new Bus();
  const [fixed, moving] = [new Recorder(), new Recorder()];
  bus.insert(0x10, 0x10, fixed);
  let start = 0x18;
  bus.setMovable({
    find: (address) =>
      address >= start && address < start + 0x10 ? { start, end: start + 0x10, device: moving } : undefined,
  });
  bus.read(0x18, new Uint8Array(1));
  bus.read(0x27, new Uint8Array(1));
  start = 0x40;
  assert.equal(bus.read(0x27, new Uint8Array(1)), false);
  bus.write(0x41, Uint8Array.of(5));
  assert.deepEqual(fixed.log, ['r8:1']);
  assert.deepEqual(moving.log, ['r15:1', 'w1:5']);
});

test('the null device leaves data as it is', () => {
  const device = new NullDevice();
  write(device, 0, 1);
  assert.equal(read(device, 0, 2), 0xeeee);
});
