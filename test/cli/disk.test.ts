// `vivarium disk` and `create_qcow2`, run as a user does; QEMU's tools say whether what they make is right.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { lockImage } from '../../src/disk/lock.ts';
import { Place, type Result } from './vivarium.ts';

const place = new Place();
after(() => place.remove());

function qemuImg(...args: string[]): string {
  return execFileSync('qemu-img', args, { cwd: place.folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Runs a command that is to succeed, with nothing on standard error but its progress, where it takes a second; returns what it prints. */
async function run(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await place.run(args);
  assert.match(stderr, /^([A-Z][\w ]*(: \d+%)?\n)*$/);
  assert.equal(status, 0);
  return stdout;
}

/** One line that starts with the program's name, nothing on standard output, status 1. */
function assertOneLine({ status, stdout, stderr }: Result, pattern: RegExp): void {
  assert.match(stderr, /^vivarium: [^\n]+\n$/);
  assert.match(stderr, pattern);
  assert.equal(stdout, '');
  assert.equal(status, 1);
}

async function refused(args: readonly string[], pattern: RegExp, uid?: number): Promise<void> {
  const before = place.names;
  assertOneLine(await place.run(args, uid), pattern);
  assert.deepEqual(place.names, before);
}

function assertSound(name: string): void {
  const { status, stdout, stderr } = spawnSync('qemu-img', ['check', '-f', 'qcow2', name], {
    cwd: place.folder,
    encoding: 'utf8',
  });
  assert.equal(status, 0, stdout + stderr);
}

const content = Buffer.alloc(3 * 2 ** 20);
content.fill('some text ', 100_000, 1_000_000).fill(0x99, 2 ** 21, 2 ** 21 + 5000);
place.file('content.raw', content);

test('create, info', async () => {
  assert.equal(await run('create_qcow2', 'crosvm.qcow2', '10000000'), '');
  assert.equal(JSON.parse(qemuImg('info', '--output=json', 'crosvm.qcow2'))['virtual-size'], 10_000_384);
  assertSound('crosvm.qcow2');
  await run(
    'disk',
    'create',
    'a.qcow2',
    '20G',
    '--cluster-size',
    '4K',
    '--refcount-bits',
    '32',
    '--compression',
    'zstd',
  );
  assertSound('a.qcow2');
  const info = await run('disk', 'info', 'a.qcow2');
  assert.match(info, /^format: +qcow2 version 3\nvirtual size: +20G \(21474836480 bytes\)$/m);
  assert.match(info, /^cluster size: +4K\nrefcount bits: 32\ncompression: +zstd$/m);
  const { virtualSize, qcow2 } = JSON.parse(await run('disk', 'info', '--json', 'a.qcow2'));
  assert.deepEqual([virtualSize, qcow2.clusterSize, qcow2.refcountBits], [20 * 2 ** 30, 4096, 32]);
  await run('disk', 'create', 'b.qcow2', '--compat', '2', '--backing', 'content.raw', '--backing-format', 'raw');
  assert.match(
    await run('disk', 'info', 'b.qcow2'),
    /^virtual size: +3M .*\n(?:.*\n)*backing file: +content\.raw \(raw\)$/m,
  );
  qemuImg('compare', '-F', 'raw', 'b.qcow2', 'content.raw');
  await run('disk', 'create', '--format', 'raw', 'c.raw', '1M');
  assert.equal(statSync(place.path('c.raw')).size, 2 ** 20);
  assert.match(await run('disk', 'info', 'c.raw'), /^format: +raw$/m);
});

test('convert, in both directions and with what lies under an image', async () => {
  await run('disk', 'convert', 'content.raw', 'converted.qcow2');
  assertSound('converted.qcow2');
  qemuImg('compare', 'content.raw', 'converted.qcow2');
  assert.ok(statSync(place.path('converted.qcow2')).size < content.length / 2, 'zeroes are left out');
  qemuImg('create', '-f', 'qcow2', '-b', 'converted.qcow2', '-F', 'qcow2', 'on-top.qcow2');
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 0 64k', 'on-top.qcow2'], {
    cwd: place.folder,
    stdio: 'ignore',
  });
  await run('disk', 'convert', 'on-top.qcow2', 'flat.raw', '--to', 'raw');
  assert.ok(readFileSync(place.path('flat.raw')).equals(Buffer.from(content).fill(7, 0, 65536)));
});

test('resize, snapshot, check, commit', async () => {
  qemuImg('convert', '-O', 'qcow2', 'content.raw', 'work.qcow2');
  await run('disk', 'resize', 'work.qcow2', '+1M');
  assert.equal(JSON.parse(await run('disk', 'info', '--json', 'work.qcow2')).virtualSize, 4 * 2 ** 20);
  await run('disk', 'snapshot', 'work.qcow2', '--create', 'before');
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 0 64k', 'work.qcow2'], {
    cwd: place.folder,
    stdio: 'ignore',
  });
  assert.match(await run('disk', 'snapshot', 'work.qcow2'), /^id +name +made[^\n]*\n1 +before +\d{4}-[^\n]* 4M +-\n$/);
  await run('disk', 'snapshot', 'work.qcow2', '--apply', 'before');
  await run('disk', 'snapshot', 'work.qcow2', '--delete', 'before');
  await run('disk', 'resize', 'work.qcow2', '3M', '--shrink');
  qemuImg('compare', 'work.qcow2', 'content.raw');
  assertSound('work.qcow2');
  assert.match(await run('disk', 'check', 'work.qcow2'), /^the image is sound: \d+ clusters of data, 0 /);
  for (const [format, base] of [
    ['raw', 'base.raw'],
    ['qcow2', 'base.qcow2'],
  ] as const) {
    qemuImg('convert', '-O', format, 'content.raw', base);
    qemuImg('create', '-f', 'qcow2', '-b', base, '-F', format, 'overlay.qcow2', '5M');
    const commands = ['write -P 7 0 100k', 'write -z 200k 300k', 'write -P 8 4M 512'];
    execFileSync('qemu-io', ['-f', 'qcow2', ...commands.flatMap((text) => ['-c', text]), 'overlay.qcow2'], {
      cwd: place.folder,
      stdio: 'ignore',
    });
    qemuImg('convert', '-O', 'raw', 'overlay.qcow2', 'both.raw');
    await run('disk', 'commit', 'overlay.qcow2');
    qemuImg('compare', '-f', format, '-F', 'raw', base, 'both.raw');
    qemuImg('compare', '-F', 'raw', 'overlay.qcow2', 'both.raw');
    assertSound('overlay.qcow2');
    assert.match(await run('disk', 'check', 'overlay.qcow2'), /: 0 clusters/);
  }
});

