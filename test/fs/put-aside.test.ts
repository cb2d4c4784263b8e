// A client that knows more files than the server has descriptors for: those put aside are found again, and nothing else is.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { ENOSYS } from '../../src/host/errno.ts';
import { setFaultHook } from '../../src/host/ffi.ts';
import * as fuse from '../../src/virtio/fs/protocol.ts';
import { connectFuse, type FuseClient } from '../virtio/fs/client.ts';
import { u32 } from '../virtio/p9/client.ts';
import {
  O_RDWR,
  O_WRONLY,
  type Ref,
  type Served,
  type ServerError,
  serve,
  type TestClient,
  use,
  walk,
} from './client.ts';
import { PROTOCOLS } from './protocols.ts';

const SWAPPER = new URL('swapper.ts', import.meta.url);
/** Descriptors for nodes. */
const LIMIT = 8;
const code = (name: string): { code: string } => ({ code: name });

type Share = Served<TestClient> & {
  /** Makes the server put aside what can be: it has other files to look at. */
  crowd(): void;
};

/** O_PATH descriptors below the directory. */
function held(path: string): number {
  const inside = (fd: string): boolean => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(path);
    } catch {
      return false;
    }
  };
  return readdirSync('/proc/self/fd').filter(inside).length;
}

function share<T extends TestClient>(served: Served<T>): Served<T> & Share {
  const others: Ref[] = [];
  mkdirSync(join(served.path, 'others'));
  for (let i = 0; i < 2 * LIMIT; i++) writeFileSync(join(served.path, `others/${i}`), '');
  const crowd = (): void => {
    const { client, path } = served;
    for (const ref of others.splice(0)) client.forget(ref);
    const directory = walk(client, 'others');
    for (let i = 0; i < 2 * LIMIT; i++) others.push(client.lookup(directory, `${i}`));
    others.push(directory);
    assert.ok(held(path) <= LIMIT + 3, `${held(path)} descriptors`);
  };
  return { ...served, crowd };
}

/** A directory that has this text in `file`, known and put aside. */
function each(name: string, body: (share: Share) => void): void {
  for (const [protocol, connect] of Object.entries(PROTOCOLS)) {
    test(`${protocol}: ${name}`, () => {
      const served = share(serve(connect, { maxDescriptors: LIMIT }));
      use(served, body);
      assert.equal(held(served.path), 0);
    });
  }
}

const content = (client: TestClient, ref: Ref): string => {
  const handle = client.open(ref, O_RDWR);
  const text = client.read(handle, 0, 100).toString();
  client.close(handle);
  return text;
};

