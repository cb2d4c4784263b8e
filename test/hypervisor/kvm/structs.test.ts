// The descriptions of KVM's structures and the ioctls' numbers against the C compiler's own view of the kernel's header.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import * as constants from '../../../src/hypervisor/kvm/constants.ts';
import * as ioctls from '../../../src/hypervisor/kvm/ioctls.ts';
import { allocate, type FieldType, get, type Struct, set, struct } from '../../../src/hypervisor/kvm/struct.ts';
import * as structs from '../../../src/hypervisor/kvm/structs.ts';

const WIDTH: Record<FieldType, number> = { u8: 1, u16: 2, u32: 4, s32: 4, u64: 8 };
/** Members that stand for the start of a nested structure, or of an array of them: only the offset is compared. */
const NESTED = new Set(
  ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt', 'gdt', 'idt']
    .map((name) => `kvm_sregs.${name}`)
    .concat('kvm_xcrs.xcrs'),
);

const compiler = ['cc', 'gcc', 'clang'].find((name) => spawnSync(name, ['--version']).status === 0);
const hasHeader =
  compiler !== undefined &&
  spawnSync(compiler, ['-E', '-x', 'c', '-'], { input: '#include <linux/kvm.h>\n' }).status === 0;

interface Question {
  readonly what: string;
  readonly expression: string;
  readonly ours: number;
}

function questions(): Question[] {
  const list: Question[] = [];
  for (const { name, size, fields } of Object.values(structs) as Struct[]) {
    list.push({ what: `size of ${name}`, expression: `sizeof(struct ${name})`, ours: size });
    for (const [field, [offset, type, count = 1]] of Object.entries(fields)) {
      const what = `${name}.${field}`;
      list.push({ what: `offset of ${what}`, expression: `offsetof(struct ${name}, ${field})`, ours: offset });
      if (NESTED.has(what)) continue;
      // A flexible array has no size.
      if (what === 'kvm_signal_mask.sigset') continue;
      const bytes = WIDTH[type] * count;
      list.push({ what: `size of ${what}`, expression: `sizeof(((struct ${name} *)0)->${field})`, ours: bytes });
    }
  }
  for (const { name, number } of Object.values(ioctls)) list.push({ what: name, expression: name, ours: number });
  for (const [name, number] of Object.entries(constants)) list.push({ what: name, expression: name, ours: number });
  return list;
}

test('structures and requests are as the C compiler sees them', {
  skip: !hasHeader && 'no C compiler or no linux/kvm.h',
}, () => {
  const all = questions();
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-structs-'));
  try {
    const lines = all.map(({ expression }) => `  printf("%lu\\n", (unsigned long)(${expression}));`);
    const source = `#include <stddef.h>\n#include <stdio.h>\n#include <linux/kvm.h>\nint main(void) {\n${lines.join('\n')}\n  return 0;\n}\n`;
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
});

test('fields are aligned and lie inside their structure', () => {
  for (const { name, size, fields } of Object.values(structs) as Struct[]) {
    for (const [field, [offset, type, count = 1]] of Object.entries(fields)) {
      const end = name === 'kvm_signal_mask' ? offset : offset + WIDTH[type] * count;
      assert.ok(end <= size, `${name}.${field} ends at ${end} of ${size}`);
      assert.equal(offset % WIDTH[type], 0, `${name}.${field} is not aligned`);
    }
  }
});

test('fields are read and written at their place, in their width', () => {
  const type = struct('sample', 24, { a: [0, 'u8'], b: [2, 'u16'], c: [4, 's32'], d: [8, 'u64', 2] });
  const view = allocate(type, 8);
  assert.equal(view.byteLength, 32);
  set(type, view, 'a', 0x1ff);
  set(type, view, 'b', 0xabcd);
  set(type, view, 'c', -2);
  set(type, view, 'd', 0x1122334455667788n, 0, 1);
  assert.deepEqual(
    [
      get(type, view, 'a'),
      get(type, view, 'b'),
      get(type, view, 'c'),
      get(type, view, 'd'),
      get(type, view, 'd', 0, 1),
    ],
    [0xff, 0xabcd, -2, 0n, 0x1122334455667788n],
  );
  assert.equal(get(type, view, 'd', 8), 0x1122334455667788n);
});
