/** A raw file under a qcow2 image. */
import { closeSync } from 'node:fs';
import { ImageFile } from './image-file.ts';
import type { HostRange } from './iovec.ts';
import type { Backing } from './qcow2/image.ts';

export class RawBacking implements Backing {
  readonly #file: ImageFile;
  readonly size: number;

  /** Takes the descriptor. Throws OsError. */
  constructor(fd: number, path: string) {
    this.#file = new ImageFile(fd, path);
    this.size = this.#file.size;
  }

  read(offset: number, ranges: readonly HostRange[]): void {
    this.#file.readRanges(ranges, offset);
  }

  nextData(offset: number): number {
    return Math.min(this.#file.nextData(offset), this.size);
  }

  close(): void {
    closeSync(this.#file.fd);
  }
}
