import { closeDescriptor } from '../host/descriptor.ts';
import type { DeviceModel } from '../virtio/backend.ts';
import { balloonModel } from '../virtio/balloon/model.ts';
import { blockModel } from '../virtio/block/model.ts';
import { fsModel } from '../virtio/fs/model.ts';
import { tapNetModel } from '../virtio/net/tap-model.ts';
import { userNetModel } from '../virtio/net/user-model.ts';
import { p9Model } from '../virtio/p9/model.ts';
import { rngModel } from '../virtio/rng/model.ts';
import { vhostVsockModel } from '../virtio/vsock/vhost-model.ts';
import type { MachineConfig, UserVsockConfig } from './config.ts';

/** Queues of a disk, at most: one for each processor. */
const MAX_DISK_QUEUES = 4;
/** Pairs of queues of a tap, at most: one for each processor. */
const MAX_NET_PAIRS = 4;

/**
 * Opens what a machine's virtio devices need, in the order that decides their places and the guest's names for them: the seed's
 * create_virtio_devs. `openVsock` makes the socket device. When one fails, all are closed. Throws what the devices' models throw.
 */
export function deviceModels(
  config: MachineConfig,
  openVsock: (config: UserVsockConfig) => DeviceModel,
): DeviceModel[] {
  const models: DeviceModel[] = [];
  try {
    for (const disk of config.disks) models.push(blockModel(disk, Math.min(config.cpus, MAX_DISK_QUEUES)));
    models.push(rngModel(), balloonModel());
    for (const network of config.networks) {
      const pairs = Math.min(config.cpus, MAX_NET_PAIRS);
      models.push(network.kind === 'user' ? userNetModel(network) : tapNetModel(network, pairs));
    }
    const { vsock } = config;
    if (vsock !== undefined) models.push(vsock.kind === 'vhost' ? vhostVsockModel(vsock.cid) : openVsock(vsock));
    for (const directory of config.sharedDirectories) {
      models.push(directory.protocol.type === 'p9' ? p9Model(directory) : fsModel(directory));
    }
    return models;
  } catch (error) {
    closeModels(models);
    throw error;
  }
}

/** Closes what deviceModels() has opened. */
export function closeModels(models: readonly DeviceModel[]): void {
  for (const fd of models.flatMap(({ fds }) => fds)) closeDescriptor(fd);
}
