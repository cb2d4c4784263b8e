// The jails of back ends whose queues the kernel serves allow the requests that they make, and no others.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Request } from '../../../src/host/ioctl.ts';
import { POLICY_FOLDER, readPolicy } from '../../../src/jail/policy-files.ts';
import * as I from '../../../src/virtio/vhost/ioctls.ts';

/** Of VhostRings. */
const RINGS: readonly Request[] = [
  I.VHOST_SET_OWNER,
  I.VHOST_SET_FEATURES,
  I.VHOST_SET_MEM_TABLE,
  I.VHOST_SET_VRING_NUM,
  I.VHOST_SET_VRING_ADDR,
  I.VHOST_SET_VRING_BASE,
  I.VHOST_SET_VRING_KICK,
  I.VHOST_SET_VRING_CALL,
];
const TUNSETOFFLOAD: Request = { name: 'TUNSETOFFLOAD', number: 0x400454d0 };
const TUNSETQUEUE: Request = { name: 'TUNSETQUEUE', number: 0x400454d9 };

const POLICIES: Readonly<Record<string, readonly Request[]>> = {
  vhost_net_device: [...RINGS, I.VHOST_NET_SET_BACKEND, TUNSETOFFLOAD, TUNSETQUEUE],
  vhost_vsock_device: [...RINGS, I.VHOST_VSOCK_SET_RUNNING],
};

for (const [name, requests] of Object.entries(POLICIES)) {
  test(name, () => {
    const rule = readPolicy(name, POLICY_FOLDER).find(({ syscall }) => syscall === 'ioctl');
    assert.deepEqual(
      rule?.any,
      requests.map(({ number }) => [{ argument: 1, operator: '==', value: BigInt(number) }]),
    );
  });
}
