/** Unix datagram sockets (unix(7)), which Node does not have. They do not block. */
import { closeDescriptor } from './descriptor.ts';
import { EAGAIN } from './errno.ts';
import { check, libc, uninterrupted } from './ffi.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const MSG_TRUNC = 0x20;
/** struct sockaddr_un: u16 family, then 108 bytes of path. */
const ADDRESS_SIZE = 110;
const PATH_OFFSET = 2;

const socket = libc('int socket(int domain, int type, int protocol)');
const bind = libc('int bind(int fd, const void *addr, unsigned int addrlen)');
const recvfrom = libc('intptr_t recvfrom(int fd, void *buf, size_t len, int flags, void *addr, void *addrlen)');
const sendto = libc(
  'intptr_t sendto(int fd, const void *buf, size_t len, int flags, const void *addr, unsigned int addrlen)',
);

export interface Datagram {
  /** As many bytes as there was room for. Descriptors that came with them are gone. */
  readonly bytes: Buffer;
  /** Bytes that it had. */
  readonly length: number;
  /** Where an answer goes; undefined: the sender has no address. */
  readonly sender: Uint8Array | undefined;
}

/** The address of a socket in the file system. */
export function unixAddress(path: string): Uint8Array {
  const address = Buffer.alloc(ADDRESS_SIZE);
  address.writeUInt16LE(AF_UNIX, 0);
  address.write(path, PATH_OFFSET);
  return address;
}

export class DatagramSocket {
  readonly fd: number;

  /** Throws OsError. */
  constructor() {
    this.fd = check('socket', socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  }

  /** Gives it a name in the file system, of 107 bytes at most. Throws OsError. */
  bind(path: string): void {
    check('bind', bind(this.fd, unixAddress(path), ADDRESS_SIZE));
  }

  /** The next datagram, of which `room` bytes are wanted; undefined: there is none. Throws OsError. */
  receive(room: number): Datagram | undefined {
    const bytes = Buffer.alloc(room);
    const address = new Uint8Array(ADDRESS_SIZE);
    const addressLength = Uint32Array.of(ADDRESS_SIZE);
    const result = uninterrupted(() => recvfrom(this.fd, bytes, room, MSG_TRUNC, address, addressLength));
    if (result === -EAGAIN) return undefined;
    const length = check('recvfrom', result);
    const known = addressLength[0]!;
    return {
      bytes: bytes.subarray(0, Math.min(room, length)),
      length,
      sender: known > PATH_OFFSET ? address.slice(0, known) : undefined,
    };
  }

  /** Sends to a datagram's sender, or to a name. Throws OsError; EAGAIN where the other side has no room. */
  send(bytes: Uint8Array, to: Uint8Array): void {
    check(
      'sendto',
      uninterrupted(() => sendto(this.fd, bytes, bytes.length, 0, to, to.length)),
    );
  }

  close(): void {
    closeDescriptor(this.fd);
  }
}
