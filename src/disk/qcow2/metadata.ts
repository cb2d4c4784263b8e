/**
 * The tables of an image that is open for writing, and the order in which they go to the file.
 *
 * Between two commits, changes of tables are in memory only; data goes to clusters that the file's tables call free. So
 * a kill leaves the image as it was at the last commit, or inside one:
 *
 *  1. (dirty bit set) counts of new clusters, and new L2 tables, which nothing refers to yet
 *  2. sync: these, and the data
 *  3. L2 and L1 entries
 *  4. sync: all is on the disk
 *  5. counts of clusters that nothing refers to any more; their space goes back to the file system (dirty bit cleared)
 *
 * At each moment a cluster is counted at least as often as it is used. The dirty bit says when it may be counted more often,
 * so that whoever opens the image next repairs that; version 2 has no such bit, and may keep leaked clusters.
 */
import { CorruptImageError } from '../error.ts';
import type { ImageFile } from '../image-file.ts';
import { ClusterSet } from './cluster-set.ts';
import { COPIED, HEADER_AUTOCLEAR, HEADER_INCOMPATIBLE, INCOMPATIBLE_CORRUPT, INCOMPATIBLE_DIRTY } from './format.ts';
import type { Header } from './header.ts';
import { type Entry, type Mapping, PACKED } from './mapping.ts';
import { Refcounts } from './refcounts.ts';

/** Clusters that wait for being freed, after which the image should commit. */
const MAX_PENDING = 65536;

export class Metadata {
  readonly #file: ImageFile;
  readonly #header: Header;
  readonly #clusterSize: number;
  readonly mapping: Mapping;
  readonly refcounts: Refcounts;
  /** Clusters of the header and the tables: no guest data can be there. */
  readonly #clusters = new ClusterSet();
  /** Clusters with one user less, once the commit is done; repeated for each. */
  #pending: number[] = [];
  #incompatible: bigint;
  #unsynced = false;
  #dataFirst = false;
  /** The dirty bit stays although all is on the disk. */
  #held = false;
  /** Called when clusters were freed and may hold other data from now on. */
  readonly #freed: () => void;

