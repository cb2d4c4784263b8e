/** Where the initial RAM disk goes. */
import type { GuestMemory } from '../../hypervisor/guest-memory.ts';
import { lowRamEnd, MIB, PAGE_SIZE } from './map.ts';

/** An initrd for which there is no room. `message` is one line for the user. */
export class InitrdError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'InitrdError';
  }
}

/** An initrd that is not in memory yet. */
export interface InitrdSource {
  /** Bytes. */
  readonly size: number;
  /** Puts it into `target`, which has its size. */
  readonly readInto: (target: Uint8Array) => void;
}

/** An initrd in guest memory. */
export interface LoadedInitrd {
  /** Guest-physical, page-aligned. */
  readonly start: number;
  /** Bytes. */
  readonly size: number;
}

/**
 * Reads the initrd to as high as the kernel (`addressMax`: the highest address of its last byte) and RAM below 4 GiB
 * allow, above `kernelEnd`. Throws InitrdError when it does not fit.
 */
export function loadInitrd(
  memory: GuestMemory,
  { size, readInto }: InitrdSource,
  kernelEnd: number,
  addressMax: number,
): LoadedInitrd {
  const end = Math.min(lowRamEnd(memory), addressMax + 1);
  const start = Math.floor((end - size) / PAGE_SIZE) * PAGE_SIZE;
  if (start < kernelEnd) {
    const mib = (bytes: number) => Math.ceil(bytes / MIB);
    throw new InitrdError(
      `the initrd of ${mib(size)} MiB does not fit: the kernel takes memory up to ${mib(kernelEnd)} MiB, and ` +
        `the initrd must end below ${mib(end)} MiB: give the machine more memory with --mem or make the initrd smaller`,
    );
  }
  readInto(memory.slice(start, size));
  return { start, size };
}
