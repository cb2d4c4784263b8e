// Disks in Debian's kernel, by each way to reach them: written, read back, checked on the host; and programs run from one.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { RunningGuest } from './running-guest.ts';

const MIB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'vivarium-disks-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Bytes in the middle of each disk that the guest copies from one to another. */
const data = randomBytes(3 * MIB);
const SKIP = 5 * MIB;

/** The PC's way, the way of a guest that knows no messages, and without a bus. */
const TRANSPORTS: Readonly<Record<string, readonly string[]>> = {
  'PCI with MSI-X': [],
  'PCI with INTx': ['-p', 'pci=nomsi'],
  MMIO: ['--virtio-transport', 'mmio'],
};

for (const [name, args] of Object.entries(TRANSPORTS)) {
  test(`${name}: disks are read and written, and the host finds what the guest wrote`, async () => {
    const disk = Buffer.concat([Buffer.alloc(SKIP), data, Buffer.alloc(16 * MIB - SKIP - data.length)]);
    writeFileSync(at('source.img'), disk);
    writeFileSync(at('target.img'), Buffer.alloc(16 * MIB));
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', at('target.qcow2'), '1G']);
    const disks = [
      ...['--disk', `${at('source.img')},overlay,serial=ABC-1`],
      ...['--rwdisk', at('target.img'), '--rwqcow', at('target.qcow2')],
    ];
    const guest = RunningGuest.run('-p', 'quiet', ...args, ...disks);
    try {
      await guest.shell();
      assert.equal((await guest.command('cat /sys/block/vda/serial')).trim(), 'ABC-1');
      await guest.command(
        'for d in vdb vdc; do dd if=/dev/vda of=/dev/$d bs=64k skip=80 seek=80 count=48 conv=fsync; done',
      );
      await guest.command('dd if=/dev/zero of=/dev/vda bs=1M count=1 conv=fsync; echo 3 >/proc/sys/vm/drop_caches');
      for (const device of ['vda', 'vdb', 'vdc']) {
        const sum = await guest.command(`dd if=/dev/${device} bs=64k skip=80 count=48 2>/dev/null | sha256sum`);
        assert.equal(sum.split(' ')[0], sha256(data), device);
      }
      assert.deepEqual(guest.complaints, []);
    } finally {
      // The machine's end is the host's affair: nothing is lost.
      guest.child.kill('SIGTERM');
      await guest.end();
    }
    assert.ok(readFileSync(at('source.img')).equals(disk), 'the image under an overlay');
    assert.ok(
      readFileSync(at('target.img'))
        .subarray(SKIP, SKIP + data.length)
        .equals(data),
    );
    execFileSync('qemu-img', ['check', '-q', '-f', 'qcow2', at('target.qcow2')]);
    execFileSync('qemu-img', ['convert', '-O', 'raw', at('target.qcow2'), at('converted.img')]);
    assert.ok(
      readFileSync(at('converted.img'))
        .subarray(SKIP, SKIP + data.length)
        .equals(data),
    );
  });
}

test('programs run from a disk, one after the other through the same memory', async () => {
  // Two programs of one size whose code differs, in a file system that is read into the cache and dropped again and again.
  mkdirSync(at('root'));
  const source = (result: number): string =>
    `int main(void) { volatile int n = 0; for (int i = 0; i < 40000; i++) n += ${result}; return n / 40000; }\n`;
  for (const result of [1, 2, 3]) {
    writeFileSync(at('program.c'), source(result));
    execFileSync('gcc', ['-static', '-O1', '-o', at(`root/program${result}`), at('program.c')], { stdio: 'inherit' });
  }
  execFileSync('mkfs.ext4', ['-q', '-d', at('root'), at('root.img'), '32M'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  copyFileSync(at('root.img'), at('before.img'));
  const run = RunningGuest.run('-m', '128', '-p', 'quiet', '--disk', at('root.img'));
  try {
    await run.shell();
    await run.command('mkdir -p /disk; mount -o ro /dev/vda /disk');
    const loop =
      'for i in 1 2 3 4 5 6; do for p in 1 2 3; do /disk/program$p; r="$r$?"; echo 3 >/proc/sys/vm/drop_caches; done; done';
    assert.equal((await run.command(`${loop}; echo $r`)).trim(), '123'.repeat(6));
    await run.command('umount /disk');
    assert.deepEqual(run.complaints, []);
    run.send('poweroff\n');
    assert.equal((await run.end()).status, 0);
  } finally {
    await run.kill();
  }
  assert.ok(readFileSync(at('root.img')).equals(readFileSync(at('before.img'))));
});
