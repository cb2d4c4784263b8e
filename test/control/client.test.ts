// What a client is told when nobody, or somebody else, is at a socket.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ask } from '../../src/control/client.ts';
import { registerMachine, runningMachines, socketOf } from '../../src/control/registry.ts';
import { ControlServer } from '../../src/control/server.ts';
import { FakeMachine } from './fake-machine.ts';

const folder = mkdtempSync(join(tmpdir(), 'vivarium-client-'));
after(() => rmSync(folder, { recursive: true }));
process.env['XDG_RUNTIME_DIR'] = folder;

test('answers come as they are, refusals as errors', async () => {
  const server = new ControlServer(join(folder, 'a'));
  const get = ask(server.path, 'GET', '/machine');
  await assert.rejects(get, { message: `${server.path}: the machine is being built` });
  server.serve(new FakeMachine({ bare: true }));
  assert.equal(((await ask(server.path, 'GET', '/machine')) as { state: string }).state, 'running');
  await assert.rejects(ask(server.path, 'PUT', '/balloon', { size: 0 }), {
    message: `${server.path}: the machine has no balloon`,
  });
  server.close();
});

test('what is no machine is told', async (t) => {
  const path = (name: string): string => join(folder, name);
  writeFileSync(path('file'), '');
  for (const [name, bytes] of [
    ['ssh', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['html', 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>'],
    ['other', 'HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nnull'],
    ['rude', ''],
    ['endless', `HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n${' '.repeat(3_000_000)}`],
  ] as const) {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end(bytes));
    });
    await new Promise<void>((resolve) => server.listen(path(name), resolve));
    t.after(() => server.close());
  }
  for (const [name, why] of [
    ['none', 'there is no such socket'],
    ['file', 'no machine listens there'],
    ['ssh', 'what answers there is no machine'],
    ['html', 'what answers there is no machine'],
    ['other', 'it answers with status 404'],
    ['rude', 'socket hang up'],
    ['endless', 'what answers there is no machine'],
  ] as const) {
    await assert.rejects(ask(path(name), 'GET', '/machine'), { message: `${path(name)}: ${why}` });
  }
});

test('the list of machines has this one, by its number, and no leftovers', () => {
  const machine = { kernel: 'k', hypervisor: 'soft', cpus: 1, memory: 2 ** 20, socket: '/tmp/x.sock' };
  const remove = registerMachine(machine);
  const list = join(folder, 'vivarium');
  // A process that is no more, and one whose number was given away again.
  writeFileSync(join(list, '4194303-1.json'), '{}');
  writeFileSync(join(list, `${process.pid}-1.json`), '{}');
  writeFileSync(join(list, `${process.ppid}-1.json.partial`), '{');
  writeFileSync(join(list, 'notes'), '');
  const [found, ...more] = runningMachines();
  assert.deepEqual({ ...found, started: 0 }, { ...machine, pid: process.pid, started: 0 });
  assert.deepEqual(more, []);
  assert.equal(socketOf(String(process.pid)), '/tmp/x.sock');
  assert.equal(socketOf('a/b.sock'), 'a/b.sock');
  assert.throws(() => socketOf('4194303'), /no machine of this user has this number/);
  remove();
  assert.deepEqual(runningMachines(), []);
  const removeOther = registerMachine({ ...machine, socket: undefined });
  assert.throws(() => socketOf(String(process.pid)), /started without --socket/);
  removeOther();
});
