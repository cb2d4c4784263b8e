/** The default guest: a Debian kernel, and an initramfs made here. */
export { prepareBubblewrap } from './bubblewrap.ts';
export { GuestError } from './error.ts';
export type { Guest, GuestOptions } from './prepare.ts';
export { prepareGuest } from './prepare.ts';
export type { GuestProgress } from './progress.ts';
export { createProgressDisplay } from './progress.ts';
export { prepareRootfs } from './rootfs.ts';
