/** What the monitor and a device process agree on. */

/** Descriptors of a device process: 0 is its lifeline, 1 is /dev/null, 2 is read by the monitor, then the channel, then the device's own. */
export const CHANNEL_FD = 3;
export const FIRST_DEVICE_FD = 4;

/** The folder that becomes the device's root when it locks itself in. */
export const JAIL_ROOT = '/jail';

/** Capabilities that a device process may have: their numbers (capabilities(7)). */
export const CAPABILITIES = {
  CAP_CHOWN: 0,
  CAP_DAC_OVERRIDE: 1,
  CAP_FOWNER: 3,
  CAP_FSETID: 4,
  CAP_SETGID: 6,
  CAP_SETUID: 7,
  CAP_SETPCAP: 8,
  CAP_SYS_ADMIN: 21,
} as const;
export type Capability = keyof typeof CAPABILITIES;

/** What a process needs to lock itself in: to change its root, and to empty its bounding set. */
export const LOCK_CAPABILITIES: readonly Capability[] = ['CAP_SYS_ADMIN', 'CAP_SETPCAP'];
/** What a process that acts for many users keeps: rights over their files, and to make files as one of them. */
export const FILE_CAPABILITIES: readonly Capability[] = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_SETGID',
  'CAP_SETUID',
];

/** The first message to a device process. */
export interface StartMessage {
  /** What the device's code gets. */
  readonly data: unknown;
  /** How many descriptors are the device's. */
  readonly fdCount: number;
  /** Capabilities that it keeps; it has them in its own user namespace only. */
  readonly capabilities: readonly Capability[];
  /** BPF programs, in base64: one that tells the monitor of what it forbids, and one for kernels that cannot, which kills. */
  readonly filter: { readonly telling: string; readonly killing: string };
}

/** The second: it has been tied to the monitor, and may look at what a guest wrote. */
export interface GoMessage {
  readonly go: true;
}

/** The first message from it; the descriptor of its filter's listener comes with it, if there is one. */
export type ReadyMessage = { readonly locked: true } | { readonly locked: false; readonly error: string };
