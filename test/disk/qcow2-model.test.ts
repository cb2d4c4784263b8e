// Random requests on an image and on a plain buffer: both hold the same, and QEMU finds the image sound.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { rangeOf } from '../../src/disk/iovec.ts';
import type { Qcow2Image } from '../../src/disk/qcow2/image.ts';
import { randomSource } from '../guest/random.ts';
import { closeDisk, Images, openDisk, readAll } from './images.ts';

const images = new Images();
after(() => images.remove());

type Random = (limit: number) => number;

/** Bytes that tell where they come from. */
function pattern(random: Random, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  const [start, step] = [random(256), random(256) | 1];
  for (let i = 0; i < length; i++) buffer[i] = start + i * step;
  return buffer;
}

/** Cuts a buffer into pieces, as a guest's descriptors do. */
function pieces(random: Random, buffer: Buffer): ReturnType<typeof rangeOf>[] {
  const result: ReturnType<typeof rangeOf>[] = [];
  for (let at = 0; at < buffer.length; ) {
    const length = Math.min(buffer.length - at, 1 + random(buffer.length));
    result.push(rangeOf(buffer.subarray(at, at + length)));
    at += length;
  }
  return result;
}

/** One request on both; what is discarded holds anything afterwards, so the model takes over what the image has. */
function step(random: Random, image: Qcow2Image, model: Buffer): void {
  const offset = random(model.length);
  const most = Math.min(model.length - offset, random(4) === 0 ? model.length : image.clusterSize * 4);
  const length = 1 + random(most);
  switch (random(10)) {
    case 0:
    case 1:
    case 2:
    case 3: {
      const data = pattern(random, length);
      image.write(offset, pieces(random, data));
      data.copy(model, offset);
      break;
    }
    case 4:
    case 5: {
      const data = Buffer.alloc(length, 0xee);
      image.read(offset, pieces(random, data));
      assert.ok(data.equals(model.subarray(offset, offset + length)), `${length} bytes at ${offset}`);
      break;
    }
    case 6:
    case 7:
      image.writeZeroes(offset, length, random(2) === 0);
      model.fill(0, offset, offset + length);
      break;
    case 8: {
      image.discard(offset, length);
      const left = Buffer.alloc(length);
      image.read(offset, [rangeOf(left)]);
      for (let i = 0; i < length; i++) assert.ok(left[i] === 0 || left[i] === model[offset + i], `byte ${offset + i}`);
      left.copy(model, offset);
      break;
    }
    default:
      image.flush();
  }
}

function assertSound(name: string, model: Buffer): void {
  const { status, text } = images.qemuCheck(name);
  assert.equal(status, 0, text);
  writeFileSync(images.path('model.raw'), model);
  images.qemuImg('compare', '-f', 'qcow2', '-F', 'raw', name, 'model.raw');
}

interface Kind {
  readonly clusterBits: number;
  readonly refcountOrder: number;
  readonly version: 2 | 3;
  readonly under: 'nothing' | 'raw' | 'qcow2';
}

const KINDS: Kind[] = [];
for (const clusterBits of [9, 10, 12, 16, 18, 21]) {
  for (const refcountOrder of [0, 1, 2, 3, 4, 5, 6]) {
    if (refcountOrder !== 4 && clusterBits > 12 && (refcountOrder + clusterBits) % 3 !== 0) continue;
    const under = (['nothing', 'raw', 'qcow2'] as const)[(clusterBits + refcountOrder) % 3]!;
    KINDS.push({ clusterBits, refcountOrder, version: 3, under });
  }
  for (const under of ['nothing', 'raw'] as const) KINDS.push({ clusterBits, refcountOrder: 4, version: 2, under });
}

for (const [index, kind] of KINDS.entries()) {
  const { clusterBits, refcountOrder, version, under } = kind;
  test(`random requests: clusters of ${2 ** clusterBits}, refcounts of ${2 ** refcountOrder} bits, version ${version}, over ${under}`, (t) => {
    const random = randomSource(t);
    const name = `model-${index}.qcow2`;
    // Over several L2 tables with small clusters; the last cluster is cut off.
    const size = Math.min(2 ** clusterBits * 200, 2 ** 23) + 512 * (1 + random(3));
    let model = Buffer.alloc(size);
    const backing = `base-${index}`;
    if (under !== 'nothing') {
      const base = pattern(random, size - random(size >> 1));
      writeFileSync(images.path('base.raw'), base);
      images.qemuImg('convert', '-O', under, ...(under === 'qcow2' ? ['-c'] : []), 'base.raw', backing);
      base.copy(model);
    }
    images.create(name, {
      size,
      clusterBits,
      refcountOrder,
      version,
      ...(under !== 'nothing' && { backing: { path: backing, format: under } }),
    });
    for (let round = 0; round < 3; round++) {
      const image = openDisk(images.path(name), true);
      model = Buffer.from(model);
      assert.ok(readAll(image).equals(model));
      for (let i = 0; i < 60; i++) step(random, image, model);
      assert.ok(readAll(image).equals(model));
      closeDisk(image);
      assertSound(name, model);
    }
    assert.ok(readFileSync(images.path(name)).length > 0);
  });
}
