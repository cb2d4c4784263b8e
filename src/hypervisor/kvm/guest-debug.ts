import { allocate, set } from '../../host/struct.ts';
import type { GuestDebug } from '../hypervisor.ts';
import { KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP } from './constants.ts';
import { kvm_guest_debug } from './structs.ts';

/** The processor's own: DR0 to DR3. */
const BREAKPOINTS = 4;
const DR7 = 7;
/** Always 1. */
const DR7_FIXED = 0x400n;
/** R/W field of DR7 (SDM 3B, 18.2.4). */
const ON_WRITE = 1n;
const ON_ACCESS = 3n;
/** LEN field by length. */
const LENGTHS: Readonly<Record<number, bigint>> = { 1: 0n, 2: 1n, 4: 3n, 8: 2n };

/**
 * KVM_SET_GUEST_DEBUG's structure. Watchpoints come first, so that bit i of DR6 is watchpoint i. Throws RangeError where there are
 * more points than the processor's four, or one has a length or an alignment that it cannot watch.
 */
export function encodeGuestDebug({ singleStep, breakpoints, watchpoints }: GuestDebug): DataView {
  const count = watchpoints.length + breakpoints.length;
  if (count > BREAKPOINTS) {
    throw new RangeError(`${count} breakpoints and watchpoints: on KVM there are the processor's ${BREAKPOINTS}`);
  }
  const view = allocate(kvm_guest_debug);
  let control = 0;
  if (singleStep) control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
  if (count > 0) control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
  set(kvm_guest_debug, view, 'control', control);
  let dr7 = DR7_FIXED;
  const point = (address: bigint, condition: bigint, index: number): void => {
    set(kvm_guest_debug, view, 'arch.debugreg', BigInt.asUintN(64, address), 0, index);
    // G of this breakpoint, and its four bits of condition and length.
    dr7 |= (2n << BigInt(index * 2)) | (condition << BigInt(16 + index * 4));
  };
  for (const [i, { address, length, kind }] of watchpoints.entries()) {
    const code = LENGTHS[length];
    if (code === undefined || address % BigInt(length) !== 0n) {
      throw new RangeError(`the processor cannot watch ${length} bytes at 0x${address.toString(16)}`);
    }
    point(address, (code << 2n) | (kind === 'write' ? ON_WRITE : ON_ACCESS), i);
  }
  for (const [i, address] of breakpoints.entries()) point(address, 0n, watchpoints.length + i);
  set(kvm_guest_debug, view, 'arch.debugreg', dr7, 0, DR7);
  return view;
}
