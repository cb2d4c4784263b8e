// `vivarium 9s`: clients on sockets, in the jail and without it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { after, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import * as p9 from '../../src/virtio/p9/protocol.ts';
import { MAX_MSIZE } from '../../src/virtio/p9/session.ts';
import { StreamClient } from '../9s/stream-client.ts';
import { message, text, u8, u16, u32, u64 } from '../virtio/p9/client.ts';
import { Place } from './vivarium.ts';

const place = new Place();
after(() => place.remove());
const root = place.path('root');
mkdirSync(root);
place.file('outside', 'secret');
symlinkSync('../outside', `${root}/link`);

const PROGRAM = fileURLToPath(new URL('../../bin/vivarium', import.meta.url));
let sockets = 0;

interface Server {
  readonly path: string;
  client(): StreamClient;
  /** Ends it as a user does. Returns its exit status. */
  stop(): Promise<number | null>;
}

/** A server at a Unix socket, or at what is given, that clients can connect to. It ends with the test. */
async function start(t: TestContext, options: readonly string[], address?: string): Promise<Server> {
  const path = place.path(`s${sockets++}`);
  const at = address ?? `unix:${path}`;
  const child = spawn(process.execPath, [PROGRAM, '9s', ...options, '-r', root, at], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const output = child.stdout.setEncoding('utf8');
  // One that does not start says nothing here, and ends.
  const [line] = (await Promise.race([once(output, 'data'), once(output, 'end')])) as [string?];
  assert.equal(line, `${root} is served at ${at}\n`);
  return {
    path,
    client: () => new StreamClient({ path }),
    stop: async () => {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      return (await ended)[0] as number | null;
    },
  };
}

for (const [name, options] of [
  ['in its jail', []],
  ['without a sandbox', ['--disable-sandbox']],
] as const) {
  test(`a server ${name}`, async (t) => {
    const server = await start(t, options);
    // Nobody else may connect.
    assert.equal(statSync(server.path).mode & 0o777, 0o600);
    const client = server.client();
    assert.equal(await client.attach(), MAX_MSIZE);

    const file = name.replaceAll(' ', '-');
    await client.create(1, file);
    const data = randomBytes(3 * 400_000);
    for (let at = 0; at < data.length; at += 400_000) {
      const written = await client.ask(p9.Twrite, u32(1), u64(at), u32(400_000), data.subarray(at, at + 400_000));
      assert.equal(written.u32(), 400_000);
    }
    assert.deepEqual(readFileSync(`${root}/${file}`), data);

    // What the client does not read waits in the server, and other clients do not wait for it.
    client.socket.pause();
    const requests = [0, 400_000, 800_000].map((at) => message(p9.Tread, 2, u32(1), u64(at), u32(400_000)));
    const answers = requests.map(() => client.answer());
    client.socket.write(Buffer.concat(requests));
    const other = server.client();
    await other.attach();
    await other.open(1, file);
    assert.deepEqual(await other.read(1, 5, 10), data.subarray(5, 15));
    client.socket.resume();
    const got = (await Promise.all(answers)).map((answer) => answer.subarray(p9.READ_HEADER_SIZE));
    assert.deepEqual(Buffer.concat(got), data);

    // A message in pieces.
    const slow = client.answer();
    for (const byte of message(p9.Tread, 3, u32(1), u64(0), u32(4))) {
      client.socket.write(u8(byte));
      await sleep(2);
    }
    assert.deepEqual((await slow).subarray(p9.READ_HEADER_SIZE), data.subarray(0, 4));

    // A lock that waits is answered when it is free, and others are served meanwhile.
    const lock = (type: number, process: number): Buffer[] => [
      ...[u32(1), u8(type), u32(p9.LOCK_FLAGS_BLOCK), u64(0), u64(0), u32(process), text('test')],
    ];
    assert.equal((await client.ask(p9.Tlock, ...lock(1, 1))).u8(), p9.LOCK_SUCCESS);
    const locked = other.ask(p9.Tlock, ...lock(1, 2));
    assert.equal((await client.read(1, 0, 1)).length, 1);
    await client.ask(p9.Tlock, ...lock(2, 1));
    assert.equal((await locked).u8(), p9.LOCK_SUCCESS);

    // A link is a link, and a parent of the root is the root.
    const link = await client.ask(p9.Twalk, u32(0), u32(5), u16(2), text('..'), text('link'));
    assert.equal(link.u16(), 2);
    await assert.rejects(client.ask(p9.Tlopen, u32(5), u32(0)), /message 7 answers/);

    // Sizes that cannot be: this client has gone, the other has not.
    for (const size of [0, 6, MAX_MSIZE + 1, 0xffff_ffff]) {
      const bad = server.client();
      bad.socket.write(Buffer.concat([u32(size), u8(p9.Tversion), u16(1)]));
      await bad.ended;
    }
    assert.deepEqual(await other.read(1, 0, 4), data.subarray(0, 4));

    assert.equal(await server.stop(), 128 + 15);
    await Promise.all([client.ended, other.ended]);
    assert.equal(statSync(server.path, { throwIfNoEntry: false }), undefined);
  });
}

test('the seventeenth client waits until another has gone', async (t) => {
  const server = await start(t, []);
  const clients = Array.from({ length: 16 }, () => server.client());
  await Promise.all(clients.map((client) => client.attach()));
  const late = server.client();
  let attached = false;
  const served = late.attach().then(() => {
    attached = true;
  });
  await clients[1]!.open(1, 'in-its-jail');
  assert.equal(attached, false);
  await clients[0]!.close();
  await served;
  await server.stop();
});

test('on TCP', async (t) => {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  const server = await start(t, [], `127.0.0.1:${port}`);
  writeFileSync(`${root}/tcp`, 'over TCP');
  const client = new StreamClient({ host: '127.0.0.1', port });
  await client.attach();
  await client.open(1, 'tcp');
  assert.equal((await client.read(1, 0, 100)).toString(), 'over TCP');

  const second = await place.run(['9s', '-r', root, `127.0.0.1:${port}`]);
  assert.match(second.stderr, /^vivarium: 127\.0\.0\.1:\d+: nobody can connect there: bind: .*in use\n$/);
  assert.equal(second.status, 1);
  await server.stop();
});

test('what is wrong is said in one line', async () => {
  for (const [args, pattern] of [
    [['unix:s'], /required option '-r, --root <PATH>' not specified/],
    [['-r', 'root'], /missing required argument 'ADDRESS'/],
    [['-r', 'none', 'unix:s'], /--root none: there is no directory none: make it/],
    [['-r', 'outside', 'unix:s'], /--root outside: outside is no directory/],
    [['-r', '', 'unix:s'], /--root '': it takes the path of a directory/],
    [['-r', 'root', 's'], /ADDRESS s: it takes vsock:PORT, unix:PATH, IP:PORT or \[IPv6\]:PORT/],
    [['-r', 'root', '::1:564'], /it takes vsock:PORT/],
    [['-r', 'root', '[127.0.0.1]:564'], /it takes vsock:PORT/],
    [['-r', 'root', 'localhost:564'], /it takes vsock:PORT/],
    [['-r', 'root', '127.0.0.1:0'], /it takes a port from 1 to 65535/],
    [['-r', 'root', 'vsock:99999999999'], /it takes a port from 0 to 4294967294/],
    [['-r', 'root', 'vsock:9'], /vsock:9: say which machine may connect: give --accept_cid/],
    [['-r', 'root', '--accept_cid', '3', 'unix:s'], /--accept_cid 3: it is for vsock:PORT alone/],
    [['-r', 'root', 'unix:'], /the path of the socket is empty/],
    [['-r', 'root', 'unix:outside'], /outside: it exists already/],
    [['-r', 'root', 'unix:none/s'], /unix:none\/s: nobody can connect there: bind: no such file/],
  ] as const) {
    const { stderr, stdout, status } = await place.run(['9s', ...args]);
    assert.match(stderr, /^vivarium: [^\n]+\n$/);
    assert.match(stderr, pattern);
    assert.equal(stdout, '');
    assert.equal(status, 1);
  }
});