  /** Reads and checks the tables. Throws OsError, CorruptImageError. */
  constructor(file: ImageFile, header: Header, mapping: Mapping, freed: () => void) {
    this.#file = file;
    this.#header = header;
    this.#clusterSize = 2 ** header.clusterBits;
    this.#incompatible = header.incompatible;
    this.#freed = freed;
    this.mapping = mapping;
    this.#clusters.add(0);
    this.addMetadata(header.l1Offset, header.l1Size * 8);
    for (let index = 0; index < mapping.l1Size; index++) {
      const table = mapping.table(index);
      if (table !== 0) this.addMetadata(table, 1);
    }
    this.refcounts = new Refcounts(file, header, this.#clusters, () => this.setDirty());
    if (header.version === 3 && header.autoclear !== 0n) {
      // What these features keep up to date is not kept so from now on.
      file.write(Buffer.alloc(8), HEADER_AUTOCLEAR);
    }
  }

  /** Claims the clusters of these bytes for a table. Throws CorruptImageError if they are claimed. */
  addMetadata(offset: number, length: number): void {
    const first = offset / this.#clusterSize;
    for (let cluster = first; cluster < first + Math.ceil(length / this.#clusterSize); cluster++) {
      if (!this.#clusters.add(cluster)) {
        throw new CorruptImageError(`${this.#file.path}: two tables share the cluster at 0x${offset.toString(16)}`);
      }
    }
  }

  /** The clusters of these bytes hold no table any more. */
  removeMetadata(offset: number, length: number): void {
    this.#clusters.deleteRun(offset / this.#clusterSize, Math.ceil(length / this.#clusterSize));
  }

  /** @throws CorruptImageError if guest data is where a table is */
  requireData(host: number): void {
    if (!this.#clusters.has(host / this.#clusterSize)) return;
    throw new CorruptImageError(
      `${this.#file.path}: guest data and a table share the cluster at 0x${host.toString(16)}`,
    );
  }

  /** The next commit syncs before it changes tables: data was written that they must not get ahead of. */
  requireDataFirst(): void {
    this.#dataFirst = true;
    this.#unsynced = true;
  }

  /** Guest data was written in place. */
  dataWritten(): void {
    this.#unsynced = true;
  }

  /** So much has changed that it should be committed. */
  get full(): boolean {
    return this.mapping.full || this.refcounts.full || this.#pending.length > MAX_PENDING;
  }

  /** Makes the L2 table of a guest cluster one that may be changed in place. Throws as Refcounts.allocate(). */
  ensureTable(cluster: number): void {
    const { mapping } = this;
    const index = Math.floor(cluster / mapping.perTable);
    const old = mapping.table(index);
    if (old !== 0 && mapping.isTableCopied(index)) return;
    const { first } = this.refcounts.allocate(1);
    const offset = first * this.#clusterSize;
    try {
      if (old !== 0) this.#file.write(mapping.readTable(old), offset);
      else this.#file.writeZeroes(offset, Math.min(this.#clusterSize, this.#file.size - offset));
      this.addMetadata(offset, 1);
    } catch (error) {
      this.refcounts.change(first, -1);
      throw error;
    }
    mapping.setTable(index, offset);
    if (old === 0) return;
    this.removeMetadata(old, 1);
    this.#pending.push(old / this.#clusterSize);
  }

  /** Points a guest cluster at a host cluster of its own, which holds its data. */
  setData(cluster: number, host: number): void {
    this.mapping.set(cluster, host, COPIED, 0);
  }

  /** One user less for the clusters that an entry names, once the commit is done. */
  release({ kind, host, length }: Entry): void {
    if (host === 0) return;
    const first = Math.floor(host / this.#clusterSize);
    const last = kind === PACKED ? Math.floor((host + length - 1) / this.#clusterSize) : first;
    for (let cluster = first; cluster <= last; cluster++) this.#pending.push(cluster);
  }

  /** As release(), for all clusters of a table. */
  releaseRun(offset: number, length: number): void {
    const first = offset / this.#clusterSize;
    for (let i = 0; i < Math.ceil(length / this.#clusterSize); i++) this.#pending.push(first + i);
  }

  /** Returns when everything is on the disk. After an error it can be called again. */
  commit(): void {
    const { mapping, refcounts } = this;
    const leaks = refcounts.dirty || mapping.l1Dirty || this.#pending.length > 0;
    if (this.#held) this.setDirty();
    if (!leaks && !mapping.dirty) {
      this.#sync();
      this.#clearDirty();
      return;
    }
    if (leaks) this.setDirty();
    const end = refcounts.end * this.#clusterSize;
    if (this.#file.size < end) this.#file.truncate(end);
    const counted = refcounts.write();
    const fresh = mapping.writeNew();
    if (leaks || this.#dataFirst) this.#file.sync();
    refcounts.clean(counted);
    mapping.clean(fresh);
    const { slices, l1 } = mapping.writeChanged();
    this.#file.sync();
    mapping.clean(slices, l1);
    this.#unsynced = false;
    this.#dataFirst = false;
    if (this.#pending.length > 0) this.#free();
    this.#clearDirty();
  }

  #sync(): void {
    if (this.#unsynced) this.#file.sync();
    this.#unsynced = false;
  }

  /** Nothing on the disk refers to the pending clusters any more. */
  #free(): void {
    const freed: number[] = [];
    this.#freed();
    this.#pending.sort((a, b) => b - a);
    // What an error leaves is there for the next commit.
    for (let cluster: number | undefined; (cluster = this.#pending.at(-1)) !== undefined; this.#pending.pop()) {
      if (this.refcounts.change(cluster, -1) === 0) freed.push(cluster);
    }
    this.refcounts.clean(this.refcounts.write());
    for (let i = 0; i < freed.length; ) {
      let end = i + 1;
      while (end < freed.length && freed[end] === freed[end - 1]! + 1) end++;
      if (!this.#file.punch(freed[i]! * this.#clusterSize, (end - i) * this.#clusterSize)) break;
      i = end;
    }
  }

  /**
   * Runs a change of several commits with the dirty bit set all the time. If it fails, the bit stays, and whoever opens the image
   * next repairs it.
   */
  holdingDirty(change: () => void): void {
    const before = this.#held;
    this.#held = true;
    this.setDirty();
    change();
    this.#held = before;
  }

  /** A call of the operating system failed in the middle of something: clusters may leak, and the dirty bit is to say so. */
  noteFailure(): void {
    this.#held = true;
  }

  /** Sets the dirty bit in the file, where its version has one. */
  setDirty(): void {
    this.#setIncompatible(this.#incompatible | INCOMPATIBLE_DIRTY);
  }

  #clearDirty(): void {
    if (!this.#held) this.#setIncompatible(this.#incompatible & ~INCOMPATIBLE_DIRTY);
  }

  /** Sets the corrupt bit: nobody writes to the image before it is repaired. */
  setCorrupt(): void {
    this.#setIncompatible(this.#incompatible | INCOMPATIBLE_CORRUPT);
  }

  #setIncompatible(value: bigint): void {
    if (this.#header.version < 3 || value === this.#incompatible) return;
    const field = Buffer.alloc(8);
    field.writeBigUInt64BE(value);
    this.#file.write(field, HEADER_INCOMPATIBLE);
    this.#incompatible = value;
  }
}
