// What clients do with files, by either protocol: the host's file system shows that it was done.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ENOSPC, EPERM } from '../../src/host/errno.ts';
import { setFaultHook } from '../../src/host/ffi.ts';
import {
  O_APPEND,
  O_CREAT,
  O_EXCL,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  type Served,
  serve,
  type TestClient,
  use,
  walk,
} from './client.ts';
import { noNamespaces, runWithMounts } from './own-mounts.ts';
import { PROTOCOLS } from './protocols.ts';

const IS_ROOT = process.geteuid?.() === 0;
const CAP_DAC_OVERRIDE = 1n << 1n;
/** Has this process all rights over files, whoever they belong to? */
const MAY_ALL =
  (BigInt(`0x${/^CapEff:\t(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]}`) & CAP_DAC_OVERRIDE) !== 0n;

type Body = (served: Served<TestClient>) => void;

/** A test on each protocol, with a fresh directory. */
function each(name: string, body: Body, options: Parameters<typeof serve>[1] = {}, skip: string | false = false): void {
  for (const [protocol, connect] of Object.entries(PROTOCOLS)) {
    test(`${protocol}: ${name}`, { skip }, () => {
      use(serve(connect, options), body);
    });
  }
}

const code = (name: string): { code: string } => ({ code: name });

/** Runs `body` with what each call of pwritev gives: the errno of the call with this number, and no error else. Returns the calls' sizes. */
function countWrites(body: () => void, failing = Number.POSITIVE_INFINITY): number[] {
  const sizes: number[] = [];
  setFaultHook((name, args) => {
    if (name !== 'pwritev') return undefined;
    const [, iov, count] = args as [number, Uint32Array, number];
    // struct iovec: the length is its third word.
    const lengths = Array.from({ length: count }, (_, i) => iov[4 * i + 2]!);
    sizes.push(lengths.reduce((sum, length) => sum + length, 0));
    return sizes.length > failing ? ENOSPC : undefined;
  });
  try {
    body();
  } finally {
    setFaultHook(undefined);
  }
  return sizes;
}

each('a large write goes in pieces; what one of them meets does not undo those before it', ({ client, path }) => {
  const handle = client.create(client.root, 'file', O_RDWR | O_CREAT, 0o644);
  const data = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7) >> 3));
  const whole = data.subarray(0, 100_000);
  assert.deepEqual(
    countWrites(() => assert.equal(client.write(handle, 5, whole), whole.length)),
    [100_000],
  );
  const all = countWrites(() => assert.equal(client.write(handle, 5, data), data.length));
  assert.ok(all.length > 1 && all.every((size) => size <= 131_072));
  assert.deepEqual(readFileSync(join(path, 'file')).subarray(5), data);
  const [first] = countWrites(() => assert.equal(client.write(handle, 0, data), 131_072), 1);
  assert.equal(first, 131_072);
  countWrites(() => assert.throws(() => client.write(handle, 0, data), code('ENOSPC')), 0);
  client.close(handle);
});

each('where each write is to be on the disk when it returns, it is one', ({ client, path }) => {
  const data = Buffer.alloc(300_000, 7);
  for (const [name, flag] of [
    ['sync', constants.O_SYNC],
    ['dsync', constants.O_DSYNC],
  ] as const) {
    const handle = client.create(client.root, name, O_WRONLY | O_CREAT | flag, 0o644);
    assert.deepEqual(
      countWrites(() => client.write(handle, 0, data)),
      [data.length],
    );
    assert.deepEqual(readFileSync(join(path, name)), data);
    client.close(handle);
  }
});

each('a file is made, written, read, closed and read again', ({ client, path }) => {
  const handle = client.create(client.root, 'file', O_RDWR | O_CREAT, 0o640);
  const data = Buffer.from(Array.from({ length: 10_000 }, (_, i) => i * 7));
  assert.equal(client.write(handle, 0, data), data.length);
  assert.deepEqual(client.read(handle, 100, 5000), data.subarray(100, 5100));
  assert.equal(client.write(handle, 20_000, Buffer.from('end')), 3);
  client.sync(handle);
  client.close(handle);
  const status = statSync(join(path, 'file'));
  assert.equal(status.mode & 0o7777, 0o640);
  assert.equal(status.size, 20_003);
  const ref = client.lookup(client.root, 'file');
  const again = client.open(ref, O_RDONLY);
  assert.deepEqual(client.read(again, 19_990, 100), Buffer.concat([Buffer.alloc(10), Buffer.from('end')]));
  assert.equal(client.read(again, 20_003, 100).length, 0);
  assert.throws(() => client.write(again, 0, data), code('EBADF'));
  client.close(again);
  client.forget(ref);
});

