/** What the disk commands share: opening and closing images, progress, sizes, and errors with the image's path. */
import { closeSync, constants, fsyncSync, openSync, unlinkSync } from 'node:fs';
import { InvalidArgumentError, Option } from 'commander';
import { DiskError } from '../disk/error.ts';
import { ImageFile } from '../disk/image-file.ts';
import { DISK_FORMATS, imageOf, openLayers } from '../disk/layers.ts';
import { lockImage } from '../disk/lock.ts';
import type { Qcow2Image } from '../disk/qcow2/image.ts';
import { OsError } from '../host/errno.ts';
import { createStepDisplay } from '../host/progress.ts';
import { EndedBySignal, onEndingSignal } from '../host/signals.ts';
import { once, oneOf } from './options.ts';

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** Milliseconds of work that are not worth showing. */
const QUIET = 500;

/** A size: `20G`, `512M`, or bytes. */
export function size(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGT]?)(?:iB|B)?$/i.exec(text);
  const value = match === null ? Number.NaN : Number(match[1]) * UNITS[match[2]!.toUpperCase()]!;
  if (!Number.isSafeInteger(value)) {
    throw new InvalidArgumentError('it takes a size: a number of bytes, or one with K, M, G or T');
  }
  return value;
}

/** The format of an image that is there. */
export function formatOption(): Option {
  return new Option('-f, --format <NAME>', 'raw or qcow2 (default: what it looks like)').argParser(
    once(oneOf(DISK_FORMATS)),
  );
}

/** A number that is a power of two, as its exponent. */
export function powerOfTwo(least: number, most: number): (text: string) => number {
  return (text) => {
    const bits = Math.log2(size(text));
    if (Number.isInteger(bits) && bits >= least && bits <= most) return bits;
    throw new InvalidArgumentError(`it takes a power of two from ${2 ** least} to ${describeSize(2 ** most)}`);
  };
}

/** A size as size() takes it, as short as it can exactly be. */
export function describeSize(bytes: number): string {
  for (const unit of ['T', 'G', 'M', 'K']) {
    const value = bytes / UNITS[unit]!;
    if (value >= 1 && Number.isInteger(value * 4)) return `${value}${unit}`;
  }
  return `${bytes}`;
}

/** Runs something with an image; errors of the operating system get its path. */
export async function withPath<T>(path: string, run: () => T | Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof OsError) throw new DiskError(`${path}: ${error.message}`);
    throw error;
  }
}

/** Opens a qcow2 image, runs something with it, and closes it. `alone`: without what is under it. Throws DiskError. */
export function withImage<T>(
  path: string,
  options: { readonly writable: boolean; readonly alone?: boolean },
  run: (image: Qcow2Image) => T | Promise<T>,
): Promise<T> {
  return withPath(path, async () => {
    const image = imageOf(openLayers(path, { format: 'qcow2', ...options }));
    try {
      const result = await run(image);
      image.close();
      return result;
    } catch (error) {
      image.abandon();
      throw error;
    } finally {
      closeSync(image.file.fd);
    }
  });
}

/** Makes a file that must not be there, and fills it; takes it away again if that fails. Throws DiskError. */
export async function makeFile(path: string, fill: (file: ImageFile) => void | Promise<void>): Promise<void> {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o666);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') throw new DiskError(`${path}: it exists already: take it away first, or give another name`);
    if (code === 'ENOENT') throw new DiskError(`${path}: there is no such folder`);
    if (code === 'EACCES') throw new DiskError(`${path}: this user may not write there`);
    throw new DiskError(`${path}: ${message}`);
  }
  try {
    await withPath(path, () => {
      lockImage(fd, path, true);
      return fill(new ImageFile(fd, path));
    });
    fsyncSync(fd);
  } catch (error) {
    unlinkSync(path);
    throw error;
  } finally {
    closeSync(fd);
  }
}

/** Progress of one kind of work on standard error, and the end by a signal. */
export interface Work {
  readonly progress: (fraction: number) => void;
  readonly signal: AbortSignal;
}

/** Runs work that takes a while: shows how far it is, and lets signals end it. */
export async function withProgress<T>(text: string, run: (work: Work) => T | Promise<T>): Promise<T> {
  const abort = new AbortController();
  const display = createStepDisplay<'work'>(process.stderr, { texts: { work: text }, withoutBar: [] });
  const stop = onEndingSignal((signal) => abort.abort(new EndedBySignal(signal)));
  const start = performance.now();
  const progress = (fraction: number): void => {
    if (performance.now() - start > QUIET) display.show({ step: 'work', fraction });
  };
  try {
    return await run({ progress, signal: abort.signal });
  } finally {
    display.end();
    stop();
  }
}
