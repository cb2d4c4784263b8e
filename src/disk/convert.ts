/** Copies of disks: into an image of another format, and from an overlay into what is under it. */
import { setImmediate as breathe } from 'node:timers/promises';
import { DiskError } from './error.ts';
import type { ImageFile } from './image-file.ts';
import { type HostRange, rangeOf } from './iovec.ts';
import type { Backing, Qcow2Image } from './qcow2/image.ts';
import { UNALLOCATED, ZEROES } from './qcow2/mapping.ts';

/** Bytes that are copied at once; between two of them, signals are looked at. */
const CHUNK = 2 * 2 ** 20;
/** Bytes of zeroes that are worth leaving out. */
const ZERO_UNIT = 4096;

/** What a copy goes to. */
export interface CopyTarget {
  write(offset: number, ranges: readonly HostRange[]): void;
  flush(): void;
}

export interface CopyOptions {
  /** Told how much is done: 0 to 1. */
  readonly progress: (fraction: number) => void;
  readonly signal?: AbortSignal;
}

/** A raw file as a target. */
export function rawTarget(file: ImageFile): CopyTarget {
  return { write: (offset, ranges) => file.writeRanges(ranges, offset), flush: () => file.sync() };
}

/** Copies a disk to one that reads as zeroes: zeroes are left out. Throws OsError, DiskError, the signal's reason. */
export async function copyDisk(source: Backing, target: CopyTarget, { progress, signal }: CopyOptions): Promise<void> {
  const buffer = Buffer.alloc(CHUNK);
  for (let at = source.nextData(0); at < source.size; at = source.nextData(at)) {
    const chunk = buffer.subarray(0, Math.min(CHUNK - (at % CHUNK), source.size - at));
    source.read(at, [rangeOf(chunk)]);
    writeNonZero(target, chunk, at);
    at += chunk.length;
    progress(at / source.size);
    await breathe();
    signal?.throwIfAborted();
  }
  target.flush();
  progress(1);
}

/** Writes those units of a chunk that hold other bytes than zeroes. */
function writeNonZero(target: CopyTarget, chunk: Buffer, offset: number): void {
  for (let at = 0; at < chunk.length; ) {
    let end = at;
    while (end < chunk.length && !isZero(chunk, end)) end = Math.min(chunk.length, end + ZERO_UNIT);
    if (end > at) target.write(offset + at, [rangeOf(chunk.subarray(at, end))]);
    at = end + ZERO_UNIT;
  }
}

const ZEROES_UNIT = Buffer.alloc(ZERO_UNIT);

function isZero(chunk: Buffer, at: number): boolean {
  const unit = chunk.subarray(at, at + ZERO_UNIT);
  return unit.equals(unit.length === ZERO_UNIT ? ZEROES_UNIT : ZEROES_UNIT.subarray(0, unit.length));
}

/** The disk under an overlay, for commitOverlay(). */
export interface CommitTarget extends CopyTarget {
  readonly size: number;
  resize(size: number): void;
  writeZeroes(offset: number, length: number): void;
}

/**
 * Writes what an overlay holds into the disk under it, then empties the overlay. `overlay` is open without that disk.
 * A kill at any moment leaves both together with the same content. Throws OsError, DiskError, the signal's reason.
 */
export async function commitOverlay(
  overlay: Qcow2Image,
  target: CommitTarget,
  { progress, signal }: CopyOptions,
): Promise<void> {
  if (overlay.header.snapshotCount > 0) {
    throw new DiskError(`${overlay.file.path}: it has snapshots, which need the disk under it as it is`);
  }
  const { clusterSize, mapping, size } = overlay;
  if (target.size < size) target.resize(size);
  const clusters = Math.ceil(size / clusterSize);
  const buffer = Buffer.alloc(clusterSize);
  let copied = 0;
  for (let cluster = 0; cluster < clusters; cluster = next(overlay, cluster)) {
    const { kind } = mapping.lookup(cluster);
    if (kind === UNALLOCATED) continue;
    const offset = cluster * clusterSize;
    const bytes = Math.min(clusterSize, size - offset);
    if (kind === ZEROES) {
      target.writeZeroes(offset, bytes);
    } else {
      const data = buffer.subarray(0, bytes);
      overlay.read(offset, [rangeOf(data)]);
      target.write(offset, [rangeOf(data)]);
    }
    if (copied++ % Math.max(1, CHUNK / clusterSize) !== 0) continue;
    progress((0.9 * cluster) / clusters);
    await breathe();
    signal?.throwIfAborted();
  }
  target.flush();
  // From here on the overlay says nothing that the disk under it does not.
  for (let cluster = 0; cluster < clusters; cluster = next(overlay, cluster)) overlay.forget(cluster);
  overlay.flush();
  progress(1);
}

/** The next cluster that may be in the overlay. */
function next(overlay: Qcow2Image, cluster: number): number {
  const { perTable } = overlay.mapping;
  const inTable = cluster % perTable;
  const empty = overlay.mapping.table(Math.floor(cluster / perTable)) === 0;
  return cluster + (empty ? perTable - inTable : 1);
}
