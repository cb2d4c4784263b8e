// The initramfs of the bench's guest: Debian's programs, our own compiled for this, and what they work on.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { type CpioEntry, writeCpio } from '../../src/guest/cpio.ts';
import { source, text } from './data.ts';
import type { Member } from './members.ts';

const FOLDER = fileURLToPath(new URL('.', import.meta.url));
/** C files that become static programs of the same name. */
const PROGRAMS = ['first-process', 'integer', 'float', 'memory', 'process'];
const FLAGS = ['-O2', '-static', '-fno-math-errno'];
/** Parts of Debian's packages that no member reads. */
const UNUSED = new Set([
  'usr/share',
  'etc',
  'var',
  'usr/include',
  'usr/lib/x86_64-linux-gnu/gconv',
  'usr/sbin',
  'sbin',
]);
const TEXT_BYTES = 1_500_000;
const PART_BYTES = 300_000;
const SOURCE_FUNCTIONS = 12;

/** The kernel's parameter that starts the set. */
export const FIRST_PROCESS = 'rdinit=/bench/first-process';

function* treeEntries(root: string, below: string): Generator<CpioEntry> {
  for (const entry of readdirSync(join(root, below), { withFileTypes: true })) {
    const name = below === '' ? entry.name : `${below}/${entry.name}`;
    if (UNUSED.has(name)) continue;
    const path = join(root, name);
    if (entry.isSymbolicLink()) yield { type: 'symlink', name, target: readlinkSync(path) };
    else if (entry.isFile()) yield { type: 'file', name, mode: 0o755, data: readFileSync(path) };
    else if (entry.isDirectory()) {
      yield { type: 'directory', name, mode: 0o755 };
      yield* treeEntries(root, name);
    }
  }
}

function compiled(): CpioEntry[] {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-bench-'));
  try {
    return PROGRAMS.map((name) => {
      const output = join(folder, name);
      execFileSync('gcc', [...FLAGS, '-o', output, join(FOLDER, `${name}.c`)], { stdio: 'inherit' });
      return { type: 'file', name: `bench/${name}`, mode: 0o755, data: readFileSync(output) };
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** gcc's version, which the static programs' speed depends on. */
export function compilerVersion(): string {
  return execFileSync('gcc', ['-dumpfullversion'], { encoding: 'utf8' }).trim();
}

/** The archive, not packed. `tree` is the folder of Debian's programs. */
export function benchImage(tree: string, members: readonly Member[]): Buffer {
  const file = (name: string, data: Uint8Array): CpioEntry => ({
    type: 'file',
    name: `bench/${name}`,
    mode: 0o644,
    data,
  });
  const words = text(TEXT_BYTES);
  const scripts = readdirSync(join(FOLDER, 'scripts'));
  return writeCpio([
    ...treeEntries(tree, ''),
    { type: 'directory', name: 'dev', mode: 0o755 },
    { type: 'character', name: 'dev/console', mode: 0o600, major: 5, minor: 1 },
    { type: 'directory', name: 'bench', mode: 0o755 },
    ...compiled(),
    ...scripts.map((name) => file(name, readFileSync(join(FOLDER, 'scripts', name)))),
    file('set', Buffer.from(members.map(({ name, command }) => `${name} ${command}\n`).join(''))),
    file('text', words),
    file('large', Buffer.concat(Array.from({ length: 6 }, () => words))),
    file('part', words.subarray(0, PART_BYTES)),
    file('text.gz', gzipSync(words)),
    file('text.xz', execFileSync('xz', ['-c'], { input: words, maxBuffer: 2 * TEXT_BYTES })),
    file('source.c', source(SOURCE_FUNCTIONS)),
  ]);
}