function suite(): void {
  each('hundreds of files and directories are known at once, and stay what they are', ({ client, path }) => {
    const refs = new Map<string, Ref>();
    for (let i = 0; i < 40; i++) {
      client.makeDirectory(client.root, `d${i}`, 0o755);
      const directory = walk(client, `d${i}`);
      refs.set(`d${i}`, directory);
      for (let j = 0; j < 5; j++) {
        const handle = client.create(directory, `f${j}`, O_WRONLY, 0o600);
        client.write(handle, 0, Buffer.from(`${i}/${j}`));
        client.close(handle);
        refs.set(`${i}/${j}`, client.lookup(directory, `f${j}`));
      }
    }
    assert.ok(held(path) <= LIMIT, `${held(path)} descriptors`);
    const inodes = new Map<string, bigint>();
    for (const [name, ref] of refs) {
      if (name.includes('/')) assert.equal(content(client, ref), name);
      else assert.deepEqual(client.list(ref), ['f0', 'f1', 'f2', 'f3', 'f4']);
      inodes.set(name, client.attributes(ref).ino);
    }
    assert.equal(new Set(inodes.values()).size, refs.size);
    assert.ok(held(path) <= LIMIT + 2, `${held(path)} descriptors`);
    for (const ref of refs.values()) client.forget(ref);
  });

  each('a tree that is deeper than there are descriptors', ({ client, path, crowd }) => {
    let at = client.root;
    const refs: Ref[] = [];
    for (let depth = 0; depth < 4 * LIMIT; depth++) {
      client.makeDirectory(at, 'd', 0o755);
      at = client.lookup(at, 'd');
      refs.push(at);
    }
    crowd();
    assert.equal(client.attributes(at).nlink, 2);
    assert.ok(held(path) <= LIMIT + 2, `${held(path)} descriptors`);
    client.close(client.create(refs.at(-1)!, 'bottom', O_WRONLY, 0o600));
    assert.deepEqual(client.list(at), ['bottom']);
    crowd();
    // Both ends of a rename are to be found again.
    client.rename(refs.at(-1)!, 'bottom', refs.at(-2)!, 'higher');
    assert.deepEqual(client.list(refs.at(-2)!), ['d', 'higher']);
    crowd();
    client.rename(refs[LIMIT]!, 'd', client.root, 'cut');
    crowd();
    client.rename(refs.at(-2)!, 'higher', refs[LIMIT]!, 'highest');
    assert.deepEqual(readdirSync(join(path, 'd/'.repeat(LIMIT + 1))), ['highest']);
    for (const ref of refs) client.forget(ref);
  });

  each('the client renames files, and the directories above them', ({ client, path, crowd }) => {
    mkdirSync(join(path, 'a/b/c'), { recursive: true });
    writeFileSync(join(path, 'a/b/c/file'), 'text');
    const [a, b, c] = [walk(client, 'a'), walk(client, 'a', 'b'), walk(client, 'a', 'b', 'c')];
    const file = client.lookup(c, 'file');
    crowd();
    client.rename(client.root, 'a', client.root, 'A');
    crowd();
    assert.equal(content(client, file), 'text');
    crowd();
    client.rename(b, 'c', client.root, 'C');
    crowd();
    assert.equal(content(client, file), 'text');
    client.rename(c, 'file', a, 'moved');
    crowd();
    assert.equal(content(client, file), 'text');
    // Onto a file that is known: that one goes on without a name.
    writeFileSync(join(path, 'A/other'), 'other');
    const other = client.lookup(a, 'other');
    crowd();
    client.rename(a, 'moved', a, 'other');
    crowd();
    assert.equal(content(client, file), 'text');
    assert.equal(content(client, other), 'other');
    assert.equal(client.attributes(other).nlink, 0);
    // What fails changes nothing.
    assert.throws(() => client.rename(client.root, 'none', a, 'other'), code('ENOENT'));
    assert.throws(() => client.remove(client.root, 'A', true), code('ENOTEMPTY'));
    crowd();
    assert.equal(content(client, file), 'text');
    for (const ref of [a, b, c, file, other]) client.forget(ref);
  });

  each('what the client removes goes on as long as it is known', ({ client, path, crowd }) => {
    mkdirSync(join(path, 'd'));
    writeFileSync(join(path, 'd/file'), 'text');
    writeFileSync(join(path, 'open'), 'open');
    const d = walk(client, 'd');
    const [file, open] = [client.lookup(d, 'file'), client.lookup(client.root, 'open')];
    const handle = client.open(open, O_RDWR);
    crowd();
    client.remove(d, 'file', false);
    client.remove(client.root, 'open', false);
    client.remove(client.root, 'd', true);
    crowd();
    assert.deepEqual(readdirSync(path), ['others']);
    assert.equal(content(client, file), 'text');
    assert.equal(client.attributes(open).nlink, 0);
    assert.equal(client.read(handle, 0, 100).toString(), 'open');
    assert.throws(() => client.create(d, 'late', O_WRONLY, 0o600), code('ENOENT'));
    client.close(handle);
    for (const ref of [d, file, open]) client.forget(ref);
  });

  each('what is not removed after all is put aside as before', ({ client, path }) => {
    const refs: Ref[] = [];
    for (let i = 0; i < 2 * LIMIT; i++) {
      mkdirSync(join(path, `d${i}/e`), { recursive: true });
      refs.push(walk(client, `d${i}`));
      assert.throws(() => client.remove(client.root, `d${i}`, true), code('ENOTEMPTY'));
    }
    assert.ok(held(path) <= LIMIT + 2, `${held(path)} descriptors`);
    for (const ref of refs) assert.deepEqual(client.list(ref), ['e']);
    for (const ref of refs) client.forget(ref);
  });

  each(
    'files without a name take the room, but not that of two directories that are used at once',
    ({ client, path }) => {
      for (const name of ['a', 'b']) mkdirSync(join(path, name));
      writeFileSync(join(path, 'a/file'), 'text');
      const [a, b] = [walk(client, 'a'), walk(client, 'b')];
      const unnamed: Ref[] = [];
      const addUnnamed = (): void => {
        client.close(client.create(client.root, 'file', O_WRONLY, 0o600));
        unnamed.push(client.lookup(client.root, 'file'));
        client.remove(client.root, 'file', false);
      };
      // The root has no name either.
      while (unnamed.length < LIMIT - 2) addUnnamed();
      client.rename(a, 'file', b, 'moved');
      assert.deepEqual(readdirSync(join(path, 'b')), ['moved']);
      addUnnamed();
      assert.throws(() => client.lookup(b, 'moved'), code('ENFILE'));
      for (const ref of unnamed) assert.equal(client.attributes(ref).nlink, 0);
      client.forget(unnamed.pop()!);
      client.forget(client.lookup(b, 'moved'));
      for (const ref of [a, b, ...unnamed]) client.forget(ref);
    },
  );

  each('a file with several names is found by any that is left', ({ client, path, crowd }) => {
    writeFileSync(join(path, 'one'), 'text');
    const one = client.lookup(client.root, 'one');
    client.link(one, client.root, 'two');
    client.link(one, client.root, 'three');
    crowd();
    client.remove(client.root, 'three', false);
    crowd();
    assert.equal(content(client, one), 'text');
    crowd();
    // The host takes the next one.
    unlinkSync(join(path, 'two'));
    assert.equal(content(client, one), 'text');
    client.forget(one);
  });

  each('a file with several names is found by the last one, and goes on without it', ({ client, crowd }) => {
    client.close(client.create(client.root, 'one', O_WRONLY, 0o600));
    const one = client.lookup(client.root, 'one');
    const names = ['two', 'three', 'four', 'five', 'six'];
    for (const name of names) client.link(one, client.root, name);
    for (const name of [...names, 'one']) {
      crowd();
      client.remove(client.root, name, false);
      crowd();
      assert.equal(client.attributes(one).nlink, name === 'one' ? 0 : 5 - names.indexOf(name));
    }
    client.forget(one);
  });

  each('what the host has replaced or moved is stale, and found again by a look', ({ client, path, crowd }) => {
    writeFileSync(join(path, 'file'), 'text');
    mkdirSync(join(path, 'd/e'), { recursive: true });
    const [file, d, e] = [walk(client, 'file'), walk(client, 'd'), walk(client, 'd', 'e')];
    crowd();
    writeFileSync(join(path, 'new'), 'another');
    renameSync(join(path, 'new'), join(path, 'file'));
    renameSync(join(path, 'd'), join(path, 'D'));
    assert.throws(() => client.attributes(file), code('ESTALE'));
    assert.throws(() => client.open(file, O_RDWR), code('ESTALE'));
    assert.throws(() => client.lookup(e, 'x'), code('ESTALE'));
    assert.throws(() => client.makeDirectory(e, 'x', 0o700), code('ESTALE'));
    const [again, moved] = [client.lookup(client.root, 'file'), client.lookup(client.root, 'D')];
    assert.equal(content(client, again), 'another');
    crowd();
    // Below a directory that was found, all is found.
    client.makeDirectory(e, 'x', 0o700);
    assert.deepEqual(client.list(d), ['e']);
    assert.deepEqual(readdirSync(join(path, 'D/e')), ['x']);
    for (const ref of [file, d, e, again, moved]) client.forget(ref);
  });

  each('an inode number that is used again is another file', ({ client, path, crowd }) => {
    const names = Array.from({ length: 20 }, (_, i) => `f${i}`);
    for (const name of names) writeFileSync(join(path, name), 'old');
    const old = names.map((name) => client.lookup(client.root, name));
    crowd();
    for (const name of names) unlinkSync(join(path, name));
    for (const name of names) writeFileSync(join(path, name), 'new');
    for (const ref of old) assert.throws(() => client.attributes(ref), code('ESTALE'));
    const found = names.map((name) => client.lookup(client.root, name));
    for (const ref of found) assert.equal(content(client, ref), 'new');
    for (const ref of old) assert.throws(() => client.attributes(ref), code('ESTALE'));
    for (const ref of [...old, ...found]) client.forget(ref);
  });

  each('what the host removes while it is open goes on', ({ client, path, crowd }) => {
    writeFileSync(join(path, 'file'), 'text');
    const file = client.lookup(client.root, 'file');
    const handle = client.open(file, O_RDWR);
    crowd();
    unlinkSync(join(path, 'file'));
    assert.equal(client.attributes(file).nlink, 0);
    client.setAttributes(file, { mode: 0o640 });
    crowd();
    assert.equal(client.attributes(file).mode & 0o777, 0o640);
    client.close(handle);
    client.forget(file);
  });

  each('a file that the host had removed before it would have been put aside is kept', ({ client, path, crowd }) => {
    writeFileSync(join(path, 'file'), 'text');
    const file = client.lookup(client.root, 'file');
    unlinkSync(join(path, 'file'));
    crowd();
    assert.equal(content(client, file), 'text');
    client.forget(file);
  });

  each('a link that is swapped in leads nowhere, on the way and at its end', ({ client, path, crowd }) => {
    const outside = dirname(path);
    mkdirSync(join(outside, 'other'));
    writeFileSync(join(outside, 'other/file'), 'secret');
    mkdirSync(join(path, 'd'));
    writeFileSync(join(path, 'd/file'), 'text');
    const d = walk(client, 'd');
    const file = client.lookup(d, 'file');
    const attempts: (() => void)[] = [
      () => client.attributes(file),
      () => client.open(file, O_RDWR),
      () => client.setAttributes(file, { mode: 0o777 }),
      () => client.setXattr(file, 'user.x', Buffer.from('x')),
      () => client.link(file, client.root, 'linked'),
    ];
    const refused = (): void => {
      for (const attempt of attempts) {
        crowd();
        assert.throws(attempt, code('ESTALE'), String(attempt));
      }
    };
    crowd();
    renameSync(join(path, 'd/file'), join(path, 'd/away'));
    symlinkSync(join(outside, 'other/file'), join(path, 'd/file'));
    refused();
    // A link to the very file that it was is none either.
    unlinkSync(join(path, 'd/file'));
    symlinkSync('away', join(path, 'd/file'));
    refused();
    unlinkSync(join(path, 'd/file'));
    renameSync(join(path, 'd/away'), join(path, 'd/file'));
    crowd();
    assert.equal(content(client, file), 'text');
    crowd();
    renameSync(join(path, 'd'), join(path, 'D'));
    for (const target of [join(outside, 'other'), 'D', '.']) {
      symlinkSync(target, join(path, 'd'));
      attempts.push(() => client.makeDirectory(d, 'new', 0o700));
      refused();
      attempts.pop();
      unlinkSync(join(path, 'd'));
    }
    assert.deepEqual(readdirSync(join(outside, 'other')), ['file']);
    assert.equal(readFileSync(join(outside, 'other/file'), 'utf8'), 'secret');
    // The same file by a hard link of the host's is the same file.
    mkdirSync(join(path, 'd'));
    linkSync(join(path, 'D/file'), join(path, 'd/file'));
    assert.throws(() => client.attributes(file), code('ESTALE'));
    unlinkSync(join(path, 'd/file'));
    rmdirSync(join(path, 'd'));
    renameSync(join(path, 'D'), join(path, 'd'));
    crowd();
    assert.equal(content(client, file), 'text');
    for (const ref of [d, file]) client.forget(ref);
  });

  for (const [protocol, connect] of Object.entries(PROTOCOLS)) {
    test(`${protocol}: a directory on the way is swapped with a link all the time`, async () => {
      const served = share(serve(connect, { maxDescriptors: LIMIT }));
      const { client, path, crowd } = served;
      const outside = dirname(path);
      writeFileSync(join(outside, 'secret'), 'secret');
      mkdirSync(join(path, 'swap/dir'), { recursive: true });
      writeFileSync(join(path, 'swap/dir/secret'), 'harmless');
      symlinkSync(outside, join(path, 'swap/link'));
      const file = walk(client, 'swap', 'dir', 'secret');
      const worker = new Worker(SWAPPER, { workerData: { path: join(path, 'swap') } });
      await new Promise((resolve) => worker.once('message', resolve));
      const seen = new Set<string>();
      // Both are to be met: the machine may be busy.
      for (let i = 0; i < 50 || (seen.size < 2 && i < 5000); i++) {
        crowd();
        try {
          seen.add(content(client, file));
        } catch (error) {
          seen.add((error as ServerError).code);
        }
      }
      await worker.terminate();
      // EAGAIN: the kernel gives up a look that renames disturb.
      seen.delete('EAGAIN');
      assert.deepEqual([...seen].sort(), ['ESTALE', 'harmless']);
      client.session.reset();
      served.end();
    });
  }

  each('directories that the host turns upside down make no circle', ({ client, path, crowd }) => {
    mkdirSync(join(path, 'a/b'), { recursive: true });
    const [a, b] = [walk(client, 'a'), walk(client, 'a', 'b')];
    renameSync(join(path, 'a/b'), join(path, 'b'));
    renameSync(join(path, 'a'), join(path, 'b/a'));
    // By what the client has heard, `b` is in `a`, and now `a` in `b`.
    const below = client.lookup(b, 'a');
    crowd();
    assert.deepEqual(client.list(a), []);
    const top = client.lookup(client.root, 'b');
    crowd();
    assert.deepEqual(client.list(b), ['a']);
    for (const ref of [a, b, below, top]) client.forget(ref);
  });
}

