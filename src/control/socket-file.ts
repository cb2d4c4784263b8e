/** The name of a Unix socket in the file system: made for its owner alone, and gone with the process. */
import { lstatSync, statSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { MAX_SOCKET_PATH } from '../host/stream-socket.ts';
import { ControlError } from './machine.ts';

/** Where the socket is to be: in a folder it gets a name with the process's number. Throws ControlError when it is there already. */
export function socketPath(path: string): string {
  let folder: boolean;
  try {
    folder = statSync(path).isDirectory();
  } catch {
    folder = false;
  }
  return folder ? join(path, `vivarium-${process.pid}.sock`) : path;
}

/** Throws ControlError: the `path` that the user gave with `option` cannot be a new socket, or has no room for a `suffix`. */
export function requireFree(path: string, option = '--socket', suffix = ''): void {
  if (path === '') throw new ControlError(400, `the path of the socket is empty: give one with ${option}`);
  const longest = MAX_SOCKET_PATH - suffix.length;
  if (Buffer.byteLength(path) > longest) {
    throw new ControlError(400, `${path}: the path of a socket has ${longest} bytes at most: give a shorter one`);
  }
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) {
    throw new ControlError(409, `${path}: it exists already: take it away, or give another path with ${option}`);
  }
}

/** Makes a socket's file by `bind`, for this user alone. Returns what takes it away; without that it goes with the process. */
export function makeSocketFile(path: string, bind: () => void): () => void {
  // Not a chmod() afterwards: others could connect before it.
  const mask = process.umask(0o177);
  try {
    bind();
  } finally {
    process.umask(mask);
  }
  const { dev, ino } = lstatSync(path);
  const remove = (): void => {
    process.off('exit', remove);
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found?.dev === dev && found.ino === ino) unlinkSync(path);
  };
  process.on('exit', remove);
  return remove;
}