each('modes are as asked for, whatever the umask of the server is', ({ client, path }) => {
  client.close(client.create(client.root, 'file', O_WRONLY, 0o666));
  client.makeDirectory(client.root, 'directory', 0o777);
  client.makeNode(client.root, 'fifo', 0o010622);
  for (const [name, mode] of [
    ['file', 0o666],
    ['directory', 0o777],
    ['fifo', 0o622],
  ] as const) {
    assert.equal(lstatSync(join(path, name)).mode & 0o7777, mode, name);
  }
  assert.ok(lstatSync(join(path, 'fifo')).isFIFO());
});

each('O_EXCL, O_TRUNC, and files that are there', ({ client, path }) => {
  writeFileSync(join(path, 'old'), 'content');
  assert.throws(() => client.create(client.root, 'old', O_RDWR | O_EXCL, 0o600), code('EEXIST'));
  const kept = client.create(client.root, 'old', O_RDWR, 0o600);
  assert.equal(client.read(kept, 0, 100).toString(), 'content');
  client.close(kept);
  client.close(client.create(client.root, 'old', O_RDWR | O_TRUNC, 0o600));
  assert.equal(readFileSync(join(path, 'old'), 'utf8'), '');
});

each('names of any bytes', ({ client, path }) => {
  const names = [Buffer.from([0xff, 0xfe, 0x80]), Buffer.from('ü €'), Buffer.from('a\nb\\"'), Buffer.from('...')];
  for (const name of names) client.close(client.create(client.root, name, O_WRONLY, 0o600));
  const listed = readdirSync(path, { encoding: 'buffer' });
  assert.deepEqual(new Set(listed.map(String)), new Set(names.map(String)));
  assert.deepEqual(client.list(client.root), names.map((name) => name.toString('latin1')).sort());
  for (const name of names) client.remove(client.root, name, false);
  assert.deepEqual(client.list(client.root), []);
});

each('a directory of thousands of names is listed whole', ({ client, path }) => {
  const names = Array.from({ length: 2500 }, (_, i) => `file-${i}-${'x'.repeat(i % 100)}`).sort();
  for (const name of names) writeFileSync(join(path, name), '');
  assert.deepEqual(client.list(client.root), names);
});

each('links, both kinds', ({ client, path }) => {
  client.makeLink(client.root, 'absolute', '/etc/passwd');
  client.makeLink(client.root, 'long', 'x'.repeat(4095));
  assert.equal(readlinkSync(join(path, 'absolute')), '/etc/passwd');
  const link = client.lookup(client.root, 'absolute');
  assert.equal(client.readLink(link), '/etc/passwd');
  assert.equal(client.attributes(link).mode & 0o170000, 0o120000);
  client.forget(link);
  const long = client.lookup(client.root, 'long');
  assert.equal(client.readLink(long).length, 4095);
  client.forget(long);
  writeFileSync(join(path, 'file'), 'content');
  const file = client.lookup(client.root, 'file');
  client.link(file, client.root, 'other');
  assert.equal(client.attributes(file).nlink, 2);
  assert.equal(lstatSync(join(path, 'other')).ino, lstatSync(join(path, 'file')).ino);
  assert.throws(() => client.readLink(file), code('EINVAL'));
  client.forget(file);
});

each('renames, of files and of directories', ({ client, path }) => {
  client.makeDirectory(client.root, 'a', 0o755);
  client.makeDirectory(client.root, 'b', 0o755);
  const [a, b] = [walk(client, 'a'), walk(client, 'b')];
  client.close(client.create(a, 'file', O_WRONLY, 0o600));
  client.rename(a, 'file', b, 'moved');
  assert.ok(lstatSync(join(path, 'b/moved')).isFile());
  client.rename(client.root, 'b', a, 'c');
  client.close(client.create(b, 'inside', O_WRONLY, 0o600));
  assert.deepEqual(readdirSync(join(path, 'a/c')).sort(), ['inside', 'moved']);
  assert.throws(() => client.rename(client.root, 'a', b, 'loop'), code('EINVAL'));
  assert.throws(() => client.rename(client.root, 'none', b, 'x'), code('ENOENT'));
  client.forget(a);
  client.forget(b);
});

