// Shared directories in a booted guest: virtio-fs, mounted at boot by the default guest, and 9P by a kernel that has it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { F_WRLCK, setRangeLock } from '../../src/host/file-locks.ts';
import { extendGenericInitrd } from './kernels.ts';
import { PROGRAM, RunningGuest } from './running-guest.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SEED = Number(process.env.SEED ?? Date.now() % 2 ** 31);

const folder = mkdtempSync(join(tmpdir(), 'vivarium-shared-'));
after(() => rmSync(folder, { recursive: true, force: true }));

before(() => {
  const source = join(ROOT, 'test/e2e/programs/file-exercise.c');
  execFileSync('gcc', ['-static', '-O2', '-w', '-o', join(folder, 'file-exercise'), source]);
});

/** A directory with a program, a tree of files and an archive of it. */
function share(name: string): string {
  const path = join(folder, name);
  mkdirSync(join(path, 'empty'), { recursive: true });
  cpSync(join(folder, 'file-exercise'), join(path, 'file-exercise'));
  cpSync(join(ROOT, 'src'), join(path, 'tree'), { recursive: true });
  symlinkSync('../tree/cli', join(path, 'tree/link'));
  execFileSync('tar', ['cf', join(path, 'tree.tar'), '-C', path, 'tree']);
  writeFileSync(join(folder, 'secret'), 'secret');
  symlinkSync(join(folder, 'secret'), join(path, 'out'));
  return path;
}

/** Sums of all files, in order of their names. */
const SUMS = 'find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum';

async function exercise(run: RunningGuest, mount: string, path: string): Promise<void> {
  const fine = async (command: string): Promise<void> =>
    assert.equal(await run.command(`${mount}/file-exercise ${command}`), 'fine\n');
  await fine(`rules ${mount}`);
  await fine(`locks ${mount}`);
  await fine(`random ${mount} ${SEED} 600`);

  const sums = execFileSync('sh', ['-c', SUMS], { cwd: join(path, 'tree'), encoding: 'utf8' });
  assert.equal(await run.command(`cd ${mount}/tree; ${SUMS}`), sums);
  assert.equal(
    await run.command(`mkdir ${mount}/unpacked; cd ${mount}/unpacked; tar xf ../tree.tar; cd tree; ${SUMS}`),
    sums,
  );
  assert.equal(execFileSync('sh', ['-c', SUMS], { cwd: join(path, 'unpacked/tree'), encoding: 'utf8' }), sums);
  assert.equal(await run.command(`rm -r ${mount}/unpacked; ls ${mount}/unpacked 2>&1 | wc -l`), '1\n');

  // The guest resolves links by itself: in its own tree there is no such file.
  assert.match(await run.command(`cat ${mount}/out 2>&1`), /No such file/);

  // A lock of the host's is one in the guest.
  const fd = openSync(join(path, 'locks'), 'r+');
  assert.ok(setRangeLock(fd, { type: F_WRLCK, start: 0n, length: 0n }));
  assert.match(await run.command(`${mount}/file-exercise locks ${mount}`), /try_lock/);
  closeSync(fd);

  // Root's guests have users with files of their own.
  if (process.geteuid?.() === 0) {
    assert.equal(await run.command(`cd ${mount}; touch owned && chown 1234:567 owned && chmod 4750 owned`), '');
    const { uid, gid, mode } = statSync(join(path, 'owned'));
    assert.deepEqual({ uid, gid, mode: mode & 0o7777 }, { uid: 1234, gid: 567, mode: 0o4750 });
    chownSync(join(path, 'owned'), 77, 88);
    chmodSync(join(path, 'owned'), 0o600);
    assert.equal(await run.command(`echo x >>${mount}/owned && cat ${mount}/owned`), 'x\n');
  }

  // What one side writes, the other reads.
  writeFileSync(join(path, 'from-host'), 'from the host\n');
  assert.equal(
    await run.command(`cat ${mount}/from-host; echo from the guest >${mount}/from-guest`),
    'from the host\n',
  );
  assert.equal(readFileSync(join(path, 'from-guest'), 'utf8'), 'from the guest\n');
  assert.deepEqual(run.complaints, []);
}

/** The server may have half of these. */
const DESCRIPTORS = 1024;

/** A directory with more files than it may have descriptors. */
function shareMany(): string {
  const path = join(folder, 'many');
  for (let i = 0; i < 30; i++) {
    mkdirSync(join(path, `all/d${i}`), { recursive: true });
    for (let j = 0; j < 50; j++) writeFileSync(join(path, `all/d${i}/f${j}`), `${i}/${j}`);
  }
  return path;
}

