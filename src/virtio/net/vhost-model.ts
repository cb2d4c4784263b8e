import { closeDescriptor } from '../../host/descriptor.ts';
import type { DeviceModel } from '../backend.ts';
import { features } from '../constants.ts';
import { callEvents, openVhost, RING_FEATURES, vhostFeatures } from '../vhost/open.ts';
import { VIRTIO_NET_F_MRG_RXBUF } from './constants.ts';

const PATH = '/dev/vhost-net';

/** Bits of the device that the kernel has to know, too: how frames lie in buffers. */
export const VHOST_NET_FEATURES = features(VIRTIO_NET_F_MRG_RXBUF);

/** Takes the device on a tap, and gives it to the kernel. Throws VhostError, OsError: the tap's device is as it was. */
export function withVhost(model: DeviceModel): DeviceModel {
  const own: number[] = [];
  try {
    let known = -1n;
    for (const _ of model.fds) {
      const fd = openVhost(PATH, 'leave --vhost-net out');
      own.push(fd);
      known &= vhostFeatures(fd);
      own.push(...callEvents(2));
    }
    return {
      ...model,
      device: 'vhost_net',
      features: model.features & ~((RING_FEATURES | VHOST_NET_FEATURES) & ~known),
      fds: [...model.fds, ...own],
    };
  } catch (error) {
    for (const fd of own) closeDescriptor(fd);
    throw error;
  }
}
