import type { SharedDirectory } from '../../fs/shared-directory.ts';
import type { DeviceModel } from '../backend.ts';
import { COMMON_FEATURES, ID_FS } from '../constants.ts';

/** Bytes of the tag, padded with NULs. */
export const MAX_FS_TAG = 36;
/** As many requests as wait for their answers; a request of 256 pages has 260 descriptors. */
const REQUEST_QUEUE_SIZE = 1024;
const HIPRIO_QUEUE_SIZE = 128;

/** A file system device (virtio 1.2, 5.11): the high-priority queue, and one for requests. */
export function fsModel(directory: SharedDirectory): DeviceModel {
  // tag[36] num_request_queues[4]
  const config = new Uint8Array(MAX_FS_TAG + 4);
  config.set(Buffer.from(directory.tag));
  new DataView(config.buffer).setUint32(MAX_FS_TAG, 1, true);
  return {
    device: 'fs',
    label: `shared directory ${directory.path}`,
    type: ID_FS,
    queueSizes: [HIPRIO_QUEUE_SIZE, REQUEST_QUEUE_SIZE],
    features: COMMON_FEATURES,
    config,
    params: { ...directory },
    fds: [],
  };
}
