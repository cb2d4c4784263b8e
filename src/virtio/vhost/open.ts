/** Opening the kernel's devices, in the main process. */
import { constants, openSync } from 'node:fs';
import { EventFd } from '../../host/eventfd.ts';
import { check } from '../../host/ffi.ts';
import { ioctl } from '../../host/ioctl.ts';
import { features, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_VERSION_1 } from '../constants.ts';
import * as I from './ioctls.ts';

/** Bits that belong to the rings, so that the kernel has to know them. */
export const RING_FEATURES = features(VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1);

/** A device of the kernel that cannot be had. The message is one line for the user. */
export class VhostError extends Error {
  override readonly name = 'VhostError';
}

/** Opens `/dev/vhost-net` or `/dev/vhost-vsock`. Throws VhostError: `mend` says what else the user can do. */
export function openVhost(path: string, mend: string): number {
  try {
    return openSync(path, constants.O_RDWR);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const module = path.slice('/dev/'.length).replace('-', '_');
    const whys: Readonly<Record<string, string>> = {
      ENOENT: `there is no ${path}: load the module ${module}`,
      ENODEV: `there is no ${path}: load the module ${module}`,
      EACCES: `${path} may not be opened: join the group that owns it`,
      EPERM: `${path} may not be opened: join the group that owns it`,
    };
    throw new VhostError(
      `${whys[code ?? ''] ?? `${path} cannot be opened: ${message}: load the module ${module}`}, or ${mend}`,
    );
  }
}

/** Features of the kernel's device. Throws OsError. */
export function vhostFeatures(fd: number): bigint {
  const set = new BigUint64Array(1);
  check(I.VHOST_GET_FEATURES.name, ioctl(fd, I.VHOST_GET_FEATURES.number, set));
  return set[0] as bigint;
}

/** Events by which the kernel tells of used buffers where it cannot interrupt the guest by itself: descriptors, one for each queue. */
export function callEvents(queues: number): number[] {
  return Array.from({ length: queues }, () => new EventFd().fd);
}
