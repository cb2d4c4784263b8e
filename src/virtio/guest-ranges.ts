/** Guest RAM by guest-physical address as addresses of this process, so that the kernel can read and write it directly. */
import type { HostRange } from '../disk/iovec.ts';
import { addressOf } from '../host/ffi.ts';
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
  readonly address: number;
  readonly length: number;
  readonly #region: MappedRegion;

  constructor(region: MappedRegion, guestAddress: number, length: number) {
    this.address = region.host + (guestAddress - region.start);
    this.length = length;
    this.#region = region;
  }

  /** What the memory belongs to. */
  get owner(): Uint8Array {
    return this.#region.bytes;
  }

  /** Guest-physical address of the first byte. */
  get guestAddress(): number {
    return this.#region.start + (this.address - this.#region.host);
  }

  /** The bytes themselves. The guest may change them at any time. */
  get bytes(): Uint8Array {
    const from = this.address - this.#region.host;
    return this.#region.bytes.subarray(from, from + this.length);
  }
}

/** All of guest RAM. */
export class GuestRanges {
  readonly #regions: readonly MappedRegion[];

  constructor(memory: GuestMemory) {
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
