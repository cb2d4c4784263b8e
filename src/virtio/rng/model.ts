import type { DeviceModel } from '../backend.ts';
import { COMMON_FEATURES, ID_RNG } from '../constants.ts';

/** An entropy device (virtio 1.2, 5.4): one queue, no configuration. */
export function rngModel(): DeviceModel {
  return {
    device: 'rng',
    label: 'random number generator',
    type: ID_RNG,
    queueSizes: [256],
    features: COMMON_FEATURES,
    config: new Uint8Array(),
    params: null,
    fds: [],
  };
}
