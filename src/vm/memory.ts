import { type RamRange, ramRanges } from '../arch/x86_64/map.ts';
import { closeDescriptor } from '../host/descriptor.ts';
import { createMemfd, PAGE_SIZE, window } from '../host/memory.ts';
import { GuestMemory } from '../hypervisor/guest-memory.ts';
import type { Vm } from '../hypervisor/hypervisor.ts';

/** Bytes of a page's count of device writes. */
const COUNT_SIZE = 2;

/** Guest RAM for other threads: a descriptor, and what of it is where in guest-physical memory. */
export interface SharedMemory {
  readonly fd: number;
  /** MemorySlot.deviceWrites, where the processors need them. */
  readonly deviceWrites: number | undefined;
  readonly ranges: readonly (RamRange & { readonly fdOffset: number })[];
}

/** Makes RAM of `size` bytes, all zero. `countsWrites`: the processors need deviceWrites. Throws OsError. */
export function createMemory(size: number, countsWrites: boolean): SharedMemory {
  let fdOffset = 0;
  const ranges = ramRanges(size).map((range) => {
    const here = { ...range, fdOffset };
    fdOffset += range.size;
    return here;
  });
  const counts = Math.ceil(((size / PAGE_SIZE) * COUNT_SIZE) / PAGE_SIZE) * PAGE_SIZE;
  const deviceWrites = countsWrites ? createMemfd('vivarium-writes', counts) : undefined;
  return { fd: createMemfd('vivarium-ram', size), deviceWrites, ranges };
}

/** No thread maps it any more, or will. */
export function closeMemory({ fd, deviceWrites }: SharedMemory): void {
  for (const open of [fd, deviceWrites]) if (open !== undefined) closeDescriptor(open);
}

/** The RAM in this thread. */
export function openMemory({ fd, ranges }: SharedMemory): GuestMemory {
  return new GuestMemory(
    ranges.map(({ start, size, fdOffset }) => ({ guestAddress: start, bytes: window(fd, fdOffset, size) })),
  );
}

/** Puts the RAM into a machine: slots 0, 1, ... */
export function plugMemory(vm: Vm, { fd, deviceWrites, ranges }: SharedMemory): void {
  const counts = deviceWrites === undefined ? {} : { deviceWrites };
  for (const [slot, { start, size, fdOffset }] of ranges.entries()) {
    vm.setMemorySlot({ slot, guestAddress: start, size, fd, fdOffset, ...counts });
  }
}
