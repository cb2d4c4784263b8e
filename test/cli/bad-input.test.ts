import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, truncateSync } from 'node:fs';
import { createServer } from 'node:net';
import { after, test } from 'node:test';
import { lockImage } from '../../src/disk/lock.ts';
import { bzImage, elfImage, gzipBzImage } from '../arch/x86_64/kernel/images.ts';
import { PROGRAM } from '../e2e/running-guest.ts';
import { Place, type Result } from './vivarium.ts';

const place = new Place();
after(() => place.remove());

/** HLT with interrupts off, over and over. */
const code = new Uint8Array(4096).fill(0x90);
code.set([0xfa, 0xf4, 0xeb, 0xfc]);
const elf = elfImage(code);
const bz = gzipBzImage(elf);
const kernel = place.file('kernel', bz);
place.file('vmlinux', elf);

/** One line that starts with the program's name, nothing on standard output, status 1, and nothing left behind. */
function assertOneLine(result: Result, pattern: RegExp): void {
  assert.match(result.stderr, /^vivarium: [^\n]+\n$/);
  assert.match(result.stderr, pattern);
  assert.equal(result.stdout, '');
  assert.equal(result.status, 1);
}

async function refused(args: readonly string[], pattern: RegExp, uid?: number): Promise<void> {
  const before = place.names;
  assertOneLine(await place.run(args, uid), pattern);
  assert.deepEqual(place.names, before);
}

/** The ELF with some bytes changed. */
function changed(at: number, ...bytes: number[]): Uint8Array {
  const result = Uint8Array.from(elf);
  result.set(bytes, at);
  return result;
}

const INCOMPLETE = /incomplete, fetch it again/;