test('resize of a raw image', async () => {
  place.file('raw.img', content);
  await run('disk', 'resize', 'raw.img', '+1M');
  assert.deepEqual(readFileSync(place.path('raw.img')), Buffer.concat([content, Buffer.alloc(2 ** 20)]));
  await refused(['disk', 'resize', 'raw.img', '1M'], /raw\.img: the disk has 4M: --shrink/);
  await run('disk', 'resize', 'raw.img', '1M', '--shrink');
  assert.deepEqual(readFileSync(place.path('raw.img')), content.subarray(0, 2 ** 20));
  await refused(['disk', 'resize', '-f', 'qcow2', 'raw.img', '2M'], /it is no qcow2 image/);
  // What looks like another format is what its owner says.
  await run('create_qcow2', 'like.qcow2', '1M');
  const { size } = statSync(place.path('like.qcow2'));
  await run('disk', 'resize', '--format', 'raw', 'like.qcow2', '+512');
  assert.equal(statSync(place.path('like.qcow2')).size, size + 512);
});

test('check finds damage, and repairs it', async () => {
  qemuImg('convert', '-O', 'qcow2', 'content.raw', 'damaged.qcow2');
  const bytes = readFileSync(place.path('damaged.qcow2'));
  const block = Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(48))));
  // A leaked cluster, and one that is used and counted as free.
  bytes.writeUInt16BE(1, block + 2 * 200);
  writeFileSync(place.path('damaged.qcow2'), bytes);
  const leaks = await place.run(['disk', 'check', 'damaged.qcow2']);
  assert.equal(leaks.status, 3);
  assert.match(leaks.stdout, /^cluster 200 is counted 1 times and used 0 times\ncorruptions: 0, leaked clusters: 1\n$/);
  bytes.writeUInt16BE(0, block + 2 * 5);
  writeFileSync(place.path('damaged.qcow2'), bytes);
  const corrupt = await place.run(['disk', 'check', 'damaged.qcow2']);
  assert.equal(corrupt.status, 2);
  assert.match(corrupt.stdout, /^cluster 5 is used 1 times and counted 0 times$/m);
  assert.match(await run('disk', 'check', '--repair', 'damaged.qcow2'), /\nrepaired: 2\n$/);
  assertSound('damaged.qcow2');
  qemuImg('compare', 'damaged.qcow2', 'content.raw');
  // Without any counts: the table leads nowhere.
  bytes.fill(0xff, Number(bytes.readBigUInt64BE(48)), Number(bytes.readBigUInt64BE(48)) + 8);
  writeFileSync(place.path('damaged.qcow2'), bytes);
  assert.match(await run('disk', 'check', '--repair', 'damaged.qcow2'), /\nrepaired: \d+\n$/);
  assertSound('damaged.qcow2');
  qemuImg('compare', 'damaged.qcow2', 'content.raw');
});

