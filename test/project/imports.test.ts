// The direction of imports in src/: from the command line down to the host, never up, and never across where a folder is to be
// independent of its neighbour.
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** The folders of src/ from top to bottom. A folder may import those of lower layers. */
const LAYERS = [
  ['cli'],
  ['vm', '9s'],
  ['arch', 'devices', 'virtio', 'jail', 'control', 'guest', 'disk', 'fs', 'net'],
  ['hypervisor'],
  ['cpu'],
  ['host', 'wasm'],
];

/** Imports inside one layer: each names a folder and those of its neighbours which it may import. */
const NEIGHBOURS: Record<string, readonly string[]> = {
  '9s': ['vm'],
  arch: ['devices'],
  guest: ['disk'],
  fs: ['disk'],
  net: ['disk'],
  virtio: ['devices', 'disk', 'fs', 'net'],
};

/** Folders that only the folders named beside them (and they themselves) may import. */
const PRIVATE: Record<string, readonly string[]> = {
  'src/cpu/': ['src/hypervisor/soft/'],
  // One machine or another: src/hypervisor chooses, and nothing else knows.
  'src/hypervisor/soft/': ['src/hypervisor/'],
  'src/hypervisor/kvm/': ['src/hypervisor/'],
};

const layerOf = (folder: string): number => LAYERS.findIndex((layer) => layer.includes(folder));

/** Why a file of src/ may not import another (paths from the root); undefined if it may. */
function objection(from: string, to: string): string | undefined {
  const [source, target] = [from.split('/')[1]!, to.split('/')[1]!];
  for (const folder of [source, target]) {
    if (layerOf(folder) < 0) return `src/${folder} is in no layer: add it to LAYERS in test/project/imports.test.ts`;
  }
  for (const [folder, users] of Object.entries(PRIVATE)) {
    if (to.startsWith(folder) && ![folder, ...users].some((user) => from.startsWith(user))) {
      return `${folder} is private to ${users.join(', ')}`;
    }
  }
  if (source === target || layerOf(source) < layerOf(target)) return undefined;
  if (NEIGHBOURS[source]?.includes(target)) return undefined;
  return `src/${source} must not import src/${target}`;
}

/** Relative modules that a source text imports, in any form: static, dynamic, and as a URL (for workers). */
function importsOf(text: string): string[] {
  const forms = /(?:\bfrom|\bimport|\bimport\s*\(|\bnew URL\()\s*'(\.[^']*)'/g;
  return [...text.matchAll(forms)].map((match) => match[1]!);
}

test('every form of import is found', () => {
  const text = [
    "import { a } from './a.ts';",
    "import type { B } from '../b.ts';",
    "export * from './c.ts';",
    "import './d.ts';",
    "await import('./e.ts');",
    "new Worker(new URL('./f.ts', import.meta.url));",
    "import fs from 'node:fs';",
  ].join('\n');
  assert.deepEqual(importsOf(text), ['./a.ts', '../b.ts', './c.ts', './d.ts', './e.ts', './f.ts']);
});

test('the rule refuses what goes up, across, or into a private folder', () => {
  assert.equal(objection('src/cli/run.ts', 'src/vm/run.ts'), undefined);
  assert.equal(objection('src/arch/x86_64/cpu-state.ts', 'src/devices/pc-map.ts'), undefined);
  assert.match(objection('src/devices/bus.ts', 'src/arch/x86_64/map.ts')!, /must not import/);
  assert.match(objection('src/host/clock.ts', 'src/devices/bus.ts')!, /must not import/);
  assert.match(objection('src/vm/run.ts', 'src/hypervisor/soft/vm.ts')!, /private/);
  assert.match(objection('src/hypervisor/irqchip/lapic.ts', 'src/cpu/x86_64/layout.ts')!, /private/);
  assert.match(objection('src/attic/a.ts', 'src/host/clock.ts')!, /in no layer/);
});

test('imports in src/ go one direction', () => {
  const files = globSync('src/**/*.ts', { cwd: ROOT });
  assert.ok(files.length > 0);
  const objections = files.flatMap((from) =>
    importsOf(readFileSync(join(ROOT, from), 'utf8')).flatMap((module) => {
      const to = posix.join(posix.dirname(from), module);
      const reason = to.startsWith('src/') ? objection(from, to) : undefined;
      return reason === undefined ? [] : [`${from} imports ${to}: ${reason}`];
    }),
  );
  assert.deepEqual(objections, []);
});

test('the private folders are where the rule says', () => {
  for (const folder of ['src/cpu/', 'src/hypervisor/soft/']) assert.ok(existsSync(join(ROOT, folder)), folder);
});
