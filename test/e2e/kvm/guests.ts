// Whole guests on a KVM that runs any: this file's tests run on the host if it has one, else in the lab (see kvm.test.ts).

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from '../../../src/control/client.ts';
import { elfImage } from '../../arch/x86_64/kernel/images.ts';
import { withGuest } from './guest.ts';

/** Kernel and initramfs of the default guest, and Debian's kernel for all machines. */
const { VIVARIUM_TEST_CLOUD = '', VIVARIUM_TEST_INITRD = '', VIVARIUM_TEST_GENERIC = '' } = process.env;

const folder = mkdtempSync(join(tmpdir(), 'vivarium-guests-'));
after(() => rmSync(folder, { recursive: true }));

const usual = ['--initrd', VIVARIUM_TEST_INITRD, VIVARIUM_TEST_CLOUD];
/** In an emulated machine processes take long to start: one test has them. */
const inThreads = '--disable-sandbox';

/** Time in which a guest that runs would answer, milliseconds. */
const STILL = 3000;

/** All run on one processor in the lab: more would spin for each other. */
const processors = process.env['VIVARIUM_IN_LAB'] === undefined ? 4 : 2;

test('the cloud kernel comes to a shell on several processors, stands still while suspended, and powers off', () => {
  const socket = join(mkdtempSync(join(folder, 'control-')), 'socket');
  return withGuest([inThreads, '-v', '-c', `${processors}`, '--socket', socket, ...usual], async (guest) => {
    await guest.command('echo "processors: $(nproc)"');
    await guest.expect(/processors: \d.*# \x1b\[6n$/s);
    await ask(socket, 'POST', '/machine/pause');
    await guest.command('echo "sum: $((6 * 7))"; poweroff');
    await sleep(STILL);
    assert.doesNotMatch(guest.output, /sum: 42/);
    await ask(socket, 'POST', '/machine/resume');
    assert.equal(await guest.end(), 0, guest.describe());
    assert.match(guest.errors, /^hypervisor: kvm, which works here$/m);
    assert.match(guest.output, /Hypervisor detected: KVM/);
    assert.match(guest.output, new RegExp(`^processors: ${processors}\\r?$`, 'm'));
    assert.match(guest.output, /^sum: 42\r?$/m);
    assert.match(guest.output, /reboot: Power down/);
  });
});

test('the kernel for all machines comes to a shell, and reboots', () =>
  withGuest(
    [inThreads, '--hypervisor', 'kvm', '--initrd', VIVARIUM_TEST_INITRD, VIVARIUM_TEST_GENERIC],
    async (guest) => {
      await guest.command('dmesg | grep -c "clocksource: kvm-clock"; reboot -f');
      assert.equal(await guest.end(), 0, guest.describe());
      assert.match(guest.output, /^[1-9]\r?$/m);
      assert.match(guest.output, /reboot: Restarting system/);
    },
  ));

test('a split interrupt chip: the console and power off interrupt by way of the built-in I/O APIC', () =>
  withGuest([inThreads, '--hypervisor', 'kvm', '--split-irqchip', ...usual], async (guest) => {
    await guest.command('grep -E "IO-APIC.*(ttyS0|acpi)" /proc/interrupts; poweroff');
    assert.equal(await guest.end(), 0, guest.describe());
    assert.match(guest.output, /IO-APIC +\d+-edge +ttyS0/);
    assert.match(guest.output, /IO-APIC +9-\w+ +acpi/);
    assert.match(guest.output, /reboot: Power down/);
  }));

test('a disk is read by way of a process in a jail, which ends with the machine', () => {
  const disk = join(folder, 'disk');
  writeFileSync(disk, 'written by the host\n'.padEnd(0x10000, '\0'));
  return withGuest(['--hypervisor', 'kvm', '--disk', disk, ...usual], async (guest) => {
    await guest.command('head -n 1 /dev/vda; poweroff');
    assert.equal(await guest.end(), 0, guest.describe());
    assert.match(guest.output, /^written by the host\r?$/m);
  });
});

test('a guest that panics ends after its restart', () =>
  withGuest([inThreads, '--hypervisor', 'kvm', '-p', 'rdinit=/absent quiet', VIVARIUM_TEST_CLOUD], async (guest) => {
    assert.equal(await guest.end(), 0, guest.describe());
    assert.match(guest.output, /Kernel panic - not syncing: VFS: Unable to mount root fs/);
  }));

/** Arguments that run machine code as a kernel. */
function bare(name: string, code: readonly number[]): string[] {
  const kernel = join(folder, name);
  writeFileSync(kernel, elfImage(Uint8Array.from(code)));
  return [inThreads, '--hypervisor', 'kvm', kernel];
}

/** OUT of '.' to COM1. */
const dot = [0x66, 0xba, 0xf8, 0x03, 0xb0, 0x2e, 0xee];

test('a triple fault is told', () =>
  withGuest(bare('triple-fault', [0x0f, 0x0b]), async (guest) => {
    assert.equal(await guest.end(), 3, guest.describe());
    assert.match(guest.errors, /processor 0 of the guest shut down \(triple fault\)/);
  }));

for (const [name, code] of [
  ['halted with interrupts off', [...dot, 0xfa, 0xf4, 0xeb, 0xfc]],
  ['in a busy loop', [...dot, 0xeb, 0xfe]],
] as const) {
  test(`a guest ${name} ends by a signal`, () =>
    withGuest(bare(name.replaceAll(' ', '-'), code), async (guest) => {
      await guest.expect(/\./);
      guest.signal('SIGTERM');
      assert.equal(await guest.end(), 128 + 15, guest.describe());
    }));
}
