/** Disks that whoever starts Vivarium has opened for it: /proc/self/fd/N as their path. */
import { fstatSync } from 'node:fs';
import { duplicateDescriptor } from '../host/descriptor.ts';
import { libc } from '../host/ffi.ts';
import { DiskError } from './error.ts';

const PREFIX = '/proc/self/fd/';
const F_GETFL = 3;
const O_ACCMODE = 3;
const O_RDONLY = 0;
const O_WRONLY = 1;

const fcntl = libc('int fcntl(int fd, int cmd, ...)', ['int']);

/**
 * A descriptor of its own for what such a path names; undefined for any other path. The two share their locks. That a descriptor
 * has come through exec says that it was meant for this process: Node has set FD_CLOEXEC on all of them since.
 * @throws DiskError: no descriptor, no disk, or not open as it is needed
 */
export function openInherited(path: string, writable: boolean): number | undefined {
  if (!path.startsWith(PREFIX)) return undefined;
  const name = path.slice(PREFIX.length);
  if (!/^\d{1,9}$/.test(name)) throw new DiskError(`${path}: ${name} is no number of a descriptor`);
  const fd = Number(name);
  const flags = fcntl(fd, F_GETFL, 0);
  if (flags < 0) throw new DiskError(`${path}: this process has not inherited descriptor ${fd}`);
  const status = fstatSync(fd);
  if (!status.isFile() && !status.isBlockDevice()) {
    throw new DiskError(`${path}: it is neither a regular file nor a block device`);
  }
  const mode = flags & O_ACCMODE;
  if (mode === O_WRONLY || (mode === O_RDONLY && writable)) {
    throw new DiskError(`${path}: it was not opened for ${writable ? 'writing' : 'reading'}`);
  }
  return duplicateDescriptor(fd);
}
