// What is 9P2000.L's own.
import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as p9 from '../../../src/virtio/p9/protocol.ts';
import { MAX_MSIZE } from '../../../src/virtio/p9/session.ts';
import { ask, O_RDONLY, O_RDWR, type Served, serve, walk } from '../../fs/client.ts';
import { connectP9, message, type P9Client, text, u16, u32, u64 } from './client.ts';

const NO_TAG = 0xffff;
const code = (name: string): { code: string } => ({ code: name });

function withServed(name: string, body: (served: Served<P9Client>) => void): void {
  test(name, () => {
    const served = serve(connectP9);
    body(served);
    served.end();
  });
}

withServed('the version and the size of messages are agreed on', ({ client }) => {
  const version = (msize: number, name: string): [number, string] => {
    const answer = client.ask(p9.Tversion, u32(msize), text(name));
    return [answer.u32(), Buffer.from(answer.string()).toString()];
  };
  assert.deepEqual(version(65536, '9P2000.L'), [65536, '9P2000.L']);
  assert.deepEqual(version(2 ** 31, '9P2000.L'), [MAX_MSIZE, '9P2000.L']);
  assert.deepEqual(version(65536, '9P2000.u'), [65536, 'unknown']);
  assert.throws(() => version(100, '9P2000.L'), code('EINVAL'));
});

withServed('a new version drops every fid', ({ client, server }) => {
  client.open(client.root, O_RDONLY);
  assert.equal(server.openCount, 1);
  client.ask(p9.Tversion, u32(65536), text(p9.VERSION));
  assert.equal(server.openCount, 0);
  assert.throws(() => client.attributes(client.root), code('EBADF'));
});

withServed('a walk that ends early tells how far it went, and makes no fid', ({ client, path }) => {
  mkdirSync(join(path, 'a/b'), { recursive: true });
  const names = ['a', 'b', 'c', 'd'].map(text);
  const answer = client.ask(p9.Twalk, u32(0), u32(77), u16(4), ...names);
  assert.equal(answer.u16(), 2);
  assert.equal(answer.left, 2 * 13);
  assert.throws(() => client.ask(p9.Tclunk, u32(77)), code('EBADF'));
  assert.throws(() => client.ask(p9.Twalk, u32(0), u32(77), u16(1), text('c')), code('ENOENT'));
  assert.throws(
    () => client.ask(p9.Twalk, u32(0), u32(77), u16(17), ...Array.from({ length: 17 }, () => text('a'))),
    code('EINVAL'),
  );
});

withServed('a fid walks in place, and its number is not taken twice', ({ client, path }) => {
  mkdirSync(join(path, 'a'));
  const ref = client.clone(client.root);
  client.ask(p9.Twalk, u32(ref.number), u32(ref.number), u16(1), text('a'));
  assert.equal(client.attributes(ref).ino, BigInt(lstatSync(join(path, 'a')).ino));
  assert.throws(() => client.ask(p9.Twalk, u32(0), u32(ref.number), u16(0)), code('EINVAL'));
  client.forget(ref);
});

withServed('Trename and Tremove act on a fid, whose place moves with renames', ({ client, path }) => {
  mkdirSync(join(path, 'a/b'), { recursive: true });
  writeFileSync(join(path, 'a/b/file'), 'content');
  const file = walk(client, 'a', 'b', 'file');
  client.rename(client.root, 'a', client.root, 'z');
  const z = walk(client, 'z');
  client.rename(walk(client, 'z', 'b'), 'file', z, 'moved');
  client.ask(p9.Trename, u32(file.number), u32(client.root.number), text('top'));
  assert.equal(readFileSync(join(path, 'top'), 'utf8'), 'content');
  client.ask(p9.Tremove, u32(file.number));
  assert.deepEqual(readdirSync(path), ['z']);
  assert.throws(() => client.forget(file), code('EBADF'), 'the fid is gone');
  const b = walk(client, 'z', 'b');
  client.ask(p9.Tremove, u32(b.number));
  assert.deepEqual(readdirSync(join(path, 'z')), []);
  assert.throws(() => client.ask(p9.Trename, u32(0), u32(0), text('x')), code('EBUSY'));
  client.session.reset();
});

withServed('a name that is another file by now is not removed', ({ client, path }) => {
  writeFileSync(join(path, 'old'), '');
  const ref = client.lookup(client.root, 'old');
  writeFileSync(join(path, 'new'), '');
  client.rename(client.root, 'new', client.root, 'old');
  assert.throws(() => client.ask(p9.Tremove, u32(ref.number)), /E(NOENT|BUSY)/);
  assert.deepEqual(readdirSync(path), ['old']);
});

