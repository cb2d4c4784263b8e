/** The disk behind a block device, from the open files of its image. */
import { readSync } from 'node:fs';
import type { Disk } from '../../disk/disk.ts';
import { ImageFile } from '../../disk/image-file.ts';
import { backingOf, type Layer } from '../../disk/layers.ts';
import { openQcow2, readHeader } from '../../disk/qcow2/open.ts';
import { resizeImage } from '../../disk/qcow2/resize.ts';
import { RawImage } from '../../disk/raw-image.ts';
import { SECTOR } from './constants.ts';

/** The descriptors stay the caller's. Throws DiskError, OsError. */
export function diskOf([top, ...below]: readonly [Layer, ...Layer[]]): Disk {
  if (top.format === 'raw') return new RawImage(top.fd, top.path);
  const image = openQcow2(top.fd, top.path, top.writable, backingOf(below));
  return {
    get size() {
      return image.size;
    },
    read: (offset, ranges) => image.read(offset, ranges),
    write: (offset, ranges) => image.write(offset, ranges),
    flush: () => image.flush(),
    discard: (offset, length) => image.discard(offset, length),
    writeZeroes: (offset, length, unmap) => image.writeZeroes(offset, length, unmap),
    resize: (size) => resizeImage(image, size),
  };
}

/** Bytes of the disk on an image, from its header alone. Throws DiskError, OsError. */
export function sizeOf({ fd, path, format }: Layer): number {
  const file = new ImageFile(fd, path);
  return format === 'raw' ? file.size : readHeader(file).size;
}

/** The host's smallest block, where its cache does not make up for smaller ones: 512 or 4096. The file was opened with O_DIRECT. */
export function blockSizeOf({ fd }: Layer): number {
  try {
    // Memory of its own, and so aligned.
    readSync(fd, new Uint8Array(new WebAssembly.Memory({ initial: 1 }).buffer), 0, SECTOR, SECTOR);
    return SECTOR;
  } catch {
    return 4096;
  }
}
