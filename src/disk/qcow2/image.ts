/** A qcow2 image: what the guest reads and writes, on top of the tables. One thread uses it, one call at a time. */
import { OsError } from '../../host/errno.ts';
import { CorruptImageError, DiskError } from '../error.ts';
import type { ImageFile } from '../image-file.ts';
import { copyInto, fillZeroes, type HostRange, lengthOf, rangeOf, sliceRanges } from '../iovec.ts';
import { CompressedClusters } from './compressed.ts';
import { COPIED, INCOMPATIBLE_CORRUPT, ZERO } from './format.ts';
import type { Header } from './header.ts';
import { DATA, type Entry, Mapping, PACKED, UNALLOCATED, ZEROES } from './mapping.ts';
import { Metadata } from './metadata.ts';

/** What is under an image: read where the image has no data of its own. */
export interface Backing {
  /** Bytes. */
  readonly size: number;
  /** Reads into memory; the range lies inside the size. Throws. */
  read(offset: number, ranges: readonly HostRange[]): void;
  /** The first offset from `offset` on that may not read as zeroes; the size if there is none. Throws. */
  nextData(offset: number): number;
  close(): void;
}

export class Qcow2Image implements Backing {
  readonly file: ImageFile;
  readonly header: Header;
  readonly backing: Backing | undefined;
  readonly clusterSize: number;
  readonly mapping: Mapping;
  /** The tables, if the image is open for writing. */
  readonly metadata: Metadata | undefined;
  readonly #compressed: CompressedClusters;
  #size: number;
  /** Why nothing is written any more. */
  #broken: CorruptImageError | undefined;

  /** The image must be clean: see openQcow2(). Throws OsError, CorruptImageError. */
  constructor(file: ImageFile, header: Header, backing: Backing | undefined, writable: boolean) {
    this.file = file;
    this.header = header;
    this.backing = backing;
    this.clusterSize = 2 ** header.clusterBits;
    this.#size = header.size;
    if (header.l1Offset + header.l1Size * 8 > file.size || header.refcountTableOffset >= file.size) {
      throw new CorruptImageError(`${file.path}: the image is cut off: its tables are behind the file's end`);
    }
    this.mapping = new Mapping(file, header);
    this.#compressed = new CompressedClusters(file, header);
    if (!writable) return;
    if ((header.incompatible & INCOMPATIBLE_CORRUPT) !== 0n) throw corruptBit(file);
    this.metadata = new Metadata(file, header, this.mapping, () => this.#compressed.clear());
  }

  /** Virtual size in bytes. */
  get size(): number {
    return this.#size;
  }

  /** Reads into memory. Throws OsError, CorruptImageError. */
  read(offset: number, ranges: readonly HostRange[]): void {
    const length = lengthOf(ranges);
    this.#requireInside(offset, length);
    this.#read(offset, ranges, length);
  }

  #requireInside(offset: number, length: number): void {
    if (offset < 0 || length < 0 || offset + length > this.#size) {
      throw new RangeError(`${length} bytes at ${offset} are outside of ${this.#size}`);
    }
  }

  #read(offset: number, ranges: readonly HostRange[], length: number): void {
    for (let done = 0; done < length; ) {
      const cluster = Math.floor((offset + done) / this.clusterSize);
      const inCluster = offset + done - cluster * this.clusterSize;
      const { kind, host, length: packed } = this.mapping.lookup(cluster);
      const clusters = kind === PACKED ? 1 : this.#runOf(cluster, kind, host, inCluster + length - done);
      const bytes = Math.min(length - done, clusters * this.clusterSize - inCluster);
      const part = sliceRanges(ranges, done, bytes);
      if (kind === DATA) this.file.readRanges(part, host + inCluster);
      else if (kind === ZEROES) fillZeroes(part);
      else if (kind === UNALLOCATED) this.#readBacking(offset + done, part, bytes);
      else copyInto(part, this.#compressed.read(host, packed).subarray(inCluster, inCluster + bytes));
      done += bytes;
    }
  }