each('removing', ({ client, path }) => {
  client.makeDirectory(client.root, 'd', 0o755);
  const d = walk(client, 'd');
  client.close(client.create(d, 'f', O_WRONLY, 0o600));
  assert.throws(() => client.remove(client.root, 'd', true), code('ENOTEMPTY'));
  assert.throws(() => client.remove(client.root, 'd', false), code('EISDIR'));
  assert.throws(() => client.remove(d, 'f', true), code('ENOTDIR'));
  client.remove(d, 'f', false);
  client.remove(client.root, 'd', true);
  assert.deepEqual(readdirSync(path), []);
  assert.throws(() => client.create(d, 'late', O_WRONLY, 0o600), code('ENOENT'));
  client.forget(d);
});

each('a file without a name is there as long as it is open', ({ client, path }) => {
  const handle = client.create(client.root, 'file', O_RDWR, 0o600);
  client.write(handle, 0, Buffer.from('still here'));
  client.remove(client.root, 'file', false);
  assert.deepEqual(readdirSync(path), []);
  assert.equal(client.read(handle, 6, 100).toString(), 'here');
  client.close(handle);
});

each('attributes are those of the host, and change', ({ client, path }) => {
  writeFileSync(join(path, 'file'), 'x'.repeat(5000));
  const ref = client.lookup(client.root, 'file');
  const status = statSync(join(path, 'file'));
  const { mode, nlink, uid, gid, size, ino } = client.attributes(ref);
  assert.deepEqual(
    { mode, nlink, uid, gid, size, ino },
    {
      ...{ mode: status.mode, nlink: 1, uid: status.uid, gid: status.gid, size: 5000, ino: BigInt(status.ino) },
    },
  );
  client.setAttributes(ref, { mode: 0o4751, size: 3, mtime: 1_000_000_000, atime: 5 });
  const changed = statSync(join(path, 'file'));
  assert.equal(changed.mode & 0o7777, 0o4751);
  assert.equal(changed.size, 3);
  assert.deepEqual([changed.mtimeMs, changed.atimeMs], [1e12, 5000]);
  client.setAttributes(ref, { mtime: 'now' });
  const now = client.attributes(ref);
  assert.ok(Math.abs(now.mtime * 1000 - Date.now()) < 60_000);
  assert.equal(now.atime, 5);
  client.forget(ref);
});

each('what is done on the host is seen', ({ client, path }) => {
  writeFileSync(join(path, 'file'), 'one');
  const ref = client.lookup(client.root, 'file');
  const handle = client.open(ref, O_RDONLY);
  writeFileSync(join(path, 'file'), 'another');
  assert.equal(client.read(handle, 0, 100).toString(), 'another');
  assert.equal(client.attributes(ref).size, 7);
  renameSync(join(path, 'file'), join(path, 'renamed'));
  assert.equal(client.attributes(ref).size, 7);
  assert.throws(() => client.lookup(client.root, 'file'), code('ENOENT'));
  client.close(handle);
  client.forget(ref);
});

each('O_APPEND writes at the end, wherever the client thinks it is', ({ client, path }) => {
  writeFileSync(join(path, 'log'), 'from the host\n');
  const ref = client.lookup(client.root, 'log');
  const handle = client.open(ref, O_WRONLY | O_APPEND);
  if ('writeWith' in client) {
    (client as unknown as { writeWith(...args: unknown[]): number }).writeWith(
      handle,
      0,
      Buffer.from('a'),
      0,
      O_APPEND,
    );
  } else {
    client.write(handle, 0, Buffer.from('a'));
  }
  client.close(handle);
  client.forget(ref);
  assert.equal(readFileSync(join(path, 'log'), 'utf8'), 'from the host\na');
});

