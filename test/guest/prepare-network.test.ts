import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { GUEST_MODULES } from '../../src/guest/modules.ts';
import { prepareGuest } from '../../src/guest/prepare.ts';
import { readCpio } from './cpio-reader.ts';

const hasApt = spawnSync('apt-get', ['--version']).status === 0;

test("Debian's kernel and busybox become a guest", { skip: hasApt ? false : 'apt-get is not installed' }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-guest-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const guest = await prepareGuest({ folder, progress: () => {} });
  assert.match(guest.kernelVersion, /^\d+\.\d+\..*-cloud-amd64$/);
  // The boot protocol's signature, and its version (Linux, Documentation/x86/boot.rst).
  const kernel = readFileSync(guest.kernel);
  assert.equal(kernel.toString('latin1', 0x202, 0x206), 'HdrS');
  assert.ok(kernel.readUInt16LE(0x206) >= 0x20c);
  const entries = new Map(readCpio(gunzipSync(readFileSync(guest.initrd))).map((entry) => [entry.name, entry]));
  const busybox = entries.get('bin/busybox');
  assert.ok(busybox?.type === 'file' && busybox.data.length > 500_000);
  const dep = entries.get(`lib/modules/${guest.kernelVersion}/modules.dep`);
  assert.ok(dep?.type === 'file');
  const table = Buffer.from(dep.data).toString();
  for (const name of GUEST_MODULES.filter((module) => module.startsWith('virtio_'))) {
    assert.match(table, new RegExp(`/${name.replace('_', '[_-]')}\\.ko:`), name);
  }
  for (const [, path = ''] of table.matchAll(/(kernel\/[^\s:]+)/g)) {
    assert.ok(entries.has(`lib/modules/${guest.kernelVersion}/${path}`), path);
  }
});
