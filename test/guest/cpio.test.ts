import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import type { CpioEntry } from '../../src/guest/cpio.ts';
import { missingParents, writeCpio } from '../../src/guest/cpio.ts';
import { CpioError, readCpio } from './cpio-reader.ts';
import { randomSource } from './random.ts';

const ENTRIES: CpioEntry[] = [
  { type: 'directory', name: 'bin', mode: 0o755 },
  { type: 'file', name: 'bin/empty', mode: 0o600, data: new Uint8Array() },
  { type: 'file', name: 'bin/five', mode: 0o4711, data: Buffer.from('12345') },
  { type: 'symlink', name: 'bin/sh', target: 'five' },
  { type: 'directory', name: 'dev', mode: 0o700 },
  { type: 'character', name: 'dev/console', mode: 0o600, major: 5, minor: 1 },
  { type: 'block', name: 'dev/vda', mode: 0o660, major: 254, minor: 300 },
  { type: 'file', name: 'naïve name', mode: 0o644, data: Buffer.alloc(4096, 7) },
];

/** Plain values, so that Buffer and Uint8Array compare as equal bytes. */
function plain(entries: CpioEntry[]): unknown[] {
  return entries.map((entry) => (entry.type === 'file' ? { ...entry, data: [...entry.data] } : entry));
}

test('an archive reads back as it was written, and is the same each time', () => {
  const archive = writeCpio(ENTRIES);
  assert.deepEqual(plain(readCpio(archive)), plain(ENTRIES));
  assert.deepEqual(writeCpio(ENTRIES), archive);
  assert.equal(archive.length % 512, 0);
  assert.equal(
    archive.toString('latin1', 0, 54),
    ['070701', '00000001', '000041ed', '00000000', '00000000', '00000002', '00000000'].join(''),
  );
});

const hasCpio = spawnSync('cpio', ['--version']).status === 0;
test('cpio(1) lists the archive', { skip: hasCpio ? false : 'cpio is not installed' }, () => {
  const listed = spawnSync('cpio', ['-tvn'], {
    input: writeCpio(ENTRIES),
    encoding: 'utf8',
    env: { LC_ALL: 'C', TZ: 'UTC', PATH: process.env.PATH },
  });
  assert.equal(listed.status, 0, listed.stderr);
  const lines = listed.stdout
    .trim()
    .split('\n')
    .map((line) => line.replace(/\s+/g, ' '));
  assert.deepEqual(lines.slice(0, 7), [
    'drwxr-xr-x 2 0 0 0 Jan 1 1970 bin',
    '-rw------- 1 0 0 0 Jan 1 1970 bin/empty',
    '-rws--x--x 1 0 0 5 Jan 1 1970 bin/five',
    'lrwxrwxrwx 1 0 0 4 Jan 1 1970 bin/sh -> five',
    'drwx------ 2 0 0 0 Jan 1 1970 dev',
    'crw------- 1 0 0 5, 1 Jan 1 1970 dev/console',
    'brw-rw---- 1 0 0 254, 300 Jan 1 1970 dev/vda',
  ]);
  const file = spawnSync('cpio', ['-i', '--to-stdout', 'bin/five'], { input: writeCpio(ENTRIES), encoding: 'utf8' });
  assert.equal(file.stdout, '12345');
});

test('what the kernel would skip or misread is refused', () => {
  const file = (name: string): CpioEntry => ({ type: 'file', name, mode: 0o644, data: new Uint8Array() });
  for (const name of ['', '/a', 'a/', 'a//b', '.', '../a', 'a/../b', 'a\0b', 'TRAILER!!!', 'x'.repeat(4096)]) {
    assert.throws(() => writeCpio([file(name)]), RangeError, JSON.stringify(name));
  }
  assert.throws(() => writeCpio([file('a'), file('a')]), /twice/);
  assert.throws(() => writeCpio([file('a'), file('a/b')]), /before its directory/);
  assert.throws(() => writeCpio([{ type: 'directory', name: 'a', mode: 0o40755 }]), /bad mode/);
  assert.throws(() => writeCpio([{ type: 'block', name: 'a', mode: 0, major: -1, minor: 0 }]), /32 bits/);
  assert.throws(() => writeCpio([{ type: 'symlink', name: 'a', target: '' }]), /bad target/);
  assert.equal(readCpio(writeCpio([file('x'.repeat(4095))])).length, 1);
});

test('missing parents are named once, outermost first', () => {
  const have = new Set(['a']);
  assert.deepEqual(
    missingParents('a/b/c/d', have).map((entry) => entry.name),
    ['a/b', 'a/b/c'],
  );
  assert.deepEqual(missingParents('a/b/e', have), []);
});

test('damaged archives give an error or entries, nothing else', (t) => {
  const random = randomSource(t);
  const archive = writeCpio(ENTRIES);
  for (let round = 0; round < 3000; round++) {
    const damaged = Buffer.from(archive.subarray(0, random(2) ? archive.length : random(archive.length + 1)));
    for (let changes = random(6); changes > 0 && damaged.length > 0; changes--) {
      damaged[random(damaged.length)] = random(2) ? random(256) : 0x30 + random(10);
    }
    try {
      readCpio(damaged);
    } catch (error) {
      assert.ok(error instanceof CpioError, String(error));
    }
  }
});
