/** Attributes of files in 9P's form. */
import type { Changes } from '../../fs/server.ts';
import type { WireReader, WireWriter } from '../../fs/wire.ts';
import { EFBIG, OsError } from '../../host/errno.ts';
import { type FileTime, S_IFDIR, S_IFLNK, type Statx } from '../../host/statx.ts';
import * as p9 from './protocol.ts';

/** By type: S_IF*. */
export function qidType(type: number): number {
  if (type === S_IFDIR) return p9.QTDIR;
  return type === S_IFLNK ? p9.QTSYMLINK : p9.QTFILE;
}

export function writeQid(reply: WireWriter, status: Statx): void {
  const { seconds, nanoseconds } = status.mtime;
  // It changes with the file; 0 would say that it may not be kept.
  const version = Number(BigInt.asUintN(32, seconds * 1_000_000_000n + BigInt(nanoseconds))) || 1;
  reply.u8(qidType(status.type)).u32(version).u64(status.ino);
}

/** The body of Rgetattr. */
export function writeAttributes(reply: WireWriter, status: Statx): void {
  reply.u64(p9.GETATTR_BASIC | p9.GETATTR_BTIME);
  writeQid(reply, status);
  reply.u32(status.mode).u32(status.uid).u32(status.gid).u64(BigInt(status.nlink));
  reply.u64(BigInt(status.rdev));
  reply.u64(status.size).u64(BigInt(status.blksize)).u64(status.blocks);
  for (const { seconds, nanoseconds } of [status.atime, status.mtime, status.ctime, status.btime]) {
    reply.u64(seconds).u64(BigInt(nanoseconds));
  }
  // gen, data_version: not valid.
  reply.u64(0n).u64(0n);
}

/** The body of Tsetattr after the fid. */
export function readChanges(message: WireReader): Changes {
  const valid = message.u32();
  const [mode, uid, gid] = [message.u32(), message.u32(), message.u32()];
  // Unused fields may hold anything.
  const size = message.u64();
  const times = [readTime(message), readTime(message)] as const;
  const has = (bit: number): boolean => (valid & bit) !== 0;
  if (has(p9.SETATTR_SIZE) && size > Number.MAX_SAFE_INTEGER) throw new OsError('setattr', EFBIG);
  const time = (index: 0 | 1, set: number): FileTime | 'now' => (has(set) ? times[index] : 'now');
  return {
    ...(has(p9.SETATTR_UID) && { uid }),
    ...(has(p9.SETATTR_GID) && { gid }),
    ...(has(p9.SETATTR_MODE) && { mode }),
    ...(has(p9.SETATTR_SIZE) && { size: Number(size) }),
    ...(has(p9.SETATTR_ATIME) && { atime: time(0, p9.SETATTR_ATIME_SET) }),
    ...(has(p9.SETATTR_MTIME) && { mtime: time(1, p9.SETATTR_MTIME_SET) }),
  };
}

function readTime(message: WireReader): FileTime {
  const seconds = message.i64();
  const nanoseconds = message.u64();
  return { seconds, nanoseconds: nanoseconds < 1_000_000_000n ? Number(nanoseconds) : Number.POSITIVE_INFINITY };
}

/** The body of Rstatfs, from a struct statfs. */
export function writeFileSystem(reply: WireWriter, view: DataView): void {
  const u64 = (index: number): bigint => view.getBigUint64(index * 8, true);
  reply.u32(Number(BigInt.asUintN(32, u64(0)))).u32(Number(BigInt.asUintN(32, u64(1))));
  // blocks, bfree, bavail, files, ffree; fsid says nothing; namelen.
  for (const index of [2, 3, 4, 5, 6]) reply.u64(u64(index));
  reply.u64(0n).u32(Number(BigInt.asUintN(32, u64(8))));
}
