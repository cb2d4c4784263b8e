// The descriptions of vhost's structures and the ioctls' numbers against the C compiler's own view of the kernel's header.
import { test } from 'node:test';
import type { Struct } from '../../../src/host/struct.ts';
import * as ioctls from '../../../src/virtio/vhost/ioctls.ts';
import * as structs from '../../../src/virtio/vhost/structs.ts';
import { assertAligned, assertLayout, headerMissing } from '../../host/c-layout.ts';

const header = 'linux/vhost.h';
const all = Object.values(structs) as Struct[];

test('structures and requests are as the C compiler sees them', { skip: headerMissing(header) }, () =>
  assertLayout({ header, structs: all, requests: Object.values(ioctls) }),
);

test('fields are aligned and lie inside their structure', () => assertAligned(all));