describe('with openat2', suite);

describe('without openat2', () => {
  before(() => setFaultHook((name) => (name === 'syscall' ? ENOSYS : undefined)));
  after(() => setFaultHook(undefined));
  suite();
});

test('FUSE: names that change places', () => {
  const served = share(serve<FuseClient>(connectFuse, { maxDescriptors: LIMIT }));
  const { client, path, crowd } = served;
  mkdirSync(join(path, 'd'));
  writeFileSync(join(path, 'd/inside'), 'inside');
  writeFileSync(join(path, 'file'), 'text');
  const [d, file] = [walk(client, 'd'), walk(client, 'file')];
  const inside = client.lookup(d, 'inside');
  crowd();
  client.renameWith(client.root, 'd', client.root, 'file', 2);
  crowd();
  assert.equal(content(client, file), 'text');
  assert.equal(content(client, inside), 'inside');
  // And with one that nobody has looked at.
  writeFileSync(join(path, 'unknown'), 'unknown');
  crowd();
  client.renameWith(client.root, 'unknown', client.root, 'd', 2);
  crowd();
  assert.equal(content(client, file), 'text');
  for (const ref of [d, file, inside]) client.forget(ref);
  client.session.reset();
  served.end();
});

test('FUSE: a file that was made without a name is put aside when it has one', () => {
  const served = share(serve<FuseClient>(connectFuse, { maxDescriptors: LIMIT }));
  const { client, path, server } = served;
  for (let i = 0; i < 2 * LIMIT; i++) {
    const fields = [u32(O_RDWR), u32(0o600), u32(0), u32(0), Buffer.from('/\0')];
    const number = Number(client.ask(fuse.FUSE_TMPFILE, 1, ...fields).u64());
    client.link({ number }, client.root, `f${i}`);
  }
  assert.equal(server.openCount, 2 * LIMIT);
  assert.ok(held(path) <= LIMIT + 2 + 2 * LIMIT, `${held(path)} descriptors`);
  client.session.reset();
  served.end();
});

test('FUSE: a directory that the client has forgotten leads to what it has not', () => {
  const served = share(serve<FuseClient>(connectFuse, { maxDescriptors: LIMIT }));
  const { client, path, server, crowd } = served;
  mkdirSync(join(path, 'a/b'), { recursive: true });
  writeFileSync(join(path, 'a/b/file'), 'text');
  const [a, b] = [walk(client, 'a'), walk(client, 'a', 'b')];
  const file = client.lookup(b, 'file');
  for (const ref of [a, a, b]) client.forget(ref);
  crowd();
  assert.equal(content(client, file), 'text');
  const nodes = server.nodeCount;
  client.forget(file);
  assert.equal(server.nodeCount, nodes - 3);
  client.session.reset();
  served.end();
});

test('a client that has most of the process’s descriptors open', () => {
  const script = fileURLToPath(new URL('few-descriptors.ts', import.meta.url));
  const { status, stderr } = spawnSync('prlimit', ['--nofile=160', process.execPath, script], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
});
