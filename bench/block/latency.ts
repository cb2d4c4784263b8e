import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { AwakeWait } from '../../src/host/awake-wait.ts';
import { EPOLLIN, Epoll } from '../../src/host/epoll.ts';
import { takeEvent } from '../../src/host/eventfd.ts';
import { create } from '../../src/virtio/block/backend.ts';
import { HEADER_SIZE, VIRTIO_BLK_T_IN } from '../../src/virtio/block/constants.ts';
import { blockModel } from '../../src/virtio/block/model.ts';
import { startDevice } from '../../test/virtio/vhost/running.ts';

const HEADER = 0x8000;
const STATUS = 0x8100;
const DATA = 0x20_0000;
const PIECE = 4096;
const SECTORS = 8;
const FILE_SIZE = 1 << 22;

/**
 * Microseconds of `count` reads of 4 KiB from a file at `path`, one after the other, `pause` milliseconds apart: from the notification to the
 * signal of the queue's vector. With KVM both are the kernel's affair, so it is to be the device's time alone: this thread waits awake, and has
 * just run what it runs then. The device is in its jail.
 */
export async function readLatency(path: string, count: number, pause: number): Promise<number[]> {
  writeFileSync(path, randomBytes(FILE_SIZE));
  const model = blockModel({ path, format: 'raw', writable: false }, 1);
  const { device, end } = await startDevice(model, create, 'jail', { memory: 8 << 20 });
  device.bringUp();
  const { memory } = device;
  const queue = device.queues[0]!;
  const vector = device.vectorEvent(0);
  const epoll = new Epoll();
  epoll.add(vector, EPOLLIN, 0);
  const awake = new AwakeWait();
  const nobody = new Int32Array(new SharedArrayBuffer(4));
  const times: number[] = [];
  const signalled = (): boolean => takeEvent(vector) !== 0;
  memory.writeU32(HEADER, VIRTIO_BLK_T_IN);
  for (let i = 0; i < count; i++) {
    if (pause > 0) Atomics.wait(nobody, 0, 0, pause);
    // A device that waits awake takes what is added before it is told: nothing may be taken back from here on.
    signalled();
    memory.writeU64(HEADER + 8, BigInt((i * SECTORS) % (FILE_SIZE / 512)));
    queue.setUsedEvent(i);
    queue.add([
      { address: HEADER, length: HEADER_SIZE },
      { address: DATA, length: PIECE, writable: true },
      { address: STATUS, length: 1, writable: true },
    ]);
    const begun = performance.now();
    device.transport.notify(0);
    awake.wait(Number.POSITIVE_INFINITY, signalled, () => {
      while (!signalled()) epoll.wait(-1);
    });
    times.push((performance.now() - begun) * 1000);
    if (queue.take()?.written !== PIECE + 1) throw new Error('a read has failed');
  }
  epoll.close();
  await end();
  return times;
}
