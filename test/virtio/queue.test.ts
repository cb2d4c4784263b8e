import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GuestMemory } from '../../src/hypervisor/guest-memory.ts';
import { BrokenDriverError } from '../../src/virtio/chain.ts';
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC } from '../../src/virtio/constants.ts';
import { GuestRanges } from '../../src/virtio/guest-ranges.ts';
import { Queue } from '../../src/virtio/queue.ts';
import { type DriverQueue, queuePair, testMemory } from './driver.ts';

const BUFFER = 0x8000;
const TABLE = 0x20000;

test('a chain has its ranges in order, and its memory can be read and written', () => {
  const { driver, queue, memory } = queuePair(8);
  memory.write(BUFFER, Buffer.from('hello, world'));
  const head = driver.add([
    { address: BUFFER, length: 5 },
    { address: BUFFER + 5, length: 7 },
    { address: BUFFER + 100, length: 2, writable: true },
    { address: BUFFER + 200, length: 4, writable: true },
  ]);
  const chain = queue.pop()!;
  assert.equal(chain.head, head);
  assert.equal(chain.readableLength, 12);
  assert.equal(chain.writableLength, 6);
  assert.deepEqual(
    [...chain.readable, ...chain.writable].map(({ guestAddress, length }) => [guestAddress, length]),
    [
      [BUFFER, 5],
      [BUFFER + 5, 7],
      [BUFFER + 100, 2],
      [BUFFER + 200, 4],
    ],
  );
  const text = Buffer.alloc(20);
  assert.equal(chain.read(text, 3), 9);
  assert.equal(text.toString('latin1', 0, 9), 'lo, world');
  assert.equal(chain.write(Buffer.from('abcdefgh'), 1), 5);
  assert.equal(Buffer.from(memory.slice(BUFFER + 100, 2)).toString('latin1'), '\0a');
  assert.equal(Buffer.from(memory.slice(BUFFER + 200, 4)).toString('latin1'), 'bcde');
  assert.equal(queue.pop(), undefined);
  assert.equal(driver.take(), undefined);
  queue.push(chain, 6);
  assert.equal(driver.take(), undefined, 'nothing shows before flush()');
  queue.flush();
  assert.deepEqual(driver.take(), { head, written: 6 });
});

test('chains come back in any order, and the counters wrap', () => {
  const { driver, queue } = queuePair(4);
  for (let round = 0; round < 40_000; round++) {
    const heads = [0, 1, 2].map(() => driver.add([{ address: BUFFER, length: 1 }]));
    const chains = heads.map(() => queue.pop()!);
    assert.deepEqual(
      chains.map(({ head }) => head),
      heads,
    );
    for (const chain of chains.reverse()) queue.push(chain, 0);
    queue.flush();
    assert.deepEqual([driver.take()?.head, driver.take()?.head, driver.take()?.head], heads.reverse());
  }
});

test('an indirect table is followed where it was negotiated, and only one level deep', () => {
  const { driver, queue } = queuePair(4, [VIRTIO_F_INDIRECT_DESC]);
  driver.addIndirect(TABLE, [
    { address: BUFFER, length: 3 },
    { address: BUFFER + 10, length: 600, writable: true },
  ]);
  const chain = queue.pop()!;
  assert.deepEqual([chain.readableLength, chain.writableLength], [3, 600]);
  driver.addIndirect(TABLE, [{ address: BUFFER, length: 3 }]);
  // A table in the table.
  driver.writeDescriptor(TABLE, 0, { address: TABLE, length: 16 }, 4, 0);
  assert.throws(() => queue.pop(), BrokenDriverError);

  const plain = queuePair(4);
  plain.driver.addIndirect(TABLE, [{ address: BUFFER, length: 3 }]);
  assert.throws(() => plain.queue.pop(), BrokenDriverError);
});

test('a broken driver is told apart from a slow one', () => {
  const end = testMemory().size;
  const cases: [string, (driver: DriverQueue) => void][] = [
    ['memory behind the end', (driver) => driver.add([{ address: end - 3, length: 4 }])],
    ['an address that is no number', (driver) => driver.add([{ address: 2 ** 53 - 1, length: 1 }])],
    [
      'an address whose end wraps',
      (driver) => {
        const head = driver.add([{ address: 0, length: 4096 }]);
        driver.memory.writeU64(driver.config.descriptors + 16 * head, 0xffff_ffff_ffff_f000n);
      },
    ],
    ['a head that does not exist', (driver) => driver.offer(8)],
    [
      'a next that does not exist',
      (driver) => {
        driver.writeDescriptor(driver.config.descriptors, 0, { address: 0, length: 1 }, 1, 9);
        driver.offer(0);
      },
    ],
    [
      'a loop',
      (driver) => {
        driver.writeDescriptor(driver.config.descriptors, 0, { address: 0, length: 0 }, 1, 1);
        driver.writeDescriptor(driver.config.descriptors, 1, { address: 0, length: 0 }, 1, 0);
        driver.offer(0);
      },
    ],
    [
      'reading after writing',
      (driver) =>
        driver.add([
          { address: 0, length: 1, writable: true },
          { address: 0, length: 1 },
        ]),
    ],
    [
      'an indirect descriptor with a next one',
      (driver) => {
        driver.writeDescriptor(driver.config.descriptors, 0, { address: TABLE, length: 16 }, 4 | 1, 1);
        driver.offer(0);
      },
    ],
    [
      'an indirect table of half a descriptor',
      (driver) => {
        driver.writeDescriptor(driver.config.descriptors, 0, { address: TABLE, length: 24 }, 4, 0);
        driver.offer(0);
      },
    ],
    [
      'an indirect table that is too long',
      (driver) => {
        driver.writeDescriptor(driver.config.descriptors, 0, { address: TABLE, length: 16 * 1025 }, 4, 0);
        driver.offer(0);
      },
    ],
    [
      'an indirect table outside memory',
      (driver) => {
        driver.writeDescriptor(driver.config.descriptors, 0, { address: end, length: 16 }, 4, 0);
        driver.offer(0);
      },
    ],
    ['more requests than the queue has room for', (driver) => driver.memory.writeU16(driver.config.driver + 2, 9)],
  ];
  for (const [what, breaks] of cases) {
    const { driver, queue } = queuePair(8, [VIRTIO_F_INDIRECT_DESC]);
    breaks(driver);
    assert.throws(() => queue.pop(), BrokenDriverError, what);
  }
});

