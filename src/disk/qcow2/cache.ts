/** Tables of an image in memory, in slices, written back when their owner says so. */
import type { ImageFile } from '../image-file.ts';

/** Bytes of a slice. Small, so that random access to a large disk reads and keeps little; a cluster if that is smaller. */
const SLICE_SIZE = 4096;

/** A part of a table. */
export interface Slice {
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly bytes: Buffer;
  readonly view: DataView;
  /** Used since the last look for one that may go. */
  used: boolean;
}

export class TableCache {
  /** Bytes: a power of two. */
  readonly sliceSize: number;
  readonly #file: ImageFile;
  readonly #capacity: number;
  readonly #slices = new Map<number, Slice>();
  readonly #dirty = new Set<Slice>();
  #last: Slice | undefined;

  /** `capacity`: bytes that are kept. More are while they are dirty: the owner limits those. */
  constructor(file: ImageFile, clusterSize: number, capacity: number) {
    this.#file = file;
    this.sliceSize = Math.min(SLICE_SIZE, clusterSize);
    this.#capacity = Math.max(16, Math.floor(capacity / this.sliceSize));
  }

  /** Bytes of slices that are not in the file yet. */
  get dirtyBytes(): number {
    return this.#dirty.size * this.sliceSize;
  }

  /** The slice that holds this byte of the file. Throws OsError. */
  at(offset: number): Slice {
    const start = offset - (offset & (this.sliceSize - 1));
    if (this.#last?.offset === start) return this.#last;
    let slice = this.#slices.get(start);
    if (slice === undefined) {
      slice = newSlice(start, this.#file.readBuffer(start, this.sliceSize));
      this.#insert(slice);
    } else {
      slice.used = true;
    }
    this.#last = slice;
    return slice;
  }

  /** The slice was changed. */
  touch(slice: Slice): void {
    this.#dirty.add(slice);
  }

  /** Writes the dirty slices that `select` chooses; they stay dirty until clean() says that they are on the disk. */
  write(select: (slice: Slice) => boolean = () => true): Slice[] {
    const written: Slice[] = [];
    const sorted = [...this.#dirty].filter(select).sort((a, b) => a.offset - b.offset);
    for (const slice of sorted) {
      this.#file.write(slice.bytes, slice.offset);
      written.push(slice);
    }
    return written;
  }

  clean(slices: readonly Slice[]): void {
    for (const slice of slices) this.#dirty.delete(slice);
  }

  /** Forgets what is cached of a range of the file, changed or not. */
  drop(offset: number, length: number): void {
    for (let at = offset; at < offset + length; at += this.sliceSize) {
      const slice = this.#slices.get(at);
      if (slice === undefined) continue;
      this.#slices.delete(at);
      this.#dirty.delete(slice);
      if (this.#last === slice) this.#last = undefined;
    }
  }

  clear(): void {
    this.#slices.clear();
    this.#dirty.clear();
    this.#last = undefined;
  }

  #insert(slice: Slice): void {
    // Second chance: what was used since the last round goes to the end of the queue.
    let looks = this.#slices.size;
    for (const [offset, old] of this.#slices) {
      if (this.#slices.size < this.#capacity || looks-- === 0) break;
      this.#slices.delete(offset);
      if (old.used || this.#dirty.has(old)) {
        old.used = false;
        this.#slices.set(offset, old);
      }
    }
    this.#slices.set(slice.offset, slice);
  }
}

function newSlice(offset: number, bytes: Buffer): Slice {
  return { offset, bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length), used: true };
}
