/** The memory balloon's numbers (virtio 1.2, 5.5). */

// Feature bits.
export const VIRTIO_BALLOON_F_MUST_TELL_HOST = 0n;
export const VIRTIO_BALLOON_F_STATS_VQ = 1n;
export const VIRTIO_BALLOON_F_DEFLATE_ON_OOM = 2n;
export const VIRTIO_BALLOON_F_FREE_PAGE_HINT = 3n;
export const VIRTIO_BALLOON_F_PAGE_REPORTING = 5n;

/** Pages of the balloon, whatever the guest's are: 1 << this bytes. */
export const VIRTIO_BALLOON_PFN_SHIFT = 12;
export const PAGE_SIZE = 1 << VIRTIO_BALLOON_PFN_SHIFT;

// Commands in the configuration.
export const VIRTIO_BALLOON_CMD_ID_STOP = 0;
export const VIRTIO_BALLOON_CMD_ID_DONE = 1;
/** The first number of a command that asks for hints. */
export const FIRST_COMMAND = 2;

// Offsets in the configuration.
export const CONFIG_NUM_PAGES = 0;
export const CONFIG_ACTUAL = 4;
export const CONFIG_FREE_PAGE_HINT_CMD_ID = 8;
export const CONFIG_SIZE = 12;

/** Names of the statistics, by tag (5.5.6.3). */
export const STATISTICS = [
  'swapIn',
  'swapOut',
  'majorFaults',
  'minorFaults',
  'freeMemory',
  'totalMemory',
  'availableMemory',
  'diskCaches',
  'hugetlbAllocations',
  'hugetlbFailures',
] as const;
/** Bytes of one: tag and value, packed. */
export const STATISTIC_SIZE = 10;

export const QUEUE_SIZE = 128;
/** Queues at most: inflate, deflate, statistics, free page hints, free page reports. */
export const QUEUES = 5;
