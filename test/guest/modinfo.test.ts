import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ModuleFormatError, readModuleInfo } from '../../src/guest/modinfo.ts';
import { elfModule } from './elf-module.ts';
import { randomSource } from './random.ts';

test('dependencies and aliases are read, names as the kernel has them', () => {
  const module = elfModule([
    'license=GPL',
    'alias=virtio:d00000004v*',
    'alias=fs-x',
    'depends=virtio-ring,virtio',
    'name=x',
    'parm=a:b=c',
  ]);
  assert.deepEqual(readModuleInfo(module), {
    depends: ['virtio_ring', 'virtio'],
    aliases: ['virtio:d00000004v*', 'fs-x'],
  });
  assert.deepEqual(readModuleInfo(elfModule(['depends='])), { depends: [], aliases: [] });
});

test('what is no module is refused', () => {
  const module = elfModule(['depends=']);
  assert.throws(() => readModuleInfo(new Uint8Array()), ModuleFormatError);
  assert.throws(() => readModuleInfo(module.subarray(0, module.length - 1)), /cut short/);
  assert.throws(() => readModuleInfo(Buffer.from('#!/bin/sh\n'.repeat(20))), /not a 64-bit/);
  const otherClass = Buffer.from(module);
  otherClass[4] = 1;
  assert.throws(() => readModuleInfo(otherClass), /not a 64-bit/);
  assert.throws(() => readModuleInfo(elfModule(['depends='], '.modinfx')), /no .modinfo/);
});

test('damaged modules give an error or texts, nothing else', (t) => {
  const random = randomSource(t);
  const module = elfModule(['alias=a', 'depends=b,c']);
  for (let round = 0; round < 5000; round++) {
    const damaged = Buffer.from(module.subarray(0, random(4) ? module.length : random(module.length + 1)));
    for (let changes = random(8); changes > 0 && damaged.length > 0; changes--) {
      damaged[random(damaged.length)] = random(3) ? random(256) : 0xff;
    }
    try {
      readModuleInfo(damaged);
    } catch (error) {
      assert.ok(error instanceof ModuleFormatError, String(error));
    }
  }
});
