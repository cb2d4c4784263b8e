/**
 * Which clusters of the file are in use, and how often: the refcount table, held in memory, and its blocks, cached.
 *
 * Changed counts stay in the cache until the image's commit. New blocks and larger tables go to the file at once, each
 * step leaving a sound image: a block counts itself, and is written before the table that names it.
 */
import { CorruptImageError, DiskError } from '../error.ts';
import type { ImageFile } from '../image-file.ts';
import { type Slice, TableCache } from './cache.ts';
import type { ClusterSet } from './cluster-set.ts';
import { HEADER_REFCOUNT_TABLE, MAX_OFFSET, MAX_REFCOUNT_TABLE_BYTES } from './format.ts';
import type { Header } from './header.ts';
import { entryByte, largestRefcount, readEntry, writeEntry } from './refcount-entry.ts';

/** Bytes of cached blocks, and of changed ones after which the image should commit. */
const CACHE_BYTES = 2 * 2 ** 20;
const MAX_DIRTY_BYTES = CACHE_BYTES / 2;

/** A run of clusters. */
export interface ClusterRun {
  readonly first: number;
  readonly count: number;
}

export class Refcounts {
  readonly #file: ImageFile;
  readonly #clusterSize: number;
  readonly #order: number;
  /** Entries of one block, and of one cached slice of it. */
  readonly #perBlock: number;
  readonly #perSlice: number;
  readonly #cache: TableCache;
  /** Clusters of metadata: none of them may be given out. */
  readonly #metadata: ClusterSet;
  /** Called before clusters are counted in the file that nothing refers to yet. */
  readonly #willLeak: () => void;
  #tableOffset: number;
  /** The table as it is in the file. */
  #table: DataView;
  /** No cluster below is free. */
  #hint = 0;
  /** One more than the last cluster that was given out. */
  #end = 0;

  /** Reads the table; adds it and its blocks to `metadata`. Throws OsError, CorruptImageError. */
  constructor(file: ImageFile, header: Header, metadata: ClusterSet, willLeak: () => void) {
    this.#file = file;
    this.#clusterSize = 2 ** header.clusterBits;
    this.#order = header.refcountOrder;
    this.#perBlock = (this.#clusterSize * 8) / 2 ** this.#order;
    this.#cache = new TableCache(file, this.#clusterSize, CACHE_BYTES);
    this.#perSlice = (this.#cache.sliceSize * 8) / 2 ** this.#order;
    this.#metadata = metadata;
    this.#willLeak = willLeak;
    this.#tableOffset = header.refcountTableOffset;
    const bytes = file.readBuffer(this.#tableOffset, header.refcountTableClusters * this.#clusterSize);
    this.#table = viewOf(bytes);
    metadata.addRun(this.#tableOffset / this.#clusterSize, header.refcountTableClusters);
    for (let block = 0; block < this.#entries; block++) {
      const offset = this.#entry(block);
      if (offset !== 0 && (!this.#isBlock(offset) || !metadata.add(offset / this.#clusterSize))) {
        throw new CorruptImageError(`${file.path}: refcount block ${block} is at 0x${offset.toString(16)}`);
      }
    }
  }

  get #entries(): number {
    return this.#table.byteLength / 8;
  }

  /** Changed counts are so many that they should be written. */
  get full(): boolean {
    return this.#cache.dirtyBytes > MAX_DIRTY_BYTES;
  }

  get dirty(): boolean {
    return this.#cache.dirtyBytes > 0;
  }

  /** One more than the last cluster that was given out since the image was opened; 0: none was. */
  get end(): number {
    return this.#end;
  }

  get #tableClusters(): number {
    return this.#table.byteLength / this.#clusterSize;
  }

  #entry(block: number): number {
    return this.#table.getUint32(block * 8) * 2 ** 32 + this.#table.getUint32(block * 8 + 4);
  }

