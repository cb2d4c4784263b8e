// Ways out of a shared directory, by either protocol, on kernels with openat2 and on those without: none leads anywhere.
import assert from 'node:assert/strict';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { FileServer } from '../../src/fs/server.ts';
import { ENOSYS } from '../../src/host/errno.ts';
import { setFaultHook } from '../../src/host/ffi.ts';
import { openStart } from '../../src/host/files.ts';
import {
  type Connect,
  ManualTimers,
  type Name,
  O_CREAT,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  type Ref,
  type Served,
  type ServerError,
  serve,
  type TestClient,
  walk,
} from './client.ts';
import { noNamespaces, runWithMounts } from './own-mounts.ts';
import { PROTOCOLS } from './protocols.ts';

const SECRET = 'nobody in the guest knows this';
const SWAPPER = new URL('swapper.ts', import.meta.url);
/** Walks while a directory is swapped. */
const WALKS = 500;

/** Names that are no names, and what the server says. */
const BAD_NAMES: readonly (readonly [name: Name, errno: string])[] = [
  ['', 'EINVAL'],
  ['.', 'EINVAL'],
  ['/', 'EINVAL'],
  ['../secret', 'EINVAL'],
  ['/etc/passwd', 'EINVAL'],
  ['inside/../../secret', 'EINVAL'],
  ['x/', 'EINVAL'],
  ['x'.repeat(256), 'ENAMETOOLONG'],
  ['x'.repeat(1000), 'ENAMETOOLONG'],
];

/** A directory with a secret beside it, and a link to that. */
function guarded(connect: Connect<TestClient>): Served<TestClient> & { outside: string } {
  const served = serve(connect);
  const outside = dirname(served.path);
  writeFileSync(join(outside, 'secret'), SECRET, { mode: 0o640 });
  mkdirSync(join(outside, 'other'));
  mkdirSync(join(served.path, 'inside'));
  symlinkSync(join(outside, 'secret'), join(served.path, 'absolute'));
  symlinkSync('../secret', join(served.path, 'relative'));
  symlinkSync(outside, join(served.path, 'up'));
  symlinkSync(join(outside, 'new'), join(served.path, 'dangling'));
  return { ...served, outside };
}

const errnoOf = (body: () => unknown): string => {
  try {
    body();
  } catch (error) {
    const { code } = error as ServerError;
    if (code !== undefined) return code;
    throw error;
  }
  return 'no error';
};

