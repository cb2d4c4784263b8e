import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { writeInitramfs } from '../../src/guest/initramfs.ts';
import { readCpio } from './cpio-reader.ts';

const MODULE = { name: 'm', path: 'kernel/drivers/m.ko', data: Buffer.from('module'), depends: [], aliases: ['pci:*'] };

test('the initramfs holds busybox as pid 1, a console to start from, and the modules', () => {
  const entries = new Map(
    readCpio(writeInitramfs('6.1-x', Buffer.from('ELF'), [MODULE])).map((entry) => [entry.name, entry]),
  );
  const init = entries.get('init');
  assert.ok(init?.type === 'file' && init.mode === 0o755);
  assert.deepEqual(entries.get('dev/console'), {
    type: 'character',
    name: 'dev/console',
    mode: 0o600,
    major: 5,
    minor: 1,
  });
  const text = (name: string): string => {
    const entry = entries.get(name);
    assert.ok(entry?.type === 'file', name);
    return Buffer.from(entry.data).toString();
  };
  assert.equal(text('bin/busybox'), 'ELF');
  assert.equal(text('lib/modules/6.1-x/kernel/drivers/m.ko'), 'module');
  assert.equal(text('lib/modules/6.1-x/modules.dep'), 'kernel/drivers/m.ko:\n');
  assert.equal(text('lib/modules/6.1-x/modules.alias'), 'alias pci:* m\n');
  for (const name of [
    'init',
    'etc/init.d/devices',
    'etc/init.d/root',
    'etc/init.d/rcS',
    'etc/init.d/console',
    'etc/profile',
  ]) {
    assert.equal(spawnSync('sh', ['-n'], { input: text(name) }).status, 0, name);
  }
  for (const [, name = ''] of text('etc/inittab').matchAll(/:-?\/(etc\/\S+)$/gm)) {
    const entry = entries.get(name);
    assert.ok(entry?.type === 'file' && entry.mode === 0o755, name);
  }
});

test('the same input gives the same bytes', () => {
  assert.deepEqual(writeInitramfs('v', Buffer.from('b'), [MODULE]), writeInitramfs('v', Buffer.from('b'), [MODULE]));
});
