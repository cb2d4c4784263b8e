/** Checks an image: counts what its tables refer to, and compares that with its refcounts. */
import { CorruptImageError } from '../error.ts';
import type { ImageFile } from '../image-file.ts';
import { bitmapClusters } from './bitmaps.ts';
import { ClusterCounts } from './cluster-counts.ts';
import { COMPRESSED, COPIED, OFFSET_HIGH, OFFSET_LOW } from './format.ts';
import type { Header } from './header.ts';
import { DATA, decodeEntry, type Entry, PACKED, UNALLOCATED, ZEROES } from './mapping.ts';
import { readEntry } from './refcount-entry.ts';
import { readSnapshots } from './snapshot-table.ts';

/** Findings that are put into words; further ones are only counted. */
const MAX_MESSAGES = 20;

/** Bits of L2 entries, by halves, that mean nothing; bit 0 of the low half does in version 3. */
const RESERVED_HIGH = 0x3f00_0000;
const RESERVED_LOW = 0x1fe;
/** And of the high halves of L1 entries. */
const RESERVED_L1_HIGH = 0x7f00_0000;

/** An L2 table, and how many L1 entries name it. */
interface TableUse {
  count: number;
  /** Numbers of the active L1 table's entries that name it. */
  active: number[];
}

export interface CheckResult {
  /** Clusters that are counted more often than they are used. */
  leaks: number;
  /** Clusters that are counted less often, wrong flags, and entries that no image can have. */
  corruptions: number;
  /** Those of the corruptions that repair cannot mend. */
  unrepairable: number;
  /** What was found first, in words. */
  readonly messages: string[];
  /** Guest clusters with data in the image; those that are compressed. */
  allocated: number;
  compressed: number;
  /** The refcount table or its blocks cannot hold the right counts: they must be made anew. */
  rebuild: boolean;
  /** How often each cluster is used. */
  readonly uses: ClusterCounts;
  /** Active L1 entries, and L2 entries in the file's order, whose copied flag is wrong: offsets in the file. */
  readonly wrongFlags: number[];
}

/** Tells how far a check is: 0 to 1. */
export type CheckProgress = (fraction: number) => void;

/** Reads all tables of an image that nobody writes to. Throws OsError. */
export function checkImage(file: ImageFile, header: Header, progress: CheckProgress = () => {}): CheckResult {
  return new Checker(file, header).run(progress);
}

