/** Writing bytes to a descriptor from any thread, whole and at once. */
import { writeSync } from 'node:fs';
import { libc } from './ffi.ts';

const POLLOUT = 4;
/** Milliseconds between two looks at whether to go on. */
const LONGEST_WAIT = 100;

const poll = libc('int poll(void *fds, unsigned long nfds, int timeout)');

/** Bytes that can be written without waiting to what waitWritable() found ready: Linux's PIPE_BUF. */
export const WRITABLE_BYTES = 4096;

/** Waits at most so many milliseconds until a write would not wait; true: it would not (or would fail at once). */
export function waitWritable(fd: number, milliseconds: number): boolean {
  const pollfd = new DataView(new ArrayBuffer(8));
  pollfd.setInt32(0, fd, true);
  pollfd.setInt16(4, POLLOUT, true);
  // An interruption counts as not ready: callers ask again.
  return poll(pollfd, 1, milliseconds) > 0;
}

/**
 * Writes all bytes, and waits where the other side is slow: pipes and terminals may be non-blocking, because whoever
 * shares them made them so. Gives up when `goOn` says no, asked at least ten times a second. Throws Node's system errors (EPIPE).
 */
export function writeAll(fd: number, bytes: Uint8Array, goOn: () => boolean = () => true): void {
  let done = 0;
  while (done < bytes.length) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EINTR') continue;
      if (code !== 'EAGAIN') throw error;
      if (!goOn()) return;
      waitWritable(fd, LONGEST_WAIT);
    }
  }
}
