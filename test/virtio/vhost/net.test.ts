// The network device whose frames the host's kernel moves, where it can: a tap, and a driver that this test plays.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { hasEvent } from '../../../src/host/eventfd.ts';
import { tapNetModel } from '../../../src/virtio/net/tap-model.ts';
import { create } from '../../../src/virtio/net/vhost-backend.ts';
import type { DriverQueue } from '../driver.ts';
import { usePairs } from '../net/pairs.ts';
import { TestDevice } from '../test-device.ts';
import { startDevice, until } from './running.ts';

const skip = !existsSync('/dev/vhost-net') && 'no /dev/vhost-net';
const BUFFERS = 0x20_0000;
const TRANSMIT = 0x30_0000;
const HEADER = 12;

for (const place of ['thread', 'jail'] as const) {
  test(`the kernel moves frames between a tap and the queues, the back end in a ${place}`, {
    skip: skip,
  }, async () => {
    const name = `vmk${process.pid % 100000}`;
    const model = tapNetModel(
      {
        kind: 'tap',
        tap: { name },
        vhost: true,
        address: Uint8Array.of(10, 99, 8, 1),
        netmask: Uint8Array.of(255, 255, 255, 0),
        mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
      },
      1,
    );
    assert.equal(model.device, 'vhost_net');
    const { device, reset, end } = await startDevice(model, create, place);
    const received = (): number => Number(readFileSync(`/sys/class/net/${name}/statistics/rx_packets`, 'utf8'));
    try {
      for (let round = 0; round < 2; round++) {
        device.bringUp();
        const [receive, transmit, control] = device.queues;
        const heads = new Map<number, number>();
        for (let i = 0; i < 32; i++) {
          const address = BUFFERS + i * 2048;
          heads.set(receive!.add([{ address, length: 2048, writable: true }]), address);
        }
        device.notify(0);

        // A name that nobody has: the host asks by ARP who is 10.99.8.9.
        spawnSync('ping', ['-c', '1', '-W', '1', '10.99.8.9']);
        let asked = false;
        await until('no question came', () => {
          for (let used = receive!.take(); used !== undefined; used = receive!.take()) {
            const frame = device.memory.read(heads.get(used.head)! + HEADER, used.written - HEADER);
            asked ||= frame[12] === 8 && frame[13] === 6 && frame[41] === 9;
          }
          return asked;
        });
        assert.ok(hasEvent(device.vectorEvent(0)));

        const before = received();
        device.memory.fill(TRANSMIT, HEADER + 60, 0);
        transmit!.add([{ address: TRANSMIT, length: HEADER + 60 }]);
        device.notify(1);
        await until('the frame is not taken', () => transmit!.take() !== undefined);
        await until('the frame is nowhere', () => received() === before + 1);

        // The control queue is served here: promiscuous mode.
        device.memory.write(TRANSMIT, Uint8Array.of(0, 0, 1));
        control!.add([
          { address: TRANSMIT, length: 3 },
          { address: TRANSMIT + 16, length: 1, writable: true },
        ]);
        device.notify(2);
        let answer: ReturnType<DriverQueue['take']>;
        await until('no answer', () => {
          answer = control!.take();
          return answer !== undefined;
        });
        assert.equal(answer?.written, 1);
        assert.equal(device.memory.readU8(TRANSMIT + 16), 0);

        // After a reset the queues are the driver's own.
        await reset();
        // What came before.
        while (receive!.take() !== undefined);
        spawnSync('ping', ['-c', '1', '-W', '1', '10.99.8.10']);
        assert.equal(receive!.take(), undefined);
      }
    } finally {
      await end();
    }
  });
}

for (const place of ['thread', 'jail'] as const) {
  test(
    `the kernel's frames come to the pairs of queues that the driver uses, the back end in a ${place}`,
    { skip },
    () => usePairs(create, place, true),
  );
}

test('rings in places that no kernel takes break the driver', { skip }, () => {
  const device = new TestDevice(
    tapNetModel({ kind: 'tap', tap: { name: `vmk${process.pid % 100000}` }, vhost: true }, 1),
    create,
  );
  try {
    device.negotiate();
    for (const queue of [0, 1]) device.setUpQueue(queue);
    device.transport.state.setQueueAddressHalf(0, 'device', 1, 1 << 20);
    device.transport.writeStatus(0xf);
    device.poll();
    assert.equal(device.transport.status & 64, 64);
    device.reset();
    device.bringUp();
    assert.equal(device.transport.status, 0xf);
  } finally {
    device.close();
  }
});
