/**
 * The files of a disk: the image, and what is under it, down to the last one. They are found, opened and locked where paths
 * can be opened; the images on them are made elsewhere, in a jail, from the descriptors alone.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { DiskError } from './error.ts';
import { openInherited } from './inherited.ts';
import { lockImage } from './lock.ts';
import { HEADER_READ, type Header, isQcow2, parseHeader } from './qcow2/header.ts';
import type { Backing, Qcow2Image } from './qcow2/image.ts';
import { openQcow2 } from './qcow2/open.ts';
import { RawBacking } from './raw-backing.ts';

export const DISK_FORMATS = ['raw', 'qcow2'] as const;
export type DiskFormat = (typeof DISK_FORMATS)[number];

/** An open file of a disk; survives structured clone. */
export interface Layer {
  readonly fd: number;
  readonly path: string;
  readonly format: DiskFormat;
  readonly writable: boolean;
}

export interface OpenLayersOptions {
  /** The image's format; undefined: what its first bytes say. Never to be guessed for a disk that a guest has written. */
  readonly format: DiskFormat | undefined;
  readonly writable: boolean;
  /** Leave out what is under the image. */
  readonly alone?: boolean;
  /** Past the host's page cache (O_DIRECT): raw images. */
  readonly direct?: boolean;
}

/** Files one under another. Each is a descriptor. */
const MAX_LAYERS = 100;

/**
 * Opens and locks the files of a disk: first the image, then what is under it, which is for reading only.
 * @throws DiskError: a file that cannot be opened, is locked, is damaged, or is under itself
 */
export function openLayers(path: string, options: OpenLayersOptions): Layer[] {
  const layers: Layer[] = [];
  const seen = new Set<string>();
  try {
    let next: (BackingLayer & { readonly guessed: boolean }) | undefined = {
      path,
      format: options.format,
      guessed: false,
    };
    while (next !== undefined) {
      const top = layers.length === 0;
      const fd = openImage(next.path, top && options.writable, top && options.direct === true);
      layers.push({ fd, path: next.path, format: next.format ?? 'raw', writable: top && options.writable });
      const identity = identityOf(fd);
      if (seen.has(identity)) throw new DiskError(`${path}: its backing files lead back to ${next.path}`);
      seen.add(identity);
      lockImage(fd, next.path, top && options.writable);
      // Nothing is looked for in a raw image; past the host's cache, it could be read into aligned memory only.
      if (next.format === 'raw') break;
      const start = readStart(fd);
      const format: DiskFormat = next.format ?? (isQcow2(start) ? 'qcow2' : 'raw');
      layers[layers.length - 1] = { ...layers[layers.length - 1]!, format };
      next = format === 'raw' || options.alone ? undefined : below(start, next.path, next.guessed);
      if (next !== undefined && layers.length === MAX_LAYERS) {
        throw new DiskError(`${path}: it has more than ${MAX_LAYERS} backing files, one under another`);
      }
    }
    return layers;
  } catch (error) {
    closeLayers(layers);
    throw error;
  }
}

export function closeLayers(layers: readonly Layer[]): void {
  for (const { fd } of layers) closeSync(fd);
}

/** The qcow2 image on the first of open files, with the others under it. If that fails, all are closed. Throws DiskError, OsError. */
export function imageOf(layers: readonly Layer[]): Qcow2Image {
  const [top, ...below] = layers;
  try {
    return openQcow2(top!.fd, top!.path, top!.writable, backingOf(below));
  } catch (error) {
    closeLayers(layers);
    throw error;
  }
}

/** The images on open files that lie one under another; closing the first closes these, too. Throws DiskError, OsError. */
export function backingOf(layers: readonly Layer[]): Backing | undefined {
  let backing: Backing | undefined;
  for (const { fd, path, format } of [...layers].reverse()) {
    backing = format === 'raw' ? new RawBacking(fd, path) : closing(openQcow2(fd, path, false, backing));
  }
  return backing;
}

