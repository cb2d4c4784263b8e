/** Kernel threads: their numbers and signals. Names are given by Worker's `name` option. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { check, libc } from './ffi.ts';

/** What Linux counts processor time in, for programs (USER_HZ). */
const TICKS_PER_SECOND = 100;

const gettid = libc('int gettid()');
const tgkill = libc('int tgkill(int tgid, int tid, int sig)');

/** Gives this process a name, of 15 characters at most: lists of processes show it, and who is kept waiting by it. */
export function nameProcess(name: string): void {
  try {
    writeFileSync('/proc/self/comm', name);
  } catch {
    // Without /proc it keeps Node's.
  }
}

/** Number of the calling thread. */
export function threadId(): number {
  return gettid();
}

/** Numbers of this process's threads. */
export function threadIds(): number[] {
  return readdirSync('/proc/self/task').map(Number);
}

/** Processor time that a thread has taken, seconds. */
export interface ThreadTime {
  readonly userSeconds: number;
  readonly systemSeconds: number;
}

/** Of a thread of this process; undefined: it has ended. */
export function threadTime(tid: number): ThreadTime | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/self/task/${tid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // proc(5), fields 14 and 15; the second is a name in brackets that may hold anything.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { userSeconds: Number(fields[11]) / TICKS_PER_SECOND, systemSeconds: Number(fields[12]) / TICKS_PER_SECOND };
}

/** Sends a signal to one thread of this process; 0 only asks whether it is there. Throws OsError (ESRCH: it has ended). */
export function signalThread(tid: number, signal: number): void {
  check('tgkill', tgkill(process.pid, tid, signal));
}
