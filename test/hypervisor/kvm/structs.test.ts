// The descriptions of KVM's structures and the ioctls' numbers against the C compiler's own view of the kernel's header.
import { test } from 'node:test';
import type { Struct } from '../../../src/host/struct.ts';
import * as constants from '../../../src/hypervisor/kvm/constants.ts';
import * as ioctls from '../../../src/hypervisor/kvm/ioctls.ts';
import * as structs from '../../../src/hypervisor/kvm/structs.ts';
import { assertAligned, assertLayout, headerMissing } from '../../host/c-layout.ts';

/** Members that stand for the start of a nested structure, of an array of them, or of one without a length. */
const PLACES = new Set(
  ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt', 'gdt', 'idt']
    .map((name) => `kvm_sregs.${name}`)
    .concat('kvm_xcrs.xcrs', 'kvm_signal_mask.sigset'),
);

const header = 'linux/kvm.h';
const all = Object.values(structs) as Struct[];

test('structures and requests are as the C compiler sees them', { skip: headerMissing(header) }, () =>
  assertLayout({ header, structs: all, requests: Object.values(ioctls), constants, places: PLACES }),
);

test('fields are aligned and lie inside their structure', () => assertAligned(all, new Set(['kvm_signal_mask'])));
