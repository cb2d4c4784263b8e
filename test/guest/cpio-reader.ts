/**
 * A strict reader of newc archives, to check what the writer wrote where cpio(1) is missing.
 * It is total: any bytes give either entries or a CpioError.
 */

import type { CpioEntry } from '../../src/guest/cpio.ts';
import {
  HEADER_BYTES,
  NAME_BYTES_MAX,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  TRAILER,
} from '../../src/guest/cpio.ts';

export class CpioError extends Error {
  override readonly name = 'CpioError';
}

/** @throws CpioError where the bytes are not an archive with a trailer and zeros after it */
export function readCpio(archive: Uint8Array): CpioEntry[] {
  const bytes = Buffer.from(archive.buffer, archive.byteOffset, archive.length);
  const entries: CpioEntry[] = [];
  for (let at = 0; ; ) {
    const header = bytes.toString('latin1', at, at + HEADER_BYTES);
    if (!/^070701[0-9a-fA-F]{104}$/.test(header)) throw new CpioError(`no header at ${at}`);
    const field = (index: number): number => Number.parseInt(header.slice(6 + index * 8, 14 + index * 8), 16);
    const [mode, size, major, minor, nameSize] = [field(1), field(6), field(9), field(10), field(11)];
    if (nameSize < 2 || nameSize > NAME_BYTES_MAX) throw new CpioError(`bad name size at ${at}`);
    const nameAt = at + HEADER_BYTES;
    const dataAt = align(nameAt + nameSize);
    const next = align(dataAt + size);
    if (next > bytes.length) throw new CpioError(`truncated at ${at}`);
    if (bytes.indexOf(0, nameAt) !== nameAt + nameSize - 1) throw new CpioError(`bad end of name at ${at}`);
    const name = bytes.toString('utf8', nameAt, nameAt + nameSize - 1);
    if (name === TRAILER) {
      if (size !== 0 || bytes.subarray(next).some((byte) => byte !== 0)) throw new CpioError('bytes after the trailer');
      return entries;
    }
    entries.push(toEntry(name, mode, major, minor, bytes.subarray(dataAt, dataAt + size)));
    at = next;
  }
}

function toEntry(name: string, mode: number, major: number, minor: number, data: Buffer): CpioEntry {
  const permissions = mode & 0o7777;
  const type = mode & S_IFMT;
  if (type === S_IFREG) return { type: 'file', name, mode: permissions, data };
  if (type === S_IFLNK) return { type: 'symlink', name, target: data.toString() };
  if (data.length !== 0) throw new CpioError(`data in '${name}'`);
  if (type === S_IFDIR) return { type: 'directory', name, mode: permissions };
  if (type === S_IFCHR) return { type: 'character', name, mode: permissions, major, minor };
  if (type === S_IFBLK) return { type: 'block', name, mode: permissions, major, minor };
  throw new CpioError(`bad mode of '${name}'`);
}

function align(at: number): number {
  return Math.ceil(at / 4) * 4;
}
