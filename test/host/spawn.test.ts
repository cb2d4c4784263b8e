import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { reapProgram, spawnProgram } from '../../src/host/spawn.ts';

const folder = mkdtempSync(join(tmpdir(), 'vivarium-spawn-'));
after(() => rmSync(folder, { recursive: true }));

const nothing = openSync('/dev/null', 'r+');
const files = [0, 1].map((number) => openSync(join(folder, `${number}`), 'w+'));
after(() => [nothing, ...files].forEach((fd) => closeSync(fd)));

/** Runs a shell's script; what its descriptors `fds` are. */
const shell = (script: string, fds: readonly number[]): number =>
  spawnProgram('/bin/sh', ['-c', script], { env: { ONE: 'a b' }, fds, folder });
const written = (number: number): string => readFileSync(join(folder, `${number}`), 'utf8');

test('a program has the descriptors, folder and environment that it is given, in whatever order, and a session of its own', () => {
  const [first, second] = files as [number, number];
  // Numbers that are in use here.
  const fds = [nothing, first, nothing, ...Array.from({ length: 28 }, (_, i) => (i % 2 === 0 ? second : first))];
  const pid = shell('pwd; env | grep ONE; cut -d " " -f 6 /proc/$$/stat; echo 3 >&3; echo $$ >&5', fds);
  assert.deepEqual(reapProgram(pid), { status: 0 });
  assert.equal(written(0), `${folder}\nONE=a b\n${pid}\n`);
  assert.equal(written(1), `3\n${pid}\n`);
});

test('it ignores and blocks no signals, though this process does', () => {
  const [file] = files as [number];
  const before = written(0).length;
  const pid = shell('grep -E "Sig(Ign|Blk)" /proc/self/status', [nothing, file, nothing]);
  assert.deepEqual(reapProgram(pid), { status: 0 });
  assert.match(written(0).slice(before), /^SigBlk:\t0{16}\nSigIgn:\t0{16}\n$/);
});

test('its end is told, and why it does not begin', () => {
  const fds = [nothing, nothing, nothing];
  assert.deepEqual(reapProgram(shell('exit 7', fds)), { status: 7 });
  assert.deepEqual(reapProgram(shell('kill -SEGV $$', fds)), { signal: 'SIGSEGV' });
  const absent = () => spawnProgram('/absent', [], { env: {}, fds, folder });
  assert.throws(absent, { name: 'OsError', code: 'ENOENT' });
  assert.throws(() => spawnProgram('/bin/true', [], { env: {}, fds, folder: '/absent' }), { code: 'ENOENT' });
  const open = readdirSync('/proc/self/fd');
  assert.throws(() => spawnProgram('/bin/true', [], { env: {}, fds: [nothing, 10_000], folder }), { code: 'EBADF' });
  assert.deepEqual(readdirSync('/proc/self/fd'), open);
});
