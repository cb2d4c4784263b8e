// Images made by QEMU's tools, read and written by Vivarium; images made by Vivarium, read by QEMU's tools.
import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { copyDisk, rawTarget } from '../../src/disk/convert.ts';
import { ImageFile } from '../../src/disk/image-file.ts';
import { rangeOf } from '../../src/disk/iovec.ts';
import { checkImage } from '../../src/disk/qcow2/check.ts';
import { openQcow2, readHeader } from '../../src/disk/qcow2/open.ts';
import { resizeImage } from '../../src/disk/qcow2/resize.ts';
import { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from '../../src/disk/qcow2/snapshots.ts';
import { closeDisk, Images, openDisk, readAll } from './images.ts';

const images = new Images();
after(() => images.remove());

/** Four MiB: text that packs well, noise, and zeroes. */
function content(): Buffer {
  const buffer = Buffer.alloc(4 * 2 ** 20 + 512);
  buffer.fill('all work and no play ', 0, 2 ** 20);
  let state = 1;
  for (let i = 2 ** 21; i < 3 * 2 ** 20; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    buffer[i] = state >> 16;
  }
  buffer.fill(0x77, 4 * 2 ** 20);
  return buffer;
}
const disk = content();
writeFileSync(images.path('disk.raw'), disk);

function assertSound(name: string): void {
  const { status, text } = images.qemuCheck(name);
  assert.equal(status, 0, text);
}

function assertHolds(name: string, expected: Buffer): void {
  const image = openDisk(images.path(name), false);
  try {
    assert.ok(readAll(image).equals(expected), name);
  } finally {
    closeDisk(image);
  }
}

function write(name: string, offset: number, data: Buffer): void {
  const image = openDisk(images.path(name), true);
  image.write(offset, [rangeOf(data)]);
  closeDisk(image);
}

/** What Vivarium's own check finds. */
function ownCheck(name: string): { leaks: number; corruptions: number; messages: readonly string[] } {
  const fd = openSync(images.path(name), 'r');
  try {
    const file = new ImageFile(fd, images.path(name));
    const { leaks, corruptions, messages } = checkImage(file, readHeader(file));
    return { leaks, corruptions, messages };
  } finally {
    closeSync(fd);
  }
}

const SOUND = { leaks: 0, corruptions: 0, messages: [] };

const VARIANTS: readonly (readonly string[])[] = [
  [],
  ['-o', 'compat=0.10'],
  ['-o', 'cluster_size=512'],
  ['-o', 'cluster_size=2M'],
  ['-o', 'refcount_bits=1'],
  ['-o', 'refcount_bits=64,cluster_size=4096'],
  ['-o', 'lazy_refcounts=on'],
  ['-o', 'preallocation=metadata'],
  ['-o', 'preallocation=falloc'],
  ['-c'],
  ['-c', '-o', 'cluster_size=512'],
  ['-c', '-o', 'cluster_size=2M'],
  ['-c', '-o', 'compression_type=zstd'],
  ['-c', '-o', 'compression_type=zstd,cluster_size=4096'],
];

for (const [index, options] of VARIANTS.entries()) {
  test(`made by qemu-img convert ${options.join(' ')}`, () => {
    const name = `qemu-${index}.qcow2`;
    images.qemuImg('convert', '-O', 'qcow2', ...options, 'disk.raw', name);
    assertHolds(name, disk);
    assert.deepEqual(ownCheck(name), SOUND);
    const expected = Buffer.from(disk);
    for (const offset of [0, 100_000, 2 ** 20 - 7, 2 ** 21 + 4096, disk.length - 600]) {
      const data = Buffer.alloc(600, offset & 0xff);
      write(name, offset, data);
      data.copy(expected, offset);
    }
    assertSound(name);
    assert.deepEqual(ownCheck(name), SOUND);
    assertHolds(name, expected);
    writeFileSync(images.path('expected.raw'), expected);
    images.qemuImg('compare', '-F', 'raw', name, 'expected.raw');
  });
}

test('backing files: chains, relative paths, smaller ones, a raw one', () => {
  mkdirSync(images.path('sub'), { recursive: true });
  writeFileSync(images.path('sub/base.raw'), disk.subarray(0, 2 ** 20 + 1000));
  images.qemuImg('create', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', 'sub/middle.qcow2', '3M');
  images.qemuIo('sub/middle.qcow2', 'write -P 0x11 2M 64k', 'write -z 64k 64k');
  images.qemuImg('create', '-f', 'qcow2', '-b', 'sub/middle.qcow2', '-F', 'qcow2', 'top.qcow2', '4M');
  images.qemuIo('top.qcow2', 'write -P 0x22 512 512');
  const expected = Buffer.alloc(4 * 2 ** 20);
  disk.copy(expected, 0, 0, 2 ** 20 + 1000);
  expected
    .fill(0x11, 2 ** 21, 2 ** 21 + 65536)
    .fill(0, 65536, 131072)
    .fill(0x22, 512, 1024);
  assertHolds('top.qcow2', expected);
  // Copied on write: over the end of the lowest file, too.
  write('top.qcow2', 2 ** 20 + 900, Buffer.alloc(300, 0x33));
  expected.fill(0x33, 2 ** 20 + 900, 2 ** 20 + 1200);
  assertHolds('top.qcow2', expected);
  assertSound('top.qcow2');
  symlinkSync(images.path('top.qcow2'), images.path('sub/link.qcow2'));
  writeFileSync(images.path('expected.raw'), expected);
  images.qemuImg('compare', '-F', 'raw', 'top.qcow2', 'expected.raw');
});

test('what is under an image is never changed', () => {
  images.qemuImg('convert', '-O', 'qcow2', 'disk.raw', 'under.qcow2');
  const before = readFileSync(images.path('under.qcow2'));
  images.create('over.qcow2', { size: disk.length, backing: { path: 'under.qcow2', format: 'qcow2' } });
  write('over.qcow2', 1000, Buffer.alloc(200_000, 1));
  assert.ok(readFileSync(images.path('under.qcow2')).equals(before));
  assertSound('over.qcow2');
});

test('backing files that lead in a circle, or nowhere, or that do not say what they are', () => {
  images.qemuImg('create', '-f', 'qcow2', 'a.qcow2', '1M');
  images.qemuImg('create', '-f', 'qcow2', '-b', 'a.qcow2', '-F', 'qcow2', 'b.qcow2');
  images.qemuImg('rebase', '-u', '-b', 'b.qcow2', '-F', 'qcow2', 'a.qcow2');
  const refused = (name: string, pattern: RegExp): void => {
    assert.throws(() => openDisk(images.path(name), false), { name: 'DiskError', message: pattern });
  };
  refused('a.qcow2', /a\.qcow2: its backing files lead back to .*a\.qcow2$/);
  images.qemuImg('rebase', '-u', '-b', 'a.qcow2', '-F', 'qcow2', 'a.qcow2');
  refused('a.qcow2', /lead back/);
  images.qemuImg('rebase', '-u', '-b', 'absent', '-F', 'raw', 'a.qcow2');
  refused('a.qcow2', /absent: there is no such file$/);
  images.qemuImg('rebase', '-u', '-b', 'disk.raw', '-F', 'vmdk', 'a.qcow2');
  refused('a.qcow2', /format vmdk, which is not supported$/);
  images.qemuImg('rebase', '-u', '-b', 'nbd://localhost/x', '-F', 'raw', 'a.qcow2');
  refused('a.qcow2', /reached by nbd/);
  images.qemuImg('rebase', '-u', '-b', 'json:{"driver":"file","filename":"disk.raw"}', '-F', 'raw', 'a.qcow2');
  refused('a.qcow2', /reached by json/);
  // A raw image in which a guest wrote the header of an image that is over a secret.
  images.qemuImg('create', '-f', 'qcow2', '-u', '-b', '/etc/hostname', '-F', 'raw', 'trap.raw', '1M');
  images.qemuImg('create', '-f', 'qcow2', '-u', '-b', 'trap.raw', '-F', 'raw', 'victim.qcow2', '1M');
  assertHolds('victim.qcow2', Buffer.concat([readFileSync(images.path('trap.raw'))], 2 ** 20));
  // Without the format's name it is guessed, which must not lead further.
  const header = readFileSync(images.path('victim.qcow2'));
  const at = header.indexOf(Buffer.from('e2792aca', 'hex'));
  header.writeUInt32BE(0x12345678, at);
  writeFileSync(images.path('victim.qcow2'), header);
  refused('victim.qcow2', /trap\.raw: what lies on it does not say its format/);
});

test('features that are not supported are refused by name', () => {
  images.qemuImg('create', '-f', 'qcow2', '-o', 'extended_l2=on', 'extended.qcow2', '1M');
  images.qemuImg('create', '-f', 'qcow2', '-o', 'data_file=external.raw', 'external.qcow2', '1M');
  const secret = ['--object', 'secret,id=s,data=abc', '-o', 'encrypt.format=aes,encrypt.key-secret=s'];
  images.qemuImg('create', '-f', 'qcow2', ...secret, 'aes.qcow2', '1M');
  // Not made by QEMU: it measures the processor first, and fails where that is too fast for the host's accounting.
  const encrypted = readFileSync(images.path('aes.qcow2'));
  encrypted.writeUInt32BE(2, 32);
  writeFileSync(images.path('luks.qcow2'), encrypted);
  images.qemuImg('create', '-f', 'qcow2', 'future.qcow2', '1M');
  const bytes = readFileSync(images.path('future.qcow2'));
  // An unknown feature, with a name, and one without.
  bytes.writeBigUInt64BE((1n << 40n) | (1n << 7n), 72);
  const names = bytes.indexOf(Buffer.from('6803f857', 'hex')) + 8;
  bytes[names] = 0;
  bytes[names + 1] = 40;
  bytes.fill(0, names + 2, names + 48).write('time travel', names + 2);
  writeFileSync(images.path('future.qcow2'), bytes);
  const refused = (name: string, pattern: RegExp): void => {
    for (const writable of [false, true]) {
      assert.throws(() => openDisk(images.path(name), writable), { name: 'DiskError', message: pattern });
    }
  };
  refused('extended.qcow2', /not supported: extended L2 entries$/);
  refused('external.qcow2', /not supported: external data file$/);
  refused('aes.qcow2', /encrypted \(AES\)/);
  refused('luks.qcow2', /encrypted \(LUKS\)/);
  refused('future.qcow2', /not supported: unknown feature \(bit 7\), time travel$/);
  assert.throws(() => openDisk(images.path('disk.raw'), false), { message: /it is no qcow2 image/ });
});

test('snapshots that QEMU made stay as they are', () => {
  for (const [index, options] of [[], ['-o', 'compat=0.10'], ['-c'], ['-o', 'refcount_bits=8']].entries()) {
    const name = `snapshots-${index}.qcow2`;
    images.qemuImg('convert', '-O', 'qcow2', ...options, 'disk.raw', name);
    images.qemuImg('snapshot', '-c', 'first', name);
    const expected = Buffer.from(disk);
    write(name, 70_000, Buffer.alloc(100_000, 0x55));
    expected.fill(0x55, 70_000, 170_000);
    assertSound(name);
    images.qemuImg('snapshot', '-c', 'second', name);
    const image = openDisk(images.path(name), true);
    image.writeZeroes(0, 2 ** 20, true);
    image.discard(2 ** 21, 2 ** 20);
    image.write(2 ** 21, [rangeOf(Buffer.alloc(2 ** 20, 9))]);
    closeDisk(image);
    assertSound(name);
    assert.deepEqual(ownCheck(name), SOUND);
    assertHolds(
      name,
      Buffer.from(expected)
        .fill(0, 0, 2 ** 20)
        .fill(9, 2 ** 21, 3 * 2 ** 20),
    );
    images.qemuImg('snapshot', '-a', 'second', name);
    assertHolds(name, expected);
    images.qemuImg('snapshot', '-a', 'first', name);
    assertHolds(name, disk);
    assertSound(name);
  }
});

test('snapshots made, applied and deleted by Vivarium', () => {
  for (const [index, options] of [
    {},
    { version: 2 as const },
    { clusterBits: 9 },
    { clusterBits: 12, refcountOrder: 3 },
  ].entries()) {
    const name = `own-${index}.qcow2`;
    images.create(name, { size: disk.length, ...options });
    write(name, 0, disk);
    const change = (call: (image: ReturnType<typeof openDisk>) => void): void => {
      const image = openDisk(images.path(name), true);
      try {
        call(image);
      } finally {
        closeDisk(image);
      }
      assertSound(name);
      assert.deepEqual(ownCheck(name), SOUND);
    };
    change((image) => createSnapshot(image, 'one', Date.now()));
    change((image) => image.write(300_000, [rangeOf(Buffer.alloc(400_000, 3))]));
    change((image) => createSnapshot(image, 'two', Date.now()));
    const two = Buffer.from(disk).fill(3, 300_000, 700_000);
    change((image) => image.write(0, [rangeOf(Buffer.alloc(1000, 4))]));
    assert.match(images.qemuImg('snapshot', '-l', name), / one .*\n.* two /);
    change((image) => applySnapshot(image, 'one'));
    assertHolds(name, disk);
    change((image) => deleteSnapshot(image, '1'));
    assertHolds(name, disk);
    change((image) => applySnapshot(image, 'two'));
    assertHolds(name, two);
    change((image) => deleteSnapshot(image, 'two'));
    assertHolds(name, two);
    const image = openDisk(images.path(name), false);
    assert.deepEqual(listSnapshots(image), []);
    closeDisk(image);
  }
});

test('counts too narrow for a snapshot: refused, and nothing is changed', () => {
  images.create('narrow.qcow2', { size: 2 ** 20, refcountOrder: 0 });
  write('narrow.qcow2', 0, Buffer.alloc(2 ** 20, 5));
  const image = openDisk(images.path('narrow.qcow2'), true);
  assert.throws(() => createSnapshot(image, 'x', 0), { message: /refcounts of 1 bits are too narrow/ });
  closeDisk(image);
  assertSound('narrow.qcow2');
  assertHolds('narrow.qcow2', Buffer.alloc(2 ** 20, 5));
});

test('larger and smaller', () => {
  images.create('resize.qcow2', { size: 2 ** 20 + 512, clusterBits: 9, backing: { path: 'disk.raw', format: 'raw' } });
  const expected = Buffer.alloc(2 ** 23);
  disk.copy(expected, 0, 0, 2 ** 20 + 512);
  const resize = (size: number): void => {
    const image = openDisk(images.path('resize.qcow2'), true);
    resizeImage(image, size);
    assert.equal(image.size, size);
    closeDisk(image);
    assertSound('resize.qcow2');
    assertHolds('resize.qcow2', expected.subarray(0, size));
  };
  // The file under it is longer, and must not show through.
  resize(3 * 2 ** 20);
  write('resize.qcow2', 2 ** 21, Buffer.alloc(2 ** 20, 8));
  expected.fill(8, 2 ** 21, 3 * 2 ** 20);
  resize(2 ** 23);
  resize(2 ** 21 + 1024);
  expected.fill(0, 2 ** 21 + 1024);
  resize(2 ** 22);
  resize(0);
  expected.fill(0);
  resize(2 ** 20);
});

test('copies in all directions', async () => {
  images.qemuImg('convert', '-O', 'qcow2', '-c', 'disk.raw', 'source.qcow2');
  const source = openDisk(images.path('source.qcow2'), false);
  const fd = openSync(images.path('copy.raw'), 'wx+');
  truncateSync(images.path('copy.raw'), source.size);
  const fractions: number[] = [];
  await copyDisk(source, rawTarget(new ImageFile(fd, 'copy.raw')), {
    progress: (fraction) => fractions.push(fraction),
  });
  assert.ok(readFileSync(images.path('copy.raw')).equals(disk));
  assert.equal(fractions.at(-1), 1);
  images.create('copy.qcow2', { size: source.size });
  const copy = openDisk(images.path('copy.qcow2'), true);
  await copyDisk(source, copy, { progress: () => {} });
  closeDisk(copy);
  closeDisk(source);
  closeSync(fd);
  assertHolds('copy.qcow2', disk);
  assertSound('copy.qcow2');
});

test('the dirty bit: repaired at opening for writing, left alone at opening for reading', () => {
  images.create('dirty.qcow2', { size: 2 ** 24, lazyRefcounts: true });
  // QEMU is killed in the middle: counts were not written.
  assert.throws(() => images.qemuIo('dirty.qcow2', 'write -P 0x42 0 1M', 'write -P 0x43 8M 1M', 'flush', 'sigraise 9'));
  assert.match(images.qemuImg('info', 'dirty.qcow2'), /dirty|lazy/);
  assert.notEqual(images.qemuCheck('dirty.qcow2').status, 0);
  const found = ownCheck('dirty.qcow2');
  assert.ok(found.corruptions > 0);
  const before = readFileSync(images.path('dirty.qcow2'));
  const expected = Buffer.alloc(2 ** 24)
    .fill(0x42, 0, 2 ** 20)
    .fill(0x43, 2 ** 23, 2 ** 23 + 2 ** 20);
  assertHolds('dirty.qcow2', expected);
  assert.ok(readFileSync(images.path('dirty.qcow2')).equals(before));
  write('dirty.qcow2', 2 ** 22, Buffer.alloc(65536, 1));
  assertSound('dirty.qcow2');
  assertHolds('dirty.qcow2', expected.fill(1, 2 ** 22, 2 ** 22 + 65536));
});

test('the corrupt bit: read, not written', () => {
  images.create('corrupt.qcow2', { size: 2 ** 20 });
  write('corrupt.qcow2', 0, Buffer.alloc(512, 6));
  const bytes = readFileSync(images.path('corrupt.qcow2'));
  bytes[79]! |= 2;
  writeFileSync(images.path('corrupt.qcow2'), bytes);
  assert.throws(() => openDisk(images.path('corrupt.qcow2'), true), {
    message: /marked as corrupt: .*vivarium disk check --repair/,
  });
  assertHolds('corrupt.qcow2', Buffer.concat([Buffer.alloc(512, 6)], 2 ** 20));
});

test('guest data in the place of a table is noticed at a write; then the image is marked', () => {
  images.create('overlap.qcow2', { size: 2 ** 24 });
  write('overlap.qcow2', 0, Buffer.alloc(65536, 6));
  const bytes = readFileSync(images.path('overlap.qcow2'));
  const l1 = Number(bytes.readBigUInt64BE(40));
  const l2 = Number(bytes.readBigUInt64BE(l1) & 0x00ff_ffff_ffff_fe00n);
  // The second cluster is where the L1 table is, the third in the header.
  bytes.writeBigUInt64BE((1n << 63n) | BigInt(l1), l2 + 8);
  writeFileSync(images.path('overlap.qcow2'), bytes);
  const fd = openSync(images.path('overlap.qcow2'), 'r+');
  const image = openQcow2(fd, 'overlap.qcow2', true, undefined);
  image.write(0, [rangeOf(Buffer.alloc(512))]);
  assert.throws(() => image.write(65536, [rangeOf(Buffer.alloc(512))]), {
    name: 'CorruptImageError',
    message: /share the cluster/,
  });
  assert.throws(() => image.write(0, [rangeOf(Buffer.alloc(512))]), { name: 'CorruptImageError' });
  closeDisk(image);
  assert.equal(readFileSync(images.path('overlap.qcow2'))[79]! & 2, 2);
});

test('bitmaps: not kept up to date, and said so', () => {
  images.qemuImg('create', '-f', 'qcow2', 'bitmaps.qcow2', '1M');
  images.qemuImg('bitmap', '--add', 'bitmaps.qcow2', 'b0');
  assert.deepEqual(ownCheck('bitmaps.qcow2'), SOUND);
  assertHolds('bitmaps.qcow2', Buffer.alloc(2 ** 20));
  write('bitmaps.qcow2', 0, Buffer.alloc(512, 1));
  assert.equal(readFileSync(images.path('bitmaps.qcow2'))[95], 0);
  assert.equal(images.qemuCheck('bitmaps.qcow2', '-r', 'leaks').status, 0);
});
