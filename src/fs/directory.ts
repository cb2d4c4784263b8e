/** Reading a directory piece by piece, from places that the client names. */
import { readDirectory, seekFile } from '../host/files.ts';

const BUFFER_SIZE = 32768;
const SEEK_SET = 0;

// struct linux_dirent64.
const OFF = 8;
const RECLEN = 16;
const TYPE = 18;
const NAME = 19;

export interface DirectoryEntry {
  readonly ino: bigint;
  /** Where the directory goes on after it. */
  readonly offset: bigint;
  /** DT_*: the file's type, its mode shifted right by 12. */
  readonly type: number;
  readonly name: Uint8Array;
}

export class DirectoryStream {
  readonly #fd: number;
  readonly #buffer = Buffer.allocUnsafe(BUFFER_SIZE);
  #length = 0;
  #at = 0;
  /** Offset of what next() gives. */
  #offset = 0n;

  /** `fd`: the directory, opened for reading, at its beginning. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Goes to an offset of an entry, or 0. Throws OsError. */
  seek(offset: bigint): void {
    // At the beginning what was read may be out of date.
    if (offset === this.#offset && offset !== 0n) return;
    seekFile(this.#fd, offset, SEEK_SET);
    this.#offset = offset;
    this.#at = this.#length = 0;
  }

  /** The entry that next() will take; undefined at the end. Throws OsError. */
  peek(): DirectoryEntry | undefined {
    if (this.#at === this.#length) {
      this.#at = 0;
      this.#length = readDirectory(this.#fd, this.#buffer);
      if (this.#length === 0) return undefined;
    }
    const entry = this.#buffer.subarray(this.#at, this.#at + this.#buffer.readUInt16LE(this.#at + RECLEN));
    return {
      ino: entry.readBigUInt64LE(0),
      offset: entry.readBigInt64LE(OFF),
      type: entry[TYPE]!,
      name: entry.subarray(NAME, entry.indexOf(0, NAME)),
    };
  }

  /** Goes past an entry that peek() gave. */
  advance(entry: DirectoryEntry): void {
    this.#at += this.#buffer.readUInt16LE(this.#at + RECLEN);
    this.#offset = entry.offset;
  }
}
