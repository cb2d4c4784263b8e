// The control socket against those who come to it: its file, and clients that are slow, many, or talk nonsense. FUZZ sets
// how many damaged requests there are.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { metricsText } from '../../src/control/metrics.ts';
import { ControlServer } from '../../src/control/server.ts';
import { makeSocketFile, socketPath } from '../../src/control/socket-file.ts';
import { collectStatistics } from '../../src/control/statistics.ts';
import { mutate } from '../fuzz/mutate.ts';
import { randomSource } from '../guest/random.ts';
import { exchange, sendRaw } from './exchange.ts';
import { FakeMachine } from './fake-machine.ts';

const REQUESTS = Number(process.env.FUZZ ?? 1000);

const folder = mkdtempSync(join(tmpdir(), 'vivarium-control-'));
after(() => rmSync(folder, { recursive: true }));

function serve(t: TestContext, name: string): { readonly path: string; readonly machine: FakeMachine } {
  const path = join(folder, name);
  const server = new ControlServer(path);
  t.after(() => server.close());
  const machine = new FakeMachine();
  server.serve(machine);
  return { path, machine };
}

/** Opens a connection that stays. */
function open(t: TestContext, path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => resolve(socket));
    socket.on('error', reject);
    t.after(() => socket.destroy());
  });
}

const answers = async (path: string): Promise<boolean> => (await exchange(path, 'GET', '/machine')).status === 200;

test('the socket is for its owner, and goes with the server', () => {
  const path = join(folder, 'a');
  const mask = process.umask(0);
  try {
    const server = new ControlServer(path);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(process.umask(0), 0);
    server.close();
    assert.equal(existsSync(path), false);
  } finally {
    process.umask(mask);
  }
});

test('a folder gives the socket a name; what is there stays; bad paths are told', () => {
  assert.equal(socketPath(folder), join(folder, `vivarium-${process.pid}.sock`));
  assert.equal(socketPath(join(folder, 'b')), join(folder, 'b'));
  writeFileSync(join(folder, 'taken'), 'x');
  assert.throws(() => new ControlServer(join(folder, 'taken')), /taken: it exists already: take it away/);
  assert.throws(() => new ControlServer(join(folder, 'no', 'b')), /no\/b: the control socket cannot be made: /);
  assert.throws(() => new ControlServer(join(folder, 'x'.repeat(108))), /107 bytes at most/);
  assert.throws(() => new ControlServer(''), /is empty/);
});

test('another file that has taken the name of a socket stays', () => {
  const path = join(folder, 'c');
  const remove = makeSocketFile(path, () => writeFileSync(path, 'socket'));
  renameSync(path, `${path}-moved`);
  writeFileSync(path, 'another');
  remove();
  assert.equal(existsSync(path), true);
});

test('garbage is answered or hung up on, and the next one is served', async (t) => {
  const { path, machine } = serve(t, 'd');
  const random = randomSource(t);
  const requests = [
    'PUT /balloon HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"size":8192}',
    'PATCH /balloon HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n{"adjust":-4096\r\n1\r\n}\r\n0\r\n\r\n',
    'PATCH /disks/vda HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"size":9216}\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET /statistics HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nUpgrade: websocket\r\n\r\n',
    'CONNECT /machine HTTP/1.1\r\nHost: x\r\n\r\n',
  ];
  for (let sent = 0; sent < REQUESTS; sent += 10) {
    const damaged = Array.from({ length: 10 }, () =>
      mutate(Buffer.from(requests[random(requests.length)]!), 20, (limit) => random(limit)),
    );
    const texts = await Promise.all(damaged.map((bytes) => sendRaw(path, bytes)));
    // Whatever came was HTTP, to the end.
    for (const text of texts) assert.match(text, /^(?:$|HTTP\/1\.1 (?:[12345]\d\d) )/);
    assert.ok(await answers(path));
  }
  const noise = Uint8Array.from({ length: 100_000 }, () => random(256));
  await sendRaw(path, noise);
  await sendRaw(path, `GET /${'x'.repeat(100_000)} HTTP/1.1\r\n\r\n`);
  assert.ok(await answers(path));
  // Nothing of it was an order to end, or came through as a size that makes no sense.
  assert.equal(machine.exits, 0);
  assert.ok(machine.balloon!.target >= 0 && machine.balloon!.target <= machine.balloon!.maximum);
  assert.ok(machine.balloon!.target % 4096 === 0);
});

test('what is too large for HTTP gets its status', async (t) => {
  const { path } = serve(t, 'e');
  assert.match(await sendRaw(path, `GET / HTTP/1.1\r\nA: ${'x'.repeat(10_000)}\r\n\r\n`), /^HTTP\/1\.1 431 /);
  assert.match(await sendRaw(path, 'nonsense\r\n\r\n'), /^HTTP\/1\.1 400 .*\{"error":"Bad Request"\}\n$/s);
});

test('slow clients keep nobody, and are hung up on', async (t) => {
  const { path } = serve(t, 'f');
  const slow = await Promise.all(Array.from({ length: 40 }, () => open(t, path)));
  const closed = slow.map((socket, i) => {
    socket.resume();
    if (i % 2 === 0) socket.write('GET /machine HTTP/1.1\r\nHos');
    else socket.write('PUT /balloon HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{"si');
    return new Promise((resolve) => socket.once('close', resolve));
  });
  assert.ok(await answers(path));
  await Promise.all(closed);
  assert.ok(await answers(path));
});

test('there is an end to connections, and room again when they are gone', async (t) => {
  const { path } = serve(t, 'g');
  const sockets = await Promise.all(Array.from({ length: 200 }, () => open(t, path)));
  await assert.rejects(answers(path));
  for (const socket of sockets) socket.destroy();
  while (!(await answers(path).catch(() => false)));
});

test('an order to end is followed when its sender has gone already', async (t) => {
  const { path, machine } = serve(t, 'h');
  const socket = await open(t, path);
  socket.write('POST /machine/exit HTTP/1.1\r\nHost: x\r\n\r\n');
  socket.destroy();
  const text = 'POST /machine/exit HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n';
  await sendRaw(path, text);
  while (machine.exits < 2) assert.ok(await answers(path));
});

test('metrics are in the format of Prometheus', async () => {
  const text = metricsText(await collectStatistics(new FakeMachine()));
  const line =
    /^(?:# HELP \w+ [^\n]+|# TYPE \w+ (?:counter|gauge)|\w+(?:\{\w+="(?:[^"\\\n]|\\[\\"n])*"(?:,\w+="(?:[^"\\\n]|\\[\\"n])*")*\})? [\d.e+-]+)$/;
  for (const each of text.trimEnd().split('\n')) assert.match(each, line);
  const samples = text.split('\n').filter((each) => !each.startsWith('#') && each !== '');
  assert.ok(samples.includes('vivarium_processor_seconds_total{cpu="0",mode="user"} 1.25'));
  assert.ok(samples.includes('vivarium_disk_total{disk="vdb",counter="writes"} 2'));
  assert.ok(samples.includes('vivarium_balloon_guest{figure="free-memory"} 12582912'));
  assert.ok(samples.includes('vivarium_paused 0'));
  // A name's samples stand together, each combination of labels once.
  assert.equal(new Set(samples.map((each) => each.split(' ')[0])).size, samples.length);
  const names = samples.map((each) => /^\w+/.exec(each)![0]);
  assert.equal(names.filter((name, i) => name !== names[i - 1]).length, new Set(names).size);
});
