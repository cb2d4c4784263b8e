/** Sockets of the Internet families that never block: socket(7), ip(7), ipv6(7). Calls give the negated errno where it is a usual answer. */
import { bindSocket, listenOn } from './bind.ts';
import { closeDescriptor } from './descriptor.ts';
import { EINPROGRESS, EINTR } from './errno.ts';
import { addressOf, check, type FfiValue, libc, uninterrupted } from './ffi.ts';
import { IoVector, type MemoryRange } from './io-vector.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const IPPROTO_ICMP = 1;
const IPPROTO_TCP = 6;
const IPPROTO_IPV6 = 41;
const IPPROTO_ICMPV6 = 58;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_ERROR = 4;
const SO_KEEPALIVE = 9;
const SO_LINGER = 13;
const TCP_NODELAY = 1;
const IPV6_V6ONLY = 26;
const MSG_PEEK = 0x2;
const MSG_NOSIGNAL = 0x4000;
const SHUT_WR = 1;
/** Connections that wait to be accepted. */
const BACKLOG = 128;
/** sockaddr_in6, the larger of the two. */
const ADDRESS_SIZE = 28;
const IPV4_ADDRESS_SIZE = 16;
/** struct msghdr of 64-bit Linux: name, its length, iov, its count, control, its length, flags. */
const MSGHDR_SIZE = 56;

const socket = libc('int socket(int domain, int type, int protocol)');
const connect = libc('int connect(int fd, void *addr, uint32_t addrlen)');
const accept4 = libc('int accept4(int fd, void *addr, void *addrlen, int flags)');
const getsockopt = libc('int getsockopt(int fd, int level, int optname, void *optval, void *optlen)');
const setsockopt = libc('int setsockopt(int fd, int level, int optname, void *optval, uint32_t optlen)');
const sendmsg = libc('intptr_t sendmsg(int fd, void *msg, int flags)');
const sendto = libc('intptr_t sendto(int fd, void *buf, size_t len, int flags, void *dest_addr, uint32_t addrlen)');
const recvfrom = libc('intptr_t recvfrom(int fd, void *buf, size_t len, int flags, void *src_addr, void *addrlen)');
const recv = libc('intptr_t recv(int fd, void *buf, size_t len, int flags)');
const shutdownSocket = libc('int shutdown(int fd, int how)');

/** An end point: IPv4 where the address has 4 bytes, IPv6 where it has 16. */
export interface SocketAddress {
  /** Network order. */
  readonly address: Uint8Array;
  readonly port: number;
}

