// Programs in the guest give the results that they give on the host.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { CpioEntry } from '../../src/guest/cpio.ts';
import { defaultGuest, extendInitrd } from './kernels.ts';
import { RunningGuest } from './running-guest.ts';

const HOST_IS_X86 = process.arch === 'x64';

/** C programs, compiled static with these flags, and what the host must have to run them too. */
const PROGRAMS = [
  { name: 'long-double', flags: ['-O2', '-lm'], cpu: [] },
  {
    name: 'sse4',
    flags: ['-O2', '-msse4.2', '-mpclmul', '-maes', '-msha'],
    cpu: ['sse4_2', 'pclmulqdq', 'aes', 'sha_ni'],
  },
] as const;

const folder = mkdtempSync(join(tmpdir(), 'vivarium-user-'));
const data = randomBytes(200_000);
let run: RunningGuest;

before(async () => {
  const guest = await defaultGuest();
  const entries: CpioEntry[] = [{ type: 'file', name: 'opt/data', mode: 0o644, data }];
  for (const { name, flags } of PROGRAMS) {
    const source = new URL(`programs/${name}.c`, import.meta.url).pathname;
    execFileSync('gcc', ['-static', '-o', join(folder, name), source, ...flags], { stdio: 'inherit' });
    entries.push({ type: 'file', name: `opt/${name}`, mode: 0o755, data: readFileSync(join(folder, name)) });
  }
  writeFileSync(join(folder, 'data'), data);
  extendInitrd(guest, entries, join(folder, 'initrd'));
  run = RunningGuest.run('-m', '320', '-p', 'quiet', '--initrd', join(folder, 'initrd'), guest.kernel);
  await run.shell();
});
after(async () => {
  await run?.kill();
  rmSync(folder, { recursive: true, force: true });
});

/** The same shell command here. */
const host = (command: string): string =>
  execFileSync('sh', ['-c', command], { cwd: folder, encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });

for (const command of [
  'sha256sum < data',
  'md5sum < data',
  'gzip -c < data | gzip -dc | sha256sum',
  'bzip2 -c < data | bzip2 -dc | sha256sum',
  'seq 1 20000 | sort -r | md5sum',
  'seq 1 5000 | awk \'{ s += $1 * $1 / 7 } END { printf "%.10e\\n", s }\'',
  'seq 1 3000 | sed "s/[13579]/<&>/g" | grep -c "<9>"',
  'i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); s=$(((s * 31 + i) % 1000003)); done; echo $s',
  'od -An -tx4 data | head -c 3000 | tr -d " \\n" | md5sum',
]) {
  test(command, async () => {
    assert.equal(await run.command(`cd /opt; ${command}`), host(command));
  });
}

for (const { name, cpu } of PROGRAMS) {
  const features = HOST_IS_X86 ? readFileSync('/proc/cpuinfo', 'latin1') : '';
  const missing = cpu.filter((feature) => !features.includes(` ${feature}`));
  const skip =
    !HOST_IS_X86 || missing.length > 0 ? `the host has no ${missing.join(', ') || 'x86-64 processor'}` : false;
  test(`programs/${name}.c`, { skip }, async () => {
    const expected = host(`./${name}`);
    assert.notEqual(expected, '');
    assert.equal(await run.command(`/opt/${name}`), expected);
  });
}

test('vi edits a file', async () => {
  run.send('vi /tmp/text\n');
  await run.expect(/\/tmp\/text.*0%|\/1 100%/);
  run.send('ifirst line\rsecond line');
  await run.expect('second line');
  // An escape that other keys follow at once would be read as one of the terminal's keys.
  run.send('\x1b');
  await new Promise((resolve) => setTimeout(resolve, 1000));
  run.send(':wq\r');
  await run.expect('# ');
  assert.equal(await run.command('cat /tmp/text'), 'first line\nsecond line\n');
});

test('the kernel has no complaint', async () => {
  assert.match(await run.command('dmesg | tail -1'), /\[/);
  assert.deepEqual(run.complaints, []);
});
