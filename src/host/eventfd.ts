/** Events that threads and processes signal and wait for: eventfd(2). */
import { closeDescriptor } from './descriptor.ts';
import { EAGAIN } from './errno.ts';
import { check, libc, uninterrupted } from './ffi.ts';

const EFD_CLOEXEC = 0x80000;
const EFD_NONBLOCK = 0x800;

const eventfd = libc('int eventfd(unsigned int initval, int flags)');
const eventfd_write = libc('int eventfd_write(int fd, uint64_t value)');
const eventfd_read = libc('int eventfd_read(int fd, void *value)');
const poll = libc('int poll(void *fds, unsigned long nfds, int timeout)');

const POLLIN = 1;

/** Signals an eventfd by its descriptor. Signals that nobody has taken yet add up to one. Throws OsError. */
export function signalEvent(fd: number): void {
  const result = uninterrupted(() => eventfd_write(fd, 1));
  // A full counter is a signal not taken yet.
  if (result !== -EAGAIN) check('eventfd_write', result);
}

/** Low and high half of a counter that was read. */
const count = new Uint32Array(2);

/** Takes the signals of a non-blocking eventfd: how many there were since last time, 0 for none. Throws OsError. */
export function takeEvent(fd: number): number {
  const result = uninterrupted(() => eventfd_read(fd, count));
  if (result === -EAGAIN) return 0;
  check('eventfd_read', result);
  return (count[0] as number) + (count[1] as number) * 2 ** 32;
}

/** Has an eventfd signals that nobody took? They stay. Throws OsError. */
export function hasEvent(fd: number): boolean {
  // struct pollfd: fd, then events and revents of 16 bits each.
  const descriptor = new Int32Array([fd, POLLIN]);
  const ready = check(
    'poll',
    uninterrupted(() => poll(descriptor, 1, 0)),
  );
  return ready > 0;
}

/** An eventfd. Other threads of the process use it by its descriptor; other processes inherit or are sent it. */
export class EventFd {
  readonly fd: number;

  /** Throws OsError. */
  constructor() {
    this.fd = check('eventfd', eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  }

  signal(): void {
    signalEvent(this.fd);
  }

  /** Signals since the last call, 0 for none. */
  take(): number {
    return takeEvent(this.fd);
  }

  close(): void {
    closeDescriptor(this.fd);
  }
}
