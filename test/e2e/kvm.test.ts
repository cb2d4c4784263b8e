// KVM with whole guests: on this host's own KVM where it runs any guest; else in the lab, whose KVM does, as far as QEMU emulates it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { prepareLab } from '../../lab/build.ts';
import { withoutFullKvm } from '../hypervisor/kvm/guest.ts';
import { onFullKvm, withoutLab } from './full-kvm.ts';
import { defaultGuest } from './kernels.ts';
import { madeOfPackages } from './packages.ts';

/** Longest run of the guests, milliseconds: three minutes on a host with nothing else to do, a quarter of an hour on a very busy one. */
const LIMIT = 1_500_000;
const GUESTS = 'test/e2e/kvm/guests.ts';
/** What runs on any host with such a KVM by itself, and so in the lab. */
const FOR_FULL_KVM = ['test/hypervisor/kvm/vcpu.test.ts', 'test/hypervisor/bare/privileged.test.ts'];
/** Tests in GUESTS. */
const COUNT = 8;

test('whole guests on KVM', { timeout: 2 * LIMIT + 60_000 }, async (t) => {
  const why = withoutLab();
  if (why !== false) return t.skip(why);
  const log = (line: string): void => t.diagnostic(line);
  const made = await madeOfPackages(t, async () => ({ guest: await defaultGuest(), lab: await prepareLab(log) }));
  if (made === undefined) return;
  const { guest, lab } = made;
  const files = withoutFullKvm === false ? [GUESTS] : [GUESTS, ...FOR_FULL_KVM];
  const environment = [
    `VIVARIUM_TEST_CLOUD=${guest.kernel}`,
    `VIVARIUM_TEST_INITRD=${guest.initrd}`,
    `VIVARIUM_TEST_GENERIC=${lab.kernel}`,
  ];
  const { status, output } = await onFullKvm(t, lab, { files, environment, limit: LIMIT });
  for (const [line] of output.matchAll(/^(?:not )?ok \d+ - .*$/gm)) log(line);
  assert.equal(status, 0, output);
  const passed = Number(/^# pass (\d+)\r?$/m.exec(output)?.[1]);
  assert.ok(passed >= COUNT, output);
  assert.match(output, /^# skipped 0\r?$/m);
});
