/**
 * The signal that gets a thread out of a system call which unblocks it (KVM_RUN with a signal mask of its own): SIGRTMIN.
 *
 * It is blocked in the thread and ignored in the process. Linux queues a blocked signal even if it is ignored, so that it
 * waits for the call that unblocks it: a kick is never lost between two calls. Where it is not blocked, because it
 * arrives at a thread number that was given away again, it is dropped. So no handler has to run, in no thread of Node's.
 */
import { ESRCH, OsError } from './errno.ts';
import { check, libc, uninterrupted } from './ffi.ts';
import { signalThread } from './threads.ts';

const SIG_BLOCK = 0;
const SIG_IGN = 1n;
/** Bytes of libc's sigset_t. */
const SIGSET_BYTES = 128;
/** Bytes of libc's struct sigaction, which begins with the handler. */
const SIGACTION_BYTES = 152;

const sigrtmin = libc('int __libc_current_sigrtmin()');
const sigaction = libc('int sigaction(int signum, const void *act, void *oldact)');
const pthread_sigmask = libc('int pthread_sigmask(int how, const void *set, void *oldset)');
const sigtimedwait = libc('int sigtimedwait(const void *set, void *info, const void *timeout)');

/** 0: the process-wide part has not been done. */
let signalNumber = 0;

/** Number of the signal, which is ignored from the first call on. Throws OsError. */
export function kickSignal(): number {
  if (signalNumber === 0) {
    const number = sigrtmin();
    const action = new BigInt64Array(SIGACTION_BYTES / 8);
    check('sigaction', sigaction(number, null, action));
    // Not done twice, by two threads: ignoring a signal drops those that wait, in all threads.
    if (action[0] !== SIG_IGN) {
      action.fill(0n);
      action[0] = SIG_IGN;
      check('sigaction', sigaction(number, action, null));
    }
    signalNumber = number;
  }
  return signalNumber;
}

function signalSet(): BigUint64Array {
  const set = new BigUint64Array(SIGSET_BYTES / 8);
  set[0] = 1n << BigInt(kickSignal() - 1);
  return set;
}

/** Blocks the signal in the calling thread. Returns the thread's other blocked signals, as the kernel's 64-bit set. */
export function blockKickSignal(): bigint {
  const set = signalSet();
  const old = new BigUint64Array(SIGSET_BYTES / 8);
  // It returns an error number, and not -1.
  const error = pthread_sigmask(SIG_BLOCK, set, old);
  if (error !== 0) throw new OsError('pthread_sigmask', Math.abs(error));
  return (old[0] as bigint) & ~(set[0] as bigint);
}

const NO_TIME = new BigInt64Array(2);
let waitSet: BigUint64Array | undefined;

/** Takes the kicks that wait for the calling thread. */
export function takeKicks(): void {
  waitSet ??= signalSet();
  const set = waitSet;
  while (uninterrupted(() => sigtimedwait(set, null, NO_TIME)) > 0);
}

/** Kicks a thread of this process. One that has ended is left alone. Throws OsError. */
export function kickThread(tid: number): void {
  try {
    signalThread(tid, kickSignal());
  } catch (error) {
    if ((error as { errno?: number }).errno !== ESRCH) throw error;
  }
}
