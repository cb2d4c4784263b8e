import type { HostRange } from './iovec.ts';

/** A disk that a guest uses, whatever its format. One thread uses it, one call at a time. Every call throws OsError or DiskError. */
export interface Disk {
  /** Bytes. */
  readonly size: number;
  /** Reads into memory; the range lies inside the size, as in all calls. */
  read(offset: number, ranges: readonly HostRange[]): void;
  write(offset: number, ranges: readonly HostRange[]): void;
  /** Returns when all that was written is on the disk. */
  flush(): void;
  /** The guest does not need these bytes any more: they read as anything afterwards. */
  discard(offset: number, length: number): void;
  /** With `unmap` the space is given back where that is possible. */
  writeZeroes(offset: number, length: number, unmap: boolean): void;
  /** Changes the size; what is new reads as zeroes. */
  resize(size: number): void;
}
