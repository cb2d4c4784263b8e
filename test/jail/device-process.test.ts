// The jail of a device process, as /proc shows it, and how its end is told.
import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { allIds } from '../../src/jail/id-maps.ts';
import { hostSyscallArch, SYSCALL_NUMBERS } from '../../src/jail/syscalls.ts';
import { jailedDevices } from './jailed.ts';

const start = jailedDevices();
const NUMBERS = SYSCALL_NUMBERS[hostSyscallArch() ?? 'x86_64'];
const NAMESPACES = ['user', 'pid', 'mnt', 'net', 'ipc', 'uts', 'cgroup'];

/** The fields of a /proc status file. */
function statusOf(path: string): Record<string, string> {
  const lines = readFileSync(`${path}/status`, 'latin1').trimEnd().split('\n');
  return Object.fromEntries(lines.map((line) => line.split(/:\s*/, 2) as [string, string]));
}

test('every thread of a device process is locked in', async (t) => {
  const device = await start(t, { data: { disk: 'a' } });
  assert.deepEqual(await device.ask({ act: 'start' }), { data: { disk: 'a' }, fds: [4] });
  const proc = `/proc/${device.process.pid}`;

  for (const name of NAMESPACES) {
    assert.notEqual(readlinkSync(`${proc}/ns/${name}`), readlinkSync(`/proc/self/ns/${name}`), `${name} namespace`);
  }
  const tids = readdirSync(`${proc}/task`);
  assert.ok(tids.length > 1, 'threads of V8');
  for (const tid of tids) {
    const status = statusOf(`${proc}/task/${tid}`);
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
      assert.match(status[set] as string, /^0+$/, set);
    assert.equal(status.NoNewPrivs, '1');
    assert.equal(status.Seccomp, '2');
    assert.equal(status.Seccomp_filters, '1');
  }
  assert.match(statusOf(proc).NSpid as string, /\t1$/, 'the first of its namespace');
});

test('a device process sees no files, and has no descriptors but its own', async (t) => {
  // What the monitor itself was given is none of the device's.
  const inherited = openSync('/', 'r');
  t.after(() => closeSync(inherited));
  const device = await start(t);
  await device.ask({ act: 'start' });
  const proc = `/proc/${device.process.pid}`;
  assert.deepEqual(readdirSync(`${proc}/root`), []);
  assert.equal(
    readFileSync(`${proc}/mountinfo`, 'latin1').trimEnd().split('\n').length,
    1,
    'one mount: the empty root',
  );
  assert.match(readFileSync(`${proc}/mountinfo`, 'latin1'), / \/ ro,/);
  assert.deepEqual(readdirSync(`${proc}/cwd`), []);
  for (const fd of readdirSync(`${proc}/fd`)) {
    const status = statSync(`${proc}/fd/${fd}`);
    assert.ok(!status.isDirectory() && !status.isFile(), `descriptor ${fd}: ${readlinkSync(`${proc}/fd/${fd}`)}`);
    if (status.isCharacterDevice()) assert.equal(status.rdev, statSync('/dev/null').rdev);
  }
  assert.match(readFileSync(`${proc}/net/dev`, 'latin1'), /^[^\n]*\n[^\n]*\n\s*lo:[^\n]*\n$/, 'no network but lo');
});

test('folders and the network are there for who is given them', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-share-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'file'), '');
  mkdirSync(join(folder, 'sub'));
  const whole = await start(t, { binds: [{ source: folder, target: '/', readOnly: false }], network: 'host' });
  await whole.ask({ act: 'start' });
  assert.deepEqual(readdirSync(`/proc/${whole.process.pid}/root`).sort(), ['file', 'sub']);
  assert.equal(readlinkSync(`/proc/${whole.process.pid}/ns/net`), readlinkSync('/proc/self/ns/net'));

  const part = await start(t, { binds: [{ source: join(folder, 'sub'), target: '/shared', readOnly: true }] });
  await part.ask({ act: 'start' });
  assert.deepEqual(readdirSync(`/proc/${part.process.pid}/root`), ['shared']);
  assert.match(readFileSync(`/proc/${part.process.pid}/mountinfo`, 'latin1'), / \/shared ro,/);
});

test('a device that acts for all users has rights over their files, and no others', async (t) => {
  if (process.geteuid?.() !== 0) return t.skip('only root can give it all users');
  const device = await start(t, { users: allIds() });
  const started = device.ask({ act: 'start' });
  const proc = `/proc/${device.process.pid}`;
  assert.notEqual(readlinkSync(`${proc}/ns/user`), readlinkSync('/proc/self/ns/user'));
  for (const map of ['uid_map', 'gid_map']) {
    const ids = (path: string): string[] => readFileSync(`${path}/${map}`, 'latin1').trim().split(/\s+/);
    const [first, , count] = ids('/proc/self');
    assert.deepEqual(ids(proc), [first, first, count]);
  }
  // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID and SETUID: bits 0, 1, 3, 4, 6 and 7.
  const expected = { CapInh: '0', CapPrm: 'db', CapEff: 'db', CapBnd: '0', CapAmb: '0' };
  for (const tid of readdirSync(`${proc}/task`)) {
    const status = statusOf(`${proc}/task/${tid}`);
    for (const [set, bits] of Object.entries(expected)) assert.equal(status[set], bits.padStart(16, '0'), set);
    assert.equal(status.Seccomp, '2');
  }
  const plain = await start(t);
  // Both are through with their start.
  await Promise.all([started, plain.ask({ act: 'start' })]);
  assert.deepEqual(readdirSync(`${proc}/fd`), readdirSync(`/proc/${plain.process.pid}/fd`));
});

