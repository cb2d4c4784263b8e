/** Descriptions of the kernel's structures, and numbers of its requests, against the C compiler's own view of its headers. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Request } from '../../src/host/ioctl.ts';
import type { FieldType, Struct } from '../../src/host/struct.ts';

export interface KernelInterface {
  /** `linux/kvm.h` */
  readonly header: string;
  readonly structs: readonly Struct[];
  readonly requests: readonly Request[];
  readonly constants?: Readonly<Record<string, number>>;
  /** Fields, as `struct.field`, that have no size of their own in C: only their offset is compared. */
  readonly places?: ReadonlySet<string>;
}

const WIDTH: Record<FieldType, number> = { u8: 1, u16: 2, u32: 4, s32: 4, u64: 8 };

const compiler = ['cc', 'gcc', 'clang'].find((name) => spawnSync(name, ['--version']).status === 0);

/** Why a header cannot be looked at; undefined if it can. */
export function headerMissing(header: string): string | undefined {
  if (compiler === undefined) return 'no C compiler';
  const { status } = spawnSync(compiler, ['-E', '-x', 'c', '-'], { input: `#include <${header}>\n` });
  return status === 0 ? undefined : `no ${header}`;
}

interface Question {
  readonly what: string;
  readonly expression: string;
  readonly ours: number;
}

function questions({ structs, requests, constants = {}, places = new Set() }: KernelInterface): Question[] {
  const list: Question[] = [];
  for (const { name, size, fields } of structs) {
    list.push({ what: `size of ${name}`, expression: `sizeof(struct ${name})`, ours: size });
    for (const [field, [offset, type, count = 1]] of Object.entries(fields)) {
      const what = `${name}.${field}`;
      list.push({ what: `offset of ${what}`, expression: `offsetof(struct ${name}, ${field})`, ours: offset });
      if (places.has(what)) continue;
      const bytes = WIDTH[type] * count;
      list.push({ what: `size of ${what}`, expression: `sizeof(((struct ${name} *)0)->${field})`, ours: bytes });
    }
  }
  for (const { name, number } of requests) list.push({ what: name, expression: name, ours: number });
  for (const [name, number] of Object.entries(constants)) list.push({ what: name, expression: name, ours: number });
  return list;
}

export function assertLayout(kernel: KernelInterface): void {
  const all = questions(kernel);
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-structs-'));
  try {
    const lines = all.map(({ expression }) => `  printf("%lu\\n", (unsigned long)(${expression}));`);
    const includes = ['stddef.h', 'stdio.h', kernel.header].map((header) => `#include <${header}>\n`).join('');
    const source = `${includes}int main(void) {\n${lines.join('\n')}\n  return 0;\n}\n`;
    const program = join(folder, 'layout');
    const built = spawnSync(compiler as string, ['-x', 'c', '-o', program, '-'], { input: source, encoding: 'utf8' });
    assert.equal(built.status, 0, built.stderr);
    const numbers = spawnSync(program, { encoding: 'utf8' }).stdout.trim().split('\n').map(Number);
    assert.deepEqual(
      all.map(({ what, ours }) => `${what}: ${ours}`),
      all.map(({ what }, i) => `${what}: ${numbers[i]}`),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Fields are aligned and lie inside their structures; `open`: structures that end in an array without a length. */
export function assertAligned(structs: readonly Struct[], open: ReadonlySet<string> = new Set()): void {
  for (const { name, size, fields } of structs) {
    for (const [field, [offset, type, count = 1]] of Object.entries(fields)) {
      const end = open.has(name) ? offset : offset + WIDTH[type] * count;
      assert.ok(end <= size, `${name}.${field} ends at ${end} of ${size}`);
      assert.equal(offset % WIDTH[type], 0, `${name}.${field} is not aligned`);
    }
  }
}
