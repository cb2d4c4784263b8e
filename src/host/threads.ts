/** Kernel threads: their numbers and signals. Names are given by Worker's `name` option. */
import { check, libc } from './ffi.ts';

const gettid = libc('int gettid()');
const tgkill = libc('int tgkill(int tgid, int tid, int sig)');

/** Number of the calling thread. */
export function threadId(): number {
  return gettid();
}

/** Sends a signal to one thread of this process; 0 only asks whether it is there. Throws OsError (ESRCH: it has ended). */
export function signalThread(tid: number, signal: number): void {
  check('tgkill', tgkill(process.pid, tid, signal));
}
