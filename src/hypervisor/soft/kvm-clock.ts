// KVM's paravirtual clock (Documentation/virt/kvm/x86/msr.rst): the guest reads a page instead of calibrating.

import type { GuestBytes } from './slots.ts';

export const MSR_KVM_WALL_CLOCK = 0x4b564d00;
export const MSR_KVM_SYSTEM_TIME = 0x4b564d01;
/** The numbers of the first version of the interface. */
export const MSR_KVM_WALL_CLOCK_OLD = 0x11;
export const MSR_KVM_SYSTEM_TIME_OLD = 0x12;

const FLAGS = 29;
const TSC_STABLE = 1;
const GUEST_STOPPED = 2;
const ENABLED = 1n;

/** struct pvclock_wall_clock: wall-clock time when the machine's clock was 0. */
export function writeWallClock(memory: GuestBytes, address: number, epochNanoseconds: number): void {
  const view = memory.at(address, 12);
  if (!view) return;
  const version = view.getUint32(0, true);
  // Odd while it changes.
  view.setUint32(0, version | 1, true);
  view.setUint32(4, Math.floor(epochNanoseconds / 1e9) >>> 0, true);
  view.setUint32(8, epochNanoseconds % 1e9, true);
  view.setUint32(0, ((version | 1) + 1) >>> 0, true);
}

/**
 * struct pvclock_vcpu_time_info: the clock's value `now` (nanoseconds) at the guest's TSC `tsc`, ticks of one
 * nanosecond. Written once: the TSC and the clock are the same counter.
 */
export function writeSystemTime(memory: GuestBytes, msr: bigint, tsc: bigint, now: number): void {
  if (!(msr & ENABLED)) return;
  const view = memory.at(Number(msr & ~1n), 32);
  if (!view) return;
  const version = view.getUint32(0, true);
  view.setUint32(0, version | 1, true);
  view.setBigUint64(8, tsc, true);
  view.setBigUint64(16, BigInt(Math.floor(now)), true);
  // nanoseconds = ((ticks << shift) * multiplier) >> 32: one to one.
  view.setUint32(24, 0x80000000, true);
  view.setInt8(28, 1);
  view.setUint8(FLAGS, TSC_STABLE);
  view.setUint32(0, ((version | 1) + 1) >>> 0, true);
}

/** The guest stood still, from outside: it takes the flag away when it has seen it. */
export function noteGuestStopped(memory: GuestBytes, msr: bigint): void {
  if (!(msr & ENABLED)) return;
  const view = memory.at(Number(msr & ~1n), 32);
  view?.setUint8(FLAGS, view.getUint8(FLAGS) | GUEST_STOPPED);
}
