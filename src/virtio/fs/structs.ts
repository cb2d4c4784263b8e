/** FUSE's structures. */
import type { Changes } from '../../fs/server.ts';
import type { WireReader, WireWriter } from '../../fs/wire.ts';
import { EFBIG, EINVAL, OsError } from '../../host/errno.ts';
import { F_UNLCK, type RangeLock } from '../../host/file-locks.ts';
import type { FileTime, Statx } from '../../host/statx.ts';
import * as fuse from './protocol.ts';

/** How long a client may believe what it was told: seconds. */
export interface Validity {
  readonly entry: bigint;
  readonly attributes: bigint;
}

/** struct fuse_attr. */
export function writeAttributes(answer: WireWriter, status: Statx): void {
  const { atime, mtime, ctime } = status;
  answer.u64(status.ino).u64(status.size).u64(status.blocks);
  answer.u64(atime.seconds).u64(mtime.seconds).u64(ctime.seconds);
  answer.u32(atime.nanoseconds).u32(mtime.nanoseconds).u32(ctime.nanoseconds);
  answer.u32(status.mode).u32(status.nlink).u32(status.uid).u32(status.gid);
  answer.u32(status.rdev).u32(status.blksize).u32(0);
}

/** struct fuse_entry_out. */
export function writeEntry(answer: WireWriter, id: number, status: Statx, valid: Validity): void {
  answer.u64(BigInt(id)).u64(0n).u64(valid.entry).u64(valid.attributes).u32(0).u32(0);
  writeAttributes(answer, status);
}

/** struct fuse_statfs_out, from a struct statfs. */
export function writeFileSystem(answer: WireWriter, view: DataView): void {
  const u64 = (index: number): bigint => view.getBigUint64(index * 8, true);
  const u32 = (index: number): number => Number(BigInt.asUintN(32, u64(index)));
  // blocks, bfree, bavail, files, ffree; bsize, namelen, frsize.
  for (const index of [2, 3, 4, 5, 6]) answer.u64(u64(index));
  answer.u32(u32(1)).u32(u32(8)).u32(u32(9)).zeroes(28);
}

/** struct fuse_setattr_in. `handle` is undefined where none is meant. */
export function readChanges(message: WireReader): {
  readonly changes: Changes;
  readonly handle: bigint | undefined;
  readonly killPrivileges: boolean;
} {
  const valid = message.u32();
  message.skip(4);
  const handle = message.u64();
  const size = message.u64();
  // lock_owner
  message.skip(8);
  const [atime, mtime] = [message.i64(), message.i64()];
  // ctime
  message.skip(8);
  const nanoseconds = [message.u32(), message.u32()] as const;
  // ctimensec
  message.skip(4);
  const mode = message.u32();
  message.skip(4);
  const [uid, gid] = [message.u32(), message.u32()];
  const has = (bit: number): boolean => (valid & bit) !== 0;
  if (has(fuse.FATTR_SIZE) && size > Number.MAX_SAFE_INTEGER) throw new OsError('setattr', EFBIG);
  const time = (now: number, seconds: bigint, fraction: number): FileTime | 'now' =>
    has(now) ? 'now' : { seconds, nanoseconds: fraction };
  return {
    changes: {
      ...(has(fuse.FATTR_UID) && { uid }),
      ...(has(fuse.FATTR_GID) && { gid }),
      ...(has(fuse.FATTR_MODE) && { mode }),
      ...(has(fuse.FATTR_SIZE) && { size: Number(size) }),
      ...(has(fuse.FATTR_ATIME) && { atime: time(fuse.FATTR_ATIME_NOW, atime, nanoseconds[0]) }),
      ...(has(fuse.FATTR_MTIME) && { mtime: time(fuse.FATTR_MTIME_NOW, mtime, nanoseconds[1]) }),
    },
    handle: has(fuse.FATTR_FH) ? handle : undefined,
    killPrivileges: has(fuse.FATTR_KILL_SUIDGID),
  };
}

/** struct fuse_lk_in without its handle. */
export function readLock(message: WireReader): {
  readonly owner: string;
  readonly lock: RangeLock;
  readonly whole: boolean;
} {
  const owner = message.u64();
  const [start, end] = [message.i64(), message.i64()];
  const type = message.u32();
  // pid
  message.skip(4);
  const flags = message.u32();
  if (type > F_UNLCK || start < 0n || end < start) throw new OsError('lock', EINVAL);
  const length = end === fuse.OFFSET_MAX ? 0n : end - start + 1n;
  return { owner: `${owner}`, lock: { type, start, length }, whole: (flags & fuse.FUSE_LK_FLOCK) !== 0 };
}

/** struct fuse_lk_out: a lock that is in the way, or none. Whose it is, the host's kernel does not tell. */
export function writeLock(answer: WireWriter, lock: RangeLock | undefined): void {
  const { type, start, length } = lock ?? { type: F_UNLCK, start: 0n, length: 0n };
  answer.u64(start).u64(length === 0n ? fuse.OFFSET_MAX : start + length - 1n);
  answer.u32(type).u32(0);
}
