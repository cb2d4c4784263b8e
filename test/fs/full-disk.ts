// Run in a mount namespace of its own: a directory on a file system that is full, of bytes and then of files. What does not fit is
// refused by the kernel's own errno, nothing else is, and there is room again when something has been removed.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { O_RDWR, serve } from './client.ts';
import { PROTOCOLS } from './protocols.ts';

const PIECE = Buffer.alloc(64 * 1024, 1);
const FULL = { code: 'ENOSPC' };

for (const connect of Object.values(PROTOCOLS)) {
  const disk = mkdtempSync(join(tmpdir(), 'vivarium-full-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k,nr_inodes=20', 'tmpfs', disk]);
  process.env['TMPDIR'] = disk;
  const { client, end } = serve(connect);
  const { root } = client;
  const file = client.create(root, 'file', O_RDWR, 0o600);
  let size = 0;
  const fill = (): void => {
    for (;;) size += client.write(file, size, PIECE);
  };
  assert.throws(fill, FULL);
  assert.ok(size >= 7 * PIECE.length, `${size}`);
  assert.throws(() => client.write(file, size, PIECE), FULL);
  assert.deepEqual(client.read(file, 0, PIECE.length), PIECE);

  const names: string[] = [];
  const crowd = (): void => {
    for (;;) {
      client.makeNode(root, `node-${names.length}`, 0o010600);
      names.push(`node-${names.length}`);
    }
  };
  assert.throws(crowd, FULL);
  assert.throws(() => client.create(root, 'one-more', O_RDWR, 0o600), FULL);
  assert.throws(() => client.makeDirectory(root, 'one-more', 0o700), FULL);
  assert.throws(() => client.makeLink(root, 'one-more', 'x'.repeat(200)), FULL);
  assert.deepEqual(client.list(root), ['file', ...names].sort());

  client.remove(root, names.pop() as string, false);
  client.makeDirectory(root, 'one-more', 0o700);
  const ref = client.lookup(root, 'file');
  client.setAttributes(ref, { size: PIECE.length });
  assert.equal(client.write(file, PIECE.length, PIECE), PIECE.length);
  client.forget(ref);
  client.close(file);
  end();
  delete process.env['TMPDIR'];
  execFileSync('umount', [disk]);
  execFileSync('rmdir', [disk]);
}
