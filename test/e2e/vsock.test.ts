// Sockets between the default guest and the host: connections both ways, on the built-in processor.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { RunningGuest } from './running-guest.ts';

const SOURCE = fileURLToPath(new URL('programs/vsock-exercise.c', import.meta.url));
const MIB = 2 ** 20;

const folder = mkdtempSync(join(tmpdir(), 'vivarium-vsock-'));
const tools = join(folder, 'tools');
const servers: Server[] = [];
after(() => {
  for (const server of servers) server.close();
  rmSync(folder, { recursive: true, force: true });
});

before(() => {
  mkdirSync(tools);
  execFileSync('gcc', ['-static', '-O2', '-Wall', '-o', join(tools, 'vsock-exercise'), SOURCE]);
});

/** A service of the host at a port of the guest's host. */
async function service(path: string, serve: (socket: Socket) => void): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    serve(socket);
  });
  servers.push(server);
  server.listen(path);
  await once(server, 'listening');
}

/** A connection to a port of the guest; what comes behind the greeting is still to be read. */
async function dial(path: string, port: number): Promise<Socket> {
  const socket = connect({ path, allowHalfOpen: true });
  socket.on('error', () => {});
  socket.write(`CONNECT ${port}\n`);
  let greeting = '';
  while (!greeting.endsWith('\n')) {
    const byte = socket.read(1) as Buffer | null;
    if (byte !== null) greeting += byte.toString();
    else await Promise.race([once(socket, 'readable'), once(socket, 'end')]);
    if (socket.readableEnded) break;
  }
  assert.match(greeting, /^OK \d+\n$/);
  return socket;
}

async function sumOf(socket: Socket): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of socket) hash.update(piece as Buffer);
  return hash.digest('hex');
}

for (const jail of [true, false]) {
  test(`connections both ways, ${jail ? 'the device in its jail' : 'the device in a thread'}`, async (t) => {
    const path = join(folder, jail ? 'jailed' : 'thread');
    const run = RunningGuest.run(
      ...['-p', 'quiet', '--net', 'none', '--mount', `${tools}:/tools:ro`, '--vsock', path, '--cid', '42'],
      ...(jail ? [] : ['--disable-sandbox']),
    );
    t.after(() => run.kill());
    await run.shell();
    const guest = (command: string): Promise<string> => run.command(`/tools/vsock-exercise ${command}`);
    assert.equal(await guest('cid'), '42\n');

    // The guest connects.
    await service(`${path}_52`, (socket) => socket.pipe(socket));
    assert.equal(await guest('refused 51'), 'Connection reset by peer\n');
    assert.equal(await guest(`echo 52 1 ${MIB}`), 'fine\n');
    assert.equal(await guest('echo 52 1000 1500'), 'fine\n');
    await service(`${path}_53`, (socket) => socket.once('data', () => socket.destroy()));
    assert.equal(await guest('broken 53'), 'fine\n');

    // The host connects.
    const gone = connect(path);
    gone.end('CONNECT 99\n');
    assert.equal((await gone.toArray()).length, 0, 'nobody listens there');
    const listen = (command: string): Promise<string> =>
      run.command(
        `rm -f /tmp/out; /tools/vsock-exercise ${command} >/tmp/out & until grep -qs listening /tmp/out; do sleep 1; done`,
      );
    await listen('serve 1234 101');
    const sent = randomBytes(MIB);
    const one = await dial(path, 1234);
    one.end(sent);
    assert.equal(await sumOf(one), createHash('sha256').update(sent).digest('hex'));
    const many = await Promise.all(Array.from({ length: 100 }, () => dial(path, 1234)));
    const sums = many.map(async (socket, i) => {
      const bytes = randomBytes(1 + i * 200);
      socket.end(bytes);
      assert.equal(await sumOf(socket), createHash('sha256').update(bytes).digest('hex'));
    });
    await Promise.all(sums);
    await listen('breaker 1235');
    const doomed = await dial(path, 1235);
    doomed.write(Buffer.alloc(1000));
    doomed.resume();
    // The connection may be broken already when the bytes are written: an error (EPIPE) is as good an end as any.
    await new Promise<void>((resolve) => finished(doomed, { writable: false }, () => resolve()));
    doomed.destroy();

    run.send('poweroff\n');
    assert.equal((await run.end()).status, 0, run.errors);
    assert.deepEqual(run.complaints, []);
    assert.ok(!existsSync(path), 'the socket goes with the machine');
  });
}
