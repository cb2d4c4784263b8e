import { check, libc } from './ffi.ts';

const close = libc('int close(int fd)');

/**
 * Closes a descriptor that a system call other than open() gave. Node's closeSync() is for what Node has opened: in a worker
 * thread it warns of anything else. Throws OsError.
 */
export function closeDescriptor(fd: number): void {
  // Interrupted or not, the descriptor is gone (Linux, close(2)).
  check('close', close(fd));
}
