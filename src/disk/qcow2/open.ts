/** Opens a qcow2 image on a descriptor. */
import { ImageFile } from '../image-file.ts';
import { HEADER_READ, type Header, parseHeader } from './header.ts';
import { type Backing, Qcow2Image } from './image.ts';
import { repairDirty } from './repair.ts';

/** Reads and checks the header. Throws DiskError, OsError. */
export function readHeader(file: ImageFile): Header {
  return parseHeader(file.readBuffer(0, Math.min(file.size, HEADER_READ)), file.path);
}

/**
 * Opens an image. One that was not closed is repaired first if it is open for writing; else it is read as it is.
 * @throws DiskError, OsError
 */
export function openQcow2(fd: number, path: string, writable: boolean, backing: Backing | undefined): Qcow2Image {
  const file = new ImageFile(fd, path);
  const header = readHeader(file);
  return new Qcow2Image(file, writable ? repairDirty(file, header) : header, backing, writable);
}
