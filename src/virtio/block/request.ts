/** One request of a block driver, served (virtio 1.2, 5.2.6). */
import type { Disk } from '../../disk/disk.ts';
import { type HostRange, sliceRanges } from '../../disk/iovec.ts';
import type { Chain } from '../chain.ts';
import * as B from './constants.ts';

/** What a back end has served since its start. */
export interface BlockCounters {
  reads: number;
  readBytes: number;
  writes: number;
  writtenBytes: number;
  flushes: number;
  discards: number;
  errors: number;
}

/** How requests reach the disk. */
export interface RequestSurroundings {
  readonly disk: Disk;
  readonly writable: boolean;
  /** B.ID_SIZE bytes. */
  readonly serial: Uint8Array;
  readonly counters: BlockCounters;
  /** The disk has been changed, and not flushed. */
  changed(): void;
  /** A request failed on the host. */
  failed(error: Error): void;
}

/** High half of the first sector that no disk has. */
const SECTOR_HIGH_END = 2 ** 12;

const header = new Uint8Array(B.HEADER_SIZE);
const headerView = new DataView(header.buffer);
const status = new Uint8Array(1);

/** A request that the device does not do. */
class Refused extends Error {
  readonly status: number;

  constructor(status: number) {
    super();
    this.status = status;
  }
}

/** Serves it; returns how many bytes it has written to the chain. Does not throw. */
export function serve(chain: Chain, surroundings: RequestSurroundings): number {
  const room = chain.writableLength;
  // Nowhere to say anything.
  if (room === 0) return 0;
  let written = 0;
  try {
    if (chain.read(header) < B.HEADER_SIZE) throw new Refused(B.VIRTIO_BLK_S_IOERR);
    written = dispatch(chain, surroundings);
    status[0] = B.VIRTIO_BLK_S_OK;
  } catch (error) {
    surroundings.counters.errors++;
    status[0] = error instanceof Refused ? error.status : B.VIRTIO_BLK_S_IOERR;
    if (!(error instanceof Refused)) surroundings.failed(error as Error);
  }
  chain.write(status, room - 1);
  // The status is at the chain's end: without the bytes before it, a driver could not count on it.
  return status[0] === B.VIRTIO_BLK_S_OK && written === room - 1 ? room : 1;
}

function dispatch(chain: Chain, surroundings: RequestSurroundings): number {
  const type = headerView.getUint32(0, true);
  const { disk, counters } = surroundings;
  switch (type) {
    case B.VIRTIO_BLK_T_IN: {
      const ranges = dataIn(chain);
      const length = chain.writableLength - 1;
      const offset = offsetOf(disk, length);
      counters.reads++;
      counters.readBytes += length;
      disk.read(offset, ranges);
      return length;
    }
    case B.VIRTIO_BLK_T_OUT: {
      requireWritable(surroundings);
      const length = chain.readableLength - B.HEADER_SIZE;
      const offset = offsetOf(disk, length);
      counters.writes++;
      counters.writtenBytes += length;
      disk.write(offset, dataOut(chain));
      surroundings.changed();
      return 0;
    }
    case B.VIRTIO_BLK_T_FLUSH:
      counters.flushes++;
      if (surroundings.writable) disk.flush();
      return 0;
    case B.VIRTIO_BLK_T_GET_ID:
      return Math.min(chain.write(surroundings.serial.subarray(0, chain.writableLength - 1)), B.ID_SIZE);
    case B.VIRTIO_BLK_T_DISCARD:
    case B.VIRTIO_BLK_T_WRITE_ZEROES:
      requireWritable(surroundings);
      counters.discards++;
      zeroOrDiscard(chain, surroundings, type === B.VIRTIO_BLK_T_DISCARD);
      return 0;
    default:
      throw new Refused(B.VIRTIO_BLK_S_UNSUPP);
  }
}

function requireWritable({ writable }: RequestSurroundings): void {
  if (!writable) throw new Refused(B.VIRTIO_BLK_S_IOERR);
}

/** Where the header says, in bytes, when `length` bytes from there on are on the disk. */
function offsetOf(disk: Disk, length: number): number {
  return offsetOfSector(disk, headerView.getUint32(8, true), headerView.getUint32(12, true), length);
}

function offsetOfSector(disk: Disk, low: number, high: number, length: number): number {
  if (high >= SECTOR_HIGH_END || length < 0 || length % B.SECTOR !== 0) throw new Refused(B.VIRTIO_BLK_S_IOERR);
  const offset = (high * 2 ** 32 + low) * B.SECTOR;
  // The last sector is whole: a tail of the image that is shorter is hidden.
  if (offset + length > disk.size - (disk.size % B.SECTOR)) throw new Refused(B.VIRTIO_BLK_S_IOERR);
  return offset;
}

/** The ranges before the status. */
function dataIn({ writable, writableLength }: Chain): readonly HostRange[] {
  if (writable[writable.length - 1]?.length === 1) return writable.slice(0, -1);
  return sliceRanges(writable, 0, writableLength - 1);
}

/** The ranges after the header. */
function dataOut({ readable, readableLength }: Chain): readonly HostRange[] {
  if (readable[0]?.length === B.HEADER_SIZE) return readable.slice(1);
  return sliceRanges(readable, B.HEADER_SIZE, readableLength - B.HEADER_SIZE);
}

function zeroOrDiscard(chain: Chain, surroundings: RequestSurroundings, discard: boolean): void {
  const { disk } = surroundings;
  const length = chain.readableLength - B.HEADER_SIZE;
  if (length === 0 || length % B.SEGMENT_SIZE !== 0 || length > B.MAX_SEGMENTS * B.SEGMENT_SIZE) {
    throw new Refused(B.VIRTIO_BLK_S_IOERR);
  }
  const segments = new DataView(new ArrayBuffer(length));
  chain.read(new Uint8Array(segments.buffer), B.HEADER_SIZE);
  const work: (() => void)[] = [];
  for (let at = 0; at < length; at += B.SEGMENT_SIZE) {
    const bytes = segments.getUint32(at + 8, true) * B.SECTOR;
    const flags = segments.getUint32(at + 12, true);
    const allowed = discard ? 0 : B.VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
    if ((flags & ~allowed) !== 0) throw new Refused(B.VIRTIO_BLK_S_UNSUPP);
    const offset = offsetOfSector(disk, segments.getUint32(at, true), segments.getUint32(at + 4, true), bytes);
    if (bytes === 0) continue;
    work.push(() => (discard ? disk.discard(offset, bytes) : disk.writeZeroes(offset, bytes, flags !== 0)));
  }
  for (const one of work) one();
  surroundings.changed();
}
