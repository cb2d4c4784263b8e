// A writer is killed at random moments. Each time QEMU finds the image sound, and it holds all that was flushed.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { after, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createSnapshot } from '../../src/disk/qcow2/snapshots.ts';
import { closeDisk, Images, openDisk, readAll } from './images.ts';
import { assertFlushed, expected, SECTOR } from './kill-requests.ts';
import { Random } from './pseudo-random.ts';

const WRITER = fileURLToPath(new URL('kill-writer.ts', import.meta.url));
const KILLS_EACH = 5;
/** Milliseconds of writing before the kill, at most. */
const LONGEST = 120;

const images = new Images();
after(() => images.remove());

interface Kind {
  readonly title: string;
  readonly clusterBits: number;
  readonly refcountOrder?: number;
  readonly version?: 2 | 3;
  readonly lazyRefcounts?: boolean;
  readonly backing?: { readonly path: string; readonly format: string };
  readonly snapshot?: boolean;
}

writeFileSync(images.path('base.raw'), Buffer.alloc(2 ** 20, 'base'));
const KINDS: readonly Kind[] = [
  { title: 'clusters of 64 KiB', clusterBits: 16 },
  { title: 'clusters of 512 bytes, refcounts of 64 bits', clusterBits: 9, refcountOrder: 6 },
  { title: 'over a file', clusterBits: 12, backing: { path: 'base.raw', format: 'raw' } },
  { title: 'with a snapshot', clusterBits: 12, snapshot: true },
  { title: 'lazy refcounts', clusterBits: 14, lazyRefcounts: true },
  { title: 'version 2', clusterBits: 12, version: 2 },
];

/** Runs the writer and kills it; returns the number of its requests that are known to be flushed. */
async function writeAndKill(path: string, seed: number, milliseconds: number): Promise<number> {
  const writer = spawn(process.execPath, [WRITER, path, String(seed)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(writer, 'close');
  let flushed = 0;
  const lines = createInterface(writer.stdout);
  const ready = new Promise<void>((resolve, reject) => {
    lines.on('line', (line) => (line === 'ready' ? resolve() : (flushed = Number(line))));
    writer.once('close', () => reject(new Error('the writer ended')));
  });
  await ready;
  await sleep(milliseconds);
  writer.kill('SIGKILL');
  const [, signal] = await ended;
  assert.equal(signal, 'SIGKILL');
  return flushed;
}

async function round(t: TestContext, name: string, random: Random, title: string): Promise<void> {
  const path = images.path(name);
  const seed = random.below(2 ** 31);
  const opened = openDisk(path, false);
  const before = readAll(opened);
  const clusterSectors = opened.clusterSize / SECTOR;
  closeDisk(opened);
  const flushed = await writeAndKill(path, seed, random.below(LONGEST));
  const { content, dirty } = images.afterKill(name);
  t.diagnostic(`${title}: seed ${seed}, ${flushed} requests flushed${dirty ? ', dirty' : ''}`);
  assertFlushed(content, expected(before, seed, clusterSectors, flushed));
}

for (const [index, kind] of KINDS.entries()) {
  test(`killed: ${kind.title}`, async (t) => {
    const start = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
    t.diagnostic(`SEED=${start}`);
    const random = new Random(start + index);
    const name = `kill-${index}.qcow2`;
    images.create(name, { ...kind, size: Math.min(2 ** kind.clusterBits * 300, 2 ** 21) });
    for (let kill = 0; kill < KILLS_EACH; kill++) {
      if (kind.snapshot && kill % 2 === 0) {
        const image = openDisk(images.path(name), true);
        createSnapshot(image, `before ${kill}`, Date.now());
        closeDisk(image);
      }
      await round(t, name, random, `kill ${kill}`);
    }
  });
}
