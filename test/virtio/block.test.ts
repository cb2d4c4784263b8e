// The block device, asked by a driver.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ImageFile } from '../../src/disk/image-file.ts';
import { createQcow2 } from '../../src/disk/qcow2/create.ts';
import { EIO, ENOSPC } from '../../src/host/errno.ts';
import { setFaultHook } from '../../src/host/ffi.ts';
import { create } from '../../src/virtio/block/backend.ts';
import * as B from '../../src/virtio/block/constants.ts';
import { blockModel, type DiskConfig } from '../../src/virtio/block/model.ts';
import type { Piece } from './driver.ts';
import { TestDevice } from './test-device.ts';

const folder = mkdtempSync(join(tmpdir(), 'vivarium-block-'));
const devices: TestDevice[] = [];
after(() => {
  for (const device of devices) device.close();
  rmSync(folder, { recursive: true });
});

const SIZE = 1 << 20;
const HEADER = 0x8000;
const STATUS = 0x8100;
const DATA = 0x20_0000;
let files = 0;

/** A disk of SIZE bytes that takes no space yet. */
function emptyImage(path: string, format: 'raw' | 'qcow2'): void {
  const fd = openSync(path, 'w+');
  if (format === 'qcow2') createQcow2(new ImageFile(fd, path), { size: SIZE });
  closeSync(fd);
  if (format === 'raw') truncateSync(path, SIZE);
}

/** A disk of SIZE random bytes. */
function image(format: 'raw' | 'qcow2'): { readonly path: string; readonly content: Buffer } {
  const path = join(folder, `${files++}.${format}`);
  const content = randomBytes(SIZE);
  emptyImage(path, format);
  const disk = new Disk({ path, format, writable: true });
  disk.write(0, content);
  disk.close();
  return { path, content };
}

/** A driver of a disk. */
class Disk {
  readonly device: TestDevice;

  constructor(config: DiskConfig, features?: bigint, queues = 1) {
    this.device = new TestDevice(blockModel(config, queues), create, { memory: 8 << 20 });
    this.device.messages();
    this.device.bringUp(features);
  }

  /** Ends it as the monitor does. */
  close(): void {
    this.request(B.VIRTIO_BLK_T_FLUSH, 0, []);
    this.device.close();
  }

  /** One request; returns its status, and the length that the device says it has written. */
  request(
    type: number,
    sector: number | bigint,
    pieces: readonly Piece[],
    queue = 0,
  ): { status: number; written: number } {
    const { memory, queues } = this.device;
    memory.writeU32(HEADER, type);
    memory.writeU64(HEADER + 8, BigInt(sector));
    memory.writeU8(STATUS, 0xee);
    const status = { address: STATUS, length: 1, writable: true };
    queues[queue]!.add([{ address: HEADER, length: B.HEADER_SIZE }, ...pieces, status]);
    this.device.notify(queue);
    return { status: memory.readU8(STATUS), written: queues[queue]!.take()!.written };
  }

  read(offset: number, length: number): Buffer {
    const { status, written } = this.request(B.VIRTIO_BLK_T_IN, offset / 512, [
      { address: DATA, length, writable: true },
    ]);
    assert.deepEqual({ status, written }, { status: 0, written: length + 1 });
    return Buffer.from(this.device.memory.read(DATA, length));
  }

  write(offset: number, data: Uint8Array): void {
    this.device.memory.write(DATA, data);
    const { status } = this.request(B.VIRTIO_BLK_T_OUT, offset / 512, [{ address: DATA, length: data.length }]);
    assert.equal(status, B.VIRTIO_BLK_S_OK);
  }

  /** Status of a discard or write zeroes request of these ranges: sector, count, flags. */
  ranges(type: number, ...ranges: readonly (readonly [number, number, number])[]): number {
    for (const [i, [sector, count, flags]] of ranges.entries()) {
      this.device.memory.writeU64(DATA + 16 * i, BigInt(sector));
      this.device.memory.writeU32(DATA + 16 * i + 8, count);
      this.device.memory.writeU32(DATA + 16 * i + 12, flags);
    }
    return this.request(type, 0, [{ address: DATA, length: 16 * ranges.length }]).status;
  }
}

