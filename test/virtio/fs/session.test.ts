// What is FUSE's own.
import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { CachePolicy } from '../../../src/fs/shared-directory.ts';
import * as fuse from '../../../src/virtio/fs/protocol.ts';
import { ask, O_APPEND, O_RDONLY, O_RDWR, type Served, serve } from '../../fs/client.ts';
import { u32, u64 } from '../p9/client.ts';
import { connectCached, type FuseClient, request } from './client.ts';

const code = (name: string): { code: string } => ({ code: name });
const IS_ROOT = process.geteuid?.() === 0;

function withServed(name: string, body: (served: Served<FuseClient>) => void, cache: CachePolicy = 'auto'): void {
  test(name, () => {
    const served = serve(connectCached(cache));
    body(served);
    served.end();
  });
}

withServed('the start agrees on what both have', ({ client }) => {
  const init = (major: number, minor: number, flags: number) =>
    client.ask(fuse.FUSE_INIT, 0, u32(major), u32(minor), u32(2 ** 30), u32(flags), Buffer.alloc(48));
  const answer = init(7, 31, fuse.FUSE_POSIX_LOCKS | (1 << 17));
  assert.deepEqual([answer.u32(), answer.u32(), answer.u32()], [7, 37, 2 ** 20]);
  assert.equal(answer.u32(), fuse.FUSE_POSIX_LOCKS, 'nothing that the client has not');
  answer.skip(4);
  assert.equal(answer.u32(), 2 ** 20, 'max_write');
  assert.equal(answer.left, 40);
  assert.throws(() => init(7, 10, 0), code('EINVAL'));
  assert.throws(() => init(6, 99, 0), code('EINVAL'));
});

withServed('nodes are counted as the client was told of them', ({ client, server, path }) => {
  writeFileSync(join(path, 'file'), '');
  const first = client.lookup(client.root, 'file');
  for (let i = 0; i < 4; i++) assert.equal(client.lookup(client.root, 'file').number, first.number);
  client.forgetMany(first.number, 4n);
  assert.equal(server.nodeCount, 2);
  assert.equal(client.attributes(first).size, 0);
  client.forgetMany(first.number, 1n);
  assert.equal(server.nodeCount, 1);
  assert.throws(() => client.attributes(first), code('ESTALE'));
  // More than it was told, and what it was never told.
  const again = client.lookup(client.root, 'file');
  client.forgetMany(again.number, 2n ** 63n);
  client.forgetMany(again.number, 1n);
  client.forgetMany(fuse.FUSE_ROOT_ID, 1000n);
  client.forgetMany(12345, 1n);
  assert.equal(server.nodeCount, 1);
  assert.equal(client.attributes(client.root).nlink > 0, true);
});

withServed('many are forgotten at once', ({ client, server, path }) => {
  const ids = ['a', 'b', 'c'].map((name) => {
    writeFileSync(join(path, name), '');
    return client.lookup(client.root, name).number;
  });
  const entries = ids.flatMap((id) => [u64(id), u64(1)]);
  const sent = request(fuse.FUSE_BATCH_FORGET, 9n, 0, u32(1000), u32(0), ...entries);
  assert.equal(ask(client.session, sent, 0).length, 0);
  assert.equal(server.nodeCount, 1);
});

withServed('hard links are one node', ({ client, path }) => {
  writeFileSync(join(path, 'file'), '');
  const file = client.lookup(client.root, 'file');
  client.link(file, client.root, 'other');
  assert.equal(client.lookup(client.root, 'other').number, file.number);
  client.session.reset();
});

for (const [cache, valid, flags] of [
  ['never', 0, fuse.FOPEN_DIRECT_IO],
  ['auto', 1, 0],
  ['always', 86400, fuse.FOPEN_KEEP_CACHE],
] as const) {
  withServed(
    `cache=${cache}`,
    ({ client, path }) => {
      writeFileSync(join(path, 'file'), '');
      const entry = client.ask(fuse.FUSE_LOOKUP, client.root.number, Buffer.from('file\0'));
      const id = Number(entry.u64());
      entry.skip(8);
      assert.deepEqual([entry.u64(), entry.u64()], [BigInt(valid), BigInt(valid)]);
      const open = client.ask(fuse.FUSE_OPEN, id, u32(0), u32(0));
      open.skip(8);
      assert.equal(open.u32(), flags);
      client.session.reset();
    },
    cache,
  );
}

