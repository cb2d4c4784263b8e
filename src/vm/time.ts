import { type Clock, type ClockOrigin, HostClock, SharedClock } from '../host/clock.ts';

/** How a machine's threads see time; survives structured clone. */
export type TimeShare =
  | { readonly kind: 'host'; readonly origin: ClockOrigin }
  /** Time counts instructions: SharedClock's buffer. */
  | { readonly kind: 'instructions'; readonly buffer: SharedArrayBuffer };

/** Time in one thread. */
export interface MachineTime {
  readonly clock: Clock;
  /** Milliseconds since 1970. */
  wallTime(): number;
}

/** When machines whose time counts instructions begin. */
const BEGINNING = Date.UTC(2000, 0, 1);

/** A new machine's time. */
export function createTime(icount: boolean): TimeShare {
  return icount
    ? { kind: 'instructions', buffer: new SharedClock().buffer }
    : { kind: 'host', origin: new HostClock().origin };
}

export function openTime(share: TimeShare): MachineTime {
  if (share.kind === 'host') return { clock: new HostClock(share.origin), wallTime: Date.now };
  const clock = new SharedClock(share.buffer);
  return { clock, wallTime: () => BEGINNING + clock.now() / 1e6 };
}
