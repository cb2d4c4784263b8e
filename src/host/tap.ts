/** Tap devices of Linux: Ethernet frames by a descriptor (Documentation/networking/tuntap.rst). */
import { closeSync, constants, openSync } from 'node:fs';
import { closeDescriptor } from './descriptor.ts';
import { check, libc } from './ffi.ts';
import { ioctl } from './ioctl.ts';

const TUNSETIFF = 0x4004_54ca;
const TUNGETIFF = 0x8004_54d2;
const TUNSETOFFLOAD = 0x4004_54d0;
const TUNSETVNETHDRSZ = 0x4004_54d8;
const TUNSETQUEUE = 0x4004_54d9;
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCSIFADDR = 0x8916;
const SIOCSIFNETMASK = 0x891c;
const SIOCGIFMTU = 0x8921;
const SIOCSIFHWADDR = 0x8924;

const IFF_UP = 0x1;
const IFF_RUNNING = 0x40;
export const IFF_TAP = 0x2;
export const IFF_MULTI_QUEUE = 0x100;
const IFF_ATTACH_QUEUE = 0x200;
const IFF_DETACH_QUEUE = 0x400;
const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;

/** What the reader of a tap's frames can do itself. */
export const TUN_F_CSUM = 0x1;
export const TUN_F_TSO4 = 0x2;
export const TUN_F_TSO6 = 0x4;
export const TUN_F_UFO = 0x10;
/** Linux 6.2; they count together only. */
export const TUN_F_USO4 = 0x20;
export const TUN_F_USO6 = 0x40;

/** struct ifreq: the name, then a union. */
const IFREQ_SIZE = 40;
const NAME_SIZE = 16;
const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0x80000;
const ARPHRD_ETHER = 1;

const socket = libc('int socket(int domain, int type, int protocol)');

function ifreq(name: string): Buffer {
  const request = Buffer.alloc(IFREQ_SIZE);
  request.write(name, 0, NAME_SIZE - 1, 'latin1');
  return request;
}

function nameIn(request: Buffer): string {
  return request.toString('latin1', 0, request.indexOf(0));
}

/** Opens the tap of this name; `%d` in it stands for the first number that is free. It is made if it is not there. Throws OsError, and Node's errors. */
export function openTap(name: string, multiQueue = false): { readonly fd: number; readonly name: string } {
  const fd = openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
  try {
    const request = ifreq(name);
    request.writeUInt16LE(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (multiQueue ? IFF_MULTI_QUEUE : 0), NAME_SIZE);
    check('TUNSETIFF', ioctl(fd, TUNSETIFF, request));
    return { fd, name: nameIn(request) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Name and IFF_* flags of the tap that is open here. Throws OsError: it is none. */
export function tapOf(fd: number): { readonly name: string; readonly flags: number } {
  const request = ifreq('');
  check('TUNGETIFF', ioctl(fd, TUNGETIFF, request));
  return { name: nameIn(request), flags: request.readUInt16LE(NAME_SIZE) };
}

/** Frames have a virtio_net_hdr of `size` bytes before them. Throws OsError. */
export function setHeaderSize(fd: number, size: number): void {
  check('TUNSETVNETHDRSZ', ioctl(fd, TUNSETVNETHDRSZ, Int32Array.of(size)));
}

/** TUN_F_* that the reader of the frames can do. False: this kernel does not know one of them. */
export function setOffloads(fd: number, offloads: number): boolean {
  return ioctl(fd, TUNSETOFFLOAD, offloads) >= 0;
}

/** Gives a queue of several frames, or none. That of a tap that has been removed stays as it is. */
export function attachQueue(fd: number, attached: boolean): void {
  const request = ifreq('');
  request.writeUInt16LE(attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE, NAME_SIZE);
  ioctl(fd, TUNSETQUEUE, request);
}

/** What a network interface is given; what is left out stays. */
export interface InterfaceSettings {
  /** IPv4, four bytes each. */
  readonly address?: Uint8Array;
  readonly netmask?: Uint8Array;
  /** Six bytes. */
  readonly mac?: Uint8Array;
}

/** Sets an interface up and brings it up. Throws OsError. */
export function configureInterface(name: string, { address, netmask, mac }: InterfaceSettings): void {
  withSocket((fd) => {
    const set = (what: string, code: number, family: number, at: number, bytes: Uint8Array): void => {
      const request = ifreq(name);
      request.writeUInt16LE(family, NAME_SIZE);
      request.set(bytes, NAME_SIZE + at);
      check(what, ioctl(fd, code, request));
    };
    if (address !== undefined) set('SIOCSIFADDR', SIOCSIFADDR, AF_INET, 4, address);
    if (netmask !== undefined) set('SIOCSIFNETMASK', SIOCSIFNETMASK, AF_INET, 4, netmask);
    if (mac !== undefined) set('SIOCSIFHWADDR', SIOCSIFHWADDR, ARPHRD_ETHER, 2, mac);
    const request = ifreq(name);
    check('SIOCGIFFLAGS', ioctl(fd, SIOCGIFFLAGS, request));
    request.writeUInt16LE(request.readUInt16LE(NAME_SIZE) | IFF_UP | IFF_RUNNING, NAME_SIZE);
    check('SIOCSIFFLAGS', ioctl(fd, SIOCSIFFLAGS, request));
  });
}

/** Largest packet of an interface, bytes. Throws OsError. */
export function interfaceMtu(name: string): number {
  const request = ifreq(name);
  withSocket((fd) => check('SIOCGIFMTU', ioctl(fd, SIOCGIFMTU, request)));
  return request.readInt32LE(NAME_SIZE);
}

function withSocket(use: (fd: number) => void): void {
  const fd = check('socket', socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  try {
    use(fd);
  } finally {
    closeDescriptor(fd);
  }
}
