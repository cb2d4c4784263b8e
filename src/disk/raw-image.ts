/** A raw image: the disk's bytes are the file's. */
import { fstatSync } from 'node:fs';
import type { Disk } from './disk.ts';
import { DiskError } from './error.ts';
import { ImageFile } from './image-file.ts';
import type { HostRange } from './iovec.ts';

export class RawImage implements Disk {
  readonly #file: ImageFile;

  /** The descriptor stays the caller's. Throws OsError. */
  constructor(fd: number, path: string) {
    this.#file = new ImageFile(fd, path);
  }

  get size(): number {
    return this.#file.size;
  }

  read(offset: number, ranges: readonly HostRange[]): void {
    this.#file.readRanges(ranges, offset);
  }

  write(offset: number, ranges: readonly HostRange[]): void {
    this.#file.writeRanges(ranges, offset);
  }

  flush(): void {
    this.#file.sync();
  }

  discard(offset: number, length: number): void {
    this.#file.punch(offset, length);
  }

  writeZeroes(offset: number, length: number, unmap: boolean): void {
    if (unmap && this.#file.punch(offset, length)) return;
    this.#file.writeZeroes(offset, length);
  }

  resize(size: number): void {
    if (!fstatSync(this.#file.fd).isFile()) throw new DiskError(`${this.#file.path}: a block device keeps its size`);
    this.#file.truncate(size);
  }
}