/** A qcow2 image that closes its file as well. */
function closing(image: Qcow2Image): Backing {
  return {
    size: image.size,
    read: (offset, ranges) => image.read(offset, ranges),
    nextData: (offset) => image.nextData(offset),
    close: () => {
      image.close();
      closeSync(image.file.fd);
    },
  };
}

/** What the image in `start` lies on. `guessed`: that it is a qcow2 image is only what its first bytes say. */
function below(
  start: Buffer,
  path: string,
  guessed: boolean,
): (BackingLayer & { readonly guessed: boolean }) | undefined {
  const layer = backingLayer(path, parseHeader(start, path));
  if (layer === undefined) return undefined;
  // A guest may have written the header of such a raw image, to read any file of the host.
  if (guessed) {
    throw new DiskError(
      `${path}: what lies on it does not say its format: use qemu-img rebase -u -F qcow2 -b ${path} there if it is qcow2`,
    );
  }
  return { ...layer, guessed: layer.format === undefined };
}

/** The file under an image. */
export interface BackingLayer {
  readonly path: string;
  /** Undefined: the image does not say. */
  readonly format: DiskFormat | undefined;
}

/** What an image lies on. Throws DiskError if Vivarium has no means to open it. */
export function backingLayer(path: string, { backingFile, backingFormat }: Header): BackingLayer | undefined {
  if (backingFile === undefined) return undefined;
  const format = DISK_FORMATS.find((known) => known === backingFormat);
  if (backingFormat !== undefined && format === undefined) {
    throw new DiskError(`${path}: its backing file has the format ${backingFormat}, which is not supported`);
  }
  return { path: resolveBacking(path, backingFile), format };
}

/** The path that an image's name for its backing file means: relative to the image's folder. Throws DiskError. */
export function resolveBacking(imagePath: string, name: string): string {
  const path = name.startsWith('file:') ? name.slice('file:'.length) : name;
  const protocol = /^([^/]*?):/.exec(path)?.[1];
  if (protocol !== undefined) {
    throw new DiskError(
      `${imagePath}: its backing file is reached by ${protocol}, which is not supported: only files are`,
    );
  }
  return isAbsolute(path) ? path : join(dirname(imagePath), path);
}

function openImage(path: string, writable: boolean, direct: boolean): number {
  const inherited = openInherited(path, writable);
  if (inherited !== undefined) return inherited;
  try {
    const flags = constants.O_NONBLOCK | (direct ? constants.O_DIRECT : 0);
    const fd = openSync(path, (writable ? constants.O_RDWR : constants.O_RDONLY) | flags);
    const status = fstatSync(fd);
    if (status.isFile() || status.isBlockDevice()) return fd;
    closeSync(fd);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new DiskError(`${path}: there is no such file`);
    if (code === 'EACCES' || code === 'EPERM') {
      throw new DiskError(`${path}: it may not be opened for ${writable ? 'writing' : 'reading'} by this user`);
    }
    if (code === 'EINVAL' && direct) throw new DiskError(`${path}: its file system has no direct access (O_DIRECT)`);
    if (code === 'EROFS') throw new DiskError(`${path}: its file system is read-only`);
    if (code !== 'EISDIR') throw new DiskError(`${path}: ${(error as Error).message}`);
  }
  throw new DiskError(`${path}: it is neither a regular file nor a block device`);
}

function identityOf(fd: number): string {
  const status = fstatSync(fd);
  return status.isBlockDevice() ? `block ${status.rdev}` : `${status.dev} ${status.ino}`;
}

function readStart(fd: number): Buffer {
  const buffer = Buffer.alloc(HEADER_READ);
  let length = 0;
  while (length < buffer.length) {
    const count = readSync(fd, buffer, length, buffer.length - length, length);
    if (count === 0) break;
    length += count;
  }
  return buffer.subarray(0, length);
}
