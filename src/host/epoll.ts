/** Waiting for descriptors: epoll(7). */
import { closeDescriptor } from './descriptor.ts';
import { EINTR } from './errno.ts';
import { check, libc } from './ffi.ts';

export const EPOLLIN = 0x1;
export const EPOLLPRI = 0x2;
export const EPOLLOUT = 0x4;
export const EPOLLERR = 0x8;
export const EPOLLHUP = 0x10;
export const EPOLLRDHUP = 0x2000;
/** Reports once, then waits for modify(). */
export const EPOLLONESHOT = 0x4000_0000;
export const EPOLLET = 0x8000_0000;

const EPOLL_CLOEXEC = 0x80000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
const POLLIN = 1;
/** struct epoll_event is packed on x86-64 alone: u32 events, then the u64 that is given back. */
const DATA_OFFSET = process.arch === 'x64' ? 4 : 8;
const EVENT_SIZE = DATA_OFFSET + 8;

const epoll_create1 = libc('int epoll_create1(int flags)');
const epoll_ctl = libc('int epoll_ctl(int epfd, int op, int fd, void *event)');
const ppoll = libc('int ppoll(void *fds, unsigned long nfds, void *timeout, void *sigmask)');
const epoll_wait = libc('int epoll_wait(int epfd, void *events, int maxevents, int timeout)');

export interface EpollEvent {
  /** What was given to add(). */
  readonly token: number;
  /** EPOLL* bits. */
  readonly events: number;
}

/** A set of descriptors to wait for. Any thread may change it, by its descriptor, while another waits. */
export class Epoll {
  readonly fd: number;
  readonly #view: DataView;

  /** Without a descriptor a new set is made. `capacity`: most events that one wait() gives. Throws OsError. */
  constructor(fd?: number, capacity = 16) {
    this.fd = fd ?? check('epoll_create1', epoll_create1(EPOLL_CLOEXEC));
    this.#view = new DataView(new ArrayBuffer(capacity * EVENT_SIZE));
  }

  /** `events`: EPOLL* bits; `token`: a non-negative integer that wait() gives back. Throws OsError. */
  add(fd: number, events: number, token: number): void {
    this.#control(EPOLL_CTL_ADD, fd, events, token);
  }

  modify(fd: number, events: number, token: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events, token);
  }

  remove(fd: number): void {
    this.#control(EPOLL_CTL_DEL, fd, 0, 0);
  }

  /** Blocks this thread until something happens or `timeout` milliseconds are over (-1: never). A signal ends it early, with nothing. */
  wait(timeout: number): EpollEvent[] {
    const view = this.#view;
    const result = epoll_wait(this.fd, view, view.byteLength / EVENT_SIZE, timeout);
    if (result === -EINTR) return [];
    const count = check('epoll_wait', result);
    // The usual answer to whoever waits awake.
    if (count === 0) return [];
    const events: EpollEvent[] = [];
    for (let at = 0; at < count * EVENT_SIZE; at += EVENT_SIZE) {
      const high = view.getUint32(at + DATA_OFFSET + 4, true);
      events.push({
        events: view.getUint32(at, true),
        token: high * 2 ** 32 + view.getUint32(at + DATA_OFFSET, true),
      });
    }
    return events;
  }

  /** Blocks this thread until wait() has something, or `milliseconds` (fractions count, less than 2^31) are over, or a signal comes. Throws OsError. */
  sleep(milliseconds: number): void {
    // struct pollfd: fd, then events and revents of 16 bits each; struct timespec: two of 64 bits.
    const seconds = Math.floor(milliseconds / 1000);
    const time = new Uint32Array([seconds, 0, (milliseconds - seconds * 1000) * 1e6, 0]);
    const result = ppoll(new Int32Array([this.fd, POLLIN]), 1, time, null);
    if (result !== -EINTR) check('ppoll', result);
  }

  close(): void {
    closeDescriptor(this.fd);
  }

  #control(operation: number, fd: number, events: number, token: number): void {
    const event = new DataView(new ArrayBuffer(EVENT_SIZE));
    event.setUint32(0, events, true);
    event.setBigUint64(DATA_OFFSET, BigInt(token), true);
    check('epoll_ctl', epoll_ctl(this.fd, operation, fd, event));
  }
}
