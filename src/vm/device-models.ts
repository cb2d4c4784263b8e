import type { DeviceModel } from '../virtio/backend.ts';
import { rngModel } from '../virtio/rng/model.ts';

/**
 * A machine's virtio devices, in the order that decides their places and the guest's names for them: the seed's
 * create_virtio_devs.
 */
export function deviceModels(): DeviceModel[] {
  return [rngModel()];
}
