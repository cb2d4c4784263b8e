/**
 * Locks on images. A whole-file flock(2), as crosvm has it: shared for readers, exclusive for a writer. And those byte ranges
 * that QEMU's programs lock, so that they and Vivarium keep out of each other's way. Both go with the descriptor.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { EACCES, EAGAIN, EINVAL, EOPNOTSUPP } from '../host/errno.ts';
import { check, libc, uninterrupted } from '../host/ffi.ts';
import { DiskError } from './error.ts';

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;

/** QEMU locks byte 100 + n for what it does, and 200 + n for what it lets nobody else do; n is one of these. */
const DOES = 100;
const FORBIDS = 200;
const READ = 0;
const WRITE = 1;
const WRITE_UNCHANGED = 2;
const RESIZE = 3;

const flock = libc('int flock(int fd, int operation)');
const fcntl = libc('int fcntl(int fd, int cmd, ...)', ['void *']);

/** Locks an open image; the lock ends with the descriptor. @throws DiskError that names the holder, OsError */
export function lockImage(fd: number, path: string, writable: boolean): void {
  const result = uninterrupted(() => flock(fd, (writable ? LOCK_EX : LOCK_SH) | LOCK_NB));
  if (result === -EAGAIN) throw lockedBy(fd, path);
  check('flock', result);
  const does = writable ? [READ, WRITE, RESIZE] : [READ];
  const forbids = writable ? [WRITE, WRITE_UNCHANGED, RESIZE] : [WRITE, RESIZE];
  const bytes = [...does.map((n) => DOES + n), ...forbids.map((n) => FORBIDS + n)];
  for (const byte of bytes) {
    const taken = lockByte(fd, F_OFD_SETLK, F_RDLCK, byte);
    // File systems without such locks have flock's.
    if (taken.result === -EINVAL || taken.result === -EOPNOTSUPP) return;
    if (taken.result === -EAGAIN || taken.result === -EACCES) throw lockedBy(fd, path);
    check('fcntl', taken.result);
  }
  const conflicts = [...does.map((n) => FORBIDS + n), ...forbids.map((n) => DOES + n)];
  for (const byte of conflicts) {
    const asked = lockByte(fd, F_OFD_GETLK, F_WRLCK, byte);
    check('fcntl', asked.result);
    if (asked.type !== F_UNLCK) throw lockedBy(fd, path);
  }
}

/** One call of fcntl(2) with a struct flock for one byte. */
function lockByte(
  fd: number,
  command: number,
  type: number,
  byte: number,
): { readonly result: number; readonly type: number } {
  const lock = Buffer.alloc(32);
  lock.writeInt16LE(type, 0);
  lock.writeBigInt64LE(BigInt(byte), 8);
  lock.writeBigInt64LE(1n, 16);
  const result = uninterrupted(() => fcntl(fd, command, lock));
  return { result, type: lock.readInt16LE(0) };
}

function lockedBy(fd: number, path: string): DiskError {
  const pid = holder(fd);
  if (pid === process.pid) return new DiskError(`${path}: the image is in use by this process already`);
  const who = pid === undefined ? 'another process' : `process ${pid} (${nameOf(pid)})`;
  return new DiskError(`${path}: the image is locked by ${who}`);
}

/** The process that holds a lock on the file, as far as it can be found. */
function holder(fd: number): number | undefined {
  const { dev, ino } = statSync(`/proc/self/fd/${fd}`);
  try {
    for (const line of readFileSync('/proc/locks', 'latin1').split('\n')) {
      const match = /: \w+ +\w+ +\w+ (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) /.exec(line);
      const pid = Number(match?.[1]);
      // The kernel keeps the number of who took a lock, even if he left it to a child.
      if (match !== null && Number(match[2]) === ino && pid > 0 && hasOpen(pid, dev, ino, fd)) return pid;
    }
    for (const name of readdirSync('/proc')) {
      if (/^\d+$/.test(name) && hasOpen(Number(name), dev, ino, fd)) return Number(name);
    }
  } catch {
    // Without /proc nobody is named.
  }
  return undefined;
}

function hasOpen(pid: number, dev: number, ino: number, own: number): boolean {
  let names: string[];
  try {
    names = readdirSync(`/proc/${pid}/fd`);
  } catch {
    return false;
  }
  return names.some((name) => {
    if (pid === process.pid && Number(name) === own) return false;
    try {
      const status = statSync(`/proc/${pid}/fd/${name}`);
      return status.dev === dev && status.ino === ino;
    } catch {
      return false;
    }
  });
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return 'gone';
  }
}
