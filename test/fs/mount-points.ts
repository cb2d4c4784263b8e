// Run in a mount namespace of its own: what is mounted in a shared directory is not part of it. With `hand` as argument, as on
// kernels that have no openat2.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ENOSYS } from '../../src/host/errno.ts';
import { setFaultHook } from '../../src/host/ffi.ts';
import { O_RDWR, serve, walk } from './client.ts';
import { PROTOCOLS } from './protocols.ts';

if (process.argv[2] === 'hand') setFaultHook((name) => (name === 'syscall' ? ENOSYS : undefined));

for (const connect of Object.values(PROTOCOLS)) {
  const { path, client, end } = serve(connect);
  for (const name of ['tmpfs', 'bind', 'plain']) mkdirSync(join(path, name));
  writeFileSync(join(path, 'file'), '');
  writeFileSync(join(dirname(path), 'secret'), 'secret');
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', join(path, 'tmpfs')]);
  // The same file system as the directory: only the mount tells.
  execFileSync('mount', ['--bind', dirname(path), join(path, 'bind')]);
  execFileSync('mount', ['--bind', join(dirname(path), 'secret'), join(path, 'file')]);
  for (const name of ['tmpfs', 'bind', 'file']) {
    assert.throws(() => client.lookup(client.root, name), { code: 'EXDEV' }, name);
  }
  assert.throws(() => client.create(client.root, 'file', O_RDWR, 0o600), { code: 'EXDEV' });
  assert.throws(() => client.remove(client.root, 'tmpfs', true), { code: 'EBUSY' });
  client.forget(walk(client, 'plain'));
  assert.deepEqual(client.list(client.root), ['bind', 'file', 'plain', 'tmpfs']);
  for (const name of ['tmpfs', 'bind', 'file']) execFileSync('umount', [join(path, name)]);
  end();
}