function suite(protocol: string): void {
  const connect = PROTOCOLS[protocol]!;
  const guardedTest = (name: string, body: (served: Served<TestClient> & { outside: string }) => void): void => {
    test(`${protocol}: ${name}`, () => {
      const served = guarded(connect);
      const before = readdirSync(served.outside).sort();
      body(served);
      assert.deepEqual(readdirSync(served.outside).sort(), before);
      assert.equal(readFileSync(join(served.outside, 'secret'), 'utf8'), SECRET);
      assert.deepEqual(readdirSync(join(served.outside, 'other')), []);
      served.end();
    });
  };

  guardedTest('bad names, in every request that has one', ({ client }) => {
    const { root } = client;
    const inside = walk(client, 'inside');
    const names = [...BAD_NAMES, ['..', 'EINVAL'] as const];
    if (protocol === '9P') names.push(['a\0b', 'EINVAL']);
    const requests: Readonly<Record<string, (name: Name) => void>> = {
      create: (name) => client.create(root, name, O_RDWR | O_CREAT, 0o600),
      makeDirectory: (name) => client.makeDirectory(root, name, 0o700),
      makeNode: (name) => client.makeNode(root, name, 0o010600),
      makeLink: (name) => client.makeLink(root, name, 'target'),
      link: (name) => client.link(inside, root, name),
      'rename from': (name) => client.rename(root, name, root, 'new'),
      'rename to': (name) => client.rename(root, 'inside', root, name),
      remove: (name) => client.remove(root, name, false),
      'remove a directory': (name) => client.remove(root, name, true),
    };
    for (const [name, errno] of names) {
      for (const [request, send] of Object.entries(requests)) {
        assert.equal(
          errnoOf(() => send(name)),
          errno,
          `${request} ${name}`,
        );
      }
      // 9P's walk knows it.
      if (name !== '..')
        assert.equal(
          errnoOf(() => client.lookup(root, name)),
          errno,
          `lookup ${name}`,
        );
    }
    client.forget(inside);
  });

  guardedTest('.. stops at the root', ({ client, server }) => {
    if (protocol !== '9P') {
      assert.equal(
        errnoOf(() => client.lookup(client.root, '..')),
        'EINVAL',
      );
      return;
    }
    assert.equal(
      errnoOf(() => walk(client, '..', '..', '..', 'secret')),
      'ENOENT',
    );
    const there = walk(client, 'inside', '..', '..', 'inside', '..');
    assert.equal(client.attributes(there).ino, server.root.ino);
    client.session.reset();
  });

  guardedTest('links are not followed, whatever is asked of them', ({ client, outside }) => {
    for (const name of ['absolute', 'relative', 'up', 'dangling']) {
      const ref = client.lookup(client.root, name);
      assert.equal(client.attributes(ref).mode & 0o170000, 0o120000);
      for (const flags of [O_RDONLY, O_RDWR, O_TRUNC]) {
        assert.equal(
          errnoOf(() => client.open(ref, flags)),
          'ELOOP',
        );
        assert.equal(
          errnoOf(() => client.create(client.root, name, flags, 0o600)),
          'ELOOP',
        );
      }
      assert.equal(
        errnoOf(() => client.lookup(ref, 'secret')),
        'ENOTDIR',
      );
      assert.equal(
        errnoOf(() => client.create(ref, 'new', O_RDWR, 0o600)),
        'ENOTDIR',
      );
      assert.equal(
        errnoOf(() => client.makeDirectory(ref, 'new', 0o700)),
        'ENOTDIR',
      );
      assert.equal(
        errnoOf(() => client.remove(ref, 'secret', false)),
        'ENOTDIR',
      );
      assert.equal(
        errnoOf(() => client.setAttributes(ref, { size: 0 })),
        'ELOOP',
      );
      assert.equal(
        errnoOf(() => client.setAttributes(ref, { mode: 0o777 })),
        'EOPNOTSUPP',
      );
      assert.match(
        errnoOf(() => client.setXattr(ref, 'user.x', Buffer.from('x'))),
        /^(EPERM|EOPNOTSUPP)$/,
      );
      client.setAttributes(ref, { mtime: 1000, atime: 1000 });
      client.setAttributes(ref, { uid: process.geteuid?.() ?? 0 });
      client.forget(ref);
    }
    const status = statSync(join(outside, 'secret'));
    assert.equal(status.mode & 0o7777, 0o640);
    assert.notEqual(status.mtimeMs, 1e6);
    assert.ok(!existsSync(join(outside, 'new')));
  });

  guardedTest('a link is named anew, moved and removed as itself', ({ client, path }) => {
    const ref = client.lookup(client.root, 'absolute');
    client.link(ref, client.root, 'again');
    assert.ok(lstatSync(join(path, 'again')).isSymbolicLink());
    client.rename(client.root, 'again', client.root, 'moved');
    client.remove(client.root, 'moved', false);
    assert.equal(
      errnoOf(() => client.remove(client.root, 'up', true)),
      'ENOTDIR',
    );
    client.forget(ref);
  });

  guardedTest(
    'a directory that the host moves away leads back to where it was',
    ({ client, path, outside, server }) => {
      client.makeDirectory(walk(client, 'inside'), 'deep', 0o755);
      const deep = walk(client, 'inside', 'deep');
      renameSync(join(path, 'inside/deep'), join(outside, 'other/deep'));
      assert.equal(
        errnoOf(() => client.lookup(deep, 'secret')),
        'ENOENT',
      );
      if (protocol === '9P') {
        const up = client.lookup(client.lookup(deep, '..'), '..');
        assert.equal(client.attributes(up).ino, server.root.ino);
      }
      renameSync(join(outside, 'other/deep'), join(path, 'inside/deep'));
      client.session.reset();
    },
  );

  test(`${protocol}: a directory that is swapped with a link all the time`, async () => {
    const served = guarded(connect);
    const { client, outside, path } = served;
    // share/dir holds a harmless secret of its own; the link would lead to the real one.
    mkdirSync(join(path, 'dir'));
    writeFileSync(join(path, 'dir/secret'), 'harmless');
    symlinkSync(outside, join(path, 'link'));
    const worker = new Worker(SWAPPER, { workerData: { path } });
    await new Promise((resolve) => worker.once('message', resolve));
    const seen = new Map<string, number>();
    const count = (what: string): void => void seen.set(what, (seen.get(what) ?? 0) + 1);
    for (let i = 0; i < WALKS; i++) {
      let ref: Ref | undefined;
      try {
        ref = walk(client, 'dir', 'secret');
        const handle = client.open(ref, O_RDONLY);
        count(client.read(handle, 0, 100).toString());
        client.close(handle);
      } catch (error) {
        count((error as ServerError).code);
      }
      if (i % 100 === 0) client.session.reset();
      if (i % 100 === 0 && protocol === '9P') reattach(client);
    }
    await worker.terminate();
    client.session.reset();
    // Both were met.
    assert.ok(seen.delete('harmless'));
    assert.ok(seen.has('ENOTDIR') || seen.has('ELOOP'));
    for (const errno of ['ENOTDIR', 'ENOENT', 'ELOOP', 'EAGAIN']) seen.delete(errno);
    assert.deepEqual([...seen], []);
    served.end();
  });

  test(`${protocol}: /proc's links to everywhere`, () => {
    const server = new FileServer(openStart('/proc'), { readOnly: true });
    const client = connect(server, new ManualTimers());
    const self = client.lookup(client.root, 'self');
    assert.equal(
      errnoOf(() => client.lookup(self, 'status')),
      'ENOTDIR',
    );
    for (const name of ['root', 'cwd', 'exe']) {
      const ref = walk(client, `${process.pid}`, name);
      assert.equal(client.attributes(ref).mode & 0o170000, 0o120000);
      assert.equal(
        errnoOf(() => client.lookup(ref, 'etc')),
        'ENOTDIR',
      );
      assert.equal(
        errnoOf(() => client.open(ref, O_RDONLY)),
        'ELOOP',
      );
    }
    const fd = walk(client, `${process.pid}`, 'fd', '0');
    assert.equal(
      errnoOf(() => client.open(fd, O_RDONLY)),
      'ELOOP',
    );
    client.session.reset();
    server.end();
  });

  guardedTest('a tree deeper than any path', ({ client, path }) => {
    const name = 'd'.repeat(250);
    const refs: Ref[] = [walk(client, 'inside')];
    for (let depth = 0; depth < 60; depth++) {
      client.makeDirectory(refs.at(-1)!, name, 0o755);
      refs.push(client.lookup(refs.at(-1)!, name));
    }
    const handle = client.create(refs.at(-1)!, 'bottom', O_RDWR, 0o600);
    client.write(handle, 0, Buffer.from('deep'));
    client.close(handle);
    client.rename(refs.at(-1)!, 'bottom', client.root, 'top');
    assert.equal(readFileSync(join(path, 'top'), 'utf8'), 'deep');
    while (refs.length > 1) {
      client.forget(refs.pop()!);
      client.remove(refs.at(-1)!, name, true);
    }
    client.forget(refs.pop()!);
  });
}

/** After a reset a 9P client has no fids. */
function reattach(client: TestClient): void {
  (client as TestClient & { attach(): void }).attach();
}

describe('with openat2', () => {
  for (const protocol of Object.keys(PROTOCOLS)) suite(protocol);
});

describe('without openat2', () => {
  before(() => setFaultHook((name) => (name === 'syscall' ? ENOSYS : undefined)));
  after(() => setFaultHook(undefined));
  for (const protocol of Object.keys(PROTOCOLS)) suite(protocol);
});

for (const how of ['openat2', 'hand']) {
  test(`what is mounted below is not there, by ${how}`, { skip: noNamespaces }, () =>
    runWithMounts('mount-points.ts', how),
  );
}
