import type { DeviceModel } from '../virtio/backend.ts';
import { fsModel } from '../virtio/fs/model.ts';
import { p9Model } from '../virtio/p9/model.ts';
import { rngModel } from '../virtio/rng/model.ts';
import type { MachineConfig } from './config.ts';

/**
 * A machine's virtio devices, in the order that decides their places and the guest's names for them: the seed's
 * create_virtio_devs.
 */
export function deviceModels({ sharedDirectories }: MachineConfig): DeviceModel[] {
  const shared = sharedDirectories.map((directory) =>
    directory.protocol.type === 'p9' ? p9Model(directory) : fsModel(directory),
  );
  return [rngModel(), ...shared];
}