function encode({ address, port }: SocketAddress): Buffer {
  const bytes = Buffer.alloc(address.length === 4 ? IPV4_ADDRESS_SIZE : ADDRESS_SIZE);
  bytes.writeUInt16LE(address.length === 4 ? AF_INET : AF_INET6, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(address, address.length === 4 ? 4 : 8);
  return bytes;
}

function decode(bytes: Buffer): SocketAddress {
  const ipv4 = bytes.readUInt16LE(0) === AF_INET;
  const address = Uint8Array.from(ipv4 ? bytes.subarray(4, 8) : bytes.subarray(8, 24));
  return { address, port: bytes.readUInt16BE(2) };
}

function open(address: Uint8Array, type: number, protocol = 0): number {
  return socket(address.length === 4 ? AF_INET : AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
}

function setOption(fd: number, level: number, name: number, ...values: readonly number[]): number {
  return setsockopt(fd, level, name, Int32Array.from(values), 4 * values.length);
}

function connected(fd: number, target: SocketAddress): number {
  if (fd < 0) return fd;
  const address = encode(target);
  const result = connect(fd, address, address.length);
  if (result === 0) return fd;
  // EINPROGRESS and, interrupted, EINTR: it goes on by itself.
  if (result === -EINPROGRESS || result === -EINTR) return fd;
  closeDescriptor(fd);
  return result;
}

/** Starts a TCP connection. Its descriptor, or the negated errno; when it is writable, socketError() says how it went. */
export function connectTcp(target: SocketAddress): number {
  const fd = open(target.address, SOCK_STREAM);
  if (fd >= 0) tuneTcp(fd);
  return connected(fd, target);
}

/** A UDP socket that speaks with one peer only. Its descriptor, or the negated errno. */
export function connectUdp(target: SocketAddress): number {
  return connected(open(target.address, SOCK_DGRAM), target);
}

/** A socket for ICMP echo (icmp(7)): the kernel chooses the identifier. Its descriptor, or the negated errno (EACCES: not allowed to this user). */
export function connectPing(target: SocketAddress): number {
  const protocol = target.address.length === 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
  return connected(open(target.address, SOCK_DGRAM, protocol), { ...target, port: 0 });
}

/** What is small goes at once; a peer that vanished is noticed. */
function tuneTcp(fd: number): void {
  setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  setOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

function bound(fd: number, local: SocketAddress): number {
  if (local.address.length === 16) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  return bindSocket(fd, encode(local));
}

/** A socket that waits for TCP connections. Port 0: any. Throws OsError. */
export function listenTcp(local: SocketAddress): number {
  const fd = check('socket', open(local.address, SOCK_STREAM));
  // A port whose last connection is in TIME-WAIT is free. (With UDP the option would let two have one port.)
  setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  return listenOn(bound(fd, local), BACKLOG);
}

/** A UDP socket that anybody can send to. Port 0: any. Throws OsError. */
export function bindUdp(local: SocketAddress): number {
  return bound(check('socket', open(local.address, SOCK_DGRAM)), local);
}

/** Takes a connection: its descriptor and the peer; the negated errno (EAGAIN: none waits). */
export function acceptTcp(fd: number): { readonly fd: number; readonly peer: SocketAddress } | number {
  const address = Buffer.alloc(ADDRESS_SIZE);
  const result = accept4(fd, address, Uint32Array.of(ADDRESS_SIZE), SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (result < 0) return result;
  tuneTcp(result);
  return { fd: result, peer: decode(address) };
}

/** Takes the error that waits in a socket: an errno, 0 for none. */
export function socketError(fd: number): number {
  const value = new Int32Array(1);
  const result = getsockopt(fd, SOL_SOCKET, SO_ERROR, value, Uint32Array.of(4));
  return result < 0 ? -result : (value[0] as number);
}

const vector = new IoVector();
const message = Buffer.alloc(MSGHDR_SIZE);
let messageReady = false;

/** Sends what is in memory, in order, as one datagram where the socket has those. Bytes taken, or the negated errno. */
export function sendRanges(fd: number, ranges: readonly MemoryRange[]): number {
  if (!messageReady) {
    message.writeBigUInt64LE(addressOf(vector.bytes.buffer), 16);
    messageReady = true;
  }
  const count = vector.set(ranges);
  message.writeUInt32LE(count, 24);
  return uninterrupted(() => sendmsg(fd, message, MSG_NOSIGNAL));
}

/** Sends a buffer. Bytes taken, or the negated errno. */
export function sendBytes(fd: number, bytes: Uint8Array, target?: SocketAddress): number {
  const address: FfiValue = target === undefined ? null : encode(target);
  return uninterrupted(() =>
    sendto(fd, bytes, bytes.length, MSG_NOSIGNAL, address, address === null ? 0 : (address as Buffer).length),
  );
}

/** Receives into a buffer. Bytes, 0 at a stream's end, or the negated errno. */
export function receiveBytes(fd: number, into: Uint8Array): number {
  return uninterrupted(() => recv(fd, into, into.length, 0));
}

/** As receiveBytes(), and what is read stays there to be read again. */
export function peekBytes(fd: number, into: Uint8Array): number {
  return uninterrupted(() => recv(fd, into, into.length, MSG_PEEK));
}

/** Receives a datagram: its length and who sent it, or the negated errno. */
export function receiveFrom(
  fd: number,
  into: Uint8Array,
): { readonly length: number; readonly peer: SocketAddress } | number {
  const address = Buffer.alloc(ADDRESS_SIZE);
  const size = Uint32Array.of(ADDRESS_SIZE);
  const length = uninterrupted(() => recvfrom(fd, into, into.length, 0, address, size));
  return length < 0 ? length : { length, peer: decode(address) };
}

/** Ends the stream in the direction away from here. */
export function endSending(fd: number): void {
  // ENOTCONN: the peer has reset it meanwhile, which the next receive tells.
  shutdownSocket(fd, SHUT_WR);
}

/** Closes a TCP socket so that the peer gets a reset. */
export function resetSocket(fd: number): void {
  setOption(fd, SOL_SOCKET, SO_LINGER, 1, 0);
  closeDescriptor(fd);
}
