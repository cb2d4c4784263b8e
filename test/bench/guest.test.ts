import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { source, text } from '../../bench/guest/data.ts';
import { MEMBERS } from '../../bench/guest/members.ts';
import { cpuTime, residentBeyondRam } from '../../bench/guest/process-files.ts';
import { GuestSession } from '../../bench/guest/session.ts';
import { barChart } from '../../bench/lib/chart.ts';

/** A session with a program in place of a machine: it says `lines`, waits for a line, then ends with `status`. */
function session(lines: readonly string[], status = 0): GuestSession {
  const script = `process.stdout.write(${JSON.stringify(lines.map((line) => `${line}\r\n`).join(''))});
    process.stdin.once('data', () => process.exit(${status}));`;
  return new GuestSession('a machine', process.execPath, ['-e', script]);
}

test('a session follows the set to its end', async () => {
  const guest = session(['[    0.1] Linux', '@begin one', '@end one 0 00ff', '@begin two', '@end two 0 11ee', '@done']);
  const runs = await guest.set();
  assert.deepEqual(
    runs.map(({ name, checksum }) => [name, checksum]),
    [
      ['one', '00ff'],
      ['two', '11ee'],
    ],
  );
  assert.ok(runs.every(({ wall, cpu }) => wall >= 0 && cpu >= 0));
  await guest.powerOff();
});

test('a session fails with its member, its kernel and its machine', async (t) => {
  const failing = session(['@begin one', 'one: no such file', '@end one 256 00ff']);
  t.after(() => failing.kill());
  await assert.rejects(failing.set(), /one ended with status 256\n(.*\n)*one: no such file/);
  const complaining = session(['@begin one', '[    1.0] BUG: unable to handle page fault', '@end one 0 00']);
  t.after(() => complaining.kill());
  await assert.rejects(complaining.set(), /the kernel complains/);
  const ended = new GuestSession('a machine', process.execPath, ['-e', "console.log('@begin one'); process.exit(3)"]);
  await assert.rejects(ended.set(), /a machine: the run ended\n@begin one/);
  const ending = session(['@done'], 3);
  await ending.set();
  await assert.rejects(ending.powerOff(), /status 3/);
});

test('/proc tells time and memory of a process', () => {
  const before = cpuTime(process.pid);
  // The clock of /proc has ticks of 10 ms.
  for (const { user, system } = process.cpuUsage(); ; ) {
    const now = process.cpuUsage();
    if (now.user + now.system > user + system + 50_000) break;
  }
  assert.ok(cpuTime(process.pid) > before);
  assert.ok(Number.isNaN(cpuTime(2 ** 30)));
  const resident = residentBeyondRam(process.pid, 2 ** 40);
  assert.ok(resident > 20e6 && resident <= process.memoryUsage.rss() * 1.2, `${resident}`);
});

test('what the members work on is the same every time', () => {
  assert.deepEqual(text(5000), text(5000));
  assert.match(text(5000).toString('latin1'), /^([a-z]+,? )+[a-z]+,?\.\n/);
  assert.ok(Math.abs(text(50_000).length - 50_000) < 500);
  assert.equal(new Set(MEMBERS.map(({ name }) => name)).size, MEMBERS.length);
});

test('the programs compile, and so does the C file that the guest compiles', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-bench-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'source.c'), source(8));
  const check = (file: string, ...flags: string[]): void => {
    execFileSync('gcc', ['-fsyntax-only', ...flags, file], { stdio: ['ignore', 'inherit', 'inherit'] });
  };
  check(join(folder, 'source.c'));
  for (const name of ['first-process', 'integer', 'float', 'memory', 'process']) {
    check(
      fileURLToPath(new URL(`../../bench/guest/${name}.c`, import.meta.url)),
      '-Wall',
      '-Wno-unused-result',
      '-Werror',
    );
  }
});

test('a chart has a bar for each value, from 1 to it', () => {
  const chart = barChart('Speed <1>', [
    { name: 'slow', value: 0.5 },
    { name: 'fast & good', value: 4, dot: 0.5 },
  ]);
  assert.match(chart, /^<svg .*<\/svg>\n$/s);
  assert.match(chart, /Speed &lt;1&gt;/);
  assert.match(chart, />fast &amp; good</);
  const bars = [...chart.matchAll(/<rect x="(\d+)" y="\d+" width="(\d+)"/g)].map(([, x, width]) => [
    Number(x),
    Number(width),
  ]);
  assert.equal(bars.length, 2);
  const [slow, fast] = bars as [[number, number], [number, number]];
  // Both touch 1, on a logarithmic scale.
  assert.ok(Math.abs(slow[0] + slow[1] - fast[0]) <= 1);
  assert.ok(Math.abs(fast[1] / slow[1] - 2) < 0.1);
  assert.deepEqual(
    [...chart.matchAll(/<circle cx="(\d+)"/g)].map(([, x]) => Number(x)),
    [slow[0]],
  );
});
