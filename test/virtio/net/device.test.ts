// The network device's queues against a driver that is honest, and one that is not.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GuestRanges } from '../../../src/virtio/guest-ranges.ts';
import { serveControl } from '../../../src/virtio/net/control.ts';
import { FrameFilter } from '../../../src/virtio/net/filter.ts';
import { deliver } from '../../../src/virtio/net/receive.ts';
import { ChainFrame, holdsFrame, SCRATCH_SIZE } from '../../../src/virtio/net/transmit.ts';
import { Queue } from '../../../src/virtio/queue.ts';
import { DriverQueue, testMemory } from '../driver.ts';

const BUFFERS = 0x8000;

function setUp() {
  const memory = testMemory();
  const driver = new DriverQueue(memory, 0x1000, 64);
  const queue = new Queue(0, driver.config, new GuestRanges(memory), 0n, () => {});
  return { memory, driver, queue };
}

test('a frame fills as many buffers as it needs, and none while there are too few', () => {
  const { memory, driver, queue } = setUp();
  const frame = Uint8Array.from({ length: 250 }, (_, i) => i);
  const pieces = [frame.subarray(0, 33), frame.subarray(33, 34), frame.subarray(34)];
  const header = new Uint8Array(12).fill(7);
  for (let i = 0; i < 2; i++) driver.add([{ address: BUFFERS + i * 100, length: 100, writable: true }]);
  assert.equal(deliver(queue, header, pieces, true), false);
  assert.equal(driver.take(), undefined);
  driver.add([{ address: BUFFERS + 200, length: 100, writable: true }]);
  assert.equal(deliver(queue, header, pieces, true), true);
  assert.deepEqual(
    [driver.take(), driver.take(), driver.take()].map((chain) => chain?.written),
    [100, 100, 62],
  );
  assert.deepEqual(memory.read(BUFFERS, 12), Uint8Array.from([...new Array<number>(10).fill(7), 3, 0]));
  assert.deepEqual(memory.read(BUFFERS + 12, 250), frame);
});

test('without mergeable buffers a frame that does not fit is dropped', () => {
  const { driver, queue } = setUp();
  driver.add([{ address: BUFFERS, length: 40, writable: true }]);
  assert.equal(deliver(queue, new Uint8Array(12), [new Uint8Array(60)], false), true);
  assert.equal(driver.take()?.written, 0);
  // Nor has a buffer any use that cannot hold the header, or that is not to be written.
  driver.add([{ address: BUFFERS, length: 8, writable: true }]);
  driver.add([{ address: BUFFERS, length: 100 }]);
  for (let i = 0; i < 2; i++) assert.equal(deliver(queue, new Uint8Array(12), [new Uint8Array(60)], true), true);
  assert.deepEqual([driver.take()?.written, driver.take()?.written], [0, 0]);
});

test('a frame is read where it is, and its head once', () => {
  const { memory, driver, queue } = setUp();
  memory.write(
    BUFFERS,
    Uint8Array.from({ length: 1000 }, (_, i) => i),
  );
  driver.add([
    { address: BUFFERS, length: 5 },
    { address: BUFFERS + 5, length: 495 },
    { address: BUFFERS + 500, length: 500 },
  ]);
  const chain = queue.pop()!;
  assert.ok(holdsFrame(chain));
  const frame = new ChainFrame(chain, new Uint8Array(SCRATCH_SIZE));
  assert.equal(frame.length, 988);
  assert.equal(frame.head.length, 256);
  const lengths = frame.ranges(400, 500).map(({ length }) => length);
  assert.deepEqual(lengths, [88, 412]);
  memory.fill(BUFFERS, 1000, 0xee);
  const bytes = frame.bytes();
  assert.deepEqual(
    bytes.subarray(0, 256),
    Uint8Array.from({ length: 256 }, (_, i) => i + 12),
  );
  assert.equal(bytes[256], 0xee);
  for (const length of [0, 12, 25, 12 + 14 + 65535 + 41]) {
    driver.add([{ address: BUFFERS, length }]);
    assert.equal(holdsFrame(queue.pop()!), false, `${length}`);
  }
});

test('the control queue obeys what it knows, and the filter with it', () => {
  const { memory, driver, queue } = setUp();
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
  const other = Uint8Array.of(2, 0, 0, 0, 0, 2);
  const filter = new FrameFilter(mac);
  const command = (...bytes: number[]): number => {
    memory.write(BUFFERS, Uint8Array.from(bytes));
    memory.writeU8(BUFFERS + 0x800, 0xff);
    driver.add([
      { address: BUFFERS, length: bytes.length },
      { address: BUFFERS + 0x800, length: 1, writable: true },
    ]);
    serveControl(queue, { filter, setPairs: (count) => count === 2 });
    driver.take();
    return memory.readU8(BUFFERS + 0x800);
  };
  assert.ok(filter.accepts(other));
  assert.equal(command(0, 0, 0), 0);
  assert.ok(!filter.accepts(other) && filter.accepts(mac) && filter.accepts(new Uint8Array(6).fill(255)));
  const group = Uint8Array.of(1, 0, 0x5e, 0, 0, 1);
  assert.ok(!filter.accepts(group));
  assert.equal(command(1, 0, 1, 0, 0, 0, ...other, 1, 0, 0, 0, ...group), 0);
  assert.ok(filter.accepts(other) && filter.accepts(group));
  assert.equal(command(1, 1, ...other), 0);
  assert.ok(!filter.accepts(mac));
  assert.equal(command(4, 0, 2, 0), 0);
  for (const bad of [
    [0],
    [9, 9],
    [0, 0],
    [0, 0, 1, 1],
    [1, 1, 1],
    [4, 0, 3, 0],
    [4, 0],
    [1, 0, 255, 255, 255, 255],
    [1, 0, 0, 0, 0, 0],
  ]) {
    assert.equal(command(...bad), 1, bad.join());
  }
});