withServed('RENAME2: exchange, no replacement, and no whiteouts', ({ client, path }) => {
  writeFileSync(join(path, 'a'), 'a');
  writeFileSync(join(path, 'b'), 'b');
  assert.throws(() => client.renameWith(client.root, 'a', client.root, 'b', 1), code('EEXIST'));
  client.renameWith(client.root, 'a', client.root, 'b', 2);
  assert.equal(readFileSync(join(path, 'a'), 'utf8'), 'b');
  assert.throws(() => client.renameWith(client.root, 'a', client.root, 'c', 4), code('EINVAL'));
});

withServed('FALLOCATE, LSEEK and COPY_FILE_RANGE', ({ client, path }) => {
  const from = client.create(client.root, 'from', O_RDWR, 0o600);
  const to = client.create(client.root, 'to', O_RDWR, 0o600);
  client.ask(fuse.FUSE_FALLOCATE, 0, u64(from.handle), u64(0), u64(2 ** 20), u32(0), u32(0));
  assert.equal(statSync(join(path, 'from')).size, 2 ** 20);
  client.ask(fuse.FUSE_FALLOCATE, 0, u64(from.handle), u64(0), u64(2 ** 20), u32(3), u32(0));
  client.write(from, 2 ** 19, Buffer.from('island'));
  const seek = (offset: number, whence: number) =>
    client.ask(fuse.FUSE_LSEEK, 0, u64(from.handle), u64(offset), u32(whence), u32(0)).u64();
  assert.equal(seek(0, 3), BigInt(2 ** 19));
  assert.ok(seek(2 ** 19, 4) > BigInt(2 ** 19));
  assert.throws(() => seek(2 ** 20, 3), code('ENXIO'));
  assert.throws(() => seek(0, 99), code('EINVAL'));
  const fields = [u64(from.handle), u64(2 ** 19), u64(0), u64(to.handle), u64(10), u64(6), u64(0)];
  assert.equal(client.ask(fuse.FUSE_COPY_FILE_RANGE, 0, ...fields).u32(), 6);
  assert.equal(readFileSync(join(path, 'to')).subarray(10).toString(), 'island');
  assert.throws(
    () => client.ask(fuse.FUSE_FALLOCATE, 0, u64(from.handle), u64(0), u64(1), u32(0x40), u32(0)),
    code('EOPNOTSUPP'),
  );
  client.close(from);
  client.close(to);
});

withServed('pages of a cache go where they belong, in a file open for appending', ({ client, path }) => {
  writeFileSync(join(path, 'log'), '0123456789');
  const ref = client.lookup(client.root, 'log');
  const handle = client.open(ref, O_RDWR | O_APPEND);
  client.writeWith(handle, 2, Buffer.from('xx'), fuse.FUSE_WRITE_CACHE, O_APPEND);
  client.writeWith(handle, 2, Buffer.from('end'), 0, O_APPEND);
  client.writeWith(handle, 4, Buffer.from('yy'), 0, 0);
  assert.equal(readFileSync(join(path, 'log'), 'utf8'), '01xxyy6789end');
  client.close(handle);
  client.forget(ref);
});

withServed('who may not keep set-user-id bits loses them by writing', ({ client, path }) => {
  if (!IS_ROOT) return;
  const handle = client.create(client.root, 'file', O_RDWR, 0o6755);
  client.writeWith(handle, 0, Buffer.from('x'), 0, 0);
  assert.equal(statSync(join(path, 'file')).mode & 0o7777, 0o6755);
  client.writeWith(handle, 0, Buffer.from('x'), fuse.FUSE_WRITE_KILL_SUIDGID, 0);
  assert.equal(statSync(join(path, 'file')).mode & 0o7777, 0o755);
  client.close(handle);
});

