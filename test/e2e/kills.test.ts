// A run is killed at random moments while its guest writes to qcow2 disks, one of which it has booted from. Each time QEMU finds the images sound,
// the file system on one of them is sound, and both hold all that the guest was told is flushed; then the guest boots from it again. KILLS=50 for
// so many kills, KILLS_ON=kvm for another processor.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Guest } from '../../src/guest/index.ts';
import { devicesOf, gone } from '../cli/processes.ts';
import { closeDisk, Images, openDisk, readAll } from '../disk/images.ts';
import { assertFlushed, expected, GROUP, requests, SECTOR } from '../disk/kill-requests.ts';
import { Random } from '../disk/pseudo-random.ts';
import { busyboxOf, defaultGuest } from './kernels.ts';
import { LONG, RunningGuest } from './running-guest.ts';

const KILLS = Number(process.env['KILLS'] ?? 3);
const HYPERVISOR = process.env['KILLS_ON'] ?? 'soft';
/** In the lab all takes ten times as long. Processes of their own may take a minute to start there: devices are threads. */
const inLab = process.env['VIVARIUM_IN_LAB'] !== undefined;
const SLOWNESS = inLab ? 10 : 1;
/** Milliseconds that a kill may take with what is before and after it. */
const LONGEST_ROUND = LONG * SLOWNESS;
/** Milliseconds of writing before the kill, at most. */
const LONGEST = 1500 * SLOWNESS;
/** Of the disk that is written to by sectors. Its clusters are small, so that there is much to do for its tables. */
const SECTORS = 4096;
const CLUSTER_BITS = 12;
const FILE_SYSTEM_SIZE = '64M';
/** More requests than a guest makes in that time. */
const REQUESTS = 20_000;
const KINDS = ['write', 'zero', 'discard'] as const;

/** The init of the disk that the guest boots from. Files of earlier runs go, bit by bit: their blocks are discarded. */
const INIT = `#!/bin/busybox sh
mount -o remount,discard / || echo "no file system"
rm -f /files/[0-9]*[05]
disk-writer /dev/vdc ${GROUP} /dev/vda /files
sleep 1000
`;
const APPLETS = ['sh', 'mount', 'rm', 'sleep'];

const images = new Images();
after(() => images.remove());
let guest: Guest;

before(async () => {
  guest = await defaultGuest();
  const source = new URL('programs/disk-writer.c', import.meta.url).pathname;
  execFileSync('gcc', ['-static', '-O2', '-o', images.path('disk-writer'), source], { stdio: 'inherit' });
  const root = images.path('root');
  for (const name of ['bin', 'sbin', 'dev', 'proc', 'sys', 'files']) mkdirSync(join(root, name), { recursive: true });
  writeFileSync(join(root, 'bin/busybox'), busyboxOf(guest), { mode: 0o755 });
  for (const name of APPLETS) symlinkSync('busybox', join(root, 'bin', name));
  copyFileSync(images.path('disk-writer'), join(root, 'bin/disk-writer'));
  writeFileSync(join(root, 'sbin/init'), INIT, { mode: 0o755 });
  images.create('sectors.qcow2', { size: SECTORS * SECTOR, clusterBits: CLUSTER_BITS });
  execFileSync('/sbin/mke2fs', ['-q', '-t', 'ext4', '-d', root, images.path('files.raw'), FILE_SYSTEM_SIZE]);
  images.qemuImg('convert', '-f', 'raw', '-O', 'qcow2', 'files.raw', 'files.qcow2');
});

/** The disk that tells the guest its requests, which are those of this seed. */
function writeRequests(seed: number): void {
  const list = new Uint32Array(REQUESTS * 4);
  let at = 0;
  for (const { kind, first, count, value } of requests(seed, SECTORS, 2 ** CLUSTER_BITS / SECTOR)) {
    if (at === list.length) break;
    list.set([KINDS.indexOf(kind), first, count, value], at);
    at += 4;
  }
  writeFileSync(images.path('requests'), list);
}

