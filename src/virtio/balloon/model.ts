import type { DeviceModel } from '../backend.ts';
import { COMMON_FEATURES, features, ID_BALLOON } from '../constants.ts';
import * as B from './constants.ts';

/** A memory balloon, empty at first. */
export function balloonModel(): DeviceModel {
  return {
    device: 'balloon',
    label: 'balloon',
    type: ID_BALLOON,
    queueSizes: Array.from({ length: B.QUEUES }, () => B.QUEUE_SIZE),
    features:
      COMMON_FEATURES |
      features(
        B.VIRTIO_BALLOON_F_MUST_TELL_HOST,
        B.VIRTIO_BALLOON_F_STATS_VQ,
        B.VIRTIO_BALLOON_F_DEFLATE_ON_OOM,
        B.VIRTIO_BALLOON_F_FREE_PAGE_HINT,
        B.VIRTIO_BALLOON_F_PAGE_REPORTING,
      ),
    config: new Uint8Array(B.CONFIG_SIZE),
    writableConfig: [[B.CONFIG_ACTUAL, 4]],
    params: null,
    fds: [],
  };
}
