/** Why the default guest could not be made: one line for people. */
export class GuestError extends Error {
  override readonly name = 'GuestError';
}

/** The file system ran full. prepareGuest turns it into a GuestError that names the folder and the need. */
export class DiskFullError extends Error {
  override readonly name = 'DiskFullError';
}

/** The end of the messages that a host without Debian's tools gets. */
export const WITHOUT_DEFAULT_GUEST = 'run a guest of your own with: vivarium run --initrd PATH KERNEL';
