/** Names in a directory, as a client sends them: bytes, in whatever encoding. */
import { EINVAL, ENAMETOOLONG, OsError } from '../host/errno.ts';
import type { CName } from '../host/files.ts';

/** Bytes of a name, at most, without the NUL (NAME_MAX). */
export const NAME_MAX = 255;
/** Bytes of a link's target with the NUL (PATH_MAX). */
export const PATH_MAX = 4096;

const SLASH = 0x2f;
const DOT = 0x2e;

/** Is it `.` or `..`? */
export function isDots(name: Uint8Array): boolean {
  return (name.length === 1 || name.length === 2) && name.every((byte) => byte === DOT);
}

/**
 * A name for the kernel: one component, which is no way out of its directory. Throws OsError EINVAL for `.`, `..`, nothing, a
 * slash, or a NUL; ENAMETOOLONG.
 */
export function entryName(name: Uint8Array): CName {
  if (name.length > NAME_MAX) throw new OsError('name', ENAMETOOLONG);
  if (name.length === 0 || isDots(name) || name.includes(SLASH)) throw new OsError('name', EINVAL);
  return terminated(name);
}

/** The target of a link: any text. Only the guest follows it. Throws OsError. */
export function linkTarget(target: Uint8Array): CName {
  if (target.length >= PATH_MAX) throw new OsError('link', ENAMETOOLONG);
  if (target.length === 0) throw new OsError('link', EINVAL);
  return terminated(target);
}

/** With a NUL at the end. Throws OsError EINVAL when there is one before. */
export function terminated(text: Uint8Array): CName {
  if (text.includes(0)) throw new OsError('name', EINVAL);
  const name = Buffer.alloc(text.length + 1);
  name.set(text);
  return name;
}
