import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { GuestError } from '../../src/guest/error.ts';
import { lockFile } from '../../src/guest/lock.ts';
import type { Guest } from '../../src/guest/prepare.ts';
import { prepareGuest } from '../../src/guest/prepare.ts';
import { BUSYBOX_BYTES, KERNEL_BYTES, KERNEL_VERSION, makeArchive } from './archive.ts';
import { readCpio } from './cpio-reader.ts';

const missing = ['apt-get', 'apt-cache', 'dpkg-deb'].filter((tool) => spawnSync(tool, ['--version']).status !== 0);
const needsApt = { skip: missing.length > 0 ? `${missing.join(', ')} not installed` : false };

async function prepare(folder: string, signal?: AbortSignal): Promise<{ guest: Guest; steps: string[] }> {
  const steps: string[] = [];
  const progress = ({ step, fraction }: { step: string; fraction: number }): void => {
    assert.ok(fraction >= 0 && fraction <= 1);
    if (steps.at(-1) !== step) steps.push(step);
  };
  return { guest: await prepareGuest({ folder, progress, ...(signal ? { signal } : {}) }), steps };
}

function checkGuest(folder: string, guest: Guest): void {
  assert.equal(guest.kernelVersion, KERNEL_VERSION);
  assert.deepEqual(readFileSync(guest.kernel), KERNEL_BYTES);
  const entries = new Map(readCpio(gunzipSync(readFileSync(guest.initrd))).map((entry) => [entry.name, entry]));
  const busybox = entries.get('bin/busybox');
  assert.ok(busybox?.type === 'file' && BUSYBOX_BYTES.equals(busybox.data));
  assert.ok(entries.has(`lib/modules/${KERNEL_VERSION}/kernel/drivers/virtio.ko`));
  assert.deepEqual(
    readdirSync(folder)
      .filter((name) => !name.startsWith('guest-'))
      .sort(),
    ['downloads', 'lock'],
  );
}

/** A folder that stands for PATH: the host's tools but for those given as scripts. */
function withTools(t: { after(f: () => void): void }, folder: string, scripts: Readonly<Record<string, string>>): void {
  const path = process.env.PATH;
  mkdirSync(folder);
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(folder, name), 0o755);
  }
  process.env.PATH = `${folder}:${path}`;
  t.after(() => {
    process.env.PATH = path;
  });
}

const rejects = (promise: Promise<unknown>, message: RegExp): Promise<void> =>
  assert.rejects(promise, (error) => {
    assert.ok(error instanceof GuestError, String(error));
    assert.match(error.message, message);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  });

test('a host without lists gets a guest, once, and keeps its state as it was', needsApt, async (t) => {
  const archive = makeArchive(t);
  const folder = join(archive.folder, 'a cache/vivarium');
  const first = await prepare(folder);
  checkGuest(folder, first.guest);
  assert.deepEqual(first.steps, ['lists', 'download', 'unpack', 'initramfs']);
  assert.deepEqual(readdirSync(join(archive.folder, 'none')), []);

  const second = await prepare(folder);
  assert.deepEqual(second, { guest: first.guest, steps: [] });

  // Damage is repaired from the packages that are there; the archive may be gone.
  rmSync(join(archive.folder, 'Packages'));
  truncateSync(first.guest.initrd, 100);
  const third = await prepare(folder);
  checkGuest(folder, third.guest);
  assert.deepEqual(third.steps, ['unpack', 'initramfs']);
});

test('a download that was cut off goes on, and a damaged one is refused', needsApt, async (t) => {
  const archive = makeArchive(t);
  const folder = join(archive.folder, 'cache');
  const downloads = join(folder, 'downloads');
  mkdirSync(join(folder, 'building/guest'), { recursive: true });
  mkdirSync(downloads);
  writeFileSync(join(downloads, 'old_0.9_amd64.deb'), 'an older package');
  writeFileSync(
    join(downloads, archive.kernelFile),
    readFileSync(join(archive.folder, archive.kernelFile)).subarray(0, 1000),
  );
  checkGuest(folder, (await prepare(folder)).guest);
  assert.ok(!existsSync(join(downloads, 'old_0.9_amd64.deb')));

  const other = join(archive.folder, 'other');
  archive.writeIndex({ SHA256: '0'.repeat(64) });
  await rejects(prepare(other), /^apt-get: /);
  assert.deepEqual(
    readdirSync(other).filter((name) => name.startsWith('guest-')),
    [],
  );
});

