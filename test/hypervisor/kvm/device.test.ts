// What is said where /dev/kvm is not there, not ours to open, or something else.

import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openKvm } from '../../../src/hypervisor/kvm/device.ts';
import { hypervisorNamed, selectHypervisor } from '../../../src/hypervisor/select.ts';
import { withoutFullKvm } from './guest.ts';

const folder = mkdtempSync(join(tmpdir(), 'vivarium-device-'));
after(() => rmSync(folder, { recursive: true }));

test('a device that is not there', () => {
  assert.throws(
    () => openKvm(join(folder, 'absent')),
    /^KvmUnavailable: there is no .*absent: load the module kvm_intel or kvm_amd/,
  );
});

test('something else in its place', () => {
  const file = join(folder, 'file');
  writeFileSync(file, '');
  assert.throws(() => openKvm(file), /^KvmUnavailable: .*file is no KVM: .*KVM_GET_API_VERSION/);
  assert.throws(() => openKvm(folder), /^KvmUnavailable: .* cannot be opened: EISDIR/);
});

test('a device that may not be opened names the group to join', {
  skip: process.geteuid?.() !== 0 && 'not root',
}, () => {
  const file = join(folder, 'closed');
  writeFileSync(file, '');
  chmodSync(file, 0);
  chmodSync(folder, 0o755);
  process.seteuid?.(65534);
  try {
    assert.throws(() => openKvm(file), /^KvmUnavailable: .*closed may not be opened: join the group \w+$/);
  } finally {
    process.seteuid?.(0);
  }
});

test('auto takes KVM where it runs any guest, and says why not where it does not', () => {
  const { hypervisor, reason } = selectHypervisor('auto');
  assert.equal(hypervisor.name, withoutFullKvm === false ? 'kvm' : 'soft');
  if (withoutFullKvm !== false) assert.ok(reason.includes(withoutFullKvm), reason);
  assert.match(reason, /^hypervisor: (?:kvm|soft, the built-in processor), [^\n]*$/);
  assert.equal(selectHypervisor('soft').hypervisor, hypervisorNamed('soft'));
  assert.equal(selectHypervisor('kvm').hypervisor, hypervisorNamed('kvm'));
});
