/**
 * Calls on files by descriptor: the *at() family, so that no path is ever resolved twice. A name is one component, as the bytes the
 * kernel takes: its length is the caller's care, and a NUL ends it. Everything throws OsError.
 */
import { constants } from 'node:fs';
import { closeDescriptor } from './descriptor.ts';
import { EAGAIN, EINTR, ENOSYS, EPERM, EXDEV, OsError } from './errno.ts';
import { check, libc, uninterrupted } from './ffi.ts';
import { Statx } from './statx.ts';

/** Bytes of a name with the NUL that ends it. */
export type CName = Uint8Array;

export const O_PATH = 0x20_0000;
const O_CLOEXEC = 0x8_0000;
export const AT_FDCWD = -100;
const O_TMPFILE = 0x40_0000 | constants.O_DIRECTORY;
const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
const AT_SYMLINK_FOLLOW = 0x400;
const AT_EMPTY_PATH = 0x1000;

const RESOLVE_NO_XDEV = 1;
const RESOLVE_NO_MAGICLINKS = 2;
const RESOLVE_NO_SYMLINKS = 4;
const RESOLVE_BENEATH = 8;
/** struct open_how: flags, mode, resolve, each a u64. */
const OPEN_HOW_SIZE = 24;
/** The same number on every architecture. */
const SYS_openat2 = 437;
const CLONE_FS = 0x200;
const RLIMIT_NOFILE = 7;
/** struct statfs of 64-bit kernels. */
const STATFS_SIZE = 120;

const NOTHING: CName = Buffer.alloc(1);

