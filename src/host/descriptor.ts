import { readdirSync } from 'node:fs';
import { check, libc } from './ffi.ts';

const F_SETFD = 2;
const FD_CLOEXEC = 1;
const STDERR = 2;

const F_DUPFD_CLOEXEC = 1030;
/** Standard streams are below. */
const FIRST = 3;

const close = libc('int close(int fd)');
const fcntl = libc('int fcntl(int fd, int cmd, ...)', ['int']);

/**
 * Closes a descriptor that a system call other than open() gave. Node's closeSync() is for what Node has opened: in a worker
 * thread it warns of anything else. Throws OsError.
 */
export function closeDescriptor(fd: number): void {
  // Interrupted or not, the descriptor is gone (Linux, close(2)).
  check('close', close(fd));
}

/**
 * Lets no program that this process starts have its descriptors, but the standard ones and what it is given on purpose.
 * Node and Vivarium open theirs so; those that were inherited may be other.
 */
export function closeAllOnExec(): void {
  for (const fd of readdirSync('/proc/self/fd').map(Number)) {
    // One of them was the folder's, and is closed again.
    if (fd > STDERR) fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
}

/** Another descriptor of the same open file, of this number or above, closed at exec. Throws OsError. */
export function duplicateDescriptor(fd: number, least = FIRST): number {
  return check('fcntl', fcntl(fd, F_DUPFD_CLOEXEC, least));
}