class Checker {
  readonly #file: ImageFile;
  readonly #header: Header;
  readonly #clusterSize: number;
  readonly #tables = new Map<number, TableUse>();
  readonly #result: CheckResult = {
    leaks: 0,
    corruptions: 0,
    unrepairable: 0,
    messages: [],
    allocated: 0,
    compressed: 0,
    rebuild: false,
    uses: new ClusterCounts(),
    wrongFlags: [],
  };

  constructor(file: ImageFile, header: Header) {
    this.#file = file;
    this.#header = header;
    this.#clusterSize = 2 ** header.clusterBits;
  }

  run(progress: CheckProgress): CheckResult {
    const { uses } = this.#result;
    uses.add(0, 1);
    const l1 = this.#countMetadata();
    // All these have one user.
    const single = [...uses.entries()];
    this.#countTables((done) => progress(done * 0.8));
    for (const [cluster] of single) {
      if (uses.get(cluster) > 1) this.#corrupt(`cluster ${cluster} holds a table, and something else`, false);
    }
    this.#compareCounts();
    progress(0.9);
    this.#compareFlags(l1);
    progress(1);
    return this.#result;
  }

  #say(message: string): void {
    if (this.#result.messages.length < MAX_MESSAGES) this.#result.messages.push(message);
  }

  #corrupt(message: string, repairable: boolean): void {
    this.#result.corruptions++;
    if (!repairable) this.#result.unrepairable++;
    this.#say(message);
  }

  /** Counts a range of bytes. */
  #use(offset: number, length: number, times = 1): void {
    const first = Math.floor(offset / this.#clusterSize);
    const last = Math.floor((offset + length - 1) / this.#clusterSize);
    if (last * this.#clusterSize >= this.#file.size)
      this.#corrupt(`what is at 0x${offset.toString(16)} is cut off`, false);
    for (let cluster = first; cluster <= last; cluster++) this.#result.uses.add(cluster, times);
  }

  /** Counts all but L2 tables and data; collects the L2 tables. Returns the active L1 table. */
  #countMetadata(): DataView {
    const header = this.#header;
    this.#use(header.refcountTableOffset, header.refcountTableClusters * this.#clusterSize);
    for (const { offset, block } of this.#blocks()) {
      if (offset % this.#clusterSize !== 0 || offset >= this.#file.size) {
        this.#corrupt(`refcount block ${block} is at 0x${offset.toString(16)}`, true);
        this.#result.rebuild = true;
      } else {
        this.#use(offset, 1);
      }
    }
    // Blocks that share a cluster with something.
    for (const cluster of this.#result.uses.above(1)) {
      this.#say(`cluster ${cluster} is used twice by refcounts`);
      this.#result.rebuild = true;
      break;
    }
    const l1 = this.#countL1(header.l1Offset, header.l1Size, true);
    if (header.snapshotCount > 0) {
      const fromFile = this.#attempt(() => readSnapshots(this.#file, header));
      if (fromFile !== undefined) {
        this.#use(header.snapshotsOffset, fromFile.length);
        if (header.version === 3 && fromFile.incomplete > 0) {
          this.#corrupt(`${fromFile.incomplete} snapshots do not say all that they should`, false);
        }
        for (const { l1Offset, l1Size } of fromFile.snapshots) this.#countL1(l1Offset, l1Size, false);
      }
    }
    this.#attempt(() => {
      for (const { offset, length } of bitmapClusters(this.#file, header)) this.#use(offset, length);
    });
    return l1;
  }

  /** Runs what meets damage that cannot be repaired. */
  #attempt<T>(run: () => T): T | undefined {
    try {
      return run();
    } catch (error) {
      if (!(error instanceof CorruptImageError)) throw error;
      this.#corrupt(error.message.slice(this.#file.path.length + 2), false);
      return undefined;
    }
  }

  *#blocks(): Generator<{ readonly block: number; readonly offset: number }> {
    const { refcountTableOffset, refcountTableClusters } = this.#header;
    const table = viewOf(this.#file.readBuffer(refcountTableOffset, refcountTableClusters * this.#clusterSize));
    for (let block = 0; block < table.byteLength / 8; block++) {
      const offset = table.getUint32(block * 8) * 2 ** 32 + table.getUint32(block * 8 + 4);
      if (offset !== 0) yield { block, offset };
    }
  }

  #countL1(offset: number, size: number, active: boolean): DataView {
    if (size > 0) this.#use(offset, size * 8);
    const l1 = viewOf(this.#file.readBuffer(offset, size * 8));
    for (let index = 0; index < size; index++) {
      const table = offsetIn(l1, index);
      if ((l1.getUint32(index * 8) & RESERVED_L1_HIGH) !== 0 || (l1.getUint32(index * 8 + 4) & ~OFFSET_LOW) !== 0) {
        this.#corrupt(`L1 entry ${index} has reserved bits set`, false);
      }
      if (table === 0) continue;
      if (table % this.#clusterSize !== 0 || table >= this.#file.size) {
        this.#corrupt(`L2 table ${index} is at 0x${table.toString(16)}`, false);
        continue;
      }
      let use = this.#tables.get(table);
      if (use === undefined) this.#tables.set(table, (use = { count: 0, active: [] }));
      use.count++;
      if (active) use.active.push(index);
    }
    return l1;
  }

  #countTables(progress: CheckProgress): void {
    const { uses } = this.#result;
    const entry: Entry = { kind: UNALLOCATED, host: 0, length: 0, copied: false };
    let done = 0;
    for (const [offset, { count, active }] of this.#tables) {
      if (done++ % 64 === 0) progress(done / this.#tables.size);
      if (uses.get(offset / this.#clusterSize) !== 0)
        this.#corrupt(`the L2 table at 0x${offset.toString(16)} is where another table is`, false);
      if (active.length > 1) this.#corrupt(`L1 entries ${active[0]} and ${active[1]} share an L2 table`, false);
      uses.add(offset / this.#clusterSize, count);
      this.#eachEntry(offset, entry, () => {
        if (entry.host === 0) return;
        if (active.length > 0 && entry.kind !== ZEROES) this.#result.allocated++;
        if (active.length > 0 && entry.kind === PACKED) this.#result.compressed++;
        this.#use(entry.host, entry.kind === PACKED ? entry.length : 1, count);
      });
    }
    // Data in the place of a table: its count would be right with two users.
    for (const [offset, { count }] of this.#tables) {
      if (uses.get(offset / this.#clusterSize) === count) continue;
      this.#corrupt(`the L2 table at 0x${offset.toString(16)} is also used for something else`, false);
    }
  }

  /** Decodes the entries of a table that are not empty. */
  #eachEntry(offset: number, entry: Entry, call: (at: number) => void): void {
    if (this.#file.nextData(offset) >= offset + this.#clusterSize) return;
    const table = viewOf(this.#file.readBuffer(offset, this.#clusterSize));
    for (let at = 0; at < this.#clusterSize; at += 8) {
      const high = table.getUint32(at);
      const low = table.getUint32(at + 4);
      if (high === 0 && low === 0) continue;
      if ((high & COMPRESSED) === 0 && ((high & RESERVED_HIGH) !== 0 || (low & RESERVED_LOW) !== 0)) {
        this.#corrupt(`the L2 entry at 0x${(offset + at).toString(16)} has reserved bits set`, false);
      }
      const decoded = this.#attemptEntry(() => decodeEntry(high, low, this.#header, this.#file, entry));
      if (decoded) call(offset + at);
    }
  }

  #attemptEntry(decode: () => void): boolean {
    return (
      this.#attempt(() => {
        decode();
        return true;
      }) ?? false
    );
  }

  #compareCounts(): void {
    const { uses } = this.#result;
    const order = this.#header.refcountOrder;
    const perBlock = (this.#clusterSize * 8) / 2 ** order;
    const seen = new Set<number>();
    const counted = new Set<number>();
    for (const { block, offset } of this.#blocks()) {
      if (offset % this.#clusterSize !== 0 || offset >= this.#file.size || seen.has(offset)) continue;
      seen.add(offset);
      counted.add(block);
      const hole = this.#file.nextData(offset) >= offset + this.#clusterSize;
      if (hole && !uses.any(block * perBlock, perBlock)) continue;
      const view = viewOf(this.#file.readBuffer(offset, this.#clusterSize));
      for (let index = 0; index < perBlock; index++) {
        const actual = readEntry(view, index, order);
        const expected = uses.get(block * perBlock + index);
        if (actual !== expected) this.#mismatch(block * perBlock + index, actual, expected);
      }
    }
    for (const [cluster, expected] of uses.entries()) {
      if (counted.has(Math.floor(cluster / perBlock))) continue;
      this.#mismatch(cluster, 0, expected);
      this.#result.rebuild = true;
    }
  }

  #mismatch(cluster: number, actual: number, expected: number): void {
    if (actual > expected) {
      this.#result.leaks++;
      this.#say(`cluster ${cluster} is counted ${actual} times and used ${expected} times`);
    } else {
      this.#corrupt(`cluster ${cluster} is used ${expected} times and counted ${actual} times`, true);
    }
  }

  /** The copied flag stands exactly where a cluster has one user. */
  #compareFlags(l1: DataView): void {
    const { uses, wrongFlags } = this.#result;
    const entry: Entry = { kind: UNALLOCATED, host: 0, length: 0, copied: false };
    for (const [offset, { active }] of this.#tables) {
      for (const index of active) {
        const copied = (l1.getUint32(index * 8) & COPIED) !== 0;
        if (copied === (uses.get(offset / this.#clusterSize) === 1)) continue;
        this.#corrupt(`L1 entry ${index} has a wrong copied flag`, true);
        wrongFlags.push(this.#header.l1Offset + index * 8);
      }
      if (active.length === 0) continue;
      const before = this.#result.corruptions;
      const unrepairable = this.#result.unrepairable;
      this.#eachEntry(offset, entry, (at) => {
        if (entry.kind !== DATA && entry.kind !== ZEROES) return;
        const right = entry.host !== 0 && uses.get(entry.host / this.#clusterSize) === 1;
        if (entry.copied === right) return;
        wrongFlags.push(at);
        this.#say(`the L2 entry at 0x${at.toString(16)} has a wrong copied flag`);
      });
      // Bad entries were found before.
      this.#result.corruptions = before;
      this.#result.unrepairable = unrepairable;
    }
    this.#result.corruptions += wrongFlags.length;
  }
}

function viewOf(bytes: Buffer): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function offsetIn(l1: DataView, index: number): number {
  return (l1.getUint32(index * 8) & OFFSET_HIGH) * 2 ** 32 + ((l1.getUint32(index * 8 + 4) & OFFSET_LOW) >>> 0);
}
