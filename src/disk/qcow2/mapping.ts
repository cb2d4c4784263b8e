/** Where guest clusters are: the active L1 table, held in memory, and its L2 tables, cached. */
import { CorruptImageError } from '../error.ts';
import type { ImageFile } from '../image-file.ts';
import { type Slice, TableCache } from './cache.ts';
import { COMPRESSED, COPIED, OFFSET_HIGH, OFFSET_LOW, SECTOR, ZERO } from './format.ts';
import type { Header } from './header.ts';

/** Bytes of cached L2 tables: those of 64 GiB with clusters of 64 KiB. And of changed ones after which the image should commit. */
const CACHE_BYTES = 8 * 2 ** 20;
const MAX_DIRTY_BYTES = 2 * 2 ** 20;

/** What an L2 entry says of a guest cluster. */
export const UNALLOCATED = 0;
/** Reads as zeroes; may have a host cluster. */
export const ZEROES = 1;
export const DATA = 2;
export const PACKED = 3;
export type ClusterKind = typeof UNALLOCATED | typeof ZEROES | typeof DATA | typeof PACKED;

/** An L2 entry in words. lookup() reuses one object. */
export interface Entry {
  kind: ClusterKind;
  /** Offset of the host cluster, or of the compressed bytes; 0: none. */
  host: number;
  /** Bytes that hold the compressed cluster, at most. */
  length: number;
  /** Nothing else uses the host cluster: it may be written in place. */
  copied: boolean;
}

/**
 * Decodes an L2 entry.
 * @throws CorruptImageError if no image can have it
 */
export function decodeEntry(high: number, low: number, header: Header, file: ImageFile, entry: Entry): void {
  entry.copied = false;
  entry.length = 0;
  if ((high & COMPRESSED) !== 0) {
    const countBits = header.clusterBits - 8;
    // The offset has 62 - countBits bits; the count of further sectors, the rest below the two flags.
    const highBits = 30 - countBits;
    entry.kind = PACKED;
    entry.host = (high & (2 ** highBits - 1)) * 2 ** 32 + low;
    entry.length = (((high & 0x3fff_ffff) >>> highBits) + 1) * SECTOR - (low % SECTOR);
    if (entry.host === 0 || entry.host >= file.size) throw corruptEntry(high, low, file);
    return;
  }
  const host = (high & OFFSET_HIGH) * 2 ** 32 + ((low & OFFSET_LOW) >>> 0);
  entry.host = host;
  entry.copied = (high & COPIED) !== 0;
  if (host % 2 ** header.clusterBits !== 0) throw corruptEntry(high, low, file);
  if ((low & ZERO) !== 0) {
    if (header.version < 3) throw corruptEntry(high, low, file);
    entry.kind = ZEROES;
  } else {
    entry.kind = host === 0 ? UNALLOCATED : DATA;
    if (host === 0 && entry.copied) throw corruptEntry(high, low, file);
  }
}

function corruptEntry(high: number, low: number, file: ImageFile): CorruptImageError {
  const value = ((BigInt(high) << 32n) | BigInt(low)).toString(16);
  return new CorruptImageError(`${file.path}: the L2 entry 0x${value} is no valid one`);
}

export class Mapping {
  readonly #file: ImageFile;
  readonly #header: Header;
  readonly #clusterSize: number;
  /** Entries of one L2 table. */
  readonly perTable: number;
  readonly #cache: TableCache;
  readonly #entry: Entry = { kind: UNALLOCATED, host: 0, length: 0, copied: false };
  #l1: DataView;
  #l1Offset: number;
  /** L1 entries that differ from the file's. */
  readonly #changedL1 = new Set<number>();
  /** Offsets of tables that no L1 entry in the file names. */
  readonly #newTables = new Set<number>();

  /** Reads the L1 table. Throws OsError. */
  constructor(file: ImageFile, header: Header) {
    this.#file = file;
    this.#header = header;
    this.#clusterSize = 2 ** header.clusterBits;
    this.perTable = this.#clusterSize / 8;
    this.#cache = new TableCache(file, this.#clusterSize, CACHE_BYTES);
    this.#l1 = viewOf(file.readBuffer(header.l1Offset, header.l1Size * 8));
    this.#l1Offset = header.l1Offset;
  }

  /** Entries of the L1 table. */
  get l1Size(): number {
    return this.#l1.byteLength / 8;
  }

  get l1Offset(): number {
    return this.#l1Offset;
  }

  /** Changed entries are so many that they should be written. */
  get full(): boolean {
    return this.#cache.dirtyBytes > MAX_DIRTY_BYTES;
  }

  get dirty(): boolean {
    return this.#cache.dirtyBytes > 0 || this.#changedL1.size > 0;
  }

  get l1Dirty(): boolean {
    return this.#changedL1.size > 0;
  }