withServed('files belong to the user of the request', ({ client, path }) => {
  if (!IS_ROOT) return;
  const send = (opcode: number, ...fields: readonly Uint8Array[]): void => {
    const sent = request(opcode, 5n, 1, ...fields);
    sent.writeUInt32LE(1234, 24);
    sent.writeUInt32LE(567, 28);
    assert.equal(ask(client.session, sent, 1000).readInt32LE(4), 0);
  };
  send(fuse.FUSE_MKDIR, u32(0o755), u32(0), Buffer.from('directory\0'));
  send(fuse.FUSE_CREATE, u32(O_RDWR), u32(0o644), u32(0), u32(0), Buffer.from('file\0'));
  send(fuse.FUSE_SYMLINK, Buffer.from('link\0target\0'));
  for (const name of ['directory', 'file', 'link']) {
    const { uid, gid } = lstatSync(join(path, name));
    assert.deepEqual([uid, gid], [1234, 567], name);
  }
  client.session.reset();
});

withServed('a file without a name is made, and gets one', ({ client, path }) => {
  const answer = client.ask(fuse.FUSE_TMPFILE, 1, u32(O_RDWR), u32(0o600), u32(0), u32(0), Buffer.from('/\0'));
  const id = Number(answer.u64());
  answer.skip(fuse.ENTRY_OUT_SIZE - 8);
  const handle = { ref: { number: id }, handle: answer.u64() };
  client.write(handle, 0, Buffer.from('content'));
  assert.deepEqual(readdirSync(path), []);
  client.link({ number: id }, client.root, 'named');
  assert.equal(readFileSync(join(path, 'named'), 'utf8'), 'content');
  client.close(handle);
  client.forget({ number: id });
});

withServed('opening is by kind', ({ client, path }) => {
  mkdirSync(join(path, 'd'));
  writeFileSync(join(path, 'f'), '');
  const [d, f] = [client.lookup(client.root, 'd'), client.lookup(client.root, 'f')];
  assert.throws(() => client.ask(fuse.FUSE_OPEN, d.number, u32(0), u32(0)), code('EINVAL'));
  assert.throws(() => client.ask(fuse.FUSE_OPENDIR, f.number, u32(0), u32(0)), code('EINVAL'));
  const handle = client.open(f, O_RDONLY);
  assert.throws(
    () => client.ask(fuse.FUSE_READDIR, f.number, u64(handle.handle), u64(0), u32(100), u32(0), u64(0), u64(0)),
    code('ENOTDIR'),
  );
  client.session.reset();
});

withServed('the end gives all back, and a new start follows', ({ client, server, path }) => {
  writeFileSync(join(path, 'f'), '');
  client.open(client.lookup(client.root, 'f'), O_RDONLY);
  client.ask(fuse.FUSE_DESTROY, 0);
  assert.deepEqual([server.nodeCount, server.openCount], [1, 0]);
  client.ask(fuse.FUSE_INIT, 0, u32(7), u32(37), u32(0), u32(0), Buffer.alloc(48));
  client.forget(client.lookup(client.root, 'f'));
});

withServed('requests that are no requests are errors', ({ client }) => {
  const errno = (bytes: Uint8Array): number => ask(client.session, bytes, 1000).readInt32LE(4);
  assert.equal(errno(request(39, 5n, 1)), -38);
  assert.equal(errno(request(999, 5n, 1)), -38);
  assert.equal(errno(request(fuse.FUSE_GETATTR, 5n, 1)), -22);
  assert.equal(errno(request(fuse.FUSE_LOOKUP, 5n, 1, Buffer.from('no end'))), -22);
  const long = request(fuse.FUSE_LOOKUP, 5n, 1, Buffer.from('a\0'));
  long.writeUInt32LE(1000, 0);
  assert.equal(errno(long), -22);
  assert.equal(ask(client.session, request(fuse.FUSE_GETATTR, 5n, 1, Buffer.alloc(16)), 15).length, 0);
  assert.equal(ask(client.session, Buffer.alloc(39), 1000).length, 0);
});