async function exerciseMany(run: RunningGuest, mount: string, path: string): Promise<void> {
  const sums = execFileSync('sh', ['-c', SUMS], { cwd: join(path, 'all'), encoding: 'utf8' });
  assert.equal(await run.command(`cd ${mount}/all; ${SUMS}; cd ..`), sums);
  // The first ones are put aside by now; and by what the guest keeps, nobody looks again.
  assert.equal(await run.command('mv all moved; mv moved/d0 d0; mv d0/f0 moved/d1/f0; echo more >>moved/d2/f2'), '');
  assert.equal(await run.command('cat d0/f1 moved/d1/f0 moved/d2/f2 moved/d29/f49'), '0/10/02/2more\n29/49');
  // A file without a name, and many others meanwhile.
  const unnamed = 'exec 3<moved/d3/f3; rm moved/d3/f3; cat moved/*/* | wc -c; stat -L -c %h /proc/self/fd/3; cat <&3';
  const seen = await run.command(unnamed);
  const left = execFileSync('sh', ['-c', 'cat moved/*/* | wc -c'], { cwd: path, encoding: 'utf8' });
  assert.equal(seen, `${left}0\n3/3`);
  assert.equal(await run.command('exec 3<&-; rm -r moved d0; ls; cd'), '');
  assert.deepEqual(readdirSync(path), []);
}

test(`virtio-fs in the default guest (SEED=${SEED})`, async (t) => {
  const path = share('fs');
  const readOnly = join(folder, 'read-only');
  mkdirSync(readOnly);
  writeFileSync(join(readOnly, 'file'), 'content');
  const many = shareMany();
  const run = new RunningGuest('prlimit', [
    ...[`--nofile=${DESCRIPTORS}`, process.execPath, PROGRAM, 'run', '--hypervisor', 'soft'],
    ...['-m', '320', '-p', 'quiet', '--mount', `${path}:/mnt/work`, '--mount', `${readOnly}:/mnt/read-only:ro`],
    ...['--shared-dir', `${path}:uncached,type=fs,cache=never`, '--shared-dir', `${path}:alone,type=fs,cache=always`],
    ...['--shared-dir', `${many}:many,type=fs,cache=always`],
  ]);
  t.after(() => run.kill());
  await run.shell();
  await exercise(run, '/mnt/work', path);
  assert.match(
    await run.command('cat /mnt/read-only/file; touch /mnt/read-only/new 2>&1'),
    /^contenttouch: .*Read-only/,
  );
  const ahead = await run.command('cat /sys/class/bdi/0:*/read_ahead_kb');
  // By the default guest, and let stand by the device.
  assert.deepEqual(ahead.match(/\d+/g), ['1024', '1024'], 'of both mounts');
  await run.command('mount -o remount,rw /mnt/read-only');
  assert.match(await run.command('touch /mnt/read-only/new 2>&1'), /Read-only/);
  assert.deepEqual(readdirSync(readOnly), ['file']);
  for (const tag of ['uncached', 'alone']) {
    await run.command(`mkdir /mnt/${tag}; mount -t virtiofs ${tag} /mnt/${tag}`);
    const command = `/mnt/${tag}/file-exercise random /mnt/${tag} ${SEED} 300`;
    assert.equal(await run.command(command), 'fine\n', tag);
  }
  await run.command('mkdir /mnt/many; mount -t virtiofs many /mnt/many');
  await exerciseMany(run, '/mnt/many', many);
  // A mount ends and begins again.
  assert.equal(
    await run.command('cd /; umount /mnt/work && mount -t virtiofs mount0 /mnt/work && cat /mnt/work/from-guest'),
    'from the guest\n',
  );
});

test(`9P in a guest with Debian's generic kernel (SEED=${SEED})`, async (t) => {
  const path = share('p9');
  const initrd = join(folder, 'initrd');
  const image = await extendGenericInitrd(['virtio_pci', '9p', '9pnet_virtio'], [], initrd);
  const run = RunningGuest.run('-m', '320', '-p', 'quiet', '--shared-dir', `${path}:work`, '--initrd', initrd, image);
  t.after(() => run.kill());
  await run.shell();
  const mount = 'mkdir /mnt/work; mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=mmap work /mnt/work';
  assert.equal(await run.command(mount), '');
  await exercise(run, '/mnt/work', path);
  assert.ok(statSync(join(path, 'rules')).isDirectory());
});
