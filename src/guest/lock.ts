/** A lock between processes on a file: flock(2), which the kernel lets go when its holders end, however they end. */
import { closeSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { EAGAIN } from '../host/errno.ts';
import { check, libc, uninterrupted } from '../host/ffi.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;
const RETRY_MS = 200;

const flock = libc('int flock(int fd, int operation)');

/** A held lock. A child that inherits `fd` holds it, too, so that an orphan keeps others out. */
export interface FileLock {
  readonly fd: number;
  release(): void;
}

/**
 * Takes the lock of `path`, which is made if needed; calls `wait` once if another process has it.
 * @throws OsError, or the signal's reason
 */
export async function lockFile(path: string, wait: () => void, signal: AbortSignal | undefined): Promise<FileLock> {
  const fd = openSync(path, 'a', 0o644);
  try {
    for (let waits = 0; ; waits++) {
      const result = uninterrupted(() => flock(fd, LOCK_EX | LOCK_NB));
      if (result !== -EAGAIN) {
        check('flock', result);
        return { fd, release: () => closeSync(fd) };
      }
      if (waits === 0) wait();
      await sleep(RETRY_MS, undefined, signal ? { signal } : {});
    }
  } catch (error) {
    closeSync(fd);
    signal?.throwIfAborted();
    throw error;
  }
}
