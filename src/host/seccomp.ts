/** Filters of system calls: seccomp(2), seccomp_unotify(2). */
import { EAGAIN, EINVAL, ENOENT, OsError } from './errno.ts';
import { addressOf, check, libc, uninterrupted } from './ffi.ts';
import { ioctl } from './ioctl.ts';

const SYS_seccomp = { x64: 317, arm64: 277 } as Readonly<Record<string, number>>;
const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_FILTER_FLAG_TSYNC = 1;
const SECCOMP_FILTER_FLAG_NEW_LISTENER = 8;
const SECCOMP_FILTER_FLAG_TSYNC_ESRCH = 16;
const PR_SET_NO_NEW_PRIVS = 38;
/** _IOWR('!', 0, struct seccomp_notif). */
const SECCOMP_IOCTL_NOTIF_RECV = 0xc050_2100;
/** struct seccomp_notif: u64 id, u32 pid, u32 flags, struct seccomp_data. Bytes. */
const NOTIF_SIZE = 80;
const NOTIF_PID = 8;
const NOTIF_NR = 16;
const NOTIF_ARGS = 32;
const INSTRUCTION_SIZE = 8;

// As ioctl(), and for the same reason, without its `...`.
const syscall = libc('long syscall(long number, unsigned long a, unsigned long b, void *c)');
const prctl = libc('int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)');

/** From now on no program that this thread or its children start gives them rights. Throws OsError. */
export function setNoNewPrivileges(): void {
  check('prctl', prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

/**
 * Filters the system calls of all threads of this process, for ever, by a BPF program. Returns the descriptor that tells
 * of calls answered by SECCOMP_RET_USER_NOTIF, or undefined when the kernel has none (before Linux 5.7): the filter is not installed
 * then. Throws OsError; no_new_privs must be set, or the caller be privileged.
 */
export function installFilterWithListener(program: Uint8Array): number | undefined {
  const flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH | SECCOMP_FILTER_FLAG_NEW_LISTENER;
  const result = install(program, flags);
  return result === -EINVAL ? undefined : check('seccomp', result);
}

/** The same without a listener. Throws OsError. */
export function installFilter(program: Uint8Array): void {
  const result = check('seccomp', install(program, SECCOMP_FILTER_FLAG_TSYNC));
  if (result > 0) throw new Error(`seccomp: thread ${result} has another filter`);
}

function install(program: Uint8Array, flags: number): number {
  const number = SYS_seccomp[process.arch];
  if (number === undefined) throw new Error(`seccomp is not known on ${process.arch}`);
  const code = new ArrayBuffer(program.length);
  new Uint8Array(code).set(program);
  // struct sock_fprog: u16 len, padding, pointer.
  const fprog = new DataView(new ArrayBuffer(16));
  fprog.setUint16(0, program.length / INSTRUCTION_SIZE, true);
  fprog.setBigUint64(8, addressOf(code), true);
  return syscall(number, SECCOMP_SET_MODE_FILTER, flags, fprog);
}

/** A call that a filter has stopped. */
export interface StoppedCall {
  /** Number of the system call. */
  readonly number: number;
  readonly args: readonly bigint[];
  /** The thread, as this process's namespace numbers it. */
  readonly tid: number;
}

/**
 * The next call from a listener; undefined when it has gone (its thread was killed). Waits where there was none: the listener is to be
 * readable. Throws OsError.
 */
export function receiveStoppedCall(listener: number): StoppedCall | undefined {
  const notif = new DataView(new ArrayBuffer(NOTIF_SIZE));
  const result = uninterrupted(() => ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, notif));
  if (result === -ENOENT || result === -EAGAIN) return undefined;
  if (result < 0) throw new OsError('ioctl', -result);
  return {
    number: notif.getInt32(NOTIF_NR, true),
    args: Array.from({ length: 6 }, (_, i) => notif.getBigUint64(NOTIF_ARGS + i * 8, true)),
    tid: notif.getUint32(NOTIF_PID, true),
  };
}
