import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { test } from 'node:test';
import { GuestError } from '../../src/guest/error.ts';
import { collectModules, dependencyTable, moduleEntries } from '../../src/guest/modules.ts';
import { elfModule } from './elf-module.ts';

function kernelFolder(t: TestContext, modules: Readonly<Record<string, readonly string[]>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-modules-'));
  t.after(() => rmSync(folder, { recursive: true }));
  for (const [path, texts] of Object.entries(modules)) {
    mkdirSync(dirname(join(folder, 'kernel', path)), { recursive: true });
    writeFileSync(join(folder, 'kernel', path), elfModule(texts));
  }
  return folder;
}

const MODULES = {
  'drivers/virtio-top.ko': ['depends=left,right', 'alias=virtio:d1'],
  'drivers/left.ko': ['depends=base'],
  'net/right.ko': ['depends=left,base'],
  'lib/base.ko': ['depends='],
  'lib/unused.ko': ['depends='],
};

test('modules come with what they depend on, each once, in loading order', async (t) => {
  const modules = await collectModules(kernelFolder(t, MODULES), ['virtio_top', 'base', 'built_in']);
  assert.deepEqual(
    modules.map(({ name }) => name),
    ['base', 'left', 'right', 'virtio_top'],
  );
  assert.equal(
    dependencyTable(modules),
    'kernel/lib/base.ko:\n' +
      'kernel/drivers/left.ko: kernel/lib/base.ko\n' +
      'kernel/net/right.ko: kernel/drivers/left.ko kernel/lib/base.ko\n' +
      'kernel/drivers/virtio-top.ko: kernel/net/right.ko kernel/drivers/left.ko kernel/lib/base.ko\n',
  );
  const entries = moduleEntries('lib/modules/1', modules);
  const alias = entries.find(({ name }) => name === 'lib/modules/1/modules.alias');
  assert.ok(alias?.type === 'file' && Buffer.from(alias.data).toString() === 'alias virtio:d1 virtio_top\n');
});

test('a missing dependency, a circle and a damaged module are told', async (t) => {
  const folder = kernelFolder(t, { 'a.ko': ['depends=gone'], 'b.ko': ['depends=c'], 'c.ko': ['depends=b'] });
  writeFileSync(join(folder, 'kernel/d.ko'), 'not a module');
  const fails = (name: string, message: RegExp): Promise<void> =>
    assert.rejects(
      collectModules(folder, [name]),
      (error) => error instanceof GuestError && message.test(error.message),
    );
  await fails('a', /lacks the module gone/);
  await fails('b', /module b depends on itself/);
  await fails('d', /module d: not a 64-bit/);
});

const hasXz = spawnSync('xz', ['--version']).status === 0;
test('modules packed with xz are unpacked', { skip: hasXz ? false : 'xz is not installed' }, async (t) => {
  const folder = kernelFolder(t, { 'a.ko': ['depends=b'], 'b.ko': ['alias=x'] });
  assert.equal(spawnSync('xz', [join(folder, 'kernel/b.ko')]).status, 0);
  const modules = await collectModules(folder, ['a']);
  assert.deepEqual(
    modules.map(({ path }) => path),
    ['kernel/b.ko', 'kernel/a.ko'],
  );
  assert.deepEqual(Buffer.from(modules[0]?.data ?? []), elfModule(['alias=x']));
  writeFileSync(join(folder, 'kernel/b.ko.xz'), 'damaged');
  await assert.rejects(collectModules(folder, ['a']), GuestError);
});