test('an image in use is refused, with who has it', async () => {
  qemuImg('create', '-f', 'qcow2', 'used.qcow2', '1M');
  const fd = openSync(place.path('used.qcow2'), 'r+');
  lockImage(fd, 'used.qcow2', true);
  const here = new RegExp(`used\\.qcow2: the image is locked by process ${process.pid} \\(`);
  await refused(['disk', 'resize', 'used.qcow2', '2M'], here);
  await refused(['disk', 'check', 'used.qcow2'], here);
  // QEMU's programs keep out, too.
  const { status, stderr } = spawnSync('qemu-img', ['info', 'used.qcow2'], { cwd: place.folder, encoding: 'utf8' });
  assert.equal(status, 1);
  assert.match(stderr, /lock/);
  closeSync(fd);
  const first = openSync(place.path('used.qcow2'), 'r');
  lockImage(first, 'used.qcow2', false);
  // Readers share.
  await run('disk', 'check', 'used.qcow2');
  await refused(['disk', 'resize', 'used.qcow2', '2M'], here);
  closeSync(first);
  await run('disk', 'resize', 'used.qcow2', '2M');
});

test('bad input: one line each', async () => {
  mkdirSync(place.path('folder'));
  qemuImg('create', '-f', 'qcow2', 'plain.qcow2', '1M');
  qemuImg('create', '-f', 'qcow2', 'locked-away.qcow2', '1M');
  const cases: readonly (readonly [args: string, pattern: RegExp])[] = [
    ['create_qcow2 new', /missing required argument 'SIZE'/],
    ['create_qcow2 new 1X', /^vivarium: SIZE 1X: it takes a size/],
    ['create_qcow2 new -5', /SIZE -5: it takes a size/],
    ['create_qcow2 plain.qcow2 1M', /plain\.qcow2: it exists already/],
    ['create_qcow2 absent/new 1M', /absent\/new: there is no such folder/],
    ['create_qcow2 new 9999T', /SIZE 9999T: it takes a size/],
    ['disk create new', /new: give the size of the disk/],
    ['disk create new 1M --cluster-size 1000', /--cluster-size 1000: it takes a power of two/],
    ['disk create new 1M --cluster-size 4M', /--cluster-size 4M: it takes a power of two from 512 to 2M/],
    ['disk create new 1M --refcount-bits 3', /--refcount-bits 3: /],
    ['disk create new 1T --cluster-size 512', /with clusters of 512 bytes, a disk has at most/],
    ['disk create new 1M --compat 2 --refcount-bits 8', /need version 3/],
    ['disk create new 1M --format raw --lazy-refcounts', /--lazy-refcounts: a raw image has no such thing/],
    ['disk create new --backing plain.qcow2', /--backing: it needs --backing-format/],
    ['disk create new --backing absent --backing-format raw', /absent: there is no such file/],
    ['disk info absent', /absent: there is no such file/],
    ['disk info folder', /folder: it is neither a regular file nor a block device/],
    ['disk info content.raw --format qcow2', /content\.raw: it is no qcow2 image/],
    ['disk check content.raw', /content\.raw: it is no qcow2 image/],
    ['disk resize plain.qcow2 512', /plain\.qcow2: the disk has 1M: --shrink/],
    ['disk snapshot plain.qcow2 --apply x', /plain\.qcow2: there is no snapshot x/],
    ['disk snapshot plain.qcow2 --apply x --delete x', /give one of them/],
    ['disk commit plain.qcow2', /plain\.qcow2: there is no image under it/],
    ['disk convert absent new', /absent: there is no such file/],
    ['disk convert plain.qcow2 content.raw', /content\.raw: it exists already/],
    ['disk frobnicate', /unknown command 'frobnicate'/],
  ];
  for (const [args, pattern] of cases) await refused(args.split(' '), pattern);
  if (process.getuid?.() === 0) {
    execFileSync('chmod', ['600', place.path('locked-away.qcow2')]);
    execFileSync('chmod', ['755', place.folder]);
    await refused(['disk', 'info', 'locked-away.qcow2'], /it may not be opened for reading by this user/, 65534);
  }
});
