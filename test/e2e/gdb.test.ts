// `--gdb` with the real GDB, as a person uses it.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { elfImage } from '../arch/x86_64/kernel/images.ts';
import { gdb, noGdb } from '../vm/gdb/gdb.ts';
import { RunningGuest } from './running-guest.ts';

const folder = mkdtempSync(join(tmpdir(), 'vivarium-gdb-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** The same bytes in 32- and 64-bit mode. */
const CODE = [
  ...[0xbb, 0x78, 0x56, 0x34, 0x12], // mov ebx, 0x12345678
  ...[0xff, 0xc3], // inc ebx
  ...[0xb8, 0x00, 0x90, 0x00, 0x00], // mov eax, 0x9000
  ...[0x89, 0x18], // mov [rax], ebx
  ...[0xff, 0xc3], // inc ebx
  ...[0xb0, 0xfe, 0xe6, 0x64], // mov al, 0xfe; out 0x64, al: reset
  ...[0xfa, 0xf4], // cli; hlt
];

test('breakpoints, watchpoints, steps, memory, detach', { skip: noGdb ?? false }, async (t) => {
  const kernel = join(folder, 'kernel');
  writeFileSync(kernel, elfImage(Uint8Array.from(CODE)));
  const run = RunningGuest.run('--gdb', '0', kernel);
  t.after(() => run.kill());
  while (!/localhost:(\d+)/.test(run.errors)) await new Promise((resolve) => setTimeout(resolve, 50));
  const port = Number(/localhost:(\d+)/.exec(run.errors)?.[1]);
  const output = await gdb(port, [
    'set $start = $pc',
    'stepi',
    'p $pc - $start',
    'break *($start + 7)',
    'continue',
    'p/x $rbx & 0xffffffff',
    'watch -l *(int*)0x9000',
    'continue',
    'p $pc - $start',
    'x/xw 0x9000',
    'delete',
    'set *(int*)0x9004 = 77',
    'p *(int*)0x9004',
    'hbreak *($start + 16)',
    'continue',
    'p $pc - $start',
    'detach',
  ]);
  assert.match(output, /\$1 = 5\n/);
  assert.match(output, /Breakpoint 1, /);
  assert.match(output, /\$2 = 0x12345679\n/);
  assert.match(output, /Hardware watchpoint 2: .*\n\nOld value = 0\nNew value = 305419897\n/);
  assert.match(output, /\$3 = 14\n/);
  assert.match(output, /0x9000:\s+0x12345679\n/);
  assert.match(output, /\$4 = 77\n/);
  assert.match(output, /\$5 = 16\n/);
  assert.deepEqual(await run.end(), { status: 0, signal: null });
});
