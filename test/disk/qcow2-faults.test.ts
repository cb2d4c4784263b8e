// Calls of the operating system fail now and then. The request that meets it fails; the image goes on, and is sound in the end.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { rangeOf } from '../../src/disk/iovec.ts';
import { EIO, ENOSPC, OsError } from '../../src/host/errno.ts';
import { setFaultHook } from '../../src/host/ffi.ts';
import { closeDisk, Images, openDisk, readAll } from './images.ts';
import { requests, SECTOR } from './kill-requests.ts';
import { Random } from './pseudo-random.ts';

const images = new Images();
after(() => {
  setFaultHook(undefined);
  images.remove();
});

const CALLS = ['pread', 'preadv', 'pwrite', 'pwritev', 'fallocate', 'fdatasync'];
const REQUESTS = 400;
writeFileSync(images.path('base.raw'), Buffer.alloc(200_000, 'base'));

const KINDS = [
  { clusterBits: 12 },
  { clusterBits: 9, refcountOrder: 6 },
  { clusterBits: 12, version: 2 },
  { clusterBits: 12, backing: { path: 'base.raw', format: 'raw' } },
] as const;

for (const [index, kind] of KINDS.entries()) {
  test(`calls fail: ${JSON.stringify(kind)}`, (t) => {
    const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
    t.diagnostic(`SEED=${seed}`);
    const random = new Random(seed + index);
    const name = `faults-${index}.qcow2`;
    images.create(name, { ...kind, size: 2 ** 19 });
    const image = openDisk(images.path(name), true);
    const content = readAll(image);
    const allowed = Array.from(
      { length: content.length / SECTOR },
      (_, i) => new Set([content.readUInt32LE(i * SECTOR)]),
    );
    let failing = false;
    setFaultHook((call) => {
      if (!failing || !CALLS.includes(call) || random.below(15) > 0) return undefined;
      return call.startsWith('pw') && random.below(2) === 0 ? ENOSPC : EIO;
    });
    let failed = 0;
    /** Runs a request that may fail; says whether it did. */
    const attempt = (run: () => void): boolean => {
      failing = true;
      try {
        run();
        return false;
      } catch (error) {
        assert.ok(error instanceof OsError, String(error));
        failed++;
        return true;
      } finally {
        failing = false;
      }
    };
    let done = 0;
    for (const { kind: what, first, count, value } of requests(
      seed + index,
      allowed.length,
      image.clusterSize / SECTOR,
    )) {
      const [offset, length] = [first * SECTOR, count * SECTOR];
      const data = Buffer.alloc(length);
      for (let at = 0; at < length; at += 4) data.writeUInt32LE(value, at);
      const bad = attempt(() => {
        if (what === 'write') image.write(offset, [rangeOf(data)]);
        else if (what === 'zero') image.writeZeroes(offset, length, value % 2 === 0);
        else image.discard(offset, length);
      });
      for (let sector = first; sector < first + count; sector++) {
        if (!bad && what !== 'discard') allowed[sector]!.clear();
        allowed[sector]!.add(what === 'write' ? value : 0);
      }
      if (random.below(5) === 0) attempt(() => image.flush());
      if (++done === REQUESTS) break;
    }
    setFaultHook(undefined);
    t.diagnostic(`${failed} requests failed`);
    assert.ok(failed > 0);
    const check = (bytes: Buffer): void => {
      for (const [sector, values] of allowed.entries()) {
        const value = bytes.readUInt32LE(sector * SECTOR);
        assert.ok(values.has(value), `sector ${sector} holds ${value}, not one of ${[...values].join(', ')}`);
      }
    };
    const left = readAll(image);
    check(left);
    closeDisk(image);
    const { status, text } = images.qemuCheck(name);
    // Clusters may have leaked, and are found again when the image is opened.
    assert.ok(status === 0 || status === 3, text);
    closeDisk(openDisk(images.path(name), true));
    if (image.header.version === 3) assert.equal(images.qemuCheck(name).status, 0);
    const again = openDisk(images.path(name), false);
    assert.ok(readAll(again).equals(left));
    closeDisk(again);
  });
}
