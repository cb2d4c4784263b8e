/** struct statx (statx(2)): attributes of a file. */

const SIZE = 256;

// Offsets.
const BLKSIZE = 4;
const NLINK = 16;
const UID = 20;
const GID = 24;
const MODE = 28;
const INO = 32;
const FILE_SIZE = 40;
const BLOCKS = 48;
const ATIME = 64;
const BTIME = 80;
const CTIME = 96;
const MTIME = 112;
const RDEV_MAJOR = 128;
const RDEV_MINOR = 132;
const DEV_MAJOR = 136;
const DEV_MINOR = 140;

export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;

/** A time of a file. */
export interface FileTime {
  readonly seconds: bigint;
  readonly nanoseconds: number;
}

/** Fields as statx(2) names them, in its units. */
export class Statx {
  /** STATX_BASIC_STATS and STATX_BTIME. */
  static readonly MASK = 0xfff;

  readonly bytes = Buffer.allocUnsafe(SIZE);
  readonly #view = new DataView(this.bytes.buffer, this.bytes.byteOffset, SIZE);

  get blksize(): number {
    return this.#view.getUint32(BLKSIZE, true);
  }

  get nlink(): number {
    return this.#view.getUint32(NLINK, true);
  }

  get uid(): number {
    return this.#view.getUint32(UID, true);
  }

  set uid(value: number) {
    this.#view.setUint32(UID, value, true);
  }

  get gid(): number {
    return this.#view.getUint32(GID, true);
  }

  set gid(value: number) {
    this.#view.setUint32(GID, value, true);
  }

  /** Type and permissions. */
  get mode(): number {
    return this.#view.getUint16(MODE, true);
  }

  /** The type: S_IF*. */
  get type(): number {
    return this.mode & S_IFMT;
  }

  get ino(): bigint {
    return this.#view.getBigUint64(INO, true);
  }

  set ino(value: bigint) {
    this.#view.setBigUint64(INO, value, true);
  }

  get size(): bigint {
    return this.#view.getBigUint64(FILE_SIZE, true);
  }

  get blocks(): bigint {
    return this.#view.getBigUint64(BLOCKS, true);
  }

  get atime(): FileTime {
    return this.#time(ATIME);
  }

  get btime(): FileTime {
    return this.#time(BTIME);
  }

  get ctime(): FileTime {
    return this.#time(CTIME);
  }

  get mtime(): FileTime {
    return this.#time(MTIME);
  }

  /** Number of a device file, as the kernel's new_encode_dev() makes it for its clients: 32 bits. */
  get rdev(): number {
    const [major, minor] = [this.#view.getUint32(RDEV_MAJOR, true), this.#view.getUint32(RDEV_MINOR, true)];
    return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0;
  }

  /** Of the file system. */
  get deviceMajor(): number {
    return this.#view.getUint32(DEV_MAJOR, true);
  }

  get deviceMinor(): number {
    return this.#view.getUint32(DEV_MINOR, true);
  }

  #time(offset: number): FileTime {
    return {
      seconds: this.#view.getBigInt64(offset, true),
      nanoseconds: this.#view.getUint32(offset + 8, true),
    };
  }
}
