// The power fails: of what was written since the last fdatasync(2), any sectors are on the disk, and the others are not. The
// image has all counts it needs then, and everything that was flushed.
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { after, type TestContext, test } from 'node:test';
import { ImageFile } from '../../src/disk/image-file.ts';
import { rangeOf } from '../../src/disk/iovec.ts';
import { checkImage } from '../../src/disk/qcow2/check.ts';
import type { Qcow2Image } from '../../src/disk/qcow2/image.ts';
import { readHeader } from '../../src/disk/qcow2/open.ts';
import { createSnapshot } from '../../src/disk/qcow2/snapshots.ts';
import { setFaultHook } from '../../src/host/ffi.ts';
import { closeDisk, Images, openDisk, readAll } from './images.ts';
import { GROUP, type Request, requests, SECTOR } from './kill-requests.ts';
import { Random } from './pseudo-random.ts';

const images = new Images();
after(() => {
  setFaultHook(undefined);
  images.remove();
});

const GROUPS = 25;
/** One in so many calls that change the file is the last before the power fails. */
const RARITY = 12;
const CALLS = ['pwrite', 'pwritev', 'fallocate', 'fdatasync'];

/** An image whose file is watched, and what its sectors may hold. */
class Machine {
  readonly #path: string;
  readonly #random: Random;
  /** The file as it surely is on the disk. */
  #durable: Buffer;
  /** What each sector of the disk holds or, since the last flush, may hold. */
  readonly #allowed: Set<number>[];
  #failures = 0;

  constructor(path: string, random: Random, content: Buffer) {
    this.#path = path;
    this.#random = random;
    this.#durable = readFileSync(path);
    this.#allowed = Array.from(
      { length: content.length / SECTOR },
      (_, i) => new Set([content.readUInt32LE(i * SECTOR)]),
    );
  }

  get failures(): number {
    return this.#failures;
  }

  /** Before a call that may change the file. */
  call(name: string): void {
    if (this.#random.below(RARITY) === 0) this.#fail();
    if (name === 'fdatasync') this.#durable = readFileSync(this.#path);
  }

  request({ kind, first, count, value }: Request): void {
    for (let sector = first; sector < first + count; sector++) this.#allowed[sector]!.add(kind === 'write' ? value : 0);
  }

  flushed(content: Buffer): void {
    for (const [i, values] of this.#allowed.entries()) {
      const value = content.readUInt32LE(i * SECTOR);
      assert.ok(values.has(value));
      values.clear();
      values.add(value);
    }
  }

  /** Makes the file as the failure may leave it, and looks at it. */
  #fail(): void {
    this.#failures++;
    const now = readFileSync(this.#path);
    const mixed = Buffer.from(now);
    const keep = this.#random.below(4);
    for (let at = 0; at < mixed.length; at += SECTOR) {
      if (this.#random.below(4) < keep) continue;
      mixed.fill(0, at, at + SECTOR);
      mixed.set(this.#durable.subarray(at, at + SECTOR), at);
    }
    const path = `${this.#path}.failed`;
    writeFileSync(path, mixed);
    const fd = openSync(path, 'r');
    try {
      const file = new ImageFile(fd, path);
      const { corruptions, messages } = checkImage(file, readHeader(file));
      assert.equal(corruptions, 0, messages.join('\n'));
    } finally {
      closeSync(fd);
    }
    const image = openDisk(path, true);
    const content = readAll(image);
    closeDisk(image);
    for (const [i, values] of this.#allowed.entries()) {
      const value = content.readUInt32LE(i * SECTOR);
      assert.ok(values.has(value), `sector ${i} holds ${value}, not one of ${[...values].join(', ')}`);
    }
  }
}

function run(t: TestContext, name: string, seed: number): void {
  const random = new Random(seed);
  const path = images.path(name);
  const image: Qcow2Image = openDisk(path, true);
  const machine = new Machine(path, random, readAll(image));
  let inside = false;
  setFaultHook((call) => {
    if (inside || !CALLS.includes(call)) return undefined;
    inside = true;
    try {
      machine.call(call);
    } finally {
      inside = false;
    }
    return undefined;
  });
  try {
    let done = 0;
    for (const request of requests(seed, image.size / SECTOR, image.clusterSize / SECTOR)) {
      const { kind, first, count, value } = request;
      machine.request(request);
      const [offset, length] = [first * SECTOR, count * SECTOR];
      if (kind === 'write') {
        const data = Buffer.alloc(length);
        for (let at = 0; at < length; at += 4) data.writeUInt32LE(value, at);
        image.write(offset, [rangeOf(data)]);
      } else if (kind === 'zero') {
        image.writeZeroes(offset, length, value % 2 === 0);
      } else {
        image.discard(offset, length);
      }
      if (++done % GROUP !== 0) continue;
      image.flush();
      machine.flushed(readAll(image));
      if (done === GROUP * GROUPS) break;
    }
  } finally {
    setFaultHook(undefined);
  }
  closeDisk(image);
  t.diagnostic(`${machine.failures} failures`);
  assert.ok(machine.failures > 0);
  assert.equal(images.qemuCheck(name).status, 0);
}

const KINDS = [
  { clusterBits: 12 },
  { clusterBits: 9, refcountOrder: 6 },
  { clusterBits: 9, refcountOrder: 0, lazyRefcounts: true },
  { clusterBits: 14, version: 2 },
  { clusterBits: 12, backing: { path: 'base.raw', format: 'raw' } },
  { clusterBits: 12, snapshot: true },
] as const;

writeFileSync(images.path('base.raw'), Buffer.alloc(300_000, 'base'));
for (const [index, kind] of KINDS.entries()) {
  test(`the power fails: ${JSON.stringify(kind)}`, (t) => {
    const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31)) + index;
    t.diagnostic(`SEED=${seed - index}`);
    const name = `power-${index}.qcow2`;
    images.create(name, { ...kind, size: 2 ** 18 });
    if ('snapshot' in kind) {
      const image = openDisk(images.path(name), true);
      image.write(0, [rangeOf(Buffer.alloc(2 ** 18, 'snap'))]);
      createSnapshot(image, 'before', 0);
      closeDisk(image);
    }
    run(t, name, seed);
  });
}
