import { constants } from 'node:fs';
import type { HostRange } from '../disk/iovec.ts';
import { EBADF, EINVAL, EISDIR, ENOTDIR, OsError } from '../host/errno.ts';
import { F_RDLCK, F_UNLCK, F_WRLCK, LOCK_EX, LOCK_SH, LOCK_UN, lockFile } from '../host/file-locks.ts';
import { syncFile } from '../host/files.ts';
import { S_IFDIR } from '../host/statx.ts';
import { DirectoryStream } from './directory.ts';
import type { Node } from './node.ts';
import { appendFile, readFile, writeFile } from './transfer.ts';

/** The bits of open(2)'s flags that say for what. */
export const O_ACCMODE = 3;

const FLOCK_OPERATION: Readonly<Record<number, number>> = {
  [F_RDLCK]: LOCK_SH,
  [F_WRLCK]: LOCK_EX,
  [F_UNLCK]: LOCK_UN,
};

/** A file or a directory that the client has opened; it holds a reference to its node. */
export class OpenFile {
  readonly node: Node;
  readonly fd: number;
  /** Was it opened for writing? */
  readonly writable: boolean;
  /** Is what was written on the disk, when a write returns? */
  readonly #synchronous: boolean;
  /** Its descriptor may be somebody else's by now. */
  closed = false;
  #directory: DirectoryStream | undefined;

  /** `flags`: open(2)'s. */
  constructor(node: Node, fd: number, flags: number) {
    this.node = node;
    this.fd = fd;
    this.writable = (flags & O_ACCMODE) !== constants.O_RDONLY;
    this.#synchronous = (flags & (constants.O_SYNC | constants.O_DSYNC)) !== 0;
  }

  /** Throws OsError ENOTDIR. */
  get directory(): DirectoryStream {
    if (this.node.type !== S_IFDIR) throw new OsError('getdents64', ENOTDIR);
    this.#directory ??= new DirectoryStream(this.fd);
    return this.#directory;
  }

  /** Reads from a byte offset on. Returns how many bytes there were. Throws OsError. */
  read(ranges: readonly HostRange[], offset: number): number {
    this.#requireFile();
    return readFile(this.fd, ranges, offset);
  }

  /** Writes at a byte offset, or at the file's end. Returns how many bytes went. Throws OsError. */
  write(ranges: readonly HostRange[], offset: number, append: boolean): number {
    this.#requireFile();
    if (!this.writable) throw new OsError('pwritev', EBADF);
    return append ? appendFile(this.fd, ranges) : writeFile(this.fd, ranges, offset, this.#synchronous);
  }

  /** Returns when the file is on its disk. Throws OsError. */
  sync(dataOnly: boolean): void {
    syncFile(this.fd, dataOnly);
  }

  /** A lock on the whole file, flock(2)'s, by F_RDLCK, F_WRLCK or F_UNLCK. False: somebody else has it. Throws OsError. */
  lockWhole(type: number): boolean {
    const operation = FLOCK_OPERATION[type];
    if (operation === undefined) throw new OsError('flock', EINVAL);
    return lockFile(this.fd, operation);
  }

  #requireFile(): void {
    if (this.node.type === S_IFDIR) throw new OsError('read', EISDIR);
  }
}
