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
