/** Connected pairs of Unix sockets: socketpair(2). */
import { check, libc } from './ffi.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;

const socketpair = libc('int socketpair(int domain, int type, int protocol, void *sv)');

/** Two descriptors of a byte stream both ways. They block. Throws OsError. */
export function socketPair(): [number, number] {
  const pair = new Int32Array(2);
  check('socketpair', socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
  return [pair[0]!, pair[1]!];
}
