/** Messages, with descriptors, on Unix sockets that keep their borders: unix(7), SOCK_SEQPACKET. */
import { closeDescriptor } from './descriptor.ts';
import { EAGAIN, ECONNRESET, EMSGSIZE, EPIPE, OsError } from './errno.ts';
import { addressOf, check, libc, uninterrupted } from './ffi.ts';

const AF_UNIX = 1;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SOCK_SEQPACKET = 5;
const SOCK_CLOEXEC = 0x80000;
const MSG_TRUNC = 0x20;
const MSG_CTRUNC = 0x8;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;

/** struct msghdr: name, namelen, iov, iovlen, control, controllen, flags. struct iovec: base, len. Bytes. */
const MSGHDR_SIZE = 56;
const IOVEC_SIZE = 16;
/** struct cmsghdr: size_t len, int level, int type; then the data. Bytes. */
const CMSGHDR_SIZE = 16;
/** Descriptors in a message, at most. */
const MAX_FDS = 16;

const socketpair = libc('int socketpair(int domain, int type, int protocol, void *sv)');
const sendmsg = libc('int64_t sendmsg(int sockfd, const void *msg, int flags)');
const recvmsg = libc('int64_t recvmsg(int sockfd, void *msg, int flags)');

export interface ReceivedMessage {
  readonly bytes: Uint8Array;
  /** Descriptors that came with it, which are the receiver's now; closed at exec. */
  readonly fds: readonly number[];
}

/** Two sockets joined to each other, which block. Throws OsError. */
export function messageSocketPair(): [number, number] {
  const pair = new Int32Array(2);
  check('socketpair', socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
  return [pair[0] as number, pair[1] as number];
}

const align = (size: number): number => Math.ceil(size / 8) * 8;

/** A struct msghdr with one buffer and room for control data, which must stay alive as long as it is used. */
function messageHeader(data: ArrayBuffer, size: number, control: ArrayBuffer | undefined): DataView {
  const header = new DataView(new ArrayBuffer(MSGHDR_SIZE + IOVEC_SIZE));
  header.setBigUint64(16, addressOf(header.buffer) + BigInt(MSGHDR_SIZE), true);
  header.setBigUint64(24, 1n, true);
  if (control !== undefined) {
    header.setBigUint64(32, addressOf(control), true);
    header.setBigUint64(40, BigInt(control.byteLength), true);
  }
  header.setBigUint64(MSGHDR_SIZE, addressOf(data), true);
  header.setBigUint64(MSGHDR_SIZE + 8, BigInt(size), true);
  return header;
}

/**
 * Sends a message, with descriptors. Does not wait: a socket that is full is an error (EAGAIN), as is one whose other end is
 * closed (EPIPE). Throws OsError.
 */
export function sendMessage(fd: number, bytes: Uint8Array, fds: readonly number[] = []): void {
  if (fds.length > MAX_FDS) throw new RangeError(`${fds.length} descriptors are too many for a message`);
  const data = new ArrayBuffer(Math.max(bytes.length, 1));
  new Uint8Array(data).set(bytes);
  let control: ArrayBuffer | undefined;
  if (fds.length > 0) {
    control = new ArrayBuffer(align(CMSGHDR_SIZE + fds.length * 4));
    const view = new DataView(control);
    view.setBigUint64(0, BigInt(CMSGHDR_SIZE + fds.length * 4), true);
    view.setInt32(8, SOL_SOCKET, true);
    view.setInt32(12, SCM_RIGHTS, true);
    for (const [i, sent] of fds.entries()) view.setInt32(CMSGHDR_SIZE + i * 4, sent, true);
  }
  const header = messageHeader(data, bytes.length, control);
  check(
    'sendmsg',
    uninterrupted(() => sendmsg(fd, header, MSG_NOSIGNAL | MSG_DONTWAIT)),
  );
}

/**
 * The next message, of at most `capacity` bytes. `wait` blocks this thread until there is one; without it, undefined says that there
 * is none yet. Null: the other end is closed. Throws OsError (EMSGSIZE: a message was longer, and is lost).
 */
export function receiveMessage(
  fd: number,
  capacity: number,
  { wait }: { readonly wait: boolean },
): ReceivedMessage | undefined | null {
  const data = new ArrayBuffer(capacity);
  const control = new ArrayBuffer(align(CMSGHDR_SIZE + MAX_FDS * 4));
  const header = messageHeader(data, capacity, control);
  const result = uninterrupted(() => recvmsg(fd, header, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT)));
  if (result === -EAGAIN) return undefined;
  // The other end has gone with messages unread.
  if (result === -ECONNRESET || result === -EPIPE) return null;
  const length = check('recvmsg', result);
  const fds = receivedFds(control, Number(header.getBigUint64(40, true)));
  if ((header.getInt32(48, true) & (MSG_TRUNC | MSG_CTRUNC)) !== 0) {
    for (const received of fds) closeDescriptor(received);
    throw new OsError('recvmsg', EMSGSIZE);
  }
  // A message is never empty here: nothing is the end.
  return length === 0 ? null : { bytes: new Uint8Array(data, 0, length), fds };
}

function receivedFds(control: ArrayBuffer, length: number): number[] {
  const view = new DataView(control);
  const fds: number[] = [];
  for (let at = 0; at + CMSGHDR_SIZE <= length; ) {
    const size = Number(view.getBigUint64(at, true));
    if (size < CMSGHDR_SIZE || at + size > length) break;
    if (view.getInt32(at + 8, true) === SOL_SOCKET && view.getInt32(at + 12, true) === SCM_RIGHTS) {
      for (let i = at + CMSGHDR_SIZE; i + 4 <= at + size; i += 4) fds.push(view.getInt32(i, true));
    }
    at += align(size);
  }
  return fds;
}
