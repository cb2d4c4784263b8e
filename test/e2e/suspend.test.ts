// A Linux guest that is suspended for longer than its watchdogs wait goes on as if nothing had been.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from '../../src/control/client.ts';
import { defaultGuest } from './kernels.ts';
import { RunningGuest } from './running-guest.ts';

test('a suspended guest does not take the time for a hang', async (t) => {
  await defaultGuest();
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-suspend-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const socket = join(folder, 'socket');
  const guest = RunningGuest.run('--socket', socket);
  t.after(() => guest.kill());
  await guest.shell();
  // A soft lockup is then one of two seconds. The watchdog looks at busy processors alone.
  const line = 'while :; do :; done & echo 1 >/proc/sys/kernel/watchdog_thresh; cat /proc/sys/kernel/watchdog_thresh';
  assert.match(await guest.command(line), /^1$/m);
  const time = async (): Promise<number> => Number(/^(\d+)$/m.exec(await guest.command('date +%s'))?.[1]);
  const before = await time();
  await ask(socket, 'POST', '/machine/pause');
  await sleep(6000);
  await ask(socket, 'POST', '/machine/resume');
  // Its clock went on.
  assert.ok((await time()) - before >= 5);
  await guest.command('sleep 3');
  assert.deepEqual(guest.complaints, []);
  await ask(socket, 'POST', '/machine/exit');
  assert.deepEqual(await guest.end(), { status: 0, signal: null });
});
