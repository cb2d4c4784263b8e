/** What the monitor and a device process agree on. */

/** Descriptors of a device process: 0 and 1 are /dev/null, 2 is read by the monitor, then the channel, then the device's own. */
export const CHANNEL_FD = 3;
export const FIRST_DEVICE_FD = 4;

/** The folder that becomes the device's root when it locks itself in. */
export const JAIL_ROOT = '/jail';

/** Numbers of the capabilities that a process has until then: to change its root, and to empty its bounding set. */
export const CAP_SETPCAP = 8;
export const CAP_SYS_ADMIN = 21;

/** The first message to a device process. */
export interface StartMessage {
  /** What the device's code gets. */
  readonly data: unknown;
  /** How many descriptors are the device's. */
  readonly fdCount: number;
  /** BPF programs, in base64: one that tells the monitor of what it forbids, and one for kernels that cannot, which kills. */
  readonly filter: { readonly telling: string; readonly killing: string };
}

/** The first message from it; the descriptor of its filter's listener comes with it, if there is one. */
export type ReadyMessage = { readonly locked: true } | { readonly locked: false; readonly error: string };