withServed('files belong to the user of the attach, and the group of the request', ({ client, path }) => {
  if (process.geteuid?.() !== 0) return;
  client.ask(p9.Tattach, u32(50), u32(0xffff_ffff), text('user'), text(''), u32(1234));
  client.ask(p9.Tmkdir, u32(50), text('directory'), u32(0o750), u32(567));
  client.ask(p9.Tsymlink, u32(50), text('link'), text('x'), u32(567));
  client.ask(p9.Tlcreate, u32(50), text('file'), u32(O_RDWR), u32(0o4755), u32(567));
  for (const name of ['directory', 'link', 'file']) {
    const { uid, gid } = lstatSync(join(path, name));
    assert.deepEqual([uid, gid], [1234, 567], name);
  }
  assert.equal(lstatSync(join(path, 'file')).mode & 0o7777, 0o4755);
  // The server is itself again.
  client.makeDirectory(client.root, 'own', 0o700);
  assert.equal(lstatSync(join(path, 'own')).uid, 0);
  client.forget({ number: 50 });
});

withServed('who is not root takes set-user-id bits away by writing', ({ client, path }) => {
  if (process.geteuid?.() !== 0) return;
  for (const [uid, mode] of [
    [0, 0o6755],
    [1234, 0o755],
  ] as const) {
    client.ask(p9.Tattach, u32(50), u32(0xffff_ffff), text('user'), text(''), u32(uid));
    client.ask(p9.Tlcreate, u32(50), text(`${uid}`), u32(O_RDWR), u32(0o6755), u32(0));
    client.write({ ref: { number: 50 }, handle: 0n }, 0, Buffer.from('x'));
    assert.equal(lstatSync(join(path, `${uid}`)).mode & 0o7777, mode);
    client.forget({ number: 50 });
  }
});

withServed('an attribute that comes in pieces, too short, or too long', ({ client, path }) => {
  writeFileSync(join(path, 'file'), '');
  const start = (size: number): { number: number } => {
    const ref = client.lookup(client.root, 'file');
    client.ask(p9.Txattrcreate, u32(ref.number), text('user.a'), u64(size), u32(0));
    return ref;
  };
  const whole = start(10);
  const handle = { ref: whole, handle: 0n };
  assert.equal(client.write(handle, 0, Buffer.from('01234')), 5);
  assert.throws(() => client.write(handle, 4, Buffer.from('x')), code('EINVAL'));
  assert.throws(() => client.write(handle, 5, Buffer.from('567890')), code('EINVAL'));
  client.write(handle, 5, Buffer.from('56789'));
  client.forget(whole);
  const file = client.lookup(client.root, 'file');
  assert.equal(client.getXattr(file, 'user.a').toString(), '0123456789');
  const short = start(10);
  assert.throws(() => client.forget(short), code('EINVAL'));
  assert.throws(() => start(2 ** 17), code('ERANGE'));
  client.session.reset();
});

withServed('reads are cut to what was agreed on and to what there is room for', ({ client, path }) => {
  writeFileSync(join(path, 'file'), Buffer.alloc(200_000, 7));
  const handle = client.open(client.lookup(client.root, 'file'), O_RDONLY);
  assert.equal(client.read(handle, 0, 200_000).length, client.msize - p9.IO_HEADER_SIZE);
  const small = ask(client.session, message(p9.Tread, 1, u32(handle.ref.number), u64(0), u32(1000)), 100);
  assert.equal(small.length, 100);
  client.session.reset();
});

withServed('messages that are no messages are errors', ({ client, path }) => {
  symlinkSync('x', join(path, 'link'));
  const errno = (bytes: Uint8Array): number => {
    const answer = ask(client.session, bytes, 1000);
    assert.equal(answer[4], p9.Rlerror);
    return answer.readUInt32LE(7);
  };
  assert.equal(errno(message(200, NO_TAG)), 95);
  assert.equal(errno(message(p9.Tauth, NO_TAG, u32(1), text('u'), text(''), u32(0))), 95);
  assert.equal(errno(message(p9.Tgetattr, 1)), 22);
  assert.equal(errno(Buffer.concat([u32(3), Buffer.of(p9.Tclunk), u16(1)])), 22);
  assert.equal(errno(Buffer.concat([u32(1000), Buffer.of(p9.Tclunk), u16(1)])), 22);
  assert.equal(errno(message(p9.Twrite, 1, u32(0), u64(0), u32(1000))), 22);
  assert.equal(errno(message(p9.Tclunk, 1, Buffer.alloc(9000))), 22);
  // No room for an answer, or no whole header.
  assert.equal(ask(client.session, message(p9.Tclunk, 1, u32(5)), 10).length, 0);
  assert.equal(ask(client.session, Buffer.alloc(6), 1000).length, 0);
});
