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

/** Turns a failure to make `what` in `folder` into a line for people, or returns it as it is when it is a mistake of ours. */
export function explainFailure(error: unknown, what: string, folder: string, neededBytes: number): unknown {
  if (error instanceof GuestError) return error;
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  if (error instanceof DiskFullError || code === 'ENOSPC' || code === 'EDQUOT') {
    const need = Math.ceil(neededBytes / 1e6);
    return new GuestError(`no space left in ${folder}: making ${what} needs ${need} MB there`);
  }
  return syscall === undefined ? error : new GuestError(`cannot make ${what} in ${folder}: ${message}`);
}