  /** Offset of the L2 table of an L1 entry; 0: there is none. Throws CorruptImageError. */
  table(index: number): number {
    const offset =
      (this.#l1.getUint32(index * 8) & OFFSET_HIGH) * 2 ** 32 +
      ((this.#l1.getUint32(index * 8 + 4) & OFFSET_LOW) >>> 0);
    if (
      offset % this.#clusterSize !== 0 ||
      (offset !== 0 && offset >= this.#file.size && !this.#newTables.has(offset))
    ) {
      throw new CorruptImageError(`${this.#file.path}: L2 table ${index} is at 0x${offset.toString(16)}`);
    }
    return offset;
  }

  /** Whether a table may be changed in place. */
  isTableCopied(index: number): boolean {
    return (this.#l1.getUint32(index * 8) & COPIED) !== 0;
  }

  /** What is known of a guest cluster; good until the next call. Throws OsError, CorruptImageError. */
  lookup(cluster: number): Entry {
    const entry = this.#entry;
    const table = this.table(Math.floor(cluster / this.perTable));
    if (table === 0) {
      entry.kind = UNALLOCATED;
      entry.host = 0;
      entry.length = 0;
      entry.copied = false;
      return entry;
    }
    const at = table + (cluster % this.perTable) * 8;
    const slice = this.#cache.at(at);
    const index = at - slice.offset;
    decodeEntry(slice.view.getUint32(index), slice.view.getUint32(index + 4), this.#header, this.#file, entry);
    return entry;
  }

  /** Changes the entry of a cluster whose table may be changed in place. */
  set(cluster: number, host: number, flagsHigh: number, flagsLow: number): void {
    const at = this.table(Math.floor(cluster / this.perTable)) + (cluster % this.perTable) * 8;
    const slice = this.#cache.at(at);
    const index = at - slice.offset;
    slice.view.setUint32(index, (Math.floor(host / 2 ** 32) | flagsHigh) >>> 0);
    slice.view.setUint32(index + 4, ((host >>> 0) | flagsLow) >>> 0);
    this.#cache.touch(slice);
  }

  /** Clears the copied flag of all tables, and of all clusters that have one. */
  clearCopied(): void {
    for (let index = 0; index < this.l1Size; index++) {
      const table = this.table(index);
      if (table === 0) continue;
      this.#l1.setUint32(index * 8, (this.#l1.getUint32(index * 8) & ~COPIED) >>> 0);
      this.#changedL1.add(index);
      for (let at = table; at < table + this.#clusterSize; at += this.#cache.sliceSize) {
        const slice = this.#cache.at(at);
        let changed = false;
        for (let byte = 0; byte < slice.bytes.length; byte += 8) {
          if ((slice.bytes[byte]! & 0x80) === 0) continue;
          slice.bytes[byte]! &= 0x7f;
          changed = true;
        }
        if (changed) this.#cache.touch(slice);
      }
    }
  }

  /** An L2 table as it is now. */
  readTable(offset: number): Buffer {
    const bytes = Buffer.alloc(this.#clusterSize);
    for (let at = 0; at < bytes.length; at += this.#cache.sliceSize) bytes.set(this.#cache.at(offset + at).bytes, at);
    return bytes;
  }

  /** Gives an L1 entry a new table, which is in the file already; 0: none. */
  setTable(index: number, offset: number): void {
    this.#newTables.delete(this.table(index));
    this.#l1.setUint32(index * 8, offset === 0 ? 0 : (Math.floor(offset / 2 ** 32) | COPIED) >>> 0);
    this.#l1.setUint32(index * 8 + 4, offset >>> 0);
    this.#changedL1.add(index);
    if (offset === 0) return;
    this.#newTables.add(offset);
    this.#cache.drop(offset, this.#clusterSize);
  }

  /** Takes another L1 table, which is in the file already; its entries begin as the present ones. */
  moveL1(offset: number, l1: Buffer): void {
    this.#l1 = viewOf(l1);
    this.#l1Offset = offset;
    this.#cache.clear();
    this.#changedL1.clear();
    this.#newTables.clear();
  }

  /** A copy of the L1 table. */
  copyL1(): Buffer {
    return Buffer.from(new Uint8Array(this.#l1.buffer, this.#l1.byteOffset, this.#l1.byteLength));
  }

  /** Writes the tables that nothing in the file refers to yet. */
  writeNew(): Slice[] {
    if (this.#newTables.size === 0) return [];
    return this.#cache.write(({ offset }) => this.#newTables.has(offset - (offset % this.#clusterSize)));
  }

  /** Writes all other changes; what these refer to must be on the disk. */
  writeChanged(): { readonly slices: readonly Slice[]; readonly l1: readonly number[] } {
    const slices = this.#cache.write();
    const l1 = [...this.#changedL1].sort((a, b) => a - b);
    for (let i = 0; i < l1.length; ) {
      let end = i + 1;
      while (end < l1.length && l1[end] === l1[end - 1]! + 1) end++;
      const [first, count] = [l1[i]!, end - i];
      this.#file.write(
        new Uint8Array(this.#l1.buffer, this.#l1.byteOffset + first * 8, count * 8),
        this.#l1Offset + first * 8,
      );
      i = end;
    }
    return { slices, l1 };
  }

  /** What was written is on the disk. */
  clean(slices: readonly Slice[], l1: readonly number[] = []): void {
    this.#cache.clean(slices);
    for (const index of l1) {
      this.#changedL1.delete(index);
      this.#newTables.delete(this.table(index));
    }
  }
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
