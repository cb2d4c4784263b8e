/** Error numbers of Linux on x86-64 and aarch64 (include/uapi/asm-generic/errno.h): those that Vivarium meets or names. */

export const EPERM = 1;
export const ENOENT = 2;
export const ESRCH = 3;
export const EINTR = 4;
export const EIO = 5;
export const ENXIO = 6;
export const E2BIG = 7;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const EXDEV = 18;
export const ENODEV = 19;
export const ENOTDIR = 20;
export const EISDIR = 21;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const ENOTTY = 25;
export const ETXTBSY = 26;
export const EFBIG = 27;
export const ENOSPC = 28;
export const EROFS = 30;
export const EPIPE = 32;
export const ERANGE = 34;
export const ENAMETOOLONG = 36;
export const ENOSYS = 38;
export const ENOTEMPTY = 39;
export const ELOOP = 40;
export const ENODATA = 61;
export const EOVERFLOW = 75;
export const EBADFD = 77;
export const EMSGSIZE = 90;
export const EOPNOTSUPP = 95;
export const EADDRINUSE = 98;
export const EADDRNOTAVAIL = 99;
export const ENETUNREACH = 101;
export const ECONNRESET = 104;
export const ETIMEDOUT = 110;
export const ECONNREFUSED = 111;
export const EHOSTUNREACH = 113;
export const EINPROGRESS = 115;
export const ESTALE = 116;

const TEXTS: Readonly<Record<number, readonly [name: string, text: string]>> = {
  [EPERM]: ['EPERM', 'operation not permitted'],
  [ENOENT]: ['ENOENT', 'no such file or directory'],
  [ESRCH]: ['ESRCH', 'no such process'],
  [EINTR]: ['EINTR', 'interrupted system call'],
  [EIO]: ['EIO', 'input/output error'],
  [ENXIO]: ['ENXIO', 'no such device or address'],
  [E2BIG]: ['E2BIG', 'argument list too long'],
  [EBADF]: ['EBADF', 'bad file descriptor'],
  [EAGAIN]: ['EAGAIN', 'resource temporarily unavailable'],
  [ENOMEM]: ['ENOMEM', 'cannot allocate memory'],
  [EACCES]: ['EACCES', 'permission denied'],
  [EFAULT]: ['EFAULT', 'bad address'],
  [EBUSY]: ['EBUSY', 'device or resource busy'],
  [EEXIST]: ['EEXIST', 'file exists'],
  [EXDEV]: ['EXDEV', 'cross-device link'],
  [ENODEV]: ['ENODEV', 'no such device'],
  [ENOTDIR]: ['ENOTDIR', 'not a directory'],
  [EISDIR]: ['EISDIR', 'is a directory'],
  [EINVAL]: ['EINVAL', 'invalid argument'],
  [ENFILE]: ['ENFILE', 'too many open files in system'],
  [EMFILE]: ['EMFILE', 'too many open files'],
  [ENOTTY]: ['ENOTTY', 'inappropriate ioctl for device'],
  [ETXTBSY]: ['ETXTBSY', 'text file busy'],
  [EFBIG]: ['EFBIG', 'file too large'],
  [ENOSPC]: ['ENOSPC', 'no space left on device'],
  [EROFS]: ['EROFS', 'read-only file system'],
  [EPIPE]: ['EPIPE', 'broken pipe'],
  [ERANGE]: ['ERANGE', 'numerical result out of range'],
  [ENAMETOOLONG]: ['ENAMETOOLONG', 'file name too long'],
  [ENOSYS]: ['ENOSYS', 'function not implemented'],
  [ENOTEMPTY]: ['ENOTEMPTY', 'directory not empty'],
  [ELOOP]: ['ELOOP', 'too many levels of symbolic links'],
  [ENODATA]: ['ENODATA', 'no data available'],
  [EOVERFLOW]: ['EOVERFLOW', 'value too large for its type'],
  [EBADFD]: ['EBADFD', 'file descriptor in bad state'],
  [EMSGSIZE]: ['EMSGSIZE', 'message too long'],
  [EOPNOTSUPP]: ['EOPNOTSUPP', 'operation not supported'],
  [EADDRINUSE]: ['EADDRINUSE', 'address already in use'],
  [EADDRNOTAVAIL]: ['EADDRNOTAVAIL', 'cannot assign requested address'],
  [ENETUNREACH]: ['ENETUNREACH', 'network is unreachable'],
  [ECONNRESET]: ['ECONNRESET', 'connection reset by peer'],
  [ETIMEDOUT]: ['ETIMEDOUT', 'connection timed out'],
  [ECONNREFUSED]: ['ECONNREFUSED', 'connection refused'],
  [EHOSTUNREACH]: ['EHOSTUNREACH', 'no route to host'],
  [EINPROGRESS]: ['EINPROGRESS', 'operation now in progress'],
  [ESTALE]: ['ESTALE', 'stale file handle'],
};

/** Name of an error number: `EAGAIN`; `errno 76` where it has none here. */
export function errnoName(errno: number): string {
  return TEXTS[errno]?.[0] ?? `errno ${errno}`;
}

/** An error number in words, as strerror() gives them, in lower case. */
export function errnoText(errno: number): string {
  return TEXTS[errno]?.[1] ?? `error number ${errno}`;
}

/** A call of the operating system that failed. `code` and `syscall` are as in Node's own errors. */
export class OsError extends Error {
  override readonly name = 'OsError';
  readonly errno: number;
  /** The errno's name. */
  readonly code: string;
  readonly syscall: string;

  constructor(syscall: string, errno: number) {
    super(`${syscall}: ${errnoText(errno)}`);
    this.errno = errno;
    this.code = errnoName(errno);
    this.syscall = syscall;
  }
}
