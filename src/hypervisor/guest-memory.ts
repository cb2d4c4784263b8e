/**
 * Guest RAM as host code sees it: regions by guest-physical address, each over bytes that are mapped in this thread
 * (a window over the memfd). Every access is checked: addresses come from the guest.
 */

/** An access outside guest RAM, or across the end of a region. */
export class GuestMemoryError extends Error {
  /** Guest-physical address of the access. */
  readonly address: number;
  /** Bytes asked for. */
  readonly length: number;

  constructor(address: number, length: number) {
    const where = Number.isSafeInteger(address) && address >= 0 ? `0x${address.toString(16)}` : String(address);
    super(`${length} bytes at guest address ${where} are not guest memory`);
    this.name = 'GuestMemoryError';
    this.address = address;
    this.length = length;
  }
}

/** Bytes of guest RAM and where the guest sees them. */
export interface GuestMemoryRegion {
  /** Guest-physical address of the first byte. */
  readonly guestAddress: number;
  readonly bytes: Uint8Array;
}

interface Region extends GuestMemoryRegion {
  /** Guest-physical address after the last byte. */
  readonly end: number;
  readonly view: DataView;
}

/**
 * Guest RAM. Addresses are guest-physical and lengths are in bytes, both as JavaScript numbers. An access that is not
 * wholly inside one region throws GuestMemoryError. Multi-byte values are little-endian.
 */
export class GuestMemory {
  readonly #regions: readonly Region[];
  /** The region of the last access: most accesses are near the one before. */
  #last: Region | undefined;

  /** Throws RangeError when regions overlap or start at something else than a non-negative integer. */
  constructor(regions: readonly GuestMemoryRegion[]) {
    this.#regions = regions
      .map(({ guestAddress, bytes }) => ({
        guestAddress,
        bytes,
        end: guestAddress + bytes.length,
        view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
      }))
      .sort((a, b) => a.guestAddress - b.guestAddress);
    let end = 0;
    for (const region of this.#regions) {
      if (!Number.isSafeInteger(region.guestAddress) || region.guestAddress < 0 || !Number.isSafeInteger(region.end)) {
        throw new RangeError(`guest memory cannot start at ${region.guestAddress}`);
      }
      if (region.guestAddress < end) {
        throw new RangeError(`guest memory regions overlap at 0x${region.guestAddress.toString(16)}`);
      }
      end = region.end;
    }
  }

  /** The regions, by rising address. */
  get regions(): readonly GuestMemoryRegion[] {
    return this.#regions;
  }

  /** Bytes of all regions together. */
  get size(): number {
    return this.#regions.reduce((sum, region) => sum + region.bytes.length, 0);
  }

  #find(address: number, length: number): Region {
    const last = this.#last;
    if (last !== undefined && address >= last.guestAddress && length >= 0 && address + length <= last.end) {
      return last;
    }
    for (const region of this.#regions) {
      if (address >= region.guestAddress && length >= 0 && address + length <= region.end) {
        this.#last = region;
        return region;
      }
    }
    throw new GuestMemoryError(address, length);
  }

  /** Whether `length` bytes at `address` lie inside one region. */
  contains(address: number, length: number): boolean {
    return this.#regions.some(
      (region) => address >= region.guestAddress && length >= 0 && address + length <= region.end,
    );
  }

  /** A view (not a copy) of `length` bytes. */
  slice(address: number, length: number): Uint8Array {
    const region = this.#find(address, length);
    const start = address - region.guestAddress;
    return region.bytes.subarray(start, start + length);
  }

  /** A copy of `length` bytes: what the guest changes later does not change it. */
  read(address: number, length: number): Uint8Array {
    return new Uint8Array(this.slice(address, length));
  }

  write(address: number, bytes: Uint8Array): void {
    const region = this.#find(address, bytes.length);
    region.bytes.set(bytes, address - region.guestAddress);
  }

  fill(address: number, length: number, value: number): void {
    this.slice(address, length).fill(value);
  }

  readU8(address: number): number {
    const region = this.#find(address, 1);
    return region.view.getUint8(address - region.guestAddress);
  }

  readU16(address: number): number {
    const region = this.#find(address, 2);
    return region.view.getUint16(address - region.guestAddress, true);
  }

  readU32(address: number): number {
    const region = this.#find(address, 4);
    return region.view.getUint32(address - region.guestAddress, true);
  }

  readU64(address: number): bigint {
    const region = this.#find(address, 8);
    return region.view.getBigUint64(address - region.guestAddress, true);
  }

  writeU8(address: number, value: number): void {
    const region = this.#find(address, 1);
    region.view.setUint8(address - region.guestAddress, value);
  }

  writeU16(address: number, value: number): void {
    const region = this.#find(address, 2);
    region.view.setUint16(address - region.guestAddress, value, true);
  }

  writeU32(address: number, value: number): void {
    const region = this.#find(address, 4);
    region.view.setUint32(address - region.guestAddress, value, true);
  }

  writeU64(address: number, value: bigint): void {
    const region = this.#find(address, 8);
    region.view.setBigUint64(address - region.guestAddress, value, true);
  }
}