each('extended attributes', ({ client, path }) => {
  writeFileSync(join(path, 'file'), '');
  const ref = client.lookup(client.root, 'file');
  client.setXattr(ref, 'user.one', Buffer.from('value'));
  client.setXattr(ref, 'user.empty', Buffer.alloc(0));
  assert.deepEqual(client.listXattrs(ref).sort(), ['user.empty', 'user.one']);
  assert.equal(client.getXattr(ref, 'user.one').toString(), 'value');
  assert.equal(client.getXattr(ref, 'user.empty').length, 0);
  assert.throws(() => client.getXattr(ref, 'user.none'), code('ENODATA'));
  assert.throws(() => client.getXattr(ref, 'security.capability'), code('EOPNOTSUPP'));
  assert.throws(() => client.setXattr(ref, 'security.capability', Buffer.alloc(20)), code('EOPNOTSUPP'));
  assert.throws(() => client.setXattr(ref, 'system.posix_acl_access', Buffer.alloc(20)), code('EOPNOTSUPP'));
  client.removeXattr(ref, 'user.one');
  assert.deepEqual(client.listXattrs(ref), ['user.empty']);
  client.forget(ref);
});

each('statfs tells of the host', ({ client }) => {
  assert.ok(client.freeBlocks(client.root) > 0n);
});

each('device files are not made, and nothing but files and directories is opened', ({ client, path }) => {
  for (const type of [0o020000, 0o060000]) {
    assert.throws(() => client.makeNode(client.root, 'device', type | 0o666), code('EPERM'));
  }
  client.makeNode(client.root, 'fifo', 0o010666);
  client.makeNode(client.root, 'socket', 0o140666);
  symlinkSync('/etc/passwd', join(path, 'link'));
  for (const [name, error] of [
    ['fifo', 'ENXIO'],
    ['socket', 'ENXIO'],
    ['link', 'ELOOP'],
  ] as const) {
    const ref = client.lookup(client.root, name);
    assert.throws(() => client.open(ref, O_RDWR), code(error), name);
    assert.throws(() => client.setAttributes(ref, { size: 0 }), code(error), name);
    assert.throws(() => client.create(client.root, name, O_RDWR, 0o600), code(error), name);
    client.forget(ref);
  }
});

each(
  'ids: files belong to whoever makes them',
  ({ client, path }) => {
    const ref = walk(client);
    client.setAttributes(ref, { uid: 1234, gid: 567 });
    assert.deepEqual([statSync(path).uid, statSync(path).gid], [1234, 567]);
  },
  {},
  !IS_ROOT && 'only root gives files away',
);

each(
  'uid and gid map the server to a user of the guest',
  ({ client, path }) => {
    client.close(client.create(client.root, 'file', O_WRONLY, 0o600));
    const ref = client.lookup(client.root, 'file');
    const { uid, gid } = client.attributes(ref);
    assert.deepEqual([uid, gid], [4000, 4001]);
    client.setAttributes(ref, { uid: 4000, gid: 4001 });
    assert.equal(statSync(join(path, 'file')).uid, process.geteuid?.());
    assert.throws(() => client.setAttributes(ref, { uid: process.geteuid?.() ?? 0 }), code('EPERM'));
    client.forget(ref);
  },
  { uid: 4000, gid: 4001 },
);

each(
  'a read-only directory changes in no way',
  ({ client, path }) => {
    // The server is read-only, not the directory.
    mkdirSync(join(path, 'd'));
    writeFileSync(join(path, 'file'), 'content');
    linkSync(join(path, 'file'), join(path, 'other'));
    const ref = client.lookup(client.root, 'file');
    const handle = client.open(ref, O_RDONLY);
    assert.equal(client.read(handle, 0, 100).toString(), 'content');
    const attempts: (() => void)[] = [
      () => client.open(ref, O_RDWR),
      () => client.open(ref, O_WRONLY),
      () => client.open(ref, O_TRUNC),
      () => client.create(client.root, 'new', O_RDONLY, 0o600),
      () => client.create(client.root, 'file', O_RDONLY, 0o600),
      () => client.makeDirectory(client.root, 'new', 0o700),
      () => client.makeNode(client.root, 'new', 0o010600),
      () => client.makeLink(client.root, 'new', 'x'),
      () => client.link(ref, client.root, 'new'),
      () => client.rename(client.root, 'file', client.root, 'new'),
      () => client.remove(client.root, 'file', false),
      () => client.remove(client.root, 'd', true),
      () => client.setAttributes(ref, { mode: 0o777 }),
      () => client.setAttributes(ref, { size: 0 }),
      () => client.setAttributes(ref, { mtime: 'now' }),
      () => client.setAttributes(ref, { uid: 1 }),
      () => client.setXattr(ref, 'user.x', Buffer.from('x')),
      () => client.removeXattr(ref, 'user.x'),
    ];
    for (const attempt of attempts) assert.throws(attempt, code('EROFS'), String(attempt));
    client.close(handle);
    client.forget(ref);
    assert.deepEqual(readdirSync(path).sort(), ['d', 'file', 'other']);
  },
  { readOnly: true },
);