test('a driver that offers the same chain for ever is stopped at the size of the queue', () => {
  const { driver, queue } = queuePair(4);
  for (let i = 0; i < 5; i++) {
    driver.offer(0);
    if (i < 4) assert.ok(queue.pop());
    else assert.throws(() => queue.pop(), BrokenDriverError);
  }
});

test('a chain of more than 4 GiB is refused', () => {
  const bytes = new Uint8Array(new WebAssembly.Memory({ initial: 65536, maximum: 65536 }).buffer);
  const memory = new GuestMemory([{ guestAddress: 0, bytes }]);
  const { driver, queue } = queuePair(4, [], memory);
  const half = { address: 0, length: 0x8000_0000 };
  driver.add([half, half]);
  assert.equal(queue.pop()?.readableLength, 2 ** 32);
  const other = queuePair(4, [], memory, 0x4000);
  other.driver.add([half, half, { address: 0, length: 1 }]);
  assert.throws(() => other.queue.pop(), BrokenDriverError);
});

test('a queue has a power of two as its size, and places that are aligned and in memory', () => {
  const ranges = new GuestRanges(testMemory(0x10000));
  const good = { size: 8, descriptors: 0x1000, driver: 0x2000, device: 0x3000 };
  const make = (change: Partial<typeof good>) => new Queue(0, { ...good, ...change }, ranges, 0n, () => {});
  make({});
  for (const size of [0, 3, 65536, 2 ** 31]) assert.throws(() => make({ size }), BrokenDriverError);
  for (const change of [
    { descriptors: 0x1008 },
    { driver: 0x2001 },
    { device: 0x3002 },
    { descriptors: 0xfff0 },
    { driver: 2 ** 60 },
    { device: 0xffff_fffc },
  ]) {
    assert.throws(() => make(change), BrokenDriverError, JSON.stringify(change));
  }
});

test('without the event index, flags say who wants to be told', () => {
  const pair = queuePair(8);
  const { driver, queue } = pair;
  assert.equal(driver.wantsNotification(false, 0), true);
  driver.add([{ address: BUFFER, length: 1 }]);
  driver.add([{ address: BUFFER, length: 1 }]);
  const chain = queue.pop()!;
  assert.equal(driver.wantsNotification(false, 2), false, 'not while it is at work');
  queue.push(chain, 0);
  queue.flush();
  assert.equal(pair.interrupts, 1);
  queue.flush();
  assert.equal(pair.interrupts, 1, 'nothing new');
  driver.setFlags(1);
  queue.push(queue.pop()!, 0);
  queue.flush();
  assert.equal(pair.interrupts, 1, 'the driver did not want it');
  assert.equal(queue.pop(), undefined);
  assert.equal(driver.wantsNotification(false, 2), true);
});

test('with the event index, both sides are told when they asked to be', () => {
  const pair = queuePair(8, [VIRTIO_F_EVENT_IDX]);
  const { driver, queue } = pair;
  assert.equal(queue.pop(), undefined);
  assert.equal(driver.wantsNotification(true, 0), true);
  for (let i = 0; i < 4; i++) driver.add([{ address: BUFFER, length: 1 }]);
  driver.setUsedEvent(2);
  for (const expected of [0, 0, 1, 1]) {
    queue.push(queue.pop()!, 0);
    queue.flush();
    assert.equal(pair.interrupts, expected);
  }
  assert.equal(driver.wantsNotification(true, 4), false);
  assert.equal(queue.pop(), undefined);
  assert.equal(driver.wantsNotification(true, 4), true);
  // A batch that goes past the wish.
  for (let i = 0; i < 3; i++) driver.take();
  driver.setUsedEvent(5);
  for (let i = 0; i < 4; i++) driver.add([{ address: BUFFER, length: 1 }]);
  for (let i = 0; i < 4; i++) queue.push(queue.pop()!, 0);
  queue.flush();
  assert.equal(pair.interrupts, 2);
});

test('after its end a queue touches nothing', () => {
  const { driver, queue, memory } = queuePair(8);
  driver.add([{ address: BUFFER, length: 1 }]);
  driver.add([{ address: BUFFER, length: 1 }]);
  const chain = queue.pop()!;
  queue.close();
  const before = memory.read(0, memory.size);
  queue.push(chain, 1);
  queue.flush();
  assert.equal(queue.pop(), undefined);
  assert.equal(queue.ready, false);
  assert.deepEqual(memory.read(0, memory.size), before);
});

test('a chain that was put back comes again', () => {
  const { driver, queue } = queuePair(8);
  const head = driver.add([{ address: BUFFER, length: 1 }]);
  assert.equal(queue.pop()?.head, head);
  queue.unpop();
  assert.equal(queue.ready, true);
  assert.equal(queue.pop()?.head, head);
});