/** The guest, which boots from the second of its disks. */
function boot(): RunningGuest {
  const disks = ['--rwqcow', images.path('sectors.qcow2'), '--rwqcow', images.path('files.qcow2')];
  const params = ['-m', '128', '-p', 'quiet cryptomgr.notests root=/dev/vdb rw', '--net', 'none'];
  const all = [...params, ...disks, '--disk', images.path('requests'), ...(inLab ? ['--disable-sandbox'] : [])];
  return RunningGuest.on(HYPERVISOR, ...all, '--initrd', guest.initrd, guest.kernel);
}

/** Runs the guest and kills it; returns the number of its requests that it knows to be flushed. */
async function writeAndKill(milliseconds: number): Promise<number> {
  const run = boot();
  try {
    await run.expect('ready\r\n', LONGEST_ROUND);
    await sleep(milliseconds);
    const devices = devicesOf(run.child.pid as number);
    assert.equal(run.child.kill('SIGKILL'), true, run.errors);
    assert.deepEqual(await run.end(), { status: null, signal: 'SIGKILL' });
    // They hold the images' locks.
    for (const device of devices) await gone(device);
    assert.deepEqual(run.complaints, []);
    assert.doesNotMatch(run.output, /no file system|EXT4-fs (error|warning)/);
    return Number([...run.output.matchAll(/^flushed (\d+)\r$/gm)].at(-1)?.[1] ?? 0);
  } finally {
    await run.kill();
  }
}

/** The file system after its journal has been played back, as its next mount does, has each of the files. */
function assertFiles(numbers: readonly number[]): void {
  images.qemuImg('convert', '-f', 'qcow2', '-O', 'raw', 'files.qcow2', 'files.raw');
  const check = (...args: string[]) => {
    const { status, stdout } = spawnSync('/sbin/e2fsck', [...args, images.path('files.raw')], { encoding: 'utf8' });
    return { status, stdout };
  };
  check('-E', 'journal_only', '-p');
  const { status, stdout } = check('-f', '-n');
  assert.equal(status, 0, stdout);
  const files = images.path('files');
  rmSync(files, { recursive: true, force: true });
  execFileSync('/sbin/debugfs', ['-R', `rdump /files ${images.folder}`, images.path('files.raw')], { stdio: 'ignore' });
  const there = new Set(readdirSync(files));
  for (const number of numbers) {
    assert.ok(there.has(`${number}`), `file ${number}`);
    const bytes = readFileSync(join(files, `${number}`));
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    assert.ok(words.length === 5000 && words.every((word) => word === number), `the content of file ${number}`);
  }
}

test(`killed ${KILLS} times: nothing that was flushed is lost`, { timeout: (KILLS + 1) * LONGEST_ROUND }, async (t) => {
  const start = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  t.diagnostic(`SEED=${start}`);
  const random = new Random(start);
  for (let kill = 0; kill < KILLS; kill++) {
    const seed = random.below(2 ** 31);
    const opened = openDisk(images.path('sectors.qcow2'), false);
    const before = readAll(opened);
    closeDisk(opened);
    writeRequests(seed);
    const flushed = await writeAndKill(random.below(LONGEST));
    const { content } = images.afterKill('sectors.qcow2');
    assertFlushed(content, expected(before, seed, 2 ** CLUSTER_BITS / SECTOR, flushed));
    images.afterKill('files.qcow2');
    assertFiles(Array.from({ length: flushed / GROUP }, (_, i) => (i + 1) * GROUP));
    // At once, which a diagnostic is not: who waits for the lab takes its silence for a guest that stands still.
    console.log(`kill ${kill}: seed ${seed}, ${flushed} requests flushed`);
  }
  const last = boot();
  try {
    await last.expect('ready\r\n', LONGEST_ROUND);
  } finally {
    await last.kill();
  }
});
