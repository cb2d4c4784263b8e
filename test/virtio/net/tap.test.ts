// The network device on a tap of this machine.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { EventLoop } from '../../../src/host/event-loop.ts';
import { GuestRanges } from '../../../src/virtio/guest-ranges.ts';
import { create } from '../../../src/virtio/net/tap-backend.ts';
import { tapNetModel } from '../../../src/virtio/net/tap-model.ts';
import { Queue } from '../../../src/virtio/queue.ts';
import { closeModels } from '../../../src/vm/device-models.ts';
import { namespacesMissing } from '../../net/namespace.ts';
import { DriverQueue, testMemory } from '../driver.ts';

const skip = namespacesMissing();
const BUFFERS = 0x10000;

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

test('what is no tap is told in one line', () => {
  const fd = openSync('/dev/null', 'r');
  assert.throws(
    () => tapNetModel({ kind: 'tap', tap: { fd } }, 1),
    /descriptor \d+ is no tap: give one with --tap-fd$/,
  );
  closeSync(fd);
  assert.throws(() => tapNetModel({ kind: 'tap', tap: { name: 'lo' } }, 1), /^NetError: lo: the tap cannot be used: /);
});
