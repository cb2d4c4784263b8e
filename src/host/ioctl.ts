/** ioctl(2). */
import { libc } from './ffi.ts';

// Declared without its `...`: a variadic call is prepared anew each time, and on x86-64 and AArch64 Linux the third argument
// travels as that of an ordinary function does.
const withPointer = libc('int ioctl(int fd, unsigned long request, void *argument)');
const withValue = libc('int ioctl(int fd, unsigned long request, unsigned long argument)');

/** The call's result, or the negated errno. The argument is a number, or memory that the kernel reads or fills. */
export function ioctl(fd: number, request: number, argument: number | bigint | NodeJS.ArrayBufferView): number {
  return typeof argument === 'object' ? withPointer(fd, request, argument) : withValue(fd, request, argument);
}

/** A request, with its name for messages. */
export interface Request {
  readonly name: string;
  readonly number: number;
}

/** What a request reads or writes: a structure, or so many bytes. */
interface Argument {
  readonly size: number;
}

const NONE = 0;
const WRITE = 1;
const READ = 2;

/** The makers of requests of one type (_IOC: two bits of direction, fourteen of size, eight of type, eight of number). */
export function ioctlRequests(type: number) {
  const request = (name: string, direction: number, number: number, size: number): Request => ({
    name,
    number: ((direction << 30) | (size << 16) | (type << 8) | number) >>> 0,
  });
  return {
    io: (name: string, number: number): Request => request(name, NONE, number, 0),
    ior: (name: string, number: number, { size }: Argument): Request => request(name, READ, number, size),
    iow: (name: string, number: number, { size }: Argument): Request => request(name, WRITE, number, size),
    iowr: (name: string, number: number, { size }: Argument): Request => request(name, READ | WRITE, number, size),
  };
}
