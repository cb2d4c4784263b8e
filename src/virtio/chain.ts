/** One request of a driver: a chain of descriptors (virtio 1.2, 2.7.5), read once, its memory checked. */
import { GuestRange, type GuestRanges, type MappedRegion } from './guest-ranges.ts';

const DESCRIPTOR_SIZE = 16;
// Offsets in a descriptor.
const LENGTH = 8;
/** Flags, and the next descriptor's index in the high half. */
const FLAGS = 12;
const NEXT_SHIFT = 16;

const VIRTQ_DESC_F_NEXT = 1;
const VIRTQ_DESC_F_WRITE = 2;
const VIRTQ_DESC_F_INDIRECT = 4;

/** Descriptors in an indirect table, at most: what one system call takes (IOV_MAX). */
export const MAX_INDIRECT = 1024;
/** Bytes of a chain, at most (2.7.5.2). */
const MAX_LENGTH = 2 ** 32;
/** High half of the first address that is no exact number. */
const HIGH_END = 2 ** 21;

/** The driver broke the rules: the device stops until it is reset. */
export class BrokenDriverError extends Error {
  override readonly name = 'BrokenDriverError';
}

/** Where descriptors are. */
export interface DescriptorTable {
  readonly region: MappedRegion;
  /** Offset of the table in the region. */
  readonly offset: number;
  /** Descriptors. */
  readonly count: number;
}

/** The memory of a request: what the device reads, then what it writes. */
export class Chain {
  /** Index of the first descriptor: the chain's name in the used ring. */
  readonly head: number;
  readonly readable: GuestRange[] = [];
  readonly writable: GuestRange[] = [];
  /** Bytes of all readable ranges, and of all writable ones. */
  readableLength = 0;
  writableLength = 0;

  /**
   * Reads the chain that starts at `head`. `indirect`: VIRTIO_F_INDIRECT_DESC was negotiated.
   * Throws BrokenDriverError: memory that is not there, a loop, too many descriptors, or a wrong order of them.
   */
  constructor(table: DescriptorTable, head: number, ranges: GuestRanges, indirect: boolean) {
    this.head = head;
    this.#read(table, head, ranges, indirect);
  }

  #read(table: DescriptorTable, head: number, ranges: GuestRanges, indirect: boolean): void {
    const { view } = table.region;
    let index = head;
    // A chain with more descriptors than the table has a loop.
    for (let left = table.count; ; left--) {
      if (left === 0) throw new BrokenDriverError(`a chain of more than ${table.count} descriptors`);
      if (index >= table.count) throw new BrokenDriverError(`descriptor ${index} of ${table.count}`);
      const at = table.offset + index * DESCRIPTOR_SIZE;
      const low = view.getUint32(at, true);
      const high = view.getUint32(at + 4, true);
      const length = view.getUint32(at + LENGTH, true);
      const flags = view.getUint32(at + FLAGS, true);
      if (high >= HIGH_END) throw new BrokenDriverError('a descriptor with an address beyond all memory');
      const address = high * 2 ** 32 + low;
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        if (!indirect) throw new BrokenDriverError('an indirect descriptor, which was not negotiated or is in a table');
        if ((flags & VIRTQ_DESC_F_NEXT) !== 0) throw new BrokenDriverError('an indirect descriptor with a next one');
        this.#read(indirectTable(ranges, address, length), 0, ranges, false);
        return;
      }
      this.#add(ranges, address, length, (flags & VIRTQ_DESC_F_WRITE) !== 0);
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) return;
      index = flags >>> NEXT_SHIFT;
    }
  }

  #add(ranges: GuestRanges, address: number, length: number, writable: boolean): void {
    if (!writable && this.writable.length > 0) {
      throw new BrokenDriverError('a descriptor for reading after one for writing');
    }
    const region = ranges.find(address, length);
    if (region === undefined) {
      throw new BrokenDriverError(`${length} bytes at 0x${address.toString(16)} are not guest memory`);
    }
    if (this.readableLength + this.writableLength + length > MAX_LENGTH) {
      throw new BrokenDriverError('a chain of more than 4 GiB');
    }
    const range = new GuestRange(region, address, length);
    const of = writable ? this.writable : this.readable;
    of[of.length] = range;
    if (writable) this.writableLength += length;
    else this.readableLength += length;
  }

  /** Copies readable bytes from `offset` on into `target`. Returns how many there were. */
  read(target: Uint8Array, offset = 0): number {
    return copy(this.readable, offset, target.length, (bytes, at) => target.set(bytes, at));
  }

  /** Copies `source` over the writable bytes from `offset` on. Returns how many there was room for. */
  write(source: Uint8Array, offset = 0): number {
    return copy(this.writable, offset, source.length, (bytes, at) => bytes.set(source.subarray(at, at + bytes.length)));
  }
}

function indirectTable(ranges: GuestRanges, address: number, length: number): DescriptorTable {
  const count = length / DESCRIPTOR_SIZE;
  if (!Number.isInteger(count) || count === 0 || count > MAX_INDIRECT) {
    throw new BrokenDriverError(`an indirect table of ${length} bytes`);
  }
  const region = ranges.find(address, length);
  if (region === undefined) {
    throw new BrokenDriverError(`an indirect table at 0x${address.toString(16)}, which is not guest memory`);
  }
  return { region, offset: address - region.start, count };
}

/** Gives `length` bytes from `offset` of the ranges on to `each`, piece by piece. Returns how many there were. */
function copy(
  ranges: readonly GuestRange[],
  offset: number,
  length: number,
  each: (bytes: Uint8Array, at: number) => void,
): number {
  let skip = offset;
  let done = 0;
  for (const range of ranges) {
    if (done === length) break;
    if (skip >= range.length) {
      skip -= range.length;
      continue;
    }
    const bytes = range.bytes.subarray(skip, skip + length - done);
    skip = 0;
    each(bytes, done);
    done += bytes.length;
  }
  return done;
}