test('two at once make one guest', needsApt, async (t) => {
  const folder = join(makeArchive(t).folder, 'cache');
  const both = await Promise.all([prepare(folder), prepare(folder)]);
  assert.deepEqual(both[0].guest, both[1].guest);
  checkGuest(folder, both[0].guest);
  assert.deepEqual(both.map(({ steps }) => steps.join(' ')).sort(), ['lists download unpack initramfs', 'wait']);
});

test('an interrupted run leaves nothing half-made, and the next one works', needsApt, async (t) => {
  const archive = makeArchive(t);
  for (const until of ['lists', 'download', 'unpack', 'initramfs']) {
    const folder = join(archive.folder, until);
    const abort = new AbortController();
    const progress = ({ step }: { step: string }): void => {
      if (step === until) abort.abort(new Error(`stopped in ${until}`));
    };
    await assert.rejects(prepareGuest({ folder, progress, signal: abort.signal }), { message: `stopped in ${until}` });
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.startsWith('guest-') || name === 'building'),
      [],
      until,
    );
    checkGuest(folder, (await prepare(folder)).guest);
  }
});

test('a killed run does not keep the lock, and what it left is not used', needsApt, async (t) => {
  const archive = makeArchive(t);
  const folder = join(archive.folder, 'cache');
  withTools(t, join(archive.folder, 'tools'), { 'dpkg-deb': 'kill -9 $PPID; exit 1' });
  const module = new URL('../../src/guest/prepare.ts', import.meta.url).href;
  const script = `import { prepareGuest } from ${JSON.stringify(module)}; await prepareGuest({ folder: ${JSON.stringify(folder)}, progress() {} });`;
  const killed = spawnSync(process.execPath, ['--input-type=module-typescript', '--eval', script]);
  assert.equal(killed.signal, 'SIGKILL');
  assert.ok(existsSync(join(folder, 'building')));
  rmSync(join(archive.folder, 'tools/dpkg-deb'));
  const { guest, steps } = await prepare(folder);
  checkGuest(folder, guest);
  assert.deepEqual(
    steps.filter((step) => step !== 'wait'),
    ['unpack', 'initramfs'],
  );
});

test('a full disk is told with the folder and the need', needsApt, async (t) => {
  const archive = makeArchive(t);
  const folder = join(archive.folder, 'cache');
  archive.writeIndex({ 'Installed-Size': String(2 ** 40) });
  await rejects(prepare(folder), /^no space left in .*\/cache: making the default guest needs \d{10} MB there$/);
  archive.writeIndex();
  withTools(t, join(archive.folder, 'tools'), {
    'dpkg-deb': 'echo "dpkg-deb: error: write: No space left on device" >&2; exit 2',
  });
  await rejects(prepare(folder), /^no space left in .*\/cache: making the default guest needs 18 MB there$/);
  assert.ok(!existsSync(join(folder, 'building')));
});

test('a source out of reach, and one without the package, are told', needsApt, async (t) => {
  const archive = makeArchive(t);
  writeFileSync(join(archive.folder, 'Packages'), '');
  await rejects(prepare(join(archive.folder, 'a')), /^apt: no package linux-image-cloud-amd64 .*--initrd PATH KERNEL$/);
  writeFileSync(join(archive.folder, 'sources.list'), 'deb [trusted=yes] http://127.0.0.1:9/ ./\n');
  await rejects(prepare(join(archive.folder, 'b')), /^apt(-get)?: .*127\.0\.0\.1/);
});

test('a host without apt, and a folder that cannot be written, get one line', async (t) => {
  const archive = join(process.env.TMPDIR ?? '/tmp', `vivarium-no-apt-${process.pid}`);
  t.after(() => rmSync(archive, { recursive: true, force: true }));
  mkdirSync(archive);
  const path = process.env.PATH;
  process.env.PATH = archive;
  try {
    await rejects(prepare(join(archive, 'cache')), /^apt-get is not installed, .*--initrd PATH KERNEL$/);
  } finally {
    process.env.PATH = path;
  }
  writeFileSync(join(archive, 'file'), '');
  await rejects(prepare(join(archive, 'file')), /^cannot make the default guest in .*\/file: E\w+: /);
  assert.equal(statSync(join(archive, 'file')).size, 0);
});

test('waiting for the lock ends with the signal', async (t) => {
  const path = join(process.env.TMPDIR ?? '/tmp', `vivarium-lock-${process.pid}`);
  t.after(() => rmSync(path));
  const lock = await lockFile(path, () => assert.fail('nobody has it'), undefined);
  const abort = new AbortController();
  const reason = new Error('enough');
  await assert.rejects(
    lockFile(path, () => abort.abort(reason), abort.signal),
    reason,
  );
  lock.release();
  (await lockFile(path, () => assert.fail('it was let go'), undefined)).release();
});
