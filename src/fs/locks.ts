/**
 * Locks that a client's processes have on ranges of files. The host's kernel keeps them, so that they exclude the host's
 * processes and other guests, too: each owner has an open file description of its own for each file, and its locks are that one's.
 */
import { constants } from 'node:fs';
import { closeDescriptor } from '../host/descriptor.ts';
import { EACCES, EINTR, ENFILE, EPERM, EROFS, ETXTBSY, OsError } from '../host/errno.ts';
import { F_UNLCK, type RangeLock, setRangeLock, testRangeLock } from '../host/file-locks.ts';
import type { Node } from './node.ts';

/** Owners of locks, over all files. */
const MAX_OWNERS = 4096;
/** Requests that wait for a lock. */
const MAX_WAITERS = 1024;
/** What a holder outside the guest releases is noticed after so many milliseconds. */
const RETRY_MS = 20;
/**
 * A request does not wait longer, ms. A guest's process cannot be killed while it waits for virtio-fs, which has no way to say
 * that it does not want the lock any more (Linux 6.1).
 */
const LONGEST_WAIT_MS = 30_000;

export class LockTable {
  readonly #descriptors = new Map<Node, Map<string, number>>();
  readonly #open: (node: Node, flags: number) => number;
  #count = 0;

  /** `open` opens a node's file, by open(2)'s flags; it throws OsError. */
  constructor(open: (node: Node, flags: number) => number) {
    this.#open = open;
  }

  /** Sets or releases a lock. False: somebody else has it. Throws OsError. */
  set(node: Node, owner: string, lock: RangeLock): boolean {
    const known = this.#descriptors.get(node)?.get(owner);
    if (lock.type === F_UNLCK) {
      if (known === undefined) return true;
      if (lock.start === 0n && lock.length === 0n) this.drop(node, owner);
      else setRangeLock(known, lock);
      return true;
    }
    const fd = known ?? this.#add(node, owner);
    let set = false;
    try {
      set = setRangeLock(fd, lock);
    } finally {
      if (!set && known === undefined) this.drop(node, owner);
    }
    return set;
  }

  /** The lock of somebody else that is in the way of this one. Throws OsError. */
  test(node: Node, owner: string, lock: RangeLock): RangeLock | undefined {
    const known = this.#descriptors.get(node)?.get(owner);
    if (known !== undefined) return testRangeLock(known, lock);
    const fd = this.#openForLocks(node);
    try {
      return testRangeLock(fd, lock);
    } finally {
      closeDescriptor(fd);
    }
  }

  /** Releases all locks that an owner has on a file; without an owner, all that anybody has. */
  drop(node: Node, owner?: string): void {
    const owners = this.#descriptors.get(node);
    if (owners === undefined) return;
    for (const name of owner === undefined ? [...owners.keys()] : [owner]) {
      const fd = owners.get(name);
      if (fd === undefined) continue;
      owners.delete(name);
      this.#count--;
      closeDescriptor(fd);
    }
    if (owners.size === 0) this.#descriptors.delete(node);
  }

  #add(node: Node, owner: string): number {
    if (this.#count >= MAX_OWNERS) throw new OsError('lock', ENFILE);
    const fd = this.#openForLocks(node);
    let owners = this.#descriptors.get(node);
    if (owners === undefined) this.#descriptors.set(node, (owners = new Map()));
    owners.set(owner, fd);
    this.#count++;
    return fd;
  }

  /** A lock for writing needs a descriptor that could write; one for reading is content with less. */
  #openForLocks(node: Node): number {
    try {
      return this.#open(node, constants.O_RDWR | constants.O_NONBLOCK);
    } catch (error) {
      if (!(error instanceof OsError) || ![EACCES, EPERM, EROFS, ETXTBSY].includes(error.errno)) throw error;
      return this.#open(node, constants.O_RDONLY | constants.O_NONBLOCK);
    }
  }
}

/** What LockWaiters needs of an event loop. */
export interface Timers<T = unknown> {
  after(milliseconds: number, callback: () => void): T;
  cancel(timer: T): void;
}

/** A request that waits. */
export interface Waiter {
  /** Makes an attempt; true: it has the lock. Throws OsError. */
  readonly attempt: () => boolean;
  /** Called once with the errno, or 0. */
  readonly done: (errno: number) => void;
  /** ms of the monotonic clock. */
  readonly deadline: number;
}

/** Requests that wait until they get their lock. */
export class LockWaiters<T = unknown> {
  readonly #timers: Timers<T>;
  readonly #waiters = new Set<Waiter>();
  #timer: T | undefined;

  constructor(timers: Timers<T>) {
    this.#timers = timers;
  }

  /** Waits until `attempt` succeeds or fails. Throws OsError when too many wait. */
  add(attempt: Waiter['attempt'], done: Waiter['done']): Waiter {
    if (this.#waiters.size >= MAX_WAITERS) throw new OsError('lock', ENFILE);
    const waiter = { attempt, done, deadline: performance.now() + LONGEST_WAIT_MS };
    this.#waiters.add(waiter);
    this.#arm();
    return waiter;
  }

  /** It is not done, and not called back. False: it does not wait any more. */
  cancel(waiter: Waiter): boolean {
    return this.#waiters.delete(waiter);
  }

  /** A lock was released: maybe somebody has waited for it. */
  retry(): void {
    for (const waiter of [...this.#waiters]) {
      const errno = outcome(waiter);
      if (errno !== undefined && this.#waiters.delete(waiter)) waiter.done(errno);
    }
  }

  /** Nobody waits any more. */
  clear(): void {
    this.#waiters.clear();
    if (this.#timer !== undefined) this.#timers.cancel(this.#timer);
    this.#timer = undefined;
  }

  #arm(): void {
    if (this.#waiters.size === 0 || this.#timer !== undefined) return;
    this.#timer = this.#timers.after(RETRY_MS, () => {
      this.#timer = undefined;
      this.retry();
      this.#arm();
    });
  }
}

/** What an attempt comes to; undefined: it goes on waiting. */
function outcome({ attempt, deadline }: Waiter): number | undefined {
  try {
    if (attempt()) return 0;
  } catch (error) {
    if (error instanceof OsError) return error.errno;
    throw error;
  }
  return performance.now() > deadline ? EINTR : undefined;
}