  #isBlock(offset: number): boolean {
    return offset % this.#clusterSize === 0 && offset < this.#file.size;
  }

  /** The block's offset; 0: there is none, and its clusters are free. */
  #block(block: number): number {
    return block < this.#entries ? this.#entry(block) : 0;
  }

  #slice(blockOffset: number, index: number): Slice {
    return this.#cache.at(blockOffset + entryByte(index, this.#order));
  }

  /** How often a cluster is used. Throws OsError, CorruptImageError. */
  get(cluster: number): number {
    const block = this.#block(Math.floor(cluster / this.#perBlock));
    if (block === 0) return 0;
    const index = cluster % this.#perBlock;
    return readEntry(this.#slice(block, index).view, index % this.#perSlice, this.#order);
  }

  /**
   * Adds to a cluster's count; returns the new one. What becomes free may be given out at once.
   * @throws OsError, CorruptImageError (below zero), DiskError (more than the width holds)
   */
  change(cluster: number, by: number): number {
    const blockNumber = Math.floor(cluster / this.#perBlock);
    const block = this.#block(blockNumber);
    const value = this.get(cluster) + by;
    if (block === 0 || value < 0)
      throw new CorruptImageError(`${this.#file.path}: cluster ${cluster} is used, and counted as free`);
    if (value > largestRefcount(this.#order)) {
      throw new DiskError(
        `${this.#file.path}: refcounts of ${2 ** this.#order} bits are too narrow for one more user of a cluster`,
      );
    }
    const index = cluster % this.#perBlock;
    const slice = this.#slice(block, index);
    writeEntry(slice.view, index % this.#perSlice, this.#order, value);
    this.#cache.touch(slice);
    if (value === 0 && cluster < this.#hint) this.#hint = cluster;
    return value;
  }

  /** Takes 1 to `most` free clusters in a row. Throws OsError, CorruptImageError, DiskError (the format's limit). */
  allocate(most: number): ClusterRun {
    for (let cluster = this.#hint; ; ) {
      const blockNumber = Math.floor(cluster / this.#perBlock);
      const block = this.#block(blockNumber) || this.#addBlock(blockNumber);
      // A new, larger table may have taken the place.
      const index = this.#firstFree(block, cluster % this.#perBlock);
      cluster = blockNumber * this.#perBlock + index;
      if (index === this.#perBlock) continue;
      let count = 1;
      while (count < most && index + count < this.#perBlock && this.get(cluster + count) === 0) count++;
      this.#take(cluster, count);
      this.#hint = cluster + count;
      return { first: cluster, count };
    }
  }

  /** Takes exactly `count` free clusters in a row, which may be many. Throws as allocate() does. */
  allocateRun(count: number): number {
    let run = 0;
    let cluster = this.#hint;
    // Among the clusters that are counted now; else behind all of them.
    for (; run < count; cluster++) {
      if (this.#block(Math.floor(cluster / this.#perBlock)) === 0) break;
      run = this.get(cluster) === 0 ? run + 1 : 0;
    }
    const first = run === count ? cluster - count : this.#extend(count);
    this.#take(first, count);
    if (first === this.#hint) this.#hint += count;
    return first;
  }

  #take(first: number, count: number): void {
    for (let cluster = first; cluster < first + count; cluster++) {
      if (this.#metadata.has(cluster)) {
        throw new CorruptImageError(`${this.#file.path}: cluster ${cluster} holds metadata, and is counted as free`);
      }
    }
    for (let cluster = first; cluster < first + count; cluster++) this.change(cluster, 1);
    this.#end = Math.max(this.#end, first + count);
  }

  /** The first free entry of a block from `index` on; the number of entries if there is none. */
  #firstFree(block: number, index: number): number {
    for (let at = index; at < this.#perBlock; ) {
      const { view } = this.#slice(block, at);
      const stop = Math.min(this.#perBlock, at - (at % this.#perSlice) + this.#perSlice);
      for (; at < stop; at++) {
        if (readEntry(view, at % this.#perSlice, this.#order) === 0) return at;
      }
    }
    return this.#perBlock;
  }

  /** Makes the block for a range of clusters that are all free; it lies in the range's first. Returns its offset. */
  #addBlock(block: number): number {
    if (block >= this.#entries) {
      this.#extend(0, block);
      const offset = this.#block(block);
      if (offset !== 0) return offset;
    }
    const cluster = block * this.#perBlock;
    this.#writeNewBlocks(cluster, 1, 1);
    this.#file.sync();
    this.#setEntries(block, [cluster * this.#clusterSize]);
    return cluster * this.#clusterSize;
  }

  /**
   * Makes blocks, behind all clusters that are counted, for `payload` free clusters in a row; returns the first of these.
   * The table becomes larger if it has to. `atLeast`: a block that it shall have an entry for.
   */
  #extend(payload: number, atLeast = 0): number {
    let firstBlock = this.#entries;
    while (firstBlock > 0 && this.#entry(firstBlock - 1) === 0) firstBlock--;
    firstBlock = Math.max(firstBlock, Math.min(atLeast, this.#entries));
    const start = firstBlock * this.#perBlock;
    const perCluster = this.#clusterSize / 8;
    let blocks = 1;
    let tableClusters = 0;
    // More clusters may need more blocks, and these a larger table.
    for (let before = -1; before !== blocks + tableClusters; ) {
      before = blocks + tableClusters;
      blocks = Math.ceil((blocks + tableClusters + payload) / this.#perBlock);
      const needed = Math.max(firstBlock + blocks, atLeast + 1);
      if (needed > this.#entries) {
        const wanted = Math.max(needed, Math.floor(this.#entries * 1.5));
        const most = MAX_REFCOUNT_TABLE_BYTES / this.#clusterSize;
        if (Math.ceil(needed / perCluster) > most) {
          throw new DiskError(`${this.#file.path}: the image has reached the largest size of its format`);
        }
        tableClusters = Math.min(most, Math.ceil(wanted / perCluster));
      }
    }
    const offsetOf = (cluster: number): number => cluster * this.#clusterSize;
    if (offsetOf(start + blocks + tableClusters + payload) > MAX_OFFSET) {
      throw new DiskError(`${this.#file.path}: the image has reached the largest size of its format`);
    }
    const offsets = Array.from({ length: blocks }, (_, i) => offsetOf(start + i));
    this.#writeNewBlocks(start, blocks, blocks + tableClusters);
    if (tableClusters === 0) {
      this.#file.sync();
      this.#setEntries(firstBlock, offsets);
    } else {
      this.#moveTable(start + blocks, tableClusters, firstBlock, offsets);
    }
    return start + blocks + tableClusters;
  }

  /** Writes `blocks` blocks in a row from cluster `first` on, which count the first `used` clusters from there on. */
  #writeNewBlocks(first: number, blocks: number, used: number): void {
    const offset = first * this.#clusterSize;
    this.#cache.drop(offset, blocks * this.#clusterSize);
    for (let i = 0; i < blocks; i++) {
      const bytes = Buffer.alloc(this.#clusterSize);
      const view = viewOf(bytes);
      const count = Math.min(this.#perBlock, Math.max(0, used - i * this.#perBlock));
      for (let index = 0; index < count; index++) writeEntry(view, index, this.#order, 1);
      if (this.#metadata.has(first + i)) {
        throw new CorruptImageError(`${this.#file.path}: cluster ${first + i} holds metadata, and is counted as free`);
      }
      this.#file.write(bytes, offset + i * this.#clusterSize);
    }
  }

  /** Names new blocks in the table: from now on they are metadata. */
  #setEntries(block: number, offsets: readonly number[]): void {
    const bytes = Buffer.alloc(offsets.length * 8);
    for (const [i, offset] of offsets.entries()) bytes.writeBigUInt64BE(BigInt(offset), i * 8);
    this.#file.write(bytes, this.#tableOffset + block * 8);
    for (const [i, offset] of offsets.entries()) this.#table.setBigUint64((block + i) * 8, BigInt(offset));
    this.#claim(offsets[0]! / this.#clusterSize, offsets.length);
  }

  #claim(first: number, count: number): void {
    this.#metadata.addRun(first, count);
    this.#end = Math.max(this.#end, first + count);
  }

  /** Puts a larger table, with new blocks from `firstBlock` on, in the place of the present one. */
  #moveTable(first: number, clusters: number, firstBlock: number, offsets: readonly number[]): void {
    const bytes = Buffer.alloc(clusters * this.#clusterSize);
    bytes.set(new Uint8Array(this.#table.buffer, this.#table.byteOffset, this.#table.byteLength));
    for (const [i, offset] of offsets.entries()) bytes.writeBigUInt64BE(BigInt(offset), (firstBlock + i) * 8);
    const [oldFirst, oldClusters] = [this.#tableOffset / this.#clusterSize, this.#tableClusters];
    const offset = first * this.#clusterSize;
    const field = Buffer.alloc(12);
    field.writeBigUInt64BE(BigInt(offset), 0);
    field.writeUInt32BE(clusters, 8);
    this.#file.write(bytes, offset);
    this.#file.sync();
    this.#willLeak();
    this.#file.write(field, HEADER_REFCOUNT_TABLE);
    this.#claim(offsets[0]! / this.#clusterSize, offsets.length + clusters);
    this.#metadata.deleteRun(oldFirst, oldClusters);
    this.#tableOffset = offset;
    this.#table = viewOf(bytes);
    for (let cluster = oldFirst; cluster < oldFirst + oldClusters; cluster++) this.change(cluster, -1);
    this.#file.sync();
  }

  /** Writes changed counts; they are on the disk after the next sync, when `clean` may be told so. */
  write(): Slice[] {
    return this.#cache.write();
  }

  clean(slices: readonly Slice[]): void {
    this.#cache.clean(slices);
  }
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
