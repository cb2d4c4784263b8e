// Clients gone mad: random messages, and recorded ones with damage. Each gets one answer that is well-formed, nothing outside the
// directory changes, and a reset leaves nothing behind. The variable SEED repeats a run, FUZZ sets the number of rounds.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { EOPNOTSUPP } from '../../src/host/errno.ts';
import { setFaultHook } from '../../src/host/ffi.ts';
import { Random } from '../disk/pseudo-random.ts';
import { mutate } from '../fuzz/mutate.ts';
import { type Handle, O_RDWR, type Served, serve, type TestClient, walk } from './client.ts';
import { MemoryExchange } from './memory-exchange.ts';
import { PROTOCOLS } from './protocols.ts';

const SEED = Number(process.env.SEED ?? Date.now() % 2 ** 32);
const ROUNDS = Number(process.env.FUZZ ?? 20);
const MESSAGES = 300;
/** Bytes of the fields that every message of the protocol begins with, and then some. */
const HEADER = { '9P': 24, FUSE: 80 } as const;

/** Something of everything, so that there is a message of each kind to damage. */
function scenario(client: TestClient): void {
  const { root } = client;
  const inside = walk(client, 'inside');
  const file = client.create(inside, 'file', O_RDWR, 0o644);
  client.write(file, 0, Buffer.from('some bytes'));
  client.read(file, 0, 100);
  client.sync(file);
  client.lock(file, { type: 'write', owner: 1 });
  client.testLock(file, { type: 'read', owner: 2 });
  client.makeLink(inside, 'link', '../../secret');
  client.readLink(client.lookup(inside, 'link'));
  client.makeNode(inside, 'fifo', 0o010644);
  client.makeDirectory(inside, 'deep', 0o755);
  const ref = client.lookup(inside, 'file');
  client.link(ref, inside, 'other');
  client.rename(inside, 'other', root, 'moved');
  client.remove(root, 'moved', false);
  client.setAttributes(ref, { mode: 0o600, size: 5, mtime: 12, atime: 'now' });
  client.setXattr(ref, 'user.a', Buffer.from('value'));
  client.getXattr(ref, 'user.a');
  client.listXattrs(ref);
  client.removeXattr(ref, 'user.a');
  client.list(root);
  client.freeBlocks(root);
  client.waitForLock(file as Handle, { type: 'write', owner: 3 }, () => {});
  client.attributes(ref);
  client.forget(ref);
  client.remove(inside, 'link', false);
  client.remove(inside, 'fifo', false);
  client.remove(inside, 'deep', true);
  client.remove(inside, 'file', false);
}

function prepare(connect: (typeof PROTOCOLS)[string]): Served<TestClient> {
  const served = serve(connect, { maxNodes: 200, maxDescriptors: 10 });
  const outside = dirname(served.path);
  writeFileSync(join(outside, 'secret'), 'secret', { mode: 0o600 });
  mkdirSync(join(served.path, 'inside'));
  symlinkSync('../secret', join(served.path, 'out'));
  return served;
}

/** Sends one message; checks what comes. */
function send({ client }: Served<TestClient>, message: Uint8Array, room: number, cuts: readonly number[]): void {
  const exchange = new MemoryExchange(message, room, cuts);
  let answers = 0;
  client.session.serve(exchange, (written) => {
    assert.equal(++answers, 1);
    assert.ok(written >= 0 && written <= room);
    // A message tells its own length, unless a 9P client had no room for all of it.
    if (written >= 4) assert.ok(exchange.answer.readUInt32LE(0) >= written);
  });
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

for (const protocol of ['9P', 'FUSE'] as const) {
  test(`${protocol}: messages of a mad client (SEED=${SEED})`, () => {
    const random = new Random(SEED);
    const below = (limit: number): number => random.below(limit);
    // Disks are not filled, and not waited for.
    setFaultHook((name, args) => {
      if (name === 'fsync' || name === 'fdatasync' || name === 'syncfs') return 0;
      return name === 'fallocate' && Number(args[3]) > 2 ** 20 ? EOPNOTSUPP : undefined;
    });
    try {
      const recorded = prepare(PROTOCOLS[protocol]!);
      scenario(recorded.client);
      recorded.end();
      const before = descriptors();
      for (let round = 0; round < ROUNDS; round++) {
        const served = prepare(PROTOCOLS[protocol]!);
        const outside = dirname(served.path);
        const { sent } = recorded.client;
        let at = 0;
        for (let i = 0; i < MESSAGES; i++) {
          // Mostly in order: then the numbers in them mean something.
          at = below(10) === 0 ? below(sent.length) : (at + 1) % sent.length;
          const whole = sent[at]!;
          const kind = below(10);
          const message =
            kind === 0
              ? Buffer.from(Array.from({ length: below(200) }, () => below(256)))
              : kind < 4
                ? whole
                : mutate(whole, HEADER[protocol], below);
          send(served, message, below(4) === 0 ? below(200) : 70_000, [1 + below(100), 1 + below(5000)]);
          if (below(50) === 0) served.timers.pass();
        }
        assert.equal(readFileSync(join(outside, 'secret'), 'utf8'), 'secret');
        assert.equal(statSync(join(outside, 'secret')).mode & 0o7777, 0o600);
        assert.deepEqual(readdirSync(outside).sort(), ['secret', 'share']);
        // Names of any bytes, directories of any mode.
        execFileSync('sh', ['-c', 'chmod -R u+rwX "$0"; rm -rf "$0"', served.path], { stdio: 'ignore' });
        served.end();
      }
      assert.equal(descriptors(), before);
    } finally {
      setFaultHook(undefined);
    }
  });
}
