import type { SharedDirectory } from '../../fs/shared-directory.ts';
import type { DeviceModel } from '../backend.ts';
import { COMMON_FEATURES, features, ID_9P } from '../constants.ts';

/** Feature bit: the configuration has a tag. */
const VIRTIO_9P_MOUNT_TAG = 0n;
/** Bytes. */
export const MAX_P9_TAG = 1024;

/** A 9P transport device (linux/virtio_9p.h): one queue; its configuration is the tag, as tag_len[2] tag. */
export function p9Model(directory: SharedDirectory): DeviceModel {
  const tag = Buffer.from(directory.tag);
  const config = new Uint8Array(2 + tag.length);
  new DataView(config.buffer).setUint16(0, tag.length, true);
  config.set(tag, 2);
  return {
    device: 'p9',
    label: `shared directory ${directory.path}`,
    type: ID_9P,
    queueSizes: [128],
    features: COMMON_FEATURES | features(VIRTIO_9P_MOUNT_TAG),
    config,
    params: { ...directory },
    fds: [],
  };
}
