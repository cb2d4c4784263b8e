/** The table of internal snapshots: read and written. */
import { CorruptImageError } from '../error.ts';
import type { ImageFile } from '../image-file.ts';
import { MAX_L1_BYTES, MAX_OFFSET, roundUp } from './format.ts';
import type { Header } from './header.ts';

const FIXED_BYTES = 40;
/** Bytes of the extra data that version 3 asks for. */
const EXTRA_BYTES = 16;
/** QEMU's limits, in bytes: of one entry's extra data, and of the table. */
const MAX_EXTRA = 1024;
const MAX_TABLE = 64 * 2 ** 20;

export interface Snapshot {
  readonly l1Offset: number;
  /** Entries of its L1 table. */
  readonly l1Size: number;
  readonly id: string;
  readonly name: string;
  /** When it was made: milliseconds since the epoch. */
  readonly date: number;
  /** How long the guest had run: nanoseconds. */
  readonly guestTime: bigint;
  /** Bytes of the saved machine. */
  readonly stateSize: bigint;
  /** Virtual size of the disk, in bytes. */
  readonly diskSize: number;
  /** Extra data behind what is known. */
  readonly unknown: Buffer;
}

export interface SnapshotTable {
  readonly snapshots: readonly Snapshot[];
  /** Bytes of the table in the file. */
  readonly length: number;
  /** Entries without all that version 3 asks for. */
  readonly incomplete: number;
}

/** Reads the table. Throws OsError, CorruptImageError. */
export function readSnapshots(
  file: ImageFile,
  header: Pick<Header, 'snapshotCount' | 'snapshotsOffset' | 'size' | 'clusterBits'>,
): SnapshotTable {
  const snapshots: Snapshot[] = [];
  const start = header.snapshotsOffset;
  const fail = (what: string): never => {
    throw new CorruptImageError(`${file.path}: snapshot ${snapshots.length + 1}: ${what}`);
  };
  let at = start;
  let incomplete = 0;
  for (let i = 0; i < header.snapshotCount; i++) {
    const fixed = file.readBuffer(at, FIXED_BYTES);
    const extraLength = fixed.readUInt32BE(36);
    const idLength = fixed.readUInt16BE(12);
    const nameLength = fixed.readUInt16BE(14);
    if (extraLength < EXTRA_BYTES) incomplete++;
    if (extraLength > MAX_EXTRA) fail(`its extra data has ${extraLength} bytes`);
    const length = FIXED_BYTES + extraLength + idLength + nameLength;
    if (at + length > file.size) fail('the snapshot table is cut off');
    const rest = file.readBuffer(at + FIXED_BYTES, length - FIXED_BYTES);
    const l1Offset = Number(fixed.readBigUInt64BE(0));
    const l1Size = fixed.readUInt32BE(8);
    if (l1Size * 8 > MAX_L1_BYTES) fail(`its L1 table has ${l1Size} entries`);
    if (l1Offset % 2 ** header.clusterBits !== 0 || l1Offset + l1Size * 8 > file.size) {
      fail(`its L1 table is at 0x${l1Offset.toString(16)}`);
    }
    const diskSize = extraLength >= EXTRA_BYTES ? rest.readBigUInt64BE(8) : BigInt(header.size);
    if (diskSize > BigInt(MAX_OFFSET)) fail(`its disk has ${diskSize} bytes`);
    snapshots.push({
      l1Offset,
      l1Size,
      id: rest.toString('utf8', extraLength, extraLength + idLength),
      name: rest.toString('utf8', extraLength + idLength),
      date: fixed.readUInt32BE(16) * 1000 + Math.floor(fixed.readUInt32BE(20) / 1e6),
      guestTime: fixed.readBigUInt64BE(24),
      stateSize: extraLength >= 8 ? rest.readBigUInt64BE(0) : BigInt(fixed.readUInt32BE(32)),
      diskSize: Number(diskSize),
      unknown: Buffer.from(rest.subarray(Math.min(extraLength, EXTRA_BYTES), extraLength)),
    });
    at += roundUp(length, 8);
    if (at - start > MAX_TABLE) fail('the snapshot table is too large');
  }
  return { snapshots, length: at - start, incomplete };
}

/** The table's bytes. */
export function formatSnapshots(snapshots: readonly Snapshot[]): Buffer {
  return Buffer.concat(
    snapshots.map((snapshot) => {
      const id = Buffer.from(snapshot.id);
      const name = Buffer.from(snapshot.name);
      const extra = EXTRA_BYTES + snapshot.unknown.length;
      const entry = Buffer.alloc(roundUp(FIXED_BYTES + extra + id.length + name.length, 8));
      entry.writeBigUInt64BE(BigInt(snapshot.l1Offset), 0);
      entry.writeUInt32BE(snapshot.l1Size, 8);
      entry.writeUInt16BE(id.length, 12);
      entry.writeUInt16BE(name.length, 14);
      entry.writeUInt32BE(Math.floor(snapshot.date / 1000), 16);
      entry.writeUInt32BE((snapshot.date % 1000) * 1e6, 20);
      entry.writeBigUInt64BE(snapshot.guestTime, 24);
      entry.writeUInt32BE(Number(snapshot.stateSize & 0xffff_ffffn), 32);
      entry.writeUInt32BE(extra, 36);
      entry.writeBigUInt64BE(snapshot.stateSize, 40);
      entry.writeBigUInt64BE(BigInt(snapshot.diskSize), 48);
      snapshot.unknown.copy(entry, 56);
      id.copy(entry, FIXED_BYTES + extra);
      name.copy(entry, FIXED_BYTES + extra + id.length);
      return entry;
    }),
  );
}
