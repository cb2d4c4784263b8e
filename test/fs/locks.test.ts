// Locks, by either protocol: between owners of one client, between clients, and against programs of the host.
import assert from 'node:assert/strict';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { FileServer } from '../../src/fs/server.ts';
import { F_UNLCK, F_WRLCK, setRangeLock } from '../../src/host/file-locks.ts';
import { openStart } from '../../src/host/files.ts';
import { type Handle, ManualTimers, O_RDWR, type Served, serve, type TestClient } from './client.ts';
import { PROTOCOLS } from './protocols.ts';

function each(name: string, body: (served: Served<TestClient>, handle: Handle, protocol: string) => void): void {
  for (const [protocol, connect] of Object.entries(PROTOCOLS)) {
    test(`${protocol}: ${name}`, () => {
      const served = serve(connect);
      writeFileSync(join(served.path, 'file'), 'x'.repeat(1000));
      const ref = served.client.lookup(served.client.root, 'file');
      const handle = served.client.open(ref, O_RDWR);
      body(served, handle, protocol);
      served.end();
    });
  }
}

each('owners exclude each other where their ranges meet', ({ client }, handle) => {
  assert.ok(client.lock(handle, { type: 'write', owner: 1, start: 0, length: 100 }));
  assert.ok(
    client.lock(handle, { type: 'write', owner: 1, start: 50, length: 100 }),
    "its own lock is in nobody's way",
  );
  assert.ok(!client.lock(handle, { type: 'read', owner: 2, start: 149, length: 1 }));
  assert.ok(client.lock(handle, { type: 'read', owner: 2, start: 150 }));
  assert.ok(client.lock(handle, { type: 'read', owner: 3, start: 150 }));
  assert.equal(client.testLock(handle, { type: 'write', owner: 1, start: 150, length: 1 }), 'read');
  assert.equal(client.testLock(handle, { type: 'read', owner: 4, start: 10, length: 1 }), 'write');
  assert.equal(client.testLock(handle, { type: 'read', owner: 4, start: 200, length: 1 }), 'unlock');
  assert.ok(client.lock(handle, { type: 'unlock', owner: 1, start: 20, length: 10 }));
  assert.ok(client.lock(handle, { type: 'write', owner: 4, start: 20, length: 10 }));
  assert.ok(!client.lock(handle, { type: 'write', owner: 4, start: 30, length: 1 }));
});

each("the host's programs and other servers see them", ({ client, path }, handle, protocol) => {
  const fd = openSync(join(path, 'file'), 'r+');
  assert.ok(client.lock(handle, { type: 'write', owner: 1, start: 0, length: 10 }));
  assert.ok(!setRangeLock(fd, { type: F_WRLCK, start: 5n, length: 1n }));
  assert.ok(setRangeLock(fd, { type: F_WRLCK, start: 100n, length: 1n }));
  assert.ok(!client.lock(handle, { type: 'read', owner: 1, start: 0, length: 0 }));
  closeSync(fd);
  assert.ok(client.lock(handle, { type: 'read', owner: 1, start: 0, length: 0 }));
  const server = new FileServer(openStart(path), { readOnly: false });
  const other = PROTOCOLS[protocol]!(server, new ManualTimers());
  const ref = other.lookup(other.root, 'file');
  assert.equal(other.testLock(other.open(ref, O_RDWR), { type: 'write', owner: 1 }), 'read');
  other.session.reset();
  server.end();
});

each('a lock that is waited for comes when it is released', ({ client, timers }, handle) => {
  assert.ok(client.lock(handle, { type: 'write', owner: 1 }));
  const got: string[] = [];
  client.waitForLock(handle, { type: 'write', owner: 2 }, (code) => got.push(`2${code}`));
  client.waitForLock(handle, { type: 'read', owner: 3 }, (code) => got.push(`3${code}`));
  timers.pass();
  assert.deepEqual(got, []);
  client.lock(handle, { type: 'unlock', owner: 1 });
  assert.deepEqual(got, ['2']);
  client.lock(handle, { type: 'unlock', owner: 2 });
  assert.deepEqual(got, ['2', '3']);
});

each("one of the host's is noticed after a while", ({ client, path, timers }, handle) => {
  const fd = openSync(join(path, 'file'), 'r+');
  assert.ok(setRangeLock(fd, { type: F_WRLCK, start: 0n, length: 0n }));
  const got: string[] = [];
  client.waitForLock(handle, { type: 'write', owner: 2 }, (code) => got.push(code));
  timers.pass();
  assert.deepEqual(got, []);
  setRangeLock(fd, { type: F_UNLCK, start: 0n, length: 0n });
  timers.pass();
  assert.deepEqual(got, ['']);
  closeSync(fd);
});

each('a request that waits can be cancelled, and goes with its file', ({ client, timers }, handle) => {
  assert.ok(client.lock(handle, { type: 'write', owner: 1 }));
  const got: string[] = [];
  const wait = client.waitForLock(handle, { type: 'write', owner: 2 }, (code) => got.push(code));
  wait.cancel();
  assert.deepEqual(got, ['EINTR']);
  wait.cancel();
  const ref = client.lookup(client.root, 'file');
  const second = client.open(ref, O_RDWR);
  client.waitForLock(second, { type: 'write', owner: 3 }, (code) => got.push(code));
  client.close(second);
  timers.pass();
  assert.deepEqual(got, ['EINTR', 'EBADF']);
});

each('a reset forgets who waits', ({ client, timers }, handle) => {
  assert.ok(client.lock(handle, { type: 'write', owner: 1 }));
  client.waitForLock(handle, { type: 'write', owner: 2 }, () => assert.fail('it is answered'));
  client.session.reset();
  timers.pass();
});

each('locks go with the last use of their file', ({ client, path }, handle) => {
  assert.ok(client.lock(handle, { type: 'write', owner: 1 }));
  client.close(handle);
  const fd = openSync(join(path, 'file'), 'r+');
  assert.ok(setRangeLock(fd, { type: F_WRLCK, start: 0n, length: 0n }));
  closeSync(fd);
});
