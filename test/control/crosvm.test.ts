// crosvm's datagrams: its client of 2018 sends 32 bytes from a socket without a name and goes; one with a name gets 48 back. FUZZ
// sets how many datagrams of noise there are.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CrosvmServer } from '../../src/control/crosvm-server.ts';
import { DatagramSocket, unixAddress } from '../../src/host/datagram-socket.ts';
import { EINVAL, ENODEV, EOPNOTSUPP, OsError } from '../../src/host/errno.ts';
import { Poller } from '../../src/host/poller.ts';
import { randomSource } from '../guest/random.ts';
import { FakeMachine } from './fake-machine.ts';

const folder = mkdtempSync(join(tmpdir(), 'vivarium-crosvm-'));
const poller = new Poller();
after(async () => {
  await poller.close();
  rmSync(folder, { recursive: true });
});
const PAGE = 4096;
const DATAGRAMS = Number(process.env.FUZZ ?? 3000);

let count = 0;
function serve(t: TestContext, machine: FakeMachine): { readonly path: string; readonly log: string[] } {
  const log: string[] = [];
  const server = new CrosvmServer(join(folder, `server${count++}`), (line) => log.push(line));
  t.after(() => {
    server.close();
    assert.ok(!existsSync(server.path));
  });
  server.serve(machine, poller);
  return { path: server.path, log };
}

/** A socket; with a name it can be answered. */
function client(t: TestContext, named: boolean): DatagramSocket {
  const socket = new DatagramSocket();
  t.after(() => socket.close());
  if (named) socket.bind(join(folder, `client${count++}`));
  return socket;
}

/** struct MsgOnSocket request: { type u32, slot u32, size u64, num_pages u32, width u32, height u32, format u32 }. */
function request(type: number, pages = 0): Buffer {
  const bytes = Buffer.alloc(32);
  bytes.writeUInt32LE(type, 0);
  bytes.writeInt32LE(pages, 16);
  return bytes;
}

async function answer(
  socket: DatagramSocket,
): Promise<{ readonly type: number; readonly errno: number; readonly length: number }> {
  for (;;) {
    const datagram = socket.receive(64);
    if (datagram) {
      const { bytes, length } = datagram;
      return { type: bytes.readUInt32LE(0), errno: bytes.readUInt32LE(4), length };
    }
    await sleep(1);
  }
}

test('the client of 2018 adjusts the balloon and ends the machine', async (t) => {
  const machine = new FakeMachine();
  const { path, log } = serve(t, machine);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const socket = client(t, false);
  socket.send(request(4, 1000), unixAddress(path));
  while (machine.balloon!.target !== 1000 * PAGE) await sleep(1);
  socket.send(request(4, -400), unixAddress(path));
  while (machine.balloon!.target !== 600 * PAGE) await sleep(1);
  socket.send(request(1), unixAddress(path));
  while (machine.exits === 0) await sleep(1);
  assert.deepEqual(log, []);
});

test('a client with a name is answered', async (t) => {
  const machine = new FakeMachine();
  const { path } = serve(t, machine);
  const socket = client(t, true);
  const ask = (bytes: Buffer): ReturnType<typeof answer> => {
    socket.send(bytes, unixAddress(path));
    return answer(socket);
  };
  const ok = { type: 1, errno: 0, length: 48 };
  const error = (errno: number): typeof ok => ({ type: 2, errno, length: 48 });
  assert.deepEqual(await ask(request(4, 5)), ok);
  assert.deepEqual(await ask(request(4, -(2 ** 31))), ok);
  assert.equal(machine.balloon?.target, 0);
  assert.deepEqual(await ask(request(4, 2 ** 31 - 1)), ok);
  assert.equal(machine.balloon?.target, machine.balloon?.maximum);
  assert.deepEqual(await ask(request(2)), error(EOPNOTSUPP));
  assert.deepEqual(await ask(request(3)), error(EINVAL));
  assert.deepEqual(await ask(request(5)), error(ENODEV));
  const bare = serve(t, new FakeMachine({ bare: true }));
  socket.send(request(4, 5), unixAddress(bare.path));
  assert.deepEqual(await answer(socket), error(ENODEV));
  assert.deepEqual(await ask(request(1)), ok);
  assert.equal(machine.exits, 1);
});

test('what is no request is not answered, and told once', async (t) => {
  const machine = new FakeMachine();
  const { path, log } = serve(t, machine);
  const socket = client(t, true);
  for (const bytes of [
    request(0),
    request(6),
    request(0xffff_ffff),
    request(1).subarray(0, 31),
    Buffer.alloc(33, 1),
    Buffer.alloc(0),
    Buffer.alloc(100_000, 1),
  ]) {
    socket.send(bytes, unixAddress(path));
  }
  socket.send(request(4, 0), unixAddress(path));
  assert.deepEqual(await answer(socket), { type: 1, errno: 0, length: 48 });
  assert.equal(machine.exits, 0);
  assert.deepEqual(log, [`${path}: a request of the unknown type 0`]);
});

test('noise does nothing, and the next request is served', async (t) => {
  const machine = new FakeMachine();
  const { path } = serve(t, machine);
  const random = randomSource(t);
  const socket = client(t, true);
  for (let sent = 0; sent < DATAGRAMS; sent++) {
    const bytes = Buffer.from(Uint8Array.from({ length: random(3) > 0 ? 32 : random(200) }, () => random(256)));
    // Mostly a type that is known, but for the one that ends the machine.
    if (bytes.length === 32 && random(4) > 0) bytes.writeUInt32LE(2 + random(5), 0);
    if (bytes.length >= 4 && bytes.readUInt32LE(0) === 1) continue;
    try {
      socket.send(bytes, unixAddress(path));
    } catch (error) {
      // Its queue is full.
      if (!(error instanceof OsError && error.code === 'EAGAIN')) throw error;
      await sleep(1);
    }
    // One that does not take its answers is not waited for.
    if (random(50) === 0) while (socket.receive(64));
  }
  while (machine.exits === 0) {
    try {
      socket.send(request(1), unixAddress(path));
    } catch {}
    await sleep(1);
  }
  const { target, maximum } = machine.balloon!;
  assert.ok(target >= 0 && target <= maximum && target % PAGE === 0);
});
