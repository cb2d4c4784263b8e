/** Mends what a check found: counts, and copied flags. Guest data and the tables that lead to it stay as they are. */
import { CorruptImageError, DiskError } from '../error.ts';
import type { ImageFile } from '../image-file.ts';
import { type CheckProgress, type CheckResult, checkImage } from './check.ts';
import type { ClusterCounts } from './cluster-counts.ts';
import {
  HEADER_INCOMPATIBLE,
  HEADER_REFCOUNT_TABLE,
  INCOMPATIBLE_CORRUPT,
  INCOMPATIBLE_DIRTY,
  MAX_REFCOUNT_TABLE_BYTES,
} from './format.ts';
import { type Header, parseHeader } from './header.ts';
import { largestRefcount, writeEntry } from './refcount-entry.ts';

/**
 * Checks an image, repairs it, and checks again; returns the second result. Clears the dirty bit, and the corrupt bit where
 * nothing wrong is left. A kill in between leaves the bits set. Throws OsError, DiskError.
 */
export function repairImage(
  file: ImageFile,
  header: Header,
  progress: CheckProgress = () => {},
): { found: CheckResult; left: CheckResult } {
  const found = checkImage(file, header, (fraction) => progress(fraction / 2));
  const { incompatible } = header;
  if (found.leaks > 0 || found.corruptions > 0) {
    setIncompatible(file, header, incompatible | INCOMPATIBLE_DIRTY);
    if (found.rebuild) rebuildCounts(file, header, found.uses);
    else writeCounts(file, header, found.uses);
    fixFlags(file, found.wrongFlags);
    file.sync();
  }
  const after = parseHeader(file.readBuffer(0, Math.min(file.size, 2 ** header.clusterBits)), file.path);
  const left = checkImage(file, after, (fraction) => progress(0.5 + fraction / 2));
  if (left.corruptions === 0 && left.leaks === 0) {
    setIncompatible(file, header, incompatible & ~(INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT));
    file.sync();
  }
  return { found, left };
}

/** Makes an image with the dirty bit usable. Throws OsError; DiskError if it cannot be repaired. */
export function repairDirty(file: ImageFile, header: Header): Header {
  if ((header.incompatible & INCOMPATIBLE_DIRTY) === 0n || (header.incompatible & INCOMPATIBLE_CORRUPT) !== 0n)
    return header;
  const { left } = repairImage(file, header);
  if (left.corruptions > 0) {
    throw new CorruptImageError(`${file.path}: the image was not closed, and cannot be repaired: ${left.messages[0]}`);
  }
  return parseHeader(file.readBuffer(0, Math.min(file.size, 2 ** header.clusterBits)), file.path);
}

function setIncompatible(file: ImageFile, header: Header, value: bigint): void {
  if (header.version < 3) return;
  const field = Buffer.alloc(8);
  field.writeBigUInt64BE(value);
  file.write(field, HEADER_INCOMPATIBLE);
  file.sync();
}

function requireWidth(file: ImageFile, header: Header, count: number): void {
  if (count <= largestRefcount(header.refcountOrder)) return;
  throw new DiskError(
    `${file.path}: a cluster is used ${count} times: refcounts of ${2 ** header.refcountOrder} bits are too narrow`,
  );
}

/** Makes a block's bytes: the counts of the clusters from `first` on. */
function formatBlock(file: ImageFile, header: Header, uses: ClusterCounts, first: number): Buffer {
  const bytes = Buffer.alloc(2 ** header.clusterBits);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const perBlock = (bytes.length * 8) / 2 ** header.refcountOrder;
  if (!uses.any(first, perBlock)) return bytes;
  for (let index = 0; index < perBlock; index++) {
    const count = uses.get(first + index);
    requireWidth(file, header, count);
    if (count > 0) writeEntry(view, index, header.refcountOrder, count);
  }
  return bytes;
}

/** Writes the right counts into the blocks that are there. */
function writeCounts(file: ImageFile, header: Header, uses: ClusterCounts): void {
  const clusterSize = 2 ** header.clusterBits;
  const perBlock = (clusterSize * 8) / 2 ** header.refcountOrder;
  const table = file.readBuffer(header.refcountTableOffset, header.refcountTableClusters * clusterSize);
  for (let block = 0; block < table.length / 8; block++) {
    const offset = Number(table.readBigUInt64BE(block * 8));
    if (offset === 0) continue;
    const right = formatBlock(file, header, uses, block * perBlock);
    if (!right.equals(file.readBuffer(offset, clusterSize))) file.write(right, offset);
  }
}

/** Writes a new table and new blocks behind the file's end, then has the header name them. */
function rebuildCounts(file: ImageFile, header: Header, uses: ClusterCounts): void {
  const clusterSize = 2 ** header.clusterBits;
  const perBlock = (clusterSize * 8) / 2 ** header.refcountOrder;
  const old = file.readBuffer(header.refcountTableOffset, header.refcountTableClusters * clusterSize);
  const first = Math.ceil(file.size / clusterSize);
  const isCluster = (offset: number): boolean => offset !== 0 && offset % clusterSize === 0 && offset < file.size;
  for (let at = 0; at < old.length; at += 8) {
    const offset = Number(old.readBigUInt64BE(at));
    if (isCluster(offset)) uses.set(offset / clusterSize, Math.max(0, uses.get(offset / clusterSize) - 1));
  }
  for (let i = 0; i < header.refcountTableClusters; i++) uses.set(header.refcountTableOffset / clusterSize + i, 0);

  // The new table and blocks count themselves: a few rounds until all of them have room.
  const blocks = new Set<number>();
  for (const [cluster] of uses.entries()) blocks.add(Math.floor(cluster / perBlock));
  let tableClusters = 0;
  for (let before = -1; before !== blocks.size + tableClusters; ) {
    before = blocks.size + tableClusters;
    for (let cluster = first; cluster < first + before; cluster++) blocks.add(Math.floor(cluster / perBlock));
    let lastBlock = 0;
    for (const block of blocks) lastBlock = Math.max(lastBlock, block);
    tableClusters = Math.ceil(((lastBlock + 1) * 8) / clusterSize);
    if (tableClusters * clusterSize > MAX_REFCOUNT_TABLE_BYTES)
      throw new DiskError(`${file.path}: the image is too large to be repaired`);
  }
  for (let i = 0; i < blocks.size + tableClusters; i++) uses.set(first + i, 1);
  const table = Buffer.alloc(tableClusters * clusterSize);
  let offset = (first + tableClusters) * clusterSize;
  for (const block of [...blocks].sort((a, b) => a - b)) {
    file.write(formatBlock(file, header, uses, block * perBlock), offset);
    table.writeBigUInt64BE(BigInt(offset), block * 8);
    offset += clusterSize;
  }
  file.write(table, first * clusterSize);
  file.sync();
  const field = Buffer.alloc(12);
  field.writeBigUInt64BE(BigInt(first * clusterSize), 0);
  field.writeUInt32BE(tableClusters, 8);
  file.write(field, HEADER_REFCOUNT_TABLE);
}

/** Turns the copied flag of entries round. */
function fixFlags(file: ImageFile, offsets: readonly number[]): void {
  const byte = Buffer.alloc(1);
  for (const offset of offsets) {
    file.read(byte, offset);
    byte[0]! ^= 0x80;
    file.write(byte, offset);
  }
}