const openat = libc('int openat(int dirfd, const void *path, int flags, unsigned int mode)');
const openPath = libc('int openat(int dirfd, const char *path, int flags, unsigned int mode)');
const openat2 = libc('long syscall(long number, int dirfd, const void *path, void *how, size_t size)');
const name_to_handle_at = libc(
  'int name_to_handle_at(int dirfd, const void *path, void *handle, void *mount_id, int flags)',
);
const statx = libc('int statx(int dirfd, const void *path, int flags, unsigned int mask, void *buffer)');
const readlinkat = libc('intptr_t readlinkat(int dirfd, const void *path, void *buffer, size_t size)');
const mkdirat = libc('int mkdirat(int dirfd, const void *path, unsigned int mode)');
const mknodat = libc('int mknodat(int dirfd, const void *path, unsigned int mode, uint64_t device)');
const symlinkat = libc('int symlinkat(const void *target, int dirfd, const void *path)');
const linkat = libc('int linkat(int from, const char *path, int to, const void *name, int flags)');
const renameat2 = libc('int renameat2(int from, const void *name, int to, const void *newName, unsigned int flags)');
const unlinkat = libc('int unlinkat(int dirfd, const void *path, int flags)');
const chmod = libc('int chmod(const char *path, unsigned int mode)');
const fchownat = libc('int fchownat(int dirfd, const void *path, unsigned int uid, unsigned int gid, int flags)');
const utimensat = libc('int utimensat(int dirfd, const char *path, const void *times, int flags)');
const ftruncate = libc('int ftruncate(int fd, int64_t length)');
const fstatfs = libc('int fstatfs(int fd, void *buffer)');
const getdents64 = libc('intptr_t getdents64(int fd, void *buffer, size_t size)');
const lseek = libc('int64_t lseek(int fd, int64_t offset, int whence)');
const fsync = libc('int fsync(int fd)');
const fdatasync = libc('int fdatasync(int fd)');
const syncfs = libc('int syncfs(int fd)');
const fallocate = libc('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
const copy_file_range = libc(
  'intptr_t copy_file_range(int in, void *inOffset, int out, void *outOffset, size_t length, unsigned int flags)',
);
const getxattr = libc('intptr_t getxattr(const char *path, const void *name, void *value, size_t size)');
const setxattr = libc('int setxattr(const char *path, const void *name, const void *value, size_t size, int flags)');
const listxattr = libc('intptr_t listxattr(const char *path, void *list, size_t size)');
const removexattr = libc('int removexattr(const char *path, const void *name)');
const unshare = libc('int unshare(int flags)');
const umask = libc('unsigned int umask(unsigned int mask)');
const getrlimit = libc('int getrlimit(int resource, void *limit)');

/**
 * What a descriptor refers to, as a path. For an O_PATH descriptor it is the way to calls that take only paths, and to
 * a descriptor that reads and writes. It leads to the file itself, wherever that is now.
 */
function ownPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** Opens a directory by path as a starting point: O_PATH. Links in the path are followed. */
export function openStart(path: string): number {
  return check('open', openPath(AT_FDCWD, path, O_PATH | O_CLOEXEC | constants.O_DIRECTORY, 0));
}

/** Tries of a walk that the host's renames disturb. */
const MAX_TRIES = 100;

/** Does this kernel have openat2 (Linux 5.6)? */
let hasOpenat2 = true;

/**
 * An O_PATH descriptor of what a directory has under one name; a symbolic link is itself opened, never followed. EXDEV: something is
 * mounted there, or the name leads out of the directory.
 */
export function openEntry(directory: number, name: CName): number {
  const flags = O_PATH | O_CLOEXEC | constants.O_NOFOLLOW;
  if (hasOpenat2) {
    const how = new BigUint64Array(OPEN_HOW_SIZE / 8);
    how[0] = BigInt(flags);
    how[2] = BigInt(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
    // EAGAIN: something was renamed or mounted meanwhile.
    for (let tries = 0; ; tries++) {
      const result = openat2(SYS_openat2, directory, name, how, OPEN_HOW_SIZE);
      // EPERM: the filter of a container does not know it.
      if (result === -ENOSYS || result === -EPERM) break;
      if ((result !== -EAGAIN && result !== -EINTR) || tries === MAX_TRIES) return check('openat2', result);
    }
    hasOpenat2 = false;
  }
  const fd = check('openat', openat(directory, name, flags, 0));
  if (mountOf(fd) === mountOf(directory)) return fd;
  closeDescriptor(fd);
  throw new OsError('openat', EXDEV);
}

/** Identity of the mount that a descriptor's path is in; where the file system has no handles, that of the device. */
function mountOf(fd: number): string {
  const id = new Int32Array(1);
  // A handle of no bytes never fits (EOVERFLOW); the mount is told nevertheless.
  name_to_handle_at(fd, NOTHING, new Uint32Array(2), id, AT_EMPTY_PATH);
  if (id[0] !== 0) return `mount ${id[0]}`;
  const { deviceMajor, deviceMinor } = statFile(fd);
  return `device ${deviceMajor}:${deviceMinor}`;
}

/** Opens what an O_PATH descriptor refers to. It must not be a link, a device or a FIFO: these do more than open. */
export function reopen(fd: number, flags: number): number {
  return check(
    'open',
    uninterrupted(() => openPath(AT_FDCWD, ownPath(fd), flags | O_CLOEXEC, 0)),
  );
}

/** Makes a file and opens it. It must not be there (EEXIST), as a link neither. */
export function createFile(directory: number, name: CName, flags: number, mode: number): number {
  const all = flags | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW | O_CLOEXEC;
  return check(
    'openat',
    uninterrupted(() => openat(directory, name, all, mode)),
  );
}

/** Makes a file that has no name. */
export function createUnnamed(directory: number, flags: number, mode: number): number {
  const here = Buffer.from('.\0');
  return check('openat', openat(directory, here, flags | O_TMPFILE | O_CLOEXEC, mode));
}

/** Attributes of what a descriptor, O_PATH or not, refers to. */
export function statFile(fd: number): Statx {
  const status = new Statx();
  check('statx', statx(fd, NOTHING, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, Statx.MASK, status.bytes));
  return status;
}

/** The target of a link that is opened by O_PATH. */
export function readLink(fd: number): Uint8Array {
  const buffer = Buffer.allocUnsafe(4096);
  return buffer.subarray(0, check('readlinkat', readlinkat(fd, NOTHING, buffer, buffer.length)));
}

export function makeDirectory(directory: number, name: CName, mode: number): void {
  check('mkdirat', mkdirat(directory, name, mode));
}

/** `mode` with the file's type. `device`: as the kernel's dev_t in makedev()'s form. */
export function makeNode(directory: number, name: CName, mode: number, device: number): void {
  check('mknodat', mknodat(directory, name, mode, device));
}

export function makeLink(target: CName, directory: number, name: CName): void {
  check('symlinkat', symlinkat(target, directory, name));
}

/** Another name for the file that an O_PATH descriptor refers to. */
export function linkFile(fd: number, directory: number, name: CName): void {
  check('linkat', linkat(AT_FDCWD, ownPath(fd), directory, name, AT_SYMLINK_FOLLOW));
}

/** `flags`: RENAME_* of renameat2(2). */
export function renameFile(from: number, name: CName, to: number, newName: CName, flags: number): void {
  check('renameat2', renameat2(from, name, to, newName, flags));
}

/** `flags`: AT_REMOVEDIR for a directory. */
export function removeEntry(directory: number, name: CName, flags: number): void {
  check('unlinkat', unlinkat(directory, name, flags));
}

export function changeMode(fd: number, mode: number): void {
  check('chmod', chmod(ownPath(fd), mode));
}

/** 0xffffffff leaves an id as it is. */
export function changeOwner(fd: number, uid: number, gid: number): void {
  check('fchownat', fchownat(fd, NOTHING, uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

/** `times`: two struct timespec, access and modification, with UTIME_NOW and UTIME_OMIT. */
export function changeTimes(fd: number, times: BigInt64Array): void {
  check('utimensat', utimensat(AT_FDCWD, ownPath(fd), times, 0));
}

/** Bytes. The descriptor is open for writing. */
export function truncateFile(fd: number, size: number): void {
  check(
    'ftruncate',
    uninterrupted(() => ftruncate(fd, size)),
  );
}

/** struct statfs of the file system that a descriptor is on. */
export function statFileSystem(fd: number): DataView {
  const buffer = new DataView(new ArrayBuffer(STATFS_SIZE));
  check('fstatfs', fstatfs(fd, buffer));
  return buffer;
}

/** Entries of a directory (struct linux_dirent64) from its position on. Returns bytes; 0 at the end. */
export function readDirectory(fd: number, buffer: Uint8Array): number {
  return check('getdents64', getdents64(fd, buffer, buffer.length));
}

/** As lseek(2). */
export function seekFile(fd: number, offset: number | bigint, whence: number): number {
  return check('lseek', lseek(fd, offset, whence));
}

/** Returns when the file is on its disk: all of it, or without what only its times need. */
export function syncFile(fd: number, dataOnly: boolean): void {
  check(
    dataOnly ? 'fdatasync' : 'fsync',
    uninterrupted(() => (dataOnly ? fdatasync : fsync)(fd)),
  );
}

/** As syncFile(), for the whole file system that the file is on. */
export function syncFileSystem(fd: number): void {
  check('syncfs', syncfs(fd));
}

/** As fallocate(2): bytes. */
export function allocateFile(fd: number, mode: number, offset: number | bigint, length: number | bigint): void {
  check(
    'fallocate',
    uninterrupted(() => fallocate(fd, mode, offset, length)),
  );
}

/** Copies bytes from file to file in the kernel. Returns how many. */
export function copyRange(from: number, fromOffset: bigint, to: number, toOffset: bigint, length: number): number {
  const [source, target] = [BigInt64Array.of(fromOffset), BigInt64Array.of(toOffset)];
  return check(
    'copy_file_range',
    uninterrupted(() => copy_file_range(from, source, to, target, length, 0)),
  );
}

/** Value of an extended attribute: bytes read. With an empty buffer: its size. */
export function getXattr(fd: number, name: CName, value: Uint8Array): number {
  return check('getxattr', getxattr(ownPath(fd), name, value, value.length));
}

/** `flags`: XATTR_CREATE 1, XATTR_REPLACE 2. */
export function setXattr(fd: number, name: CName, value: Uint8Array, flags: number): void {
  check('setxattr', setxattr(ownPath(fd), name, value, value.length, flags));
}

/** Names of the extended attributes, each ended by a NUL. */
export function listXattrs(fd: number): Uint8Array {
  // XATTR_LIST_MAX
  const buffer = Buffer.allocUnsafe(65536);
  return buffer.subarray(0, check('listxattr', listxattr(ownPath(fd), buffer, buffer.length)));
}

export function removeXattr(fd: number, name: CName): void {
  check('removexattr', removexattr(ownPath(fd), name));
}

/**
 * Files that this thread makes get the modes that it asks for, whatever the process's umask is. Where the filter of a container
 * lets no thread have a umask of its own, the process's stays in force.
 */
export function clearUmask(): void {
  // The mask is part of what threads share by CLONE_FS.
  const result = unshare(CLONE_FS);
  if (result === -EPERM) return;
  check('unshare', result);
  umask(0);
}

/** Descriptors that this process may have. */
export function descriptorLimit(): number {
  const limit = new BigUint64Array(2);
  check('getrlimit', getrlimit(RLIMIT_NOFILE, limit));
  return Number(limit[0]);
}