  /** Clusters from this one on, for `bytes` from its start at most, that are read in the same way, and from one place. */
  #runOf(cluster: number, kind: number, host: number, bytes: number): number {
    const most = Math.ceil(bytes / this.clusterSize);
    let count = 1;
    for (; count < most; count++) {
      const next = this.mapping.lookup(cluster + count);
      if (next.kind !== kind || (kind === DATA && next.host !== host + count * this.clusterSize)) break;
    }
    return count;
  }

  #readBacking(offset: number, ranges: readonly HostRange[], length: number): void {
    const there = Math.max(0, Math.min(length, (this.backing?.size ?? 0) - offset));
    if (there > 0) this.backing!.read(offset, sliceRanges(ranges, 0, there));
    if (there < length) fillZeroes(sliceRanges(ranges, there, length - there));
  }

  /** Reads into a buffer; what is behind the disk's end reads as zeroes. */
  readBuffer(offset: number, buffer: Buffer): void {
    const length = Math.max(0, Math.min(buffer.length, this.#size - offset));
    if (length > 0) this.#read(offset, [rangeOf(buffer.subarray(0, length))], length);
    buffer.fill(0, length);
  }

  /**
   * Runs what changes the image.
   * @throws DiskError if it is open for reading only; after a CorruptImageError nothing is written any more
   */
  modify<T>(change: (metadata: Metadata) => T): T {
    if (this.metadata === undefined) throw new DiskError(`${this.file.path}: the image is open for reading only`);
    if (this.#broken !== undefined) throw this.#broken;
    try {
      return change(this.metadata);
    } catch (error) {
      if (error instanceof CorruptImageError) {
        this.#broken = error;
        this.metadata.setCorrupt();
      }
      if (error instanceof OsError) this.metadata.noteFailure();
      throw error;
    }
  }

  /** Writes from memory. Throws OsError, CorruptImageError, DiskError. */
  write(offset: number, ranges: readonly HostRange[]): void {
    const length = lengthOf(ranges);
    this.#requireInside(offset, length);
    this.modify((metadata) => this.#write(metadata, offset, ranges, length));
  }

  #write(metadata: Metadata, offset: number, ranges: readonly HostRange[], length: number): void {
    for (let done = 0; done < length; ) {
      if (metadata.full) metadata.commit();
      const cluster = Math.floor((offset + done) / this.clusterSize);
      const inCluster = offset + done - cluster * this.clusterSize;
      const { kind, host, copied } = this.mapping.lookup(cluster);
      if (kind === DATA && copied) {
        const clusters = this.#ownRun(cluster, host, inCluster + length - done, metadata);
        const bytes = Math.min(length - done, clusters * this.clusterSize - inCluster);
        this.file.writeRanges(sliceRanges(ranges, done, bytes), host + inCluster);
        metadata.dataWritten();
        done += bytes;
      } else if (kind === ZEROES && copied && host !== 0) {
        const bytes = Math.min(length - done, this.clusterSize - inCluster);
        metadata.requireData(host);
        this.#writeAround(cluster, 1, inCluster, sliceRanges(ranges, done, bytes), bytes, host, false);
        metadata.requireDataFirst();
        metadata.setData(cluster, host);
        done += bytes;
      } else {
        done += this.#writeNew(metadata, cluster, inCluster, ranges, done, length);
      }
    }
  }

  /** Clusters from this one on that may be written in place, at one place of the file. */
  #ownRun(cluster: number, host: number, bytes: number, metadata: Metadata): number {
    const most = Math.ceil(bytes / this.clusterSize);
    metadata.requireData(host);
    let count = 1;
    for (; count < most; count++) {
      const next = this.mapping.lookup(cluster + count);
      const expected = host + count * this.clusterSize;
      if (next.kind !== DATA || !next.copied || next.host !== expected) break;
      metadata.requireData(expected);
    }
    return count;
  }

  /** Writes to new clusters as far as one run of them goes; returns how many of the caller's bytes. */
  #writeNew(
    metadata: Metadata,
    cluster: number,
    inCluster: number,
    ranges: readonly HostRange[],
    done: number,
    length: number,
  ): number {
    metadata.ensureTable(cluster);
    const { perTable } = this.mapping;
    const inTable = perTable - (cluster % perTable);
    const most = Math.min(inTable, Math.ceil((inCluster + length - done) / this.clusterSize));
    let wanted = 1;
    for (; wanted < most; wanted++) {
      const { kind, copied, host } = this.mapping.lookup(cluster + wanted);
      if (copied && host !== 0 && (kind === DATA || kind === ZEROES)) break;
    }
    const fileEnd = this.file.size;
    const { first, count } = metadata.refcounts.allocate(wanted);
    const host = first * this.clusterSize;
    const bytes = Math.min(length - done, count * this.clusterSize - inCluster);
    try {
      this.#writeAround(cluster, count, inCluster, sliceRanges(ranges, done, bytes), bytes, host, host >= fileEnd);
    } catch (error) {
      for (let i = 0; i < count; i++) metadata.refcounts.change(first + i, -1);
      // A full file system has room for the tables again: what was acknowledged can be flushed.
      this.file.punch(host, count * this.clusterSize);
      throw error;
    }
    for (let i = 0; i < count; i++) {
      metadata.release(this.mapping.lookup(cluster + i));
      metadata.setData(cluster + i, host + i * this.clusterSize);
    }
    return bytes;
  }

  /**
   * Writes a run of whole host clusters: the guest's bytes, and around them what these guest clusters held before.
   * `blank`: the host clusters read as zeroes.
   */
  #writeAround(
    cluster: number,
    count: number,
    inCluster: number,
    ranges: readonly HostRange[],
    bytes: number,
    host: number,
    blank: boolean,
  ): void {
    const after = count * this.clusterSize - inCluster - bytes;
    const keepHead = inCluster > 0 && !(blank && this.#readsZero(cluster));
    const keepTail = after > 0 && !(blank && this.#readsZero(cluster + count - 1));
    const head = Buffer.alloc(keepHead ? inCluster : 0);
    const tail = Buffer.alloc(keepTail ? after : 0);
    if (keepHead) this.readBuffer(cluster * this.clusterSize, head);
    if (keepTail) this.readBuffer(cluster * this.clusterSize + inCluster + bytes, tail);
    this.file.writeAround(head, ranges, tail, host + inCluster - head.length);
  }

  /** Whether a guest cluster is known to read as zeroes. */
  #readsZero(cluster: number): boolean {
    const { kind } = this.mapping.lookup(cluster);
    return kind === ZEROES || (kind === UNALLOCATED && !this.#overBacking(cluster));
  }

  #overBacking(cluster: number): boolean {
    return this.backing !== undefined && cluster * this.clusterSize < this.backing.size;
  }

  /** Returns when all that was written is on the disk. Throws OsError, CorruptImageError. */
  flush(): void {
    if (this.metadata === undefined) return;
    this.modify((metadata) => metadata.commit());
  }

  /**
   * Gives space back for whole clusters of the range, which then read as zeroes or as before. Throws as write().
   */
  discard(offset: number, length: number): void {
    this.#requireInside(offset, length);
    this.modify((metadata) => {
      this.#eachWholeCluster(metadata, offset, length, (cluster, entry) => {
        if (entry.kind === UNALLOCATED || (entry.kind === ZEROES && entry.host === 0)) return;
        const zero = this.#overBacking(cluster);
        if (zero && this.header.version < 3) return;
        this.#drop(metadata, cluster, zero);
      });
    });
  }

  /** Makes the range read as zeroes; with `unmap` its space is given back where that is possible. Throws as write(). */
  writeZeroes(offset: number, length: number, unmap: boolean): void {
    this.#requireInside(offset, length);
    this.modify((metadata) => this.#writeZeroes(metadata, offset, length, unmap));
  }

  #writeZeroes(metadata: Metadata, offset: number, length: number, unmap: boolean): void {
    const { version } = this.header;
    const [from, to] = this.#eachWholeCluster(metadata, offset, length, (cluster, entry) => {
      const { kind, host, copied } = entry;
      const over = this.#overBacking(cluster);
      if (kind === UNALLOCATED && !over) return;
      if (version < 3 && over) {
        this.#writeZeroBytes(metadata, cluster * this.clusterSize, this.clusterSize);
      } else if (kind === ZEROES && (host === 0 || !unmap)) {
        return;
      } else if (version >= 3 && kind === DATA && copied && !unmap) {
        metadata.ensureTable(cluster);
        this.mapping.set(cluster, host, COPIED, ZERO);
      } else {
        this.#drop(metadata, cluster, over);
      }
    });
    if (from >= to) {
      this.#writeZeroBytes(metadata, offset, length);
    } else {
      this.#writeZeroBytes(metadata, offset, from - offset);
      this.#writeZeroBytes(metadata, to, offset + length - to);
    }
  }

  /** Writes zeroes as data, where there are not zeroes already. */
  #writeZeroBytes(metadata: Metadata, offset: number, length: number): void {
    for (let at = offset; at < offset + length; ) {
      const cluster = Math.floor(at / this.clusterSize);
      const bytes = Math.min(offset + length, (cluster + 1) * this.clusterSize, this.#size) - at;
      if (bytes <= 0) return;
      if (!this.#readsZero(cluster)) this.#write(metadata, at, [rangeOf(Buffer.alloc(bytes))], bytes);
      at += bytes;
    }
  }

  /** Takes a guest cluster's host cluster away; it reads as zeroes, or with `zero` false as what is under it. */
  #drop(metadata: Metadata, cluster: number, zero: boolean): void {
    metadata.ensureTable(cluster);
    metadata.release(this.mapping.lookup(cluster));
    this.mapping.set(cluster, 0, 0, zero ? ZERO : 0);
  }

  /**
   * Calls for each guest cluster that lies wholly in the range, the disk's last being one, except where there is neither
   * data nor anything under it. Returns the bounds of these clusters in bytes.
   */
  #eachWholeCluster(
    metadata: Metadata,
    offset: number,
    length: number,
    call: (cluster: number, entry: Entry) => void,
  ): [number, number] {
    const first = Math.ceil(offset / this.clusterSize);
    const atEnd = offset + length === this.#size;
    const end = atEnd ? Math.ceil(this.#size / this.clusterSize) : Math.floor((offset + length) / this.clusterSize);
    const { perTable } = this.mapping;
    for (let cluster = first; cluster < end; cluster++) {
      if (this.mapping.table(Math.floor(cluster / perTable)) === 0 && !this.#overBacking(cluster)) {
        cluster += perTable - (cluster % perTable) - 1;
        continue;
      }
      if (metadata.full) metadata.commit();
      call(cluster, this.mapping.lookup(cluster));
    }
    return [first * this.clusterSize, Math.min(end * this.clusterSize, offset + length)];
  }

  /** The first offset from `offset` on that may not read as zeroes; the size if there is none. Throws as read(). */
  nextData(offset: number): number {
    const { perTable } = this.mapping;
    const end = Math.ceil(this.#size / this.clusterSize);
    for (let cluster = Math.floor(offset / this.clusterSize); cluster < end; cluster++) {
      const at = Math.max(offset, cluster * this.clusterSize);
      const { kind } = this.mapping.lookup(cluster);
      if (kind === ZEROES) continue;
      if (kind !== UNALLOCATED) return at;
      if (this.#overBacking(cluster)) {
        const next = this.backing!.nextData(at);
        if (next < (cluster + 1) * this.clusterSize && next < this.backing!.size) return next;
      } else if (this.mapping.table(Math.floor(cluster / perTable)) === 0) {
        cluster += perTable - (cluster % perTable) - 1;
      }
    }
    return this.#size;
  }

  /** Takes a cluster out of the image, so that what is under it is read again. */
  forget(cluster: number): void {
    this.modify((metadata) => {
      const { kind } = this.mapping.lookup(cluster);
      if (kind === UNALLOCATED) return;
      if (metadata.full) metadata.commit();
      this.#drop(metadata, cluster, false);
    });
  }

  /** Takes note of a size that is in the file's header. */
  setSize(size: number): void {
    this.#size = size;
  }

  /** Closes what is under the image without writing what the tables in memory have changed. */
  abandon(): void {
    this.backing?.close();
  }

  /** Flushes, and closes what is under the image; the file's descriptor stays open. Throws as flush(). */
  close(): void {
    try {
      if (this.#broken === undefined) this.flush();
    } finally {
      this.backing?.close();
    }
  }
}

function corruptBit(file: ImageFile): DiskError {
  return new DiskError(
    `${file.path}: the image is marked as corrupt: it can be read; for writing repair it with: vivarium disk check --repair ${file.path}`,
  );
}
