/** The host's side of a disk alone: a jailed device, and a driver in this thread that has one request under way at a time. */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { ImageFile } from '../../src/disk/image-file.ts';
import { createQcow2 } from '../../src/disk/qcow2/create.ts';
import { AwakeWait } from '../../src/host/awake-wait.ts';
import { EPOLLIN, Epoll } from '../../src/host/epoll.ts';
import { takeEvent } from '../../src/host/eventfd.ts';
import type { DeviceModel } from '../../src/virtio/backend.ts';
import { create } from '../../src/virtio/block/backend.ts';
import {
  HEADER_SIZE,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from '../../src/virtio/block/constants.ts';
import { blockModel } from '../../src/virtio/block/model.ts';
import { startDevice } from '../../test/virtio/vhost/running.ts';

const HEADER = 0x8000;
const STATUS = 0x8100;
const DATA = 0x20_0000;
const PIECE = 4096;
const SECTOR = 512;
const FILE_SIZE = 1 << 22;
const CLUSTER = 1 << 16;

interface Request {
  readonly type: number;
  /** Byte of the disk; of PIECE bytes from there on. */
  readonly offset: number;
}

/**
 * Microseconds of each request, `pause` milliseconds apart: from the notification to the signal of the queue's vector. With KVM both are the
 * kernel's affair, so it is to be the device's time alone: this thread waits awake, and has just run what it runs then.
 */
async function timeEach(model: DeviceModel, requests: readonly Request[], pause: number): Promise<number[]> {
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
  for (const [i, { type, offset }] of requests.entries()) {
    if (pause > 0) Atomics.wait(nobody, 0, 0, pause);
    // A device that waits awake takes what is added before it is told: nothing may be taken back from here on.
    signalled();
    memory.writeU32(HEADER, type);
    memory.writeU64(HEADER + 8, BigInt(offset / SECTOR));
    queue.setUsedEvent(i);
    const data = { address: DATA, length: PIECE, writable: type === VIRTIO_BLK_T_IN };
    queue.add([
      { address: HEADER, length: HEADER_SIZE },
      ...(type === VIRTIO_BLK_T_FLUSH ? [] : [data]),
      { address: STATUS, length: 1, writable: true },
    ]);
    const begun = performance.now();
    device.transport.notify(0);
    awake.wait(Number.POSITIVE_INFINITY, signalled, () => {
      while (!signalled()) epoll.wait(-1);
    });
    times.push((performance.now() - begun) * 1000);
    if (queue.take() === undefined || memory.readU8(STATUS) !== 0) throw new Error('a request has failed');
  }
  epoll.close();
  await end();
  return times;
}

/** Microseconds of `count` reads of 4 KiB from a raw image at `path`, one after the other, `pause` milliseconds apart. */
export async function readLatency(path: string, count: number, pause: number): Promise<number[]> {
  writeFileSync(path, randomBytes(FILE_SIZE));
  const requests = Array.from({ length: count }, (_, i) => ({
    type: VIRTIO_BLK_T_IN,
    offset: (i * PIECE) % FILE_SIZE,
  }));
  return timeEach(blockModel({ path, format: 'raw', writable: false }, 1), requests, pause);
}

/**
 * Clusters of a new qcow2 image at `path` that are allocated a second: a write of 4 KiB to each of `count`, one after the other, and a
 * flush after them all.
 */
export async function allocationRate(path: string, count: number): Promise<number> {
  const fd = openSync(path, 'wx+');
  createQcow2(new ImageFile(fd, path), { size: count * CLUSTER });
  closeSync(fd);
  const writes = Array.from({ length: count }, (_, i) => ({ type: VIRTIO_BLK_T_OUT, offset: i * CLUSTER }));
  const requests = [...writes, { type: VIRTIO_BLK_T_FLUSH, offset: 0 }];
  const times = await timeEach(blockModel({ path, format: 'qcow2', writable: true }, 1), requests, 0);
  rmSync(path);
  return (count * 1e6) / times.reduce((sum, time) => sum + time);
}
