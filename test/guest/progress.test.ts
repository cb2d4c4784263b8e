import assert from 'node:assert/strict';
import { test } from 'node:test';
import { downloadStatus } from '../../src/guest/apt.ts';
import type { GuestProgress } from '../../src/guest/progress.ts';
import { createProgressDisplay } from '../../src/guest/progress.ts';

const EVENTS: GuestProgress[] = [
  { step: 'wait', fraction: 0 },
  ...[0, 0.001, 0.3, 0.31, 1].map((fraction): GuestProgress => ({ step: 'download', fraction })),
  { step: 'unpack', fraction: 0 },
];

function shown(output: { isTTY?: boolean; columns?: number }): string {
  let text = '';
  const display = createProgressDisplay({ ...output, write: (part) => (text += part) });
  for (const event of EVENTS) display.show(event);
  display.end();
  return text;
}

test('a file gets a line for each step and quarter', () => {
  assert.equal(
    shown({}),
    'Waiting for another process that makes the guest\n' +
      'Downloading a Debian kernel and busybox\n' +
      'Downloading a Debian kernel and busybox: 30%\n' +
      'Downloading a Debian kernel and busybox: 100%\n' +
      'Unpacking the packages\n',
  );
});

test('a terminal gets one line for each step, updated when it changes, never wider than the terminal', () => {
  const text = shown({ isTTY: true, columns: 200 });
  const lines = text.split('\n');
  assert.equal(lines.length, 4);
  assert.equal(lines[3], '');
  assert.equal(lines[1]?.split('\r').length, 1 + 4, 'a tenth of a percent changes nothing');
  assert.match(lines[1] ?? '', /\[######\.{14}\] {2}30%/);
  assert.ok(lines[1]?.endsWith(`[${'#'.repeat(20)}] 100%\x1b[K`));
  for (const part of shown({ isTTY: true, columns: 30 }).split(/[\r\n]/))
    assert.ok(part.replace('\x1b[K', '').length < 30);
});

test("apt's status lines become fractions; others are passed over", () => {
  const got: number[] = [];
  const take = downloadStatus((fraction) => got.push(fraction));
  const lines = [
    'dlstatus:1:0.0000:Retrieving file 1 of 2',
    'dlstatus:2:62.5:Retrieving: 10s',
    'dlstatus:x:1:',
    'pmstatus:a:5:b',
    '',
    'dlstatus:1:999:',
  ];
  for (const line of lines) take(line);
  assert.deepEqual(got, [0, 0.625]);
});
