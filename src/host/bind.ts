/** Sockets that others find at an address: bind(2), listen(2). */
import { closeDescriptor } from './descriptor.ts';
import { check, libc } from './ffi.ts';

const bind = libc('int bind(int fd, void *addr, uint32_t addrlen)');
const listen = libc('int listen(int fd, int backlog)');

function orClosed(fd: number, call: string, result: number): number {
  try {
    check(call, result);
    return fd;
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
}

/** Gives a socket an address (struct sockaddr), and gives it back: closed where that fails. Throws OsError. */
export function bindSocket(fd: number, address: Buffer): number {
  return orClosed(fd, 'bind', bind(fd, address, address.length));
}

/** Lets so many connections wait at a socket, as bindSocket(). */
export function listenOn(fd: number, backlog: number): number {
  return orClosed(fd, 'listen', listen(fd, backlog));
}
