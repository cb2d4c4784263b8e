import { closeDescriptor } from '../../host/descriptor.ts';
import { EADDRINUSE } from '../../host/errno.ts';
import { check } from '../../host/ffi.ts';
import { ioctl } from '../../host/ioctl.ts';
import type { DeviceModel } from '../backend.ts';
import { ID_VSOCK } from '../constants.ts';
import * as I from '../vhost/ioctls.ts';
import { callEvents, openVhost, RING_FEATURES, VhostError, vhostFeatures } from '../vhost/open.ts';
import * as C from './constants.ts';
import { vsockConfig } from './model.ts';

const PATH = '/dev/vhost-vsock';
/** The event queue is not the kernel's. */
const KERNEL_QUEUES = 2;

/** A socket device that the kernel serves: the host's programs connect by AF_VSOCK, too. Throws VhostError, OsError. */
export function vhostVsockModel(cid: number): DeviceModel {
  const fd = openVhost(PATH, 'use sockets in user space, with --vsock');
  try {
    const result = ioctl(fd, I.VHOST_VSOCK_SET_GUEST_CID.number, BigUint64Array.of(BigInt(cid)));
    if (result === -EADDRINUSE) throw new VhostError(`another guest has CID ${cid}: choose another with --cid`);
    check(I.VHOST_VSOCK_SET_GUEST_CID.name, result);
    return {
      device: 'vhost_vsock',
      label: `sockets of guest ${cid}`,
      type: ID_VSOCK,
      queueSizes: C.QUEUE_SIZES,
      features: vhostFeatures(fd) & RING_FEATURES,
      config: vsockConfig(cid),
      params: null,
      fds: [fd, ...callEvents(KERNEL_QUEUES)],
    };
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
}
