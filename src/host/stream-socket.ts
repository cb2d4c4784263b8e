/** Unix stream sockets: unix(7). */
import { bindSocket, listenOn } from './bind.ts';
import { closeDescriptor } from './descriptor.ts';
import { check, libc, uninterrupted } from './ffi.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;
const SOCK_NONBLOCK = 0x800;
const SHUT_RD = 0;
const SHUT_RDWR = 2;

/** struct sockaddr_un: u16 family, then the path and a NUL. Bytes. */
const ADDRESS_SIZE = 110;
/** Bytes of a socket's path, at most. */
export const MAX_SOCKET_PATH = 107;
/** Connections that wait to be accepted: as many as the kernel allows. */
const BACKLOG = 4096;

const socket = libc('int socket(int domain, int type, int protocol)');
const connect = libc('int connect(int fd, void *addr, uint32_t addrlen)');
const accept4 = libc('int accept4(int fd, void *addr, void *addrlen, int flags)');
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

/** Nothing more will be read: the other end's writes fail. */
export function endReceiving(fd: number): void {
  // ENOTCONN: the other end has gone meanwhile.
  shutdown(fd, SHUT_RD);
}

function addressOfPath(path: string): Buffer {
  const address = Buffer.alloc(ADDRESS_SIZE);
  address.writeUInt16LE(AF_UNIX, 0);
  if (address.write(path, 2) > MAX_SOCKET_PATH) throw new RangeError(`${path} is too long for a socket`);
  return address;
}

function openStream(): number {
  return check('socket', socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

/** A socket, non-blocking, that waits for connections at a path of at most MAX_SOCKET_PATH bytes, where nothing is yet. Throws OsError. */
export function listenAt(path: string): number {
  const address = addressOfPath(path);
  return listenOn(bindSocket(openStream(), address), BACKLOG);
}

/** Connects to a path, as for listenAt(), at once. The descriptor, non-blocking, or the negated errno (EAGAIN: too many wait there). Throws OsError: there is no socket to be had. */
export function connectTo(path: string): number {
  const address = addressOfPath(path);
  const fd = openStream();
  const result = uninterrupted(() => connect(fd, address, address.length));
  if (result === 0) return fd;
  closeDescriptor(fd);
  return result;
}

/** Takes a connection: its descriptor, non-blocking, or the negated errno (EAGAIN: none waits). */
export function acceptStream(fd: number): number {
  return uninterrupted(() => accept4(fd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC));
}
