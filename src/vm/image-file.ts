/** The files that a machine is started with: kernel and initrd. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { ConfigError } from './config.ts';

const MIB = 2 ** 20;

/** Node reads files up to this size, bytes. A kernel with debugging information may be larger than the machine's memory. */
export const MAX_IMAGE = 2 ** 31 - 1;

/** An open file of a size that is known. */
export interface ImageFile {
  /** Bytes. */
  readonly size: number;
  /** Reads all of it into `target`, which has its size. Throws ConfigError. */
  readonly readInto: (target: Uint8Array) => void;
}

/** A whole file of at most `most` bytes. Throws ConfigError with the file's name and what to do. */
export function readImage(path: string, what: string, most: number): Uint8Array<ArrayBuffer> {
  return withImage(path, what, most, ({ size, readInto }) => {
    const bytes = new Uint8Array(size);
    readInto(bytes);
    return bytes;
  });
}

/** Frees what readImage() gave, which is of no use any more: a thread that has nothing to do collects no garbage. */
export function dropImage(image: Uint8Array<ArrayBuffer>): void {
  image.buffer.transfer(0);
}

/** Opens a file of at most `most` bytes while `use` runs. Throws ConfigError with the file's name and what to do. */
export function withImage<T>(path: string, what: string, most: number, use: (file: ImageFile) => T): T {
  const { fd, size } = openImage(path, what, most);
  const readInto = (target: Uint8Array): void => {
    for (let done = 0; done < target.length; ) {
      const count = told(path, what, () => readSync(fd, target, done, target.length - done, done));
      if (count === 0) throw new ConfigError(`${path}: the ${what} became shorter while it was read: start again`);
      done += count;
    }
  };
  try {
    return use({ size, readInto });
  } finally {
    closeSync(fd);
  }
}

function openImage(path: string, what: string, most: number): { fd: number; size: number } {
  if (path === '') throw new ConfigError(`the path of the ${what} is empty: give one`);
  // Opening a FIFO would wait for its other end.
  const fd = told(path, what, () => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
  try {
    const status = fstatSync(fd);
    if (status.isDirectory()) throw new ConfigError(`${path}: it is a folder: give the path of the ${what}`);
    if (!status.isFile()) throw new ConfigError(`${path}: it is no regular file: give the path of the ${what}`);
    if (status.size > most) {
      const mib = Math.ceil(status.size / MIB);
      throw new ConfigError(
        `${path}: the ${what} of ${mib} MiB does not fit into ${Math.floor(most / MIB)} MiB: give another, or more memory with --mem`,
      );
    }
    return { fd, size: status.size };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** What the system refuses becomes a line for the user. */
function told<T>(path: string, what: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new ConfigError(`${path}: there is no such file: give the path of the ${what}`);
    }
    if (code === 'EACCES') {
      throw new ConfigError(`${path}: it may not be read: change its permissions or give another ${what}`);
    }
    if (code === 'ENXIO') throw new ConfigError(`${path}: it is no regular file: give the path of the ${what}`);
    throw new ConfigError(`${path}: the ${what} cannot be read: ${message}`);
  }
}
