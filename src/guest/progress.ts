/** Shows how the making of the default guest goes. */
import { createStepDisplay, type Progress, type ProgressOutput, type StepDisplay } from '../host/progress.ts';

type GuestStep = 'wait' | 'lists' | 'download' | 'unpack' | 'initramfs' | 'system-packages' | 'system' | 'image';

/** What prepareGuest is doing. Steps that are not needed do not occur. */
export type GuestProgress = Progress<GuestStep>;

const TEXTS: Readonly<Record<GuestStep, string>> = {
  wait: 'Waiting for another process that makes the guest',
  lists: 'Reading the package lists',
  download: 'Downloading a Debian kernel and busybox',
  unpack: 'Unpacking the packages',
  initramfs: 'Writing the initramfs',
  'system-packages': 'Downloading a Debian system',
  system: 'Installing the system',
  image: 'Writing the disk image',
};

/** One line that is updated on a terminal; elsewhere a line for each step and each quarter of it. */
export function createProgressDisplay(output: ProgressOutput): StepDisplay<GuestStep> {
  return createStepDisplay(output, { texts: TEXTS, withoutBar: ['wait'] });
}
