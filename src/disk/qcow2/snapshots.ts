/**
 * Internal snapshots: made, applied, and deleted, in an image that no guest uses.
 *
 * Counts are raised before anything refers to the clusters, and lowered, by a repair, when nothing does any more. The dirty bit
 * stands all the while.
 */
import { DiskError } from '../error.ts';
import { HEADER_SIZE_FIELD, HEADER_SNAPSHOTS, MAX_SNAPSHOTS, OFFSET_HIGH, OFFSET_LOW, roundUp } from './format.ts';
import type { Qcow2Image } from './image.ts';
import { decodeEntry, type Entry, PACKED, UNALLOCATED } from './mapping.ts';
import type { Metadata } from './metadata.ts';
import { readHeader } from './open.ts';
import { repairImage } from './repair.ts';
import { formatSnapshots, readSnapshots, type Snapshot } from './snapshot-table.ts';

/** Bytes of a name. */
const MAX_NAME = 255;

/** The snapshots as they are in the file. Throws OsError, CorruptImageError. */
export function listSnapshots(image: Qcow2Image): readonly Snapshot[] {
  return readSnapshots(image.file, readHeader(image.file)).snapshots;
}

/** Finds a snapshot by its name or, if none has that, its ID. Throws DiskError. */
function find(image: Qcow2Image, snapshots: readonly Snapshot[], nameOrId: string): Snapshot {
  const found = snapshots.find(({ name }) => name === nameOrId) ?? snapshots.find(({ id }) => id === nameOrId);
  if (found === undefined) throw new DiskError(`${image.file.path}: there is no snapshot ${nameOrId}`);
  return found;
}

/** Keeps the disk's present content under a name. `date`: milliseconds since the epoch. Throws DiskError, OsError. */
export function createSnapshot(image: Qcow2Image, name: string, date: number): void {
  const snapshots = listSnapshots(image);
  if (name === '' || Buffer.byteLength(name) > MAX_NAME)
    throw new DiskError(`a snapshot's name has 1 to ${MAX_NAME} bytes`);
  if (snapshots.some((known) => known.name === name))
    throw new DiskError(`${image.file.path}: there is a snapshot ${name} already`);
  if (snapshots.length === MAX_SNAPSHOTS)
    throw new DiskError(`${image.file.path}: it has ${MAX_SNAPSHOTS} snapshots, the most there can be`);
  image.flush();
  image.modify((metadata) => {
    const { mapping, refcounts } = metadata;
    const l1 = mapping.copyL1();
    addUsers(image, metadata, l1);
    metadata.holdingDirty(() => {
      const first = refcounts.allocateRun(Math.max(1, Math.ceil(l1.length / image.clusterSize)));
      image.file.write(l1, first * image.clusterSize);
      mapping.clearCopied();
      metadata.commit();
      const highest = snapshots.reduce((most, { id }) => Math.max(most, Number(id) || 0), 0);
      const snapshot: Snapshot = {
        l1Offset: first * image.clusterSize,
        l1Size: mapping.l1Size,
        id: String(highest + 1),
        name,
        date,
        guestTime: 0n,
        stateSize: 0n,
        diskSize: image.size,
        unknown: Buffer.alloc(0),
      };
      replaceTable(image, metadata, [...snapshots, snapshot]);
    });
    metadata.commit();
  });
}

/** Forgets a snapshot; what only it used becomes free. The image must be closed afterwards. Throws DiskError, OsError. */
export function deleteSnapshot(image: Qcow2Image, nameOrId: string): void {
  const snapshots = listSnapshots(image);
  const gone = find(image, snapshots, nameOrId);
  image.flush();
  image.modify((metadata) => {
    metadata.holdingDirty(() => {
      const left = snapshots.filter((snapshot) => snapshot !== gone);
      replaceTable(image, metadata, left);
      metadata.commit();
      repairImage(image.file, readHeader(image.file));
    });
  });
}

