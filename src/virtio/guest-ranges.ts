/** Guest RAM by guest-physical address as addresses of this process, so that the kernel can read and write it directly. */
import type { HostRange } from '../disk/iovec.ts';
import { addressOf } from '../host/ffi.ts';
import { PAGE_SIZE } from '../host/memory.ts';
import type { GuestMemory } from '../hypervisor/guest-memory.ts';

/** A region of guest RAM, mapped in this process. */
export interface MappedRegion {
  /** Guest-physical address of the first byte, and after the last one. */
  readonly start: number;
  readonly end: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** The first byte's address in this process. */
  readonly host: number;
}

/** A piece of guest RAM. */
export class GuestRange implements HostRange {
  readonly length: number;
  readonly #region: MappedRegion;
  /** Offset of the first byte in the region: a small integer as a rule, where an address would be an object of its own. */
  readonly #from: number;

  constructor(region: MappedRegion, guestAddress: number, length: number) {
    this.length = length;
    this.#region = region;
    this.#from = guestAddress - region.start;
  }

  get address(): number {
    return this.#region.host + this.#from;
  }

  /** What the memory belongs to. */
  get owner(): Uint8Array {
    return this.#region.bytes;
  }

  /** Guest-physical address of the first byte. */
  get guestAddress(): number {
    return this.#region.start + this.#from;
  }

  /** The bytes themselves. The guest may change them at any time. */
  get bytes(): Uint8Array {
    return this.#region.bytes.subarray(this.#from, this.#from + this.length);
  }
}

/**
 * Counts of what devices have written to guest RAM, 16 bits a page: processors that keep what they have decoded look at them
 * (MemorySlot.deviceWrites).
 */
export class DeviceWrites {
  readonly #counts: Uint16Array;
  readonly #places: readonly { readonly guestAddress: number; readonly fdOffset: number }[];

  /** `counts`: by page of the RAM's file, which has the region at `guestAddress` from `fdOffset` on. */
  constructor(counts: Uint16Array, places: readonly { readonly guestAddress: number; readonly fdOffset: number }[]) {
    this.#counts = counts;
    this.#places = places;
  }

  /** After the write, and before the guest is told of it. */
  add(range: GuestRange): void {
    if (range.length === 0) return;
    const first = this.#fileOffset(range.guestAddress);
    const last = (first + range.length - 1) / PAGE_SIZE;
    for (let page = Math.floor(first / PAGE_SIZE); page <= last; page++) Atomics.add(this.#counts, page, 1);
  }

  #fileOffset(address: number): number {
    let at = this.#places.length - 1;
    while (at > 0 && this.#places[at]!.guestAddress > address) at--;
    const { guestAddress, fdOffset } = this.#places[at]!;
    return address - guestAddress + fdOffset;
  }
}

/** All of guest RAM. */
export class GuestRanges {
  /** Absent where no processor needs to know. */
  readonly writes: DeviceWrites | undefined;
  readonly #regions: readonly MappedRegion[];

  constructor(memory: GuestMemory, writes?: DeviceWrites) {
    this.writes = writes;
    this.#regions = memory.regions.map(({ guestAddress, bytes }) => ({
      start: guestAddress,
      end: guestAddress + bytes.length,
      bytes,
      view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
      host: Number(addressOf(bytes.buffer)) + bytes.byteOffset,
    }));
  }

  /** The region that has all of these bytes; undefined: they are not guest RAM. Both numbers are integers, `length` 0 or more. */
  find(address: number, length: number): MappedRegion | undefined {
    for (const region of this.#regions) {
      if (address >= region.start && address + length <= region.end) return region;
    }
    return undefined;
  }
}
