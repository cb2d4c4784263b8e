import { constants, openSync } from 'node:fs';
import { closeDescriptor } from './descriptor.ts';
import { check, libc } from './ffi.ts';

const O_CLOEXEC = 0x80000;

const pipe2 = libc('int pipe2(void *fds, int flags)');

/**
 * A pipe that does not break when its reader is gone: what is written then waits for nobody. Returns the read end, which does not block, and the
 * writer's, which reads, too, as far as the kernel knows. Throws OsError, and what Node's files throw.
 */
export function unbreakablePipe(): [number, number] {
  const ends = new Int32Array(2);
  check('pipe2', pipe2(ends, constants.O_NONBLOCK | O_CLOEXEC));
  const [reader, writer] = ends as unknown as [number, number];
  try {
    return [reader, openSync(`/proc/self/fd/${writer}`, constants.O_RDWR)];
  } finally {
    closeDescriptor(writer);
  }
}