/** Makes the disk's content what it was at a snapshot. The image must be closed afterwards. Throws DiskError, OsError. */
export function applySnapshot(image: Qcow2Image, nameOrId: string): void {
  const snapshot = find(image, listSnapshots(image), nameOrId);
  if (snapshot.stateSize > 0n)
    throw new DiskError(`${image.file.path}: snapshot ${nameOrId} is that of a running machine, not only of its disk`);
  image.flush();
  image.modify((metadata) => {
    const l1 = image.file.readBuffer(snapshot.l1Offset, snapshot.l1Size * 8);
    addUsers(image, metadata, l1);
    metadata.holdingDirty(() => {
      const first = metadata.refcounts.allocateRun(Math.max(1, Math.ceil(l1.length / image.clusterSize)));
      // Nothing in the new table is the disk's own: a writer copies, until the repair says better.
      for (let at = 0; at < l1.length; at += 8) l1[at]! &= 0x7f;
      image.file.write(l1, first * image.clusterSize);
      metadata.commit();
      writeL1Fields(image, snapshot.diskSize, snapshot.l1Size, first * image.clusterSize);
      repairImage(image.file, readHeader(image.file));
    });
  });
}

/** Writes the disk's size and the place of its L1 table, which are side by side in the header, at once. */
export function writeL1Fields(image: Qcow2Image, size: number, l1Size: number, l1Offset: number): void {
  const fields = Buffer.alloc(24);
  fields.writeBigUInt64BE(BigInt(size), 0);
  // Between them is the encryption method: none.
  fields.writeUInt32BE(l1Size, 12);
  fields.writeBigUInt64BE(BigInt(l1Offset), 16);
  image.file.write(fields, HEADER_SIZE_FIELD);
  image.file.sync();
}

/** Counts one more user for all that an L1 table leads to; all or nothing. */
function addUsers(image: Qcow2Image, metadata: Metadata, l1: Buffer): void {
  let raised = 0;
  try {
    for (const cluster of clustersOf(image, l1)) {
      metadata.refcounts.change(cluster, 1);
      raised++;
    }
  } catch (error) {
    for (const cluster of clustersOf(image, l1)) {
      if (raised-- === 0) break;
      metadata.refcounts.change(cluster, -1);
    }
    throw error;
  }
}

/** The clusters of the tables and of the data that an L1 table in the file leads to, each as often as it does. */
function* clustersOf(image: Qcow2Image, l1: Buffer): Generator<number> {
  const { clusterSize, file, header } = image;
  const entry: Entry = { kind: UNALLOCATED, host: 0, length: 0, copied: false };
  for (let index = 0; index < l1.length / 8; index++) {
    const table =
      (l1.readUInt32BE(index * 8) & OFFSET_HIGH) * 2 ** 32 + ((l1.readUInt32BE(index * 8 + 4) & OFFSET_LOW) >>> 0);
    if (table === 0) continue;
    yield table / clusterSize;
    const bytes = file.readBuffer(table, clusterSize);
    for (let at = 0; at < clusterSize; at += 8) {
      const [high, low] = [bytes.readUInt32BE(at), bytes.readUInt32BE(at + 4)];
      if (high === 0 && low === 0) continue;
      decodeEntry(high, low, header, file, entry);
      if (entry.host === 0) continue;
      const last = entry.host + (entry.kind === PACKED ? entry.length : 1) - 1;
      for (let cluster = Math.floor(entry.host / clusterSize); cluster <= Math.floor(last / clusterSize); cluster++)
        yield cluster;
    }
  }
}

/** Puts another snapshot table in the place of the present one. */
function replaceTable(image: Qcow2Image, metadata: Metadata, snapshots: readonly Snapshot[]): void {
  const { file, clusterSize } = image;
  const header = readHeader(file);
  const old = readSnapshots(file, header);
  const bytes = formatSnapshots(snapshots);
  let offset = 0;
  if (bytes.length > 0) {
    const clusters = roundUp(bytes.length, clusterSize) / clusterSize;
    offset = metadata.refcounts.allocateRun(clusters) * clusterSize;
    file.write(bytes, offset);
    metadata.commit();
  }
  const fields = Buffer.alloc(12);
  fields.writeUInt32BE(snapshots.length, 0);
  fields.writeBigUInt64BE(BigInt(offset), 4);
  file.write(fields, HEADER_SNAPSHOTS);
  file.sync();
  if (old.length > 0) metadata.releaseRun(header.snapshotsOffset, old.length);
}