each("a full disk is the client's ENOSPC", ({ client }) => {
  const handle = client.create(client.root, 'file', O_WRONLY, 0o600);
  setFaultHook((name) => (name === 'pwritev' ? ENOSPC : undefined));
  try {
    assert.throws(() => client.write(handle, 0, Buffer.from('x')), code('ENOSPC'));
  } finally {
    setFaultHook(undefined);
  }
  assert.equal(client.write(handle, 0, Buffer.from('x')), 1);
  client.close(handle);
});

each(
  'a client that holds too many files is refused more',
  ({ client, path }) => {
    for (let i = 0; i < 100; i++) writeFileSync(join(path, `${i}`), '');
    const held = [];
    try {
      for (let i = 0; i < 100; i++) held.push(client.lookup(client.root, `${i}`));
      assert.fail('nothing limits it');
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'ENFILE');
    }
    assert.equal(held.length, 49);
    // Those that it has are served, and new ones when it lets others go.
    for (const ref of held) assert.equal(client.attributes(ref).size, 0);
    client.forget(held.pop()!);
    held.push(client.lookup(client.root, '99'));
    for (const ref of held) client.forget(ref);
  },
  { maxNodes: 50 },
);

const NO_ACCESS = "files that the server may not use are the client's EACCES";
each(
  NO_ACCESS,
  ({ client, path }) => {
    writeFileSync(join(path, 'secret'), 'x');
    chmodSync(join(path, 'secret'), 0);
    const ref = client.lookup(client.root, 'secret');
    assert.throws(() => client.open(ref, O_RDONLY), code('EACCES'));
    assert.throws(() => client.setAttributes(ref, { size: 1 }), code('EACCES'));
    client.forget(ref);
    unlinkSync(join(path, 'secret'));
    mkdirSync(join(path, 'closed'), 0o500);
    const closed = client.lookup(client.root, 'closed');
    assert.throws(() => client.create(closed, 'file', O_RDWR, 0o600), code('EACCES'));
    assert.throws(() => client.makeDirectory(closed, 'folder', 0o700), code('EACCES'));
    client.forget(closed);
    chmodSync(path, 0);
    assert.throws(() => client.lookup(client.root, 'closed'), code('EACCES'));
    chmodSync(path, 0o700);
  },
  {},
  MAY_ALL && 'for those who may do everything it is in the next test',
);

test('the same for root without its rights', { skip: !MAY_ALL && 'it has none' }, () => {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const self = fileURLToPath(import.meta.url);
  const runner = [process.execPath, '--test', '--test-reporter=tap', `--test-name-pattern=${NO_ACCESS}`, self];
  const rights = ['--inh-caps=-all', '--bounding-set=-all'];
  const { status, stdout } = spawnSync('setpriv', [...rights, ...runner], { encoding: 'utf8', env });
  assert.equal(status, 0, stdout);
  assert.match(stdout, /^# pass 2$/m);
});

test('a file system that is full, of bytes and of files', { skip: noNamespaces }, () => runWithMounts('full-disk.ts'));

test('a container whose filter forbids unshare and openat2 has shared directories, too', () => {
  setFaultHook((name) => (name === 'unshare' || name === 'syscall' ? EPERM : undefined));
  try {
    for (const connect of Object.values(PROTOCOLS)) {
      const { client, path, end } = serve(connect);
      client.close(client.create(client.root, 'file', O_WRONLY, 0o600));
      client.forget(walk(client, 'file'));
      assert.deepEqual(readdirSync(path), ['file']);
      end();
    }
  } finally {
    setFaultHook(undefined);
  }
});
