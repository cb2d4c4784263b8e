/** Locks on files: fcntl(2)'s on ranges, owned by open file descriptions, and flock(2)'s. */
import { EACCES, EAGAIN } from './errno.ts';
import { check, libc, uninterrupted } from './ffi.ts';

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
/** struct flock of 64-bit kernels: type and whence (16 bits), start and length (64), pid (32). */
const FLOCK_SIZE = 32;
const START = 8;
const LENGTH = 16;

export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;
export const LOCK_SH = 1;
export const LOCK_EX = 2;
const LOCK_NB = 4;
export const LOCK_UN = 8;

const fcntl = libc('int fcntl(int fd, int command, void *argument)');
const flock = libc('int flock(int fd, int operation)');

/** A lock on a range of a file. */
export interface RangeLock {
  /** F_RDLCK, F_WRLCK, F_UNLCK. */
  readonly type: number;
  /** Bytes; a length of 0 reaches to wherever the file ends. */
  readonly start: bigint;
  readonly length: bigint;
}

function encode({ type, start, length }: RangeLock): DataView {
  const view = new DataView(new ArrayBuffer(FLOCK_SIZE));
  view.setInt16(0, type, true);
  view.setBigInt64(START, start, true);
  view.setBigInt64(LENGTH, length, true);
  return view;
}

/** Whether an attempt was refused because somebody else has a lock. Throws OsError for other failures. */
function taken(name: string, result: number): boolean {
  if (result === -EAGAIN || result === -EACCES) return false;
  check(name, result);
  return true;
}

/** Sets or releases a lock for this open file description. False: another has one in the way. Throws OsError. */
export function setRangeLock(fd: number, lock: RangeLock): boolean {
  return taken(
    'fcntl',
    uninterrupted(() => fcntl(fd, F_OFD_SETLK, encode(lock))),
  );
}

/** The first lock of others that is in the way of this one; undefined: none. Throws OsError. */
export function testRangeLock(fd: number, lock: RangeLock): RangeLock | undefined {
  const view = encode(lock);
  check('fcntl', fcntl(fd, F_OFD_GETLK, view));
  const type = view.getInt16(0, true);
  if (type === F_UNLCK) return undefined;
  return { type, start: view.getBigInt64(START, true), length: view.getBigInt64(LENGTH, true) };
}

/** LOCK_SH, LOCK_EX or LOCK_UN on the whole file for this open file description. False: another has it. Throws OsError. */
export function lockFile(fd: number, operation: number): boolean {
  return taken(
    'flock',
    uninterrupted(() => flock(fd, operation | LOCK_NB)),
  );
}
