/** Makes empty qcow2 images. */
import { DiskError } from '../error.ts';
import type { ImageFile } from '../image-file.ts';
import {
  COMPATIBLE_LAZY_REFCOUNTS,
  type CompressionType,
  INCOMPATIBLE_COMPRESSION,
  MAX_CLUSTER_BITS,
  MAX_L1_BYTES,
  MAX_OFFSET,
  MAX_REFCOUNT_ORDER,
  MAX_REFCOUNT_TABLE_BYTES,
  MIN_CLUSTER_BITS,
  roundUp,
  SECTOR,
} from './format.ts';
import { formatHeader } from './header.ts';
import { writeEntry } from './refcount-entry.ts';

export interface CreateOptions {
  /** Virtual size in bytes; rounded up to sectors of 512. */
  readonly size: number;
  readonly version?: 2 | 3;
  /** Default: 16, for clusters of 64 KiB. */
  readonly clusterBits?: number;
  /** Default: 4, for refcounts of 16 bits. */
  readonly refcountOrder?: number;
  readonly lazyRefcounts?: boolean;
  /** What other programs compress clusters with. Default: zlib. */
  readonly compression?: CompressionType;
  /** Path, as it shall stand in the image, and format of what is under it. */
  readonly backing?: { readonly path: string; readonly format: string };
}

/** Largest virtual size in bytes with clusters of 1 << clusterBits bytes. */
export function largestSize(clusterBits: number): number {
  return Math.min(MAX_OFFSET - (MAX_OFFSET % SECTOR), (MAX_L1_BYTES / 8) * 2 ** (2 * clusterBits - 3));
}

/** Writes an empty image to an empty file. Throws DiskError, OsError. */
export function createQcow2(file: ImageFile, options: CreateOptions): void {
  const { version = 3, clusterBits = 16, refcountOrder = 4, compression = 'zlib' } = options;
  const fail = (what: string): never => {
    throw new DiskError(`${file.path}: ${what}`);
  };
  if (!(clusterBits >= MIN_CLUSTER_BITS && clusterBits <= MAX_CLUSTER_BITS)) fail(`clusters have 512 bytes to 2 MiB`);
  if (!(refcountOrder >= 0 && refcountOrder <= MAX_REFCOUNT_ORDER)) fail('refcounts have 1 to 64 bits');
  if (version === 2 && (refcountOrder !== 4 || options.lazyRefcounts || compression !== 'zlib')) {
    fail('refcount widths, lazy refcounts and compression types need version 3 of qcow2');
  }
  const size = roundUp(options.size, SECTOR);
  const most = largestSize(clusterBits);
  if (!(size >= 0 && size <= most))
    fail(`with clusters of ${2 ** clusterBits} bytes, a disk has at most ${most} bytes`);

  const clusterSize = 2 ** clusterBits;
  const perBlock = (clusterSize * 8) / 2 ** refcountOrder;
  const l1Size = Math.ceil(size / (clusterSize * (clusterSize / 8)));
  const l1Clusters = Math.ceil((l1Size * 8) / clusterSize);
  // Room for the counts of a full disk, if the format has it: the table need not move then.
  const dataClusters = Math.ceil(size / clusterSize) + l1Size + l1Clusters;
  const tableBytes = Math.min(Math.ceil((dataClusters * 1.01 + 16) / perBlock) * 8, MAX_REFCOUNT_TABLE_BYTES);
  const tableClusters = Math.ceil(tableBytes / clusterSize);
  let blocks = 1;
  let clusters = 0;
  for (;;) {
    clusters = 1 + tableClusters + blocks + l1Clusters;
    const needed = Math.ceil(clusters / perBlock);
    if (needed <= blocks) break;
    blocks = needed;
  }
  const tableOffset = clusterSize;
  const blocksOffset = tableOffset + tableClusters * clusterSize;
  const l1Offset = blocksOffset + blocks * clusterSize;

  const header = formatHeader(
    {
      version,
      clusterBits,
      size,
      l1Size,
      l1Offset: l1Size === 0 ? 0 : l1Offset,
      refcountTableOffset: tableOffset,
      refcountTableClusters: tableClusters,
      snapshotCount: 0,
      snapshotsOffset: 0,
      incompatible: compression === 'zlib' ? 0n : INCOMPATIBLE_COMPRESSION,
      compatible: options.lazyRefcounts ? COMPATIBLE_LAZY_REFCOUNTS : 0n,
      autoclear: 0n,
      refcountOrder,
      compression,
      backingFile: options.backing?.path,
      backingFormat: options.backing?.format,
    },
    file.path,
  );
  file.truncate(clusters * clusterSize);
  const table = Buffer.alloc(blocks * 8);
  for (let block = 0; block < blocks; block++) {
    table.writeBigUInt64BE(BigInt(blocksOffset + block * clusterSize), block * 8);
    const bytes = Buffer.alloc(clusterSize);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const count = Math.min(perBlock, clusters - block * perBlock);
    for (let index = 0; index < count; index++) writeEntry(view, index, refcountOrder, 1);
    file.write(bytes, blocksOffset + block * clusterSize);
  }
  file.write(table, tableOffset);
  // Without its header the file is no image: so it is never half of one.
  file.sync();
  file.write(header, 0);
  file.sync();
}
