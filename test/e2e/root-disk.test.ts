// A disk of the user's as the root: the initial RAM disk of the default guest hands over to its init.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { busyboxOf, defaultGuest } from './kernels.ts';
import { RunningGuest } from './running-guest.ts';

/** The disk's init: says what it found, and ends the machine. */
const INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
echo "root: $(stat -f -c %T /), first process: $$"
echo "modules: $(ls /lib/modules | grep -c -x "$(uname -r)")"
echo "mounted: $(mount | grep -c -E ' on /(dev|proc|sys) ')"
if echo kept >/file; then echo "written: $(cat /file)"; else echo "not written"; fi
sync
poweroff -f
`;

const folder = mkdtempSync(join(tmpdir(), 'vivarium-root-'));
const disk = join(folder, 'root.ext4');
after(() => rmSync(folder, { recursive: true }));

before(async () => {
  const guest = await defaultGuest();
  const root = join(folder, 'root');
  for (const name of ['bin', 'sbin', 'dev', 'proc', 'sys', 'lib/modules'])
    mkdirSync(join(root, name), { recursive: true });
  writeFileSync(join(root, 'bin/busybox'), busyboxOf(guest), { mode: 0o755 });
  writeFileSync(join(root, 'sbin/init'), INIT, { mode: 0o755 });
  execFileSync('/sbin/mke2fs', ['-q', '-t', 'ext4', '-L', 'small', '-d', root, disk, '24M']);
});

const digest = (): string => createHash('sha256').update(readFileSync(disk)).digest('hex');

async function boots(...args: readonly string[]): Promise<string> {
  const guest = RunningGuest.run(...args);
  try {
    assert.deepEqual(await guest.end(), { status: 0, signal: null });
    assert.deepEqual(guest.complaints, []);
    return guest.output;
  } finally {
    await guest.kill();
  }
}

test("a disk's init becomes the first process, with the kernel's modules at hand", async () => {
  const before = digest();
  const output = await boots('-d', `${disk},overlay`, '-p', 'quiet root=LABEL=small rw');
  assert.match(output, /^root: ext2\/ext3, first process: 1\r\nmodules: 1\r\nmounted: 3\r\nwritten: kept\r$/m);
  assert.equal(digest(), before);
});

test('--root is for reading', async () => {
  const before = digest();
  assert.match(await boots('--root', disk, '-p', 'quiet'), /^modules: 1\r\nmounted: 3\r\n.*not written\r$/ms);
  assert.equal(digest(), before);
});

test('without the disk, the shell of the initial RAM disk is there', async (t) => {
  const guest = RunningGuest.run('-p', 'quiet root=/dev/vda');
  t.after(() => guest.kill());
  await guest.expect('The root disk /dev/vda cannot be mounted');
  await guest.shell();
  assert.match(await guest.command('mount | grep -c -E "on /(dev|proc|sys) "'), /^3$/m);
  guest.send('poweroff\n');
  assert.equal((await guest.end()).status, 0);
});
