/** Connected pairs of Unix stream sockets: socketpair(2). */
import { check, libc } from './ffi.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;

const SOCK_NONBLOCK = 0x800;

const SHUT_RDWR = 2;

const shutdown = libc('int shutdown(int sockfd, int how)');
const socketpair = libc('int socketpair(int domain, int type, int protocol, void *sv)');

/** Two descriptors of a byte stream both ways. They block, unless `nonBlocking`. Throws OsError. */
export function socketPair({ nonBlocking = false } = {}): [number, number] {
  const pair = new Int32Array(2);
  const type = SOCK_STREAM | SOCK_CLOEXEC | (nonBlocking ? SOCK_NONBLOCK : 0);
  check('socketpair', socketpair(AF_UNIX, type, 0, pair));
  return [pair[0]!, pair[1]!];
}

/** Ends both directions of a socket: the other end reads the end. Throws OsError. */
export function shutDown(fd: number): void {
  check('shutdown', shutdown(fd, SHUT_RDWR));
}
