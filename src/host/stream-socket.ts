/** Unix stream sockets by their descriptors: socketpair(2), accept(2). */
import { EAGAIN, ECONNABORTED } from './errno.ts';
import { check, libc, uninterrupted } from './ffi.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;

const SOCK_NONBLOCK = 0x800;

const accept4 = libc('int accept4(int sockfd, void *addr, void *addrlen, int flags)');
const socketpair = libc('int socketpair(int domain, int type, int protocol, void *sv)');

/** Two descriptors of a byte stream both ways. They block. Throws OsError. */
export function socketPair(): [number, number] {
  const pair = new Int32Array(2);
  check('socketpair', socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
  return [pair[0]!, pair[1]!];
}

/** The next connection of a listening socket that does not block, as a descriptor that does not either; undefined: there is none. Throws OsError. */
export function acceptConnection(fd: number): number | undefined {
  const result = uninterrupted(() => accept4(fd, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK));
  return result === -EAGAIN || result === -ECONNABORTED ? undefined : check('accept4', result);
}
