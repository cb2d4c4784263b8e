import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Guest } from '../../src/guest/index.ts';
import { defaultGuest, extractVmlinux, genericKernel } from './kernels.ts';
import { RunningGuest } from './running-guest.ts';

const folder = mkdtempSync(join(tmpdir(), 'vivarium-e2e-'));
after(() => rmSync(folder, { recursive: true, force: true }));
let guest: Guest;
before(async () => {
  guest = await defaultGuest();
});

/** Boots to the shell, looks around, and powers off. */
async function boots(t: { after(f: () => Promise<void>): void }, kernel: string, release: RegExp): Promise<void> {
  const run = RunningGuest.run('-m', '320', '--initrd', guest.initrd, kernel);
  t.after(() => run.kill());
  await run.shell();
  // What the kernel has to say now, of a device that is ready late, must not come between an answer's lines.
  await run.command('dmesg -n 1');
  assert.match(await run.command('uname -r'), release);
  assert.match(await run.command('grep -c . /proc/interrupts; cat /proc/uptime'), /^\d+\n\d/);
  run.send('poweroff\n');
  assert.deepEqual(await run.end(), { status: 0, signal: null });
  assert.match(run.output, /reboot: Power down/);
  assert.deepEqual(run.complaints, []);
  assert.equal(run.errors, '');
}

test('the cloud kernel boots from its bzImage', (t) => boots(t, guest.kernel, /-cloud-amd64\n/));

test('the cloud kernel boots from its ELF', (t) => {
  const vmlinux = join(folder, 'vmlinux-cloud');
  extractVmlinux(guest.kernel, vmlinux);
  return boots(t, vmlinux, /-cloud-amd64\n/);
});

test('the generic kernel boots from its bzImage', (t) => boots(t, genericKernel().image, /\d-amd64\n/));

test('the generic kernel boots from its ELF', (t) => {
  const vmlinux = join(folder, 'vmlinux-generic');
  extractVmlinux(genericKernel().image, vmlinux);
  return boots(t, vmlinux, /\d-amd64\n/);
});

test('a guest without ACPI has the timer of the 8254 by the 8259; one that reboots ends the run with status 0', async (t) => {
  const run = RunningGuest.run('-p', 'quiet acpi=off');
  t.after(() => run.kill());
  await run.shell();
  assert.match(await run.command('sleep 0.1; grep XT-PIC /proc/interrupts'), /^ *0: +[1-9]\d* +XT-PIC +timer$/m);
  run.send('reboot\n');
  assert.deepEqual(await run.end(), { status: 0, signal: null });
});

test('a kernel that panics reboots, as its command line asks', async (t) => {
  const run = RunningGuest.run('-p', 'quiet');
  t.after(() => run.kill());
  await run.shell();
  run.send('echo c > /proc/sysrq-trigger\n');
  assert.deepEqual(await run.end(), { status: 0, signal: null });
  assert.match(run.output, /Kernel panic - not syncing: sysrq triggered crash/);
});

test('signals end the run with 128 + n', async (t) => {
  for (const [signal, status] of [
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    const run = RunningGuest.run('-p', 'quiet');
    t.after(() => run.kill());
    await run.shell();
    run.child.kill(signal);
    assert.deepEqual(await run.end(), { status, signal: null });
  }
});

test('a reader that goes away ends the run', async (t) => {
  const run = RunningGuest.run();
  t.after(() => run.kill());
  await run.expect('Linux version');
  run.child.stdout?.destroy();
  assert.deepEqual(await run.end(), { status: 141, signal: null });
});