test('JavaScript runs on behind the filter: garbage, compilers, WebAssembly, exceptions', async (t) => {
  const device = await start(t);
  assert.equal(typeof (await device.ask({ act: 'work', rounds: 12 })), 'number');
  device.send({ act: 'end' });
  assert.deepEqual(await device.process.ended, { status: 0, cause: 'status 0' });
});

test('a thread that waits for a contended lock may ask for its own priority, and reads no file', async (t) => {
  const device = await start(t);
  device.send({ act: 'lock' });
  for (const name of ['sched_getscheduler', 'sched_getparam']) {
    // No address: the answer does not matter.
    device.send({ act: 'call', number: NUMBERS.get(name) as number, args: [0, 0] });
  }
  device.send({ act: 'end' });
  assert.deepEqual(await device.process.ended, { status: 0, cause: 'status 0' });
});

for (const name of ['openat', 'socket', 'execve', 'ptrace', 'mount', 'clone', 'io_uring_enter', 'kill']) {
  test(`${name} after the lock-down ends the process, and its name is told`, async (t) => {
    const device = await start(t);
    device.send({ act: 'call', number: NUMBERS.get(name) as number, args: [1, 2, 3] });
    const { signal, cause } = await device.process.ended;
    assert.equal(signal, 'SIGKILL');
    assert.ok(
      cause.startsWith(`it called ${name}(0x1, 0x2, 0x3, `) &&
        cause.endsWith('), which its policy common_device does not allow'),
      cause,
    );
  });
}

test('memory is not made executable by mmap, and a signal goes to nobody else', async (t) => {
  const first = await start(t);
  // PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS.
  first.send({ act: 'call', number: NUMBERS.get('mmap') as number, args: [0, 4096, 5, 0x22, -1, 0] });
  assert.match((await first.process.ended).cause, /^it called mmap\(/);
  const second = await start(t);
  second.send({ act: 'call', number: NUMBERS.get('tgkill') as number, args: [process.pid, process.pid, 15] });
  assert.match((await second.process.ended).cause, /^it called tgkill\(/);
});

test('the end of a device process is told with its cause', async (t) => {
  const thrower = await start(t);
  thrower.send({ act: 'throw', message: 'no room in the queue' });
  assert.deepEqual(await thrower.process.ended, { status: 1, cause: 'Error: no room in the queue' });

  const crasher = await start(t);
  crasher.send({ act: 'fault' });
  assert.deepEqual(await crasher.process.ended, { signal: 'SIGSEGV', cause: 'its process crashed (SIGSEGV)' });

  const killed = await start(t);
  killed.process.kill();
  assert.deepEqual(await killed.process.ended, {
    signal: 'SIGKILL',
    cause: 'its process was killed (SIGKILL): by a user, or by the kernel for want of memory: see dmesg',
  });
});

test('a device that cannot start says why, in one line', async (t) => {
  await assert.rejects(start(t, { data: { refuse: 'the image has no header' } }), {
    name: 'JailError',
    message: 'its process cannot start: the image has no header',
  });
  await assert.rejects(start(t, { policy: 'absent' }), {
    name: 'PolicyError',
    message: /absent\.policy: there is no such policy: give a folder that has it with --seccomp-policy-dir$/,
  });
  await assert.rejects(start(t, { binds: [{ source: '/absent', target: '/', readOnly: true }] }), {
    name: 'JailError',
    message: /^it cannot be jailed: Can't find source path \/absent: .*--disable-sandbox$/,
  });
});

test('users that cannot be given to a device are told of', async (t) => {
  await assert.rejects(start(t, { users: { uids: '0 0 none\n', gids: '0 0 1\n' } }), {
    name: 'JailError',
    message:
      /^its process cannot start: its namespace cannot have all users: .*: give the directory uid= and gid=, or run/,
  });
});

test('without bubblewrap there is no jail, and the mend is told', async (t) => {
  const { PATH } = process.env;
  process.env.PATH = '/absent';
  t.after(() => {
    process.env.PATH = PATH;
  });
  await assert.rejects(start(t), {
    name: 'JailError',
    message:
      'devices cannot be jailed without bubblewrap: install the package bubblewrap, or run without jails, with --disable-sandbox',
  });
  const installed = (PATH ?? '').split(':').find((folder) => existsSync(join(folder, 'bwrap')));
  await start(t, { bubblewrapFolder: installed });
});

test('a bubblewrap that cannot be run is named', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-bwrap-'));
  const { PATH } = process.env;
  process.env.PATH = folder;
  t.after(() => {
    process.env.PATH = PATH;
    rmSync(folder, { recursive: true });
  });
  writeFileSync(join(folder, 'bwrap'), '');
  await assert.rejects(start(t), {
    name: 'JailError',
    message: `its process cannot start: ${folder}/bwrap: posix_spawn: permission denied`,
  });
});

test('a folder of policies replaces those that come with Vivarium', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-policy-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const common = readFileSync(new URL('../../src/jail/policies/common_device.policy', import.meta.url), 'utf8');
  writeFileSync(join(folder, 'common_device.policy'), common);
  writeFileSync(join(folder, 'other.policy'), '@include ./common_device.policy\nuname: return ENOSYS\n');
  const device = await start(t, { policy: 'other', policyFolder: folder });
  const ENOSYS = 38;
  assert.equal(await device.ask({ act: 'call', number: NUMBERS.get('uname') as number, args: [] }), -ENOSYS);
});