test('kernels that are no kernels', async (t) => {
  mkdirSync(place.path('folder'));
  execFileSync('mkfifo', [place.path('fifo')]);
  place.file('sparse', '');
  truncateSync(place.path('sparse'), 5 * 2 ** 30);
  const arm64 = new Uint8Array(4096);
  arm64.set(Buffer.from('ARM\x64', 'latin1'), 0x38);
  const files: readonly (readonly [name: string, bytes: Uint8Array | string | undefined, pattern: RegExp])[] = [
    ['empty', '', /empty: the file is empty: fetch or build/],
    ['text', 'hello\n', /text: the file is neither a bzImage nor an ELF kernel: pass a vmlinuz or a vmlinux/],
    ['picture.png', '\x89PNG\r\n\x1a\n\0\0\0\rIHDR', /picture\.png: the file is neither a bzImage nor an ELF/],
    ['packed.gz', Uint8Array.of(0x1f, 0x8b, 8, 0), /packed\.gz: the file is packed with gzip: unpack it/],
    ['initrd', '070701', /initrd: .*cpio archive.*--initrd/],
    ['folder', undefined, /folder: it is a folder: give the path of the kernel/],
    ['fifo', undefined, /fifo: it is no regular file: give the path of the kernel/],
    ['sparse', undefined, /sparse: the kernel of 5120 MiB does not fit/],
    ['absent', undefined, /absent: there is no such file: give the path of the kernel/],
    ['text/below', undefined, /text\/below: there is no such file/],
    ['/dev/null', undefined, /\/dev\/null: it is no regular file/],
    ['/dev/zero', undefined, /\/dev\/zero: it is no regular file/],
    ['', undefined, /the path of the kernel is empty: give one/],
    ['a\nb\x1b[1m', undefined, /a\\x0ab\\x1b\[1m: there is no such file/],
    ['Image', arm64, /Image: the kernel is for aarch64 .*use one for x86-64/],
    ['aarch64', changed(18, 183, 0), /aarch64: the kernel is for aarch64: use one for x86-64/],
    ['i386', changed(18, 3, 0), /i386: the kernel is for 32-bit x86: use one for x86-64/],
    ['elf32', changed(4, 1), /elf32: the kernel is a 32-bit ELF: use one for x86-64/],
    [
      'powerpc',
      changed(5, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 21),
      /powerpc: .*big-endian.*64-bit PowerPC.*use one/,
    ],
    ['object', changed(16, 1, 0), /object: the ELF is no executable.*use a vmlinux or a bzImage/],
    [
      'unpackable',
      bzImage(Uint8Array.from([0x1f, 0x8b, 8, 0, 1, 2, 3, 4, 5, 6])),
      /unpackable: .*gzip payload is damaged/,
    ],
  ];
  for (const [name, bytes, pattern] of files) {
    if (bytes !== undefined) place.file(name, bytes);
    await t.test(JSON.stringify(name), () => refused(['run', name], pattern));
  }
});

test('a kernel that may not be read', async (t) => {
  const root = process.getuid?.() === 0;
  // Root may read everything.
  const nobody = root ? 65534 : undefined;
  execFileSync('chmod', ['755', place.folder]);
  execFileSync('chmod', ['000', place.path(place.file('secret', bz))]);
  const { status, stderr } = await place.run(['run', 'absent'], nobody);
  if (status !== 1 || !stderr.includes('absent')) return t.skip('another user cannot run this copy of the program');
  await refused(['run', 'secret'], /secret: it may not be read: change its permissions/, nobody);
});

test('kernels cut short', async (t) => {
  for (const length of [2, 0x1ff, 0x205, 0x208, 0x250, 1024, 1025, bz.length - 100, bz.length - 1]) {
    const name = place.file(`bzImage-${length}`, bz.subarray(0, length));
    const pattern = length === 2 ? /: the file .*: it is incomplete/ : INCOMPLETE;
    await t.test(name, () => refused(['run', name], pattern));
  }
  for (const length of [4, 20, 63, 64, 100, 200, 4000]) {
    const name = place.file(`vmlinux-${length}`, elf.subarray(0, length));
    await t.test(name, () => refused(['run', name], INCOMPLETE));
  }
});

test('a kernel larger than memory', async () => {
  const large = elfImage(code, 400 * 2 ** 20);
  const pattern = /the kernel needs memory up to 416 MiB, the machine has 256 MiB .*--mem/;
  await refused(['run', place.file('large-vmlinux', large)], pattern);
  await refused(['run', place.file('large-bzImage', gzipBzImage(large))], pattern);
});

test('an initrd that is missing, unusable or too large', async () => {
  await refused(['run', '--initrd', 'absent', kernel], /absent: there is no such file: give the path of the initrd/);
  await refused(['run', '--initrd', 'folder', kernel], /folder: it is a folder: give the path of the initrd/);
  await refused(['run', '--initrd', '', kernel], /the path of the initrd is empty/);
  place.file('initrd-300', '');
  truncateSync(place.path('initrd-300'), 300 * 2 ** 20);
  await refused(
    ['run', '--initrd', 'initrd-300', kernel],
    /initrd-300: the initrd of 300 MiB does not fit into 256 MiB.*--mem/,
  );
  place.file('initrd-60', '');
  truncateSync(place.path('initrd-60'), 60 * 2 ** 20);
  await refused(
    ['run', '-m', '64', '--initrd', 'initrd-60', kernel],
    /initrd-60: the initrd of 60 MiB does not fit.*--mem/,
  );
});

test('memory and processors', async (t) => {
  for (const [args, pattern] of [
    [['-m', '0'], /--mem 0: it takes a number of MiB from 1 to/],
    [['-m', '1'], /kernel: no kernel boots with less than 4 MiB of memory.*--mem/],
    [['-m', '3'], /kernel: no kernel boots with less than 4 MiB of memory.*--mem/],
    [['-m', '16'], /kernel: the kernel needs memory up to 17 MiB, the machine has 16 MiB/],
    [['--hypervisor', 'soft', '-m', '9999999'], /9999999 MiB of memory: .*at most: choose less with --mem/],
    [['-m', '99999999999'], /--mem 99999999999: it takes/],
    [['--mem=many'], /--mem many: it takes a number of MiB/],
    [['-m', '-5'], /--mem -5: it takes a number of MiB/],
    [['-m', '1.5'], /--mem 1\.5: it takes a number of MiB/],
    [['-m', ''], /--mem '': it takes a number of MiB/],
    [['-c', '0'], /--cpus 0: it takes a number from 1 to/],
    [['--hypervisor', 'soft', '-c', '255'], /255 processors: .*choose fewer with --cpus/],
    [['-cx'], /--cpus x: it takes a number/],
  ] as const) {
    await t.test(args.join(' '), () => refused(['run', ...args, kernel], pattern));
  }
});

test('command lines that no kernel takes', async () => {
  await refused(
    ['run', '-p', 'a'.repeat(3000), kernel],
    /command line would be 3\d\d\d bytes long, this kernel takes 2047: shorten --params/,
  );
  await refused(['run', '-p', 'k\u00e4se', kernel], /printable ASCII only: change "k\u00e4se"/);
  await refused(['run', '-p', 'a\nb', kernel], /printable ASCII only: change "a\\nb"/);
});

test('options that do not exist, that lack a value, that come twice', async (t) => {
  for (const [args, pattern] of [
    [['run', '--bogus', kernel], /unknown option '--bogus'/],
    [['run', '--memx=1', kernel], /unknown option '--memx=1'/],
    [['run', '-z', kernel], /unknown option '-z'/],
    [['--bogus'], /unknown option '--bogus'/],
    [['run', '--mem'], /--mem <MiB>' argument missing/],
    [['run', '-m', '64', '-m', '65', kernel], /--mem 65: it may be given once only/],
    [['run', '--cpus=1', '-c1', kernel], /--cpus 1: it may be given once only/],
    [['run', '--initrd', 'a', '--initrd', 'b', kernel], /--initrd b: it may be given once only/],
    [['run', '--hypervisor', 'soft', '--hypervisor', 'soft', kernel], /--hypervisor soft: it may be given once only/],
    [['run', '--hypervisor', 'xen', kernel], /--hypervisor xen: it takes one of auto, kvm, soft/],
    [['run', '--gdb', 'x', kernel], /--gdb x: it takes a port from 0 to 65535/],
    [['run', '--gdb', '65536', kernel], /--gdb 65536: it takes a port/],
    [['run', kernel, 'second'], /too many arguments for 'run'/],
    [['guest', 'bogus'], /unknown command 'bogus'/],
    [['guest', 'prepare', 'extra'], /too many arguments for 'prepare'/],
  ] as const) {
    await t.test(args.join(' '), () => refused(args, pattern));
  }
});

test('--hypervisor kvm without a KVM', { skip: existsSync('/dev/kvm') && 'there is one' }, () =>
  refused(['run', '--hypervisor', 'kvm', kernel], /there is no \/dev\/kvm: load the module kvm_intel or kvm_amd/),
);

test('sockets and devices of the kernel that cannot be', async (t) => {
  place.file('taken', '');
  const cases: readonly (readonly [args: readonly string[], pattern: RegExp])[] = [
    [['--cid', '3'], /--cid without --vsock needs KVM: add --vsock \(/],
    [['--vhost-net'], /--vhost-net: it is for a tap: add --tap/],
    [['--vhost-net', '--tap', 'vmtap0'], /--vhost-net needs KVM: leave it out \(/],
    [['--vsock', 'v', '--cid', '2'], /--cid 2: it takes a number from 3 to 4294967294/],
    [['--vsock', 'v', '--cid', '4294967295'], /--cid 4294967295: it takes a number from 3/],
    [['--vsock', ''], /the path of the socket is empty: give one with --vsock/],
    [['--vsock', 'taken'], /taken: it exists already: take it away, or give another path with --vsock/],
    [['--vsock', 'absent/v'], /absent\/v: the socket cannot be made: .*: give another path with --vsock/],
    [['--vsock', 'v'.repeat(97)], /v: the path of a socket has 96 bytes at most: give a shorter one/],
    [['--vsock', 'v', '--icount', '--net', 'none'], /--icount takes no disks.* and sockets/],
  ];
  for (const [args, pattern] of cases) {
    await t.test(args.join(' '), () => refused(['run', '--hypervisor', 'soft', ...args, kernel], pattern));
  }
});

test('disks that cannot be', async (t) => {
  mkdirSync(place.path('folder'), { recursive: true });
  place.file('512', new Uint8Array(512));
  place.file('511', new Uint8Array(511));
  place.file('nothing', '');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', place.path('none.qcow2'), '0']);
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', place.path('used.qcow2'), '1M']);
  place.file('cut.qcow2', readFileSync(place.path('used.qcow2')).subarray(0, 70));
  const used = openSync(place.path('used.qcow2'), 'r+');
  t.after(() => closeSync(used));
  lockImage(used, 'used.qcow2', true);
  const cases: readonly (readonly [args: readonly string[], pattern: RegExp])[] = [
    [['--disk', ''], /it takes the path of an image/],
    [['--disk', 'absent'], /absent: there is no such file/],
    [['--disk', 'folder'], /folder: it is neither a regular file nor a block device/],
    [['--disk', 'nothing'], /nothing: it is too small for a disk, which has 512 bytes at least/],
    [['--rwdisk', '511'], /511: it is too small for a disk/],
    [['--rwqcow', 'none.qcow2'], /none\.qcow2: it is too small for a disk/],
    [['--qcow', 'none.qcow2,overlay'], /none\.qcow2: it is too small for a disk/],
    [['--qcow', '512'], /512: it is no qcow2 image/],
    [['--qcow', 'cut.qcow2'], /cut\.qcow2: the qcow2 header is cut off/],
    [['--rwqcow', 'used.qcow2'], new RegExp(`used\\.qcow2: the image is locked by process ${process.pid} \\(`)],
    [['--qcow', 'used.qcow2,overlay'], /used\.qcow2: the image is locked by process/],
    [['--rwdisk', '512', '--disk', '512'], /512: the image is in use by this process already/],
    [['--rwdisk', '512,overlay'], /overlay is for disks whose image stays as it is/],
    [['--qcow', 'used.qcow2,direct'], /direct is for raw images/],
    [['--disk', '512,serial='], /a serial number is 1 to 20 characters/],
    [Array.from({ length: 27 }, () => ['--disk', '512']).flat(), /there are 26 disks already/],
  ];
  for (const [args, pattern] of cases) {
    await t.test(args.slice(0, 4).join(' '), () => refused(['run', '--hypervisor', 'soft', ...args, kernel], pattern));
  }
  if (process.getuid?.() !== 0) return;
  execFileSync('chmod', ['600', place.path('512')]);
  execFileSync('chmod', ['755', place.folder]);
  await t.test('not permitted', () =>
    refused(['run', '--disk', '512', kernel], /512: it may not be opened for reading by this user/, 65534),
  );
});

test('--gdb with a port that is taken', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  try {
    await refused(
      ['run', '--gdb', String(port), kernel],
      new RegExp(`port ${port}: the port is taken: choose another with --gdb`),
    );
  } finally {
    server.close();
  }
});

test('an unknown subcommand gets its line and the usage', async () => {
  const { status, stdout, stderr } = await place.run(['frobnicate']);
  assert.equal(status, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /^vivarium: invalid subcommand: frobnicate\n\nUsage: vivarium /);
});

test('a reader that has gone is no error', async () => {
  for (const args of ['', '--help', 'run --help', 'disk --help', 'ps']) {
    const command = `${process.execPath} ${PROGRAM} ${args} | true; exit \${PIPESTATUS[0]}`;
    const { status, stderr } = spawnSync('bash', ['-c', command], { encoding: 'utf8' });
    assert.equal(stderr, '');
    assert.equal(status, 0);
  }
});

test('no arguments, and --help, give the usage', async () => {
  for (const args of [[], ['--help'], ['-h'], ['run', '--help'], ['guest', '--help'], ['guest', 'prepare', '--help']]) {
    const { status, stdout, stderr } = await place.run(args);
    assert.equal(stderr, '');
    assert.equal(status, 0);
    assert.match(stdout, /^Usage: vivarium /);
  }
});