function open(config: DiskConfig, features?: bigint, queues?: number): Disk {
  const disk = new Disk(config, features, queues);
  devices.push(disk.device);
  return disk;
}

for (const format of ['raw', 'qcow2'] as const) {
  test(`${format}: reads and writes of any shape reach the disk`, () => {
    const { path, content } = image(format);
    const disk = open({ path, format, writable: true });
    assert.ok(disk.read(0, SIZE).equals(content));
    assert.ok(disk.read(512 * 77, 512).equals(content.subarray(512 * 77, 512 * 78)));
    const data = randomBytes(12_288);
    disk.write(4096 + 512, data);
    data.copy(content, 4096 + 512);
    assert.ok(disk.read(0, 65536).equals(content.subarray(0, 65536)));
    // Scattered, the header and the status in descriptors with data.
    const { memory, queues } = disk.device;
    memory.writeU32(HEADER, B.VIRTIO_BLK_T_IN);
    memory.writeU64(HEADER + 8, 3n);
    queues[0]!.add([
      { address: HEADER, length: 7 },
      { address: HEADER + 7, length: 9 },
      { address: DATA, length: 100, writable: true },
      { address: DATA + 1000, length: 1436 + 1, writable: true },
    ]);
    disk.device.notify(0);
    assert.equal(queues[0]!.take()?.written, 1537);
    const got = Buffer.concat([memory.read(DATA, 100), memory.read(DATA + 1000, 1436)]);
    assert.ok(got.equals(content.subarray(3 * 512, 6 * 512)));
    assert.equal(memory.readU8(DATA + 1000 + 1436), 0);
  });

  test(`${format}: zeroes and discards give space back, and read as they should`, () => {
    const { path, content } = image(format);
    const disk = open({ path, format, writable: true });
    const before = statSync(path).blocks;
    assert.equal(disk.ranges(B.VIRTIO_BLK_T_WRITE_ZEROES, [128, 256, 1], [1024, 3, 0]), B.VIRTIO_BLK_S_OK);
    content.fill(0, 128 * 512, 384 * 512).fill(0, 1024 * 512, 1027 * 512);
    assert.ok(disk.read(0, SIZE).equals(content));
    assert.equal(disk.ranges(B.VIRTIO_BLK_T_DISCARD, [1152, 512, 0]), B.VIRTIO_BLK_S_OK);
    disk.request(B.VIRTIO_BLK_T_FLUSH, 0, []);
    assert.ok(statSync(path).blocks <= before - 256 - 512 + 64, `${statSync(path).blocks} blocks of ${before}`);
    assert.ok(disk.read(0, 1152 * 512).equals(content.subarray(0, 1152 * 512)));
  });

  test(`${format}: what makes no sense is refused, and changes nothing`, () => {
    const { path, content } = image(format);
    const disk = open({ path, format, writable: true });
    const end = SIZE / 512;
    const data = { address: DATA, length: 512 };
    const room = { ...data, writable: true };
    for (const [status, type, sector, pieces] of [
      [B.VIRTIO_BLK_S_UNSUPP, 99, 0, []],
      [B.VIRTIO_BLK_S_IOERR, B.VIRTIO_BLK_T_IN, end, [room]],
      [B.VIRTIO_BLK_S_IOERR, B.VIRTIO_BLK_T_IN, 2n ** 63n, [room]],
      [B.VIRTIO_BLK_S_IOERR, B.VIRTIO_BLK_T_IN, 2n ** 64n - 1n, [room]],
      [B.VIRTIO_BLK_S_IOERR, B.VIRTIO_BLK_T_IN, 0, [{ ...room, length: 100 }]],
      [B.VIRTIO_BLK_S_IOERR, B.VIRTIO_BLK_T_OUT, end - 1, [{ ...data, length: 1024 }]],
      [B.VIRTIO_BLK_S_IOERR, B.VIRTIO_BLK_T_OUT, 0, [{ ...data, length: 511 }]],
      [B.VIRTIO_BLK_S_IOERR, B.VIRTIO_BLK_T_DISCARD, 0, []],
      [B.VIRTIO_BLK_S_IOERR, B.VIRTIO_BLK_T_DISCARD, 0, [{ ...data, length: 15 }]],
      [B.VIRTIO_BLK_S_IOERR, B.VIRTIO_BLK_T_DISCARD, 0, [{ ...data, length: 16 * (B.MAX_SEGMENTS + 1) }]],
    ] as const) {
      assert.equal(disk.request(type, sector, pieces).status, status, `${type} at ${sector}`);
    }
    assert.equal(disk.ranges(B.VIRTIO_BLK_T_DISCARD, [0, 8, 1]), B.VIRTIO_BLK_S_UNSUPP);
    assert.equal(disk.ranges(B.VIRTIO_BLK_T_WRITE_ZEROES, [0, 8, 2]), B.VIRTIO_BLK_S_UNSUPP);
    assert.equal(disk.ranges(B.VIRTIO_BLK_T_WRITE_ZEROES, [0, 8, 1], [end - 1, 2, 1]), B.VIRTIO_BLK_S_IOERR);
    assert.ok(disk.read(0, SIZE).equals(content));
    // A chain that has no room for a status, or no header.
    disk.device.queues[0]!.add([{ address: HEADER, length: 16 }]);
    disk.device.queues[0]!.add([{ address: STATUS, length: 1, writable: true }]);
    disk.device.notify(0);
    assert.equal(disk.device.queues[0]!.take()?.written, 0);
    assert.equal(disk.device.queues[0]!.take()?.written, 1);
    assert.equal(disk.device.memory.readU8(STATUS), B.VIRTIO_BLK_S_IOERR);
  });

  test(`${format}: errors of the host are the guest's, and are told once`, () => {
    const { path } = image(format);
    const disk = open({ path, format, writable: true });
    // The image's tables are in memory from here on.
    disk.read(0, 4096);
    const endFaults = setFaults({ preadv: EIO, pwritev: ENOSPC });
    try {
      const room = { address: DATA, length: 512, writable: true };
      for (let i = 0; i < 3; i++) {
        assert.equal(disk.request(B.VIRTIO_BLK_T_IN, 0, [room]).status, B.VIRTIO_BLK_S_IOERR);
        assert.equal(disk.request(B.VIRTIO_BLK_T_OUT, 0, [{ ...room, writable: false }]).status, B.VIRTIO_BLK_S_IOERR);
      }
    } finally {
      endFaults();
    }
    const lines = disk.device.messages().map((message) => JSON.stringify(message));
    assert.equal(new Set(lines).size, lines.length);
    assert.match(lines.join(), /input\/output error/);
    assert.match(lines.join(), /no space left/);
    disk.read(0, 4096);
  });

  test(`${format}: a host's file system that is full is an error of some writes, and hurts nothing else`, (t) => {
    if (process.geteuid?.() !== 0) return t.skip('only root can make a small file system');
    const place = join(folder, `full-${format}`);
    mkdirSync(place);
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${(SIZE * 3) / 4}`, 'tmpfs', place]);
    t.after(() => execFileSync('umount', ['-l', place]));
    const path = join(place, 'image');
    emptyImage(path, format);
    const disk = new Disk({ path, format, writable: true });
    const PIECE = 1 << 16;
    const fill = (piece: number): number => {
      disk.device.memory.fill(DATA, PIECE, piece + 1);
      return disk.request(B.VIRTIO_BLK_T_OUT, (piece * PIECE) / 512, [{ address: DATA, length: PIECE }]).status;
    };
    const pieces = Array.from({ length: SIZE / PIECE }, (_, piece) => ({ piece, status: fill(piece) }));
    const kept = pieces.filter(({ status }) => status === B.VIRTIO_BLK_S_OK);
    const failed = pieces.filter(({ status }) => status === B.VIRTIO_BLK_S_IOERR);
    assert.ok(kept.length >= 4 && failed.length >= 2 && kept.length + failed.length === pieces.length);
    assert.equal(JSON.stringify(disk.device.messages()).split('no space left').length, 2, 'told once');
    for (const { piece } of kept) assert.deepEqual(disk.read(piece * PIECE, PIECE), Buffer.alloc(PIECE, piece + 1));
    // What the guest discards makes room, once that is on the disk.
    assert.equal(disk.ranges(B.VIRTIO_BLK_T_DISCARD, [0, (2 * PIECE) / 512, 0]), B.VIRTIO_BLK_S_OK);
    assert.equal(disk.request(B.VIRTIO_BLK_T_FLUSH, 0, []).status, B.VIRTIO_BLK_S_OK);
    assert.equal(fill(failed[0]!.piece), B.VIRTIO_BLK_S_OK);
    assert.equal(disk.request(B.VIRTIO_BLK_T_FLUSH, 0, []).status, B.VIRTIO_BLK_S_OK);
    for (const { piece } of [...kept.slice(2), failed[0]!])
      assert.deepEqual(disk.read(piece * PIECE, PIECE), Buffer.alloc(PIECE, piece + 1));
    disk.close();
    if (format === 'qcow2') execFileSync('qemu-img', ['check', '-q', '-f', 'qcow2', path]);
  });

  test(`${format}: an image that somebody cuts off is an error of what was in it, told once`, () => {
    const { path, content } = image(format);
    const disk = open({ path, format, writable: true });
    disk.read(0, 4096);
    truncateSync(path, statSync(path).size - SIZE / 2);
    const room = { address: DATA, length: 8192, writable: true };
    for (let i = 0; i < 3; i++) {
      assert.equal(disk.request(B.VIRTIO_BLK_T_IN, (SIZE - 8192) / 512, [room]).status, B.VIRTIO_BLK_S_IOERR);
    }
    assert.equal(disk.device.messages().length, 1);
    assert.ok(disk.read(0, 8192).equals(content.subarray(0, 8192)));
  });

  test(`${format}: a read-only disk takes no writes, an overlay keeps them to itself`, () => {
    const { path, content } = image(format);
    const before = readFileSync(path);
    const readOnly = open({ path, format, writable: false });
    assert.equal(readOnly.device.model.features & (1n << B.VIRTIO_BLK_F_RO), 1n << B.VIRTIO_BLK_F_RO);
    assert.equal(
      readOnly.request(B.VIRTIO_BLK_T_OUT, 0, [{ address: DATA, length: 512 }]).status,
      B.VIRTIO_BLK_S_IOERR,
    );
    assert.equal(readOnly.ranges(B.VIRTIO_BLK_T_DISCARD, [0, 8, 0]), B.VIRTIO_BLK_S_IOERR);
    assert.equal(readOnly.request(B.VIRTIO_BLK_T_FLUSH, 0, []).status, B.VIRTIO_BLK_S_OK);
    assert.ok(readOnly.read(0, SIZE).equals(content));
    const overlay = open({ path, format, writable: false, overlay: true });
    overlay.write(512, randomBytes(512).fill(7));
    assert.deepEqual(overlay.read(512, 512), Buffer.alloc(512, 7));
    assert.ok(readFileSync(path).equals(before));
  });
}

/** Makes calls fail with these errors; returns what ends that. */
function setFaults(errors: Readonly<Record<string, number>>): () => void {
  setFaultHook((name) => errors[name]);
  return () => setFaultHook(undefined);
}

/** Counts calls of a name while `work` runs. */
function callsOf(name: string, work: () => void): number {
  let calls = 0;
  setFaultHook((called) => {
    if (called === name) calls++;
    return undefined;
  });
  try {
    work();
  } finally {
    setFaultHook(undefined);
  }
  return calls;
}

test('the cache is written back when the driver says so, or at once where it cannot or will not', () => {
  const { path } = image('raw');
  const disk = open({ path, format: 'raw', writable: true });
  const { transport, model } = disk.device;
  const write = (): void => disk.write(0, Buffer.alloc(512));
  assert.equal(callsOf('fdatasync', write), 0);
  assert.equal(
    callsOf('fdatasync', () => disk.request(B.VIRTIO_BLK_T_FLUSH, 0, [])),
    1,
  );
  write();
  const switchOff = (): void => {
    transport.writeConfig(B.CONFIG_WRITEBACK, Uint8Array.of(0));
    disk.device.poll();
  };
  assert.equal(callsOf('fdatasync', switchOff), 1, 'what was in the cache');
  assert.equal(callsOf('fdatasync', write), 1);
  disk.device.reset();
  disk.device.bringUp(model.features & ~((1n << B.VIRTIO_BLK_F_FLUSH) | (1n << B.VIRTIO_BLK_F_CONFIG_WCE)));
  transport.writeConfig(B.CONFIG_WRITEBACK, Uint8Array.of(1));
  disk.device.poll();
  assert.equal(callsOf('fdatasync', write), 1, 'a driver without flushes');
});

test('the configuration and the serial number are what was asked for', () => {
  const { path } = image('raw');
  writeFileSync(path, Buffer.alloc(100), { flag: 'a' });
  const disk = open({ path, format: 'raw', writable: true, serial: 'ABC-123' }, undefined, 3);
  const config = new DataView(disk.device.model.config.buffer);
  assert.equal(config.getBigUint64(B.CONFIG_CAPACITY, true), BigInt(SIZE / 512));
  assert.equal(config.getUint16(B.CONFIG_NUM_QUEUES, true), 3);
  const room = { address: DATA, length: B.ID_SIZE, writable: true };
  assert.deepEqual(disk.request(B.VIRTIO_BLK_T_GET_ID, 0, [room]), { status: 0, written: 21 });
  assert.equal(Buffer.from(disk.device.memory.read(DATA, 20)).toString('latin1'), 'ABC-123'.padEnd(20, '\0'));
  // Every queue serves, and the tail of the file is hidden.
  const sector = { address: DATA, length: 512, writable: true };
  for (const queue of [0, 1, 2]) assert.equal(disk.request(B.VIRTIO_BLK_T_IN, 5, [sector], queue).status, 0);
  assert.equal(disk.request(B.VIRTIO_BLK_T_IN, SIZE / 512, [sector]).status, B.VIRTIO_BLK_S_IOERR);
});

test('a disk changes its size while the guest runs', () => {
  for (const format of ['raw', 'qcow2'] as const) {
    const { path, content } = image(format);
    const disk = open({ path, format, writable: true });
    disk.device.request({ kind: 'resize', size: 2 * SIZE });
    assert.deepEqual(disk.device.messages(), [{ id: 0, answer: null }]);
    assert.equal(disk.device.interrupts('config'), 1);
    assert.deepEqual(disk.read(SIZE, 512), Buffer.alloc(512));
    assert.ok(disk.read(0, SIZE).equals(content));
    disk.device.request({ kind: 'resize', size: 511 });
    assert.match(JSON.stringify(disk.device.messages()), /multiple of 512/);
    disk.device.request({ kind: 'statistics' });
    const [{ answer }] = disk.device.messages() as unknown as [{ answer: Record<string, number> }];
    assert.deepEqual([answer['reads'], answer['readBytes']], [2, SIZE + 512]);
  }
});

test('direct access goes past the cache, in the size of block that the host has', (t) => {
  const { path, content } = image('raw');
  let disk: Disk;
  try {
    disk = open({ path, format: 'raw', writable: true, direct: true });
  } catch (error) {
    // tmpfs of older kernels.
    if (!/no direct access/.test((error as Error).message)) throw error;
    return t.skip((error as Error).message);
  }
  const blockSize = new DataView(disk.device.model.config.buffer).getUint32(B.CONFIG_BLK_SIZE, true);
  assert.ok(blockSize === 512 || blockSize === 4096);
  assert.ok(disk.read(blockSize, 65536).equals(content.subarray(blockSize, blockSize + 65536)));
  disk.write(8192, Buffer.alloc(4096, 9));
  assert.deepEqual(disk.read(8192, 4096), Buffer.alloc(4096, 9));
});

test('an inherited descriptor is a disk by its number', () => {
  const { path, content } = image('raw');
  const fd = openSync(path, 'r');
  const disk = open({ path: `/proc/self/fd/${fd}`, format: 'raw', writable: false });
  assert.ok(disk.read(0, SIZE).equals(content));
  assert.notEqual(disk.device.model.fds[0], fd);
  const model = (name: string, writable = false) => blockModel({ path: name, format: 'raw', writable }, 1);
  assert.throws(() => model(`/proc/self/fd/${fd}`, true), /not opened for writing/);
  assert.throws(() => model('/proc/self/fd/12345'), /not inherited/);
  assert.throws(() => model('/proc/self/fd/x'), /no number/);
  const pipe = openSync('/dev/null', 'r');
  assert.throws(() => model(`/proc/self/fd/${pipe}`), /neither a regular file/);
  assert.ok(fstatSync(fd).isFile());
  closeSync(pipe);
  closeSync(fd);
});
