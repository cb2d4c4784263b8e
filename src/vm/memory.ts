import { type RamRange, ramRanges } from '../arch/x86_64/map.ts';
import { createMemfd, window } from '../host/memory.ts';
import { GuestMemory } from '../hypervisor/guest-memory.ts';
import type { Vm } from '../hypervisor/hypervisor.ts';

/** Guest RAM for other threads: a descriptor, and what of it is where in guest-physical memory. */
export interface SharedMemory {
  readonly fd: number;
  readonly ranges: readonly (RamRange & { readonly fdOffset: number })[];
}

/** Makes RAM of `size` bytes, all zero. Throws OsError. */
export function createMemory(size: number): SharedMemory {
  let fdOffset = 0;
  const ranges = ramRanges(size).map((range) => {
    const here = { ...range, fdOffset };
    fdOffset += range.size;
    return here;
  });
  return { fd: createMemfd('vivarium-ram', size), ranges };
}

/** The RAM in this thread. */
export function openMemory({ fd, ranges }: SharedMemory): GuestMemory {
  return new GuestMemory(
    ranges.map(({ start, size, fdOffset }) => ({ guestAddress: start, bytes: window(fd, fdOffset, size) })),
  );
}

/** Puts the RAM into a machine: slots 0, 1, ... */
export function plugMemory(vm: Vm, { fd, ranges }: SharedMemory, hugePages: boolean): void {
  for (const [slot, { start, size, fdOffset }] of ranges.entries()) {
    vm.setMemorySlot({ slot, guestAddress: start, size, fd, fdOffset, hugePages });
  }
}
