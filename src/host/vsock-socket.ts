/** Sockets of the kernel's between machines: vsock(7). */
import { bindSocket, listenOn } from './bind.ts';
import { check, libc, uninterrupted } from './ffi.ts';

const AF_VSOCK = 40;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const VMADDR_CID_ANY = 0xffff_ffff;
/** struct sockaddr_vm: family[2] reserved[2] port[4] cid[4] flags[1], and zeroes. */
const ADDRESS_SIZE = 16;
const PORT = 4;
const CID = 8;
/** Connections that wait to be accepted. */
const BACKLOG = 128;

const socket = libc('int socket(int domain, int type, int protocol)');
const accept4 = libc('int accept4(int fd, void *addr, void *addrlen, int flags)');

/** A socket, non-blocking, that waits for connections of all machines at a port. Throws OsError. */
export function listenVsock(port: number): number {
  const fd = check('socket', socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const address = Buffer.alloc(ADDRESS_SIZE);
  address.writeUInt16LE(AF_VSOCK, 0);
  address.writeUInt32LE(port, PORT);
  address.writeUInt32LE(VMADDR_CID_ANY, CID);
  return listenOn(bindSocket(fd, address), BACKLOG);
}

/** Takes a connection: its descriptor, non-blocking, and who it is from; the negated errno (EAGAIN: none waits). */
export function acceptVsock(fd: number): { readonly fd: number; readonly cid: number } | number {
  const address = Buffer.alloc(ADDRESS_SIZE);
  const size = Uint32Array.of(ADDRESS_SIZE);
  const result = uninterrupted(() => accept4(fd, address, size, SOCK_NONBLOCK | SOCK_CLOEXEC));
  return result < 0 ? result : { fd: result, cid: address.readUInt32LE(CID) };
}
