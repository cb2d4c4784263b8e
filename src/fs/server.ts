/**
 * A directory of the host for one client. Both protocols are served from here: 9P2000.L (src/virtio/p9) and FUSE (src/virtio/fs).
 *
 * The client cannot get out of it: it names a node and one component, the node is a descriptor, and no link is ever followed; not
 * either when a descriptor is opened again.
 * What is mounted below the directory is not part of it. Links' targets are text for the client.
 *
 * Who may do what, the guest's kernel decides, for its own users; the host's kernel, for the server. A server with root's rights
 * makes files for the users that ask; any other makes them as itself.
 */
import { constants } from 'node:fs';
import { FileCredentials } from '../host/credentials.ts';
import { closeDescriptor } from '../host/descriptor.ts';
import {
  EEXIST,
  EINVAL,
  EISDIR,
  ELOOP,
  ENFILE,
  ENXIO,
  EOPNOTSUPP,
  EPERM,
  ERANGE,
  EROFS,
  OsError,
} from '../host/errno.ts';
import * as files from '../host/files.ts';
import { type FileTime, S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, type Statx } from '../host/statx.ts';
import { IdMap, KEEP_ID } from './ids.ts';
import { LockTable } from './locks.ts';
import { entryName, linkTarget, terminated } from './names.ts';
import type { Node } from './node.ts';
import { type Entry, type NodeLimits, NodeTable } from './nodes.ts';
import { O_ACCMODE, OpenFile } from './open-file.ts';

/** Files open at a time. */
const MAX_OPEN = 16384;
/** Flags of open(2) that a client may give; they are the same on all architectures. O_APPEND is the protocols' business. */
const PASSED_FLAGS = O_ACCMODE | constants.O_TRUNC | constants.O_SYNC | constants.O_DSYNC | constants.O_APPEND;
const PERMISSIONS = 0o7777;
const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o010;
/** Bytes that one request copies: the others wait meanwhile. */
const MAX_COPY = 2 ** 26;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const FALLOC_FLAGS = 0x1 | 0x2 | 0x8 | 0x10 | 0x20;
const UTIME_NOW = 0x3fff_ffffn;
const UTIME_OMIT = 0x3fff_fffen;
/** Attributes with other prefixes mean something to the host's kernel: access lists and capabilities of its users. */
const XATTR_PREFIXES = ['user.', 'trusted.'];
const XATTR_SIZE_MAX = 65536;
const XATTR_NAME_MAX = 255;

export interface ServerOptions extends NodeLimits {
  readonly readOnly: boolean;
  /** The guest's number for the user, and the group, that the server runs as. Then all that anybody makes is the server's. */
  readonly uid?: number | null;
  readonly gid?: number | null;
}

/** A user of the guest. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
}

/** Changes to attributes, in this order. Ids: KEEP_ID for no change. */
export interface Changes {
  readonly uid?: number;
  readonly gid?: number;
  readonly mode?: number;
  readonly size?: number;
  readonly atime?: FileTime | 'now';
  readonly mtime?: FileTime | 'now';
}

export class FileServer {
  readonly root: Node;
  readonly locks = new LockTable((node, flags) => this.#reopen(node, flags));
  readonly #nodes: NodeTable;
  readonly #readOnly: boolean;
  readonly #uids: IdMap;
  readonly #gids: IdMap;
  readonly #credentials = new FileCredentials();
  /** Do the guest's users make files of their own? */
  readonly #impersonates: boolean;
  #open = 0;

  /** `directory`: an O_PATH descriptor, which is the server's from now on. Belongs to this thread. Throws OsError. */
  constructor(directory: number, options: ServerOptions) {
    this.#readOnly = options.readOnly;
    this.#uids = new IdMap(process.geteuid?.() ?? 0, options.uid);
    this.#gids = new IdMap(process.getegid?.() ?? 0, options.gid);
    this.#impersonates = this.#credentials.able && (options.uid ?? options.gid ?? null) === null;
    this.#nodes = new NodeTable(options);
    this.root = this.#nodes.adopt(directory).node;
    files.clearUmask();
  }

  /** Nodes that are known. */
  get nodeCount(): number {
    return this.#nodes.size;
  }

  /** Files that are open. */
  get openCount(): number {
    return this.#open;
  }

  /** Another reference to a node. */
  retain(node: Node): Node {
    node.references++;
    return node;
  }

  /** Gives references back. The root's first one is the server's. */
  release(node: Node, count = 1): void {
    this.#nodes.release(node, count);
  }

  /** What a directory has under a name: a reference to it. Throws OsError, as everything here. */
  lookup(directory: Node, name: Uint8Array): Entry {
    const path = entryName(name);
    const entry = this.#entry(this.#nodes.making(() => files.openEntry(this.#fd(directory), path)));
    this.#nodes.found(entry.node, directory, name, entry.status.nlink);
    return entry;
  }

  attributes(node: Node): Statx {
    const status = files.statFile(this.#fd(node));
    status.ino = node.ino;
    return this.#shown(status);
  }

  setAttributes(node: Node, changes: Changes, file?: OpenFile): void {
    this.#requireWritable();
    const { uid = KEEP_ID, gid = KEEP_ID, mode, size, atime, mtime } = changes;
    // With no id to change it is still a change of the file (its ctime).
    if (changes.uid !== undefined || changes.gid !== undefined) {
      files.changeOwner(this.#fd(node), this.#uids.toHost(uid), this.#gids.toHost(gid));
    }
    if (mode !== undefined) {
      // A link's mode cannot be changed: the kernel would change its target's, or refuse.
      if (node.type === S_IFLNK) throw new OsError('chmod', EOPNOTSUPP);
      files.changeMode(this.#fd(node), mode & PERMISSIONS);
    }
    if (size !== undefined) this.#truncate(node, size, file);
    if (atime !== undefined || mtime !== undefined) {
      files.changeTimes(this.#fd(node), BigInt64Array.of(...timespec(atime), ...timespec(mtime)));
    }
  }

  #truncate(node: Node, size: number, file: OpenFile | undefined): void {
    if (file?.writable) return files.truncateFile(file.fd, size);
    requireOpenable(node, S_IFREG);
    const fd = this.#reopen(node, constants.O_WRONLY | constants.O_NONBLOCK);
    try {
      files.truncateFile(fd, size);
    } finally {
      closeDescriptor(fd);
    }
  }

  /** Opens a regular file or a directory. `flags`: open(2)'s. */
  open(node: Node, flags: number): OpenFile {
    if (node.type === S_IFDIR) {
      const listing = constants.O_RDONLY | constants.O_DIRECTORY;
      return this.#opened(node, () => this.#reopen(node, listing), listing);
    }
    requireOpenable(node, S_IFREG);
    const writable = (flags & O_ACCMODE) !== constants.O_RDONLY;
    if (writable || (flags & constants.O_TRUNC) !== 0) this.#requireWritable();
    return this.#opened(node, () => this.#reopen(node, flags & PASSED_FLAGS), flags);
  }

  /** Makes a regular file and opens it; opens one that is there, unless `flags` has O_EXCL. */
  create(
    directory: Node,
    name: Uint8Array,
    flags: number,
    mode: number,
    caller: Caller,
  ): Entry & { readonly file: OpenFile } {
    this.#requireWritable();
    const path = entryName(name);
    let fd: number;
    try {
      const at = this.#fd(directory);
      const make = (): number => files.createFile(at, path, flags & PASSED_FLAGS, mode & PERMISSIONS);
      fd = this.#nodes.making(() => this.#as(caller, make));
    } catch (error) {
      if (!(error instanceof OsError) || error.errno !== EEXIST || (flags & constants.O_EXCL) !== 0) throw error;
      const entry = this.lookup(directory, name);
      return { ...entry, file: this.#orRelease(entry, () => this.open(entry.node, flags)) };
    }
    const made = this.#made(fd, flags);
    this.#nodes.found(made.node, directory, name, made.status.nlink);
    return made;
  }

  /** Makes a regular file without a name and opens it. */
  createUnnamed(directory: Node, flags: number, mode: number, caller: Caller): Entry & { readonly file: OpenFile } {
    this.#requireWritable();
    const at = this.#fd(directory);
    const make = (): number => files.createUnnamed(at, flags & PASSED_FLAGS, mode & PERMISSIONS);
    const fd = this.#nodes.making(() => this.#as(caller, make));
    return this.#made(fd, flags);
  }

  /** The node of a file that was opened as it was made. */
  #made(fd: number, flags: number): Entry & { readonly file: OpenFile } {
    try {
      const entry = this.#entry(this.#nodes.making(() => files.reopen(fd, files.O_PATH)));
      return { ...entry, file: this.#orRelease(entry, () => this.#opened(entry.node, () => fd, flags)) };
    } catch (error) {
      closeDescriptor(fd);
      throw error;
    }
  }

  makeDirectory(directory: Node, name: Uint8Array, mode: number, caller: Caller): Entry {
    return this.#make(directory, name, caller, (at, path) => files.makeDirectory(at, path, mode & PERMISSIONS));
  }

  /** Makes a regular file, FIFO or socket. A device file would be the host's device: EPERM. */
  makeNode(directory: Node, name: Uint8Array, mode: number, caller: Caller): Entry {
    const type = mode & S_IFMT;
    if (type === S_IFBLK || type === S_IFCHR) throw new OsError('mknod', EPERM);
    if (type === S_IFDIR || type === S_IFLNK) throw new OsError('mknod', EINVAL);
    return this.#make(directory, name, caller, (at, path) => files.makeNode(at, path, type | (mode & PERMISSIONS), 0));
  }

  makeLink(directory: Node, name: Uint8Array, target: Uint8Array, caller: Caller): Entry {
    const text = linkTarget(target);
    return this.#make(directory, name, caller, (at, path) => files.makeLink(text, at, path));
  }

  #make(directory: Node, name: Uint8Array, caller: Caller, make: (at: number, path: files.CName) => void): Entry {
    this.#requireWritable();
    const path = entryName(name);
    const at = this.#fd(directory);
    this.#as(caller, () => make(at, path));
    return this.lookup(directory, name);
  }

  readLink(node: Node): Uint8Array {
    if (node.type !== S_IFLNK) throw new OsError('readlink', EINVAL);
    return files.readLink(this.#fd(node));
  }

  link(node: Node, directory: Node, name: Uint8Array): void {
    this.#requireWritable();
    files.linkFile(this.#fd(node), this.#fd(directory), entryName(name));
    this.#nodes.found(node, directory, name);
  }

  /** `flags`: RENAME_NOREPLACE, RENAME_EXCHANGE. */
  rename(from: Node, name: Uint8Array, to: Node, newName: Uint8Array, flags: number): void {
    this.#requireWritable();
    if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) !== 0) throw new OsError('renameat2', EINVAL);
    const [path, newPath] = [entryName(name), entryName(newName)];
    const change = (): void => files.renameFile(this.#fd(from), path, this.#fd(to), newPath, flags);
    if ((flags & RENAME_EXCHANGE) !== 0) change();
    else this.#nodes.replaced(to, newName, change);
    this.#nodes.exchanged(from, name, to, newName);
  }

  /** Removes a name: of a directory, or of anything else. */
  remove(directory: Node, name: Uint8Array, isDirectory: boolean): void {
    this.#requireWritable();
    const path = entryName(name);
    const flags = isDirectory ? files.AT_REMOVEDIR : 0;
    this.#nodes.replaced(directory, name, () => files.removeEntry(this.#fd(directory), path, flags));
  }

  /** struct statfs. */
  statFileSystem(node: Node): DataView {
    return files.statFileSystem(this.#fd(node));
  }

  syncFileSystem(): void {
    const fd = this.#reopen(this.root, constants.O_RDONLY);
    try {
      files.syncFileSystem(fd);
    } finally {
      closeDescriptor(fd);
    }
  }

  /** As fallocate(2). */
  allocate(file: OpenFile, mode: number, offset: bigint, length: bigint): void {
    if ((mode & ~FALLOC_FLAGS) !== 0) throw new OsError('fallocate', EOPNOTSUPP);
    files.allocateFile(file.fd, mode, offset, length);
  }

  /** Copies in the kernel from one file's bytes to another's; returns how many. Less than asked for is normal. */
  copyRange(from: OpenFile, fromOffset: bigint, to: OpenFile, toOffset: bigint, length: number): number {
    return files.copyRange(from.fd, fromOffset, to.fd, toOffset, Math.min(length, MAX_COPY));
  }

  /** Somebody without rights over the file has changed it: it gives nobody its owner's rights any more. */
  killPrivileges(node: Node): void {
    // Where the server is not privileged either, the kernel has seen to it.
    if (!this.#credentials.able) return;
    const { mode } = files.statFile(this.#fd(node));
    // Set-group-id without execution by the group is another thing: mandatory locking.
    const given = mode & (S_ISUID | ((mode & S_IXGRP) === 0 ? 0 : S_ISGID));
    if (node.type === S_IFREG && given !== 0) files.changeMode(this.#fd(node), mode & PERMISSIONS & ~given);
  }

  /** An extended attribute's value. */
  getXattr(node: Node, name: Uint8Array): Uint8Array {
    const path = xattrName(name);
    const size = files.getXattr(this.#fd(node), path, EMPTY);
    // It may have grown meanwhile: then this is ERANGE, which is a right answer, too.
    const value = Buffer.alloc(size);
    return size === 0 ? value : value.subarray(0, files.getXattr(this.#fd(node), path, value));
  }

  /** `flags`: XATTR_CREATE 1, XATTR_REPLACE 2. */
  setXattr(node: Node, name: Uint8Array, value: Uint8Array, flags: number): void {
    this.#requireWritable();
    if (value.length > XATTR_SIZE_MAX || (flags & ~3) !== 0) throw new OsError('setxattr', EINVAL);
    files.setXattr(this.#fd(node), xattrName(name), value, flags);
  }

  /** Names of the attributes that a client may see, each ended by a NUL. */
  listXattrs(node: Node): Uint8Array {
    const all = Buffer.from(files.listXattrs(this.#fd(node)))
      .toString('latin1')
      .split('\0');
    const shown = all.filter((name) => XATTR_PREFIXES.some((prefix) => name.startsWith(prefix)));
    return Buffer.from(shown.map((name) => `${name}\0`).join(''), 'latin1');
  }

  removeXattr(node: Node, name: Uint8Array): void {
    this.#requireWritable();
    files.removeXattr(this.#fd(node), xattrName(name));
  }

  /** Ends the use of a file. */
  close(file: OpenFile): void {
    const { node } = file;
    this.#open--;
    file.closed = true;
    node.opened.splice(node.opened.indexOf(file.fd), 1);
    closeDescriptor(file.fd);
    // Locks that nobody has released are nobody's any more.
    if (node.opened.length === 0) this.locks.drop(node);
    this.release(node);
  }

  /** Gives the root back. All other nodes and files have been given back before. */
  end(): void {
    this.release(this.root);
  }

  /** See NodeTable.descriptor() for how long it is good. */
  #fd(node: Node): number {
    return this.#nodes.descriptor(node);
  }

  /** A node's file, opened anew. `flags`: open(2)'s. */
  #reopen(node: Node, flags: number): number {
    return this.#nodes.making(() => files.reopen(this.#fd(node), flags));
  }

  #entry(fd: number): Entry {
    const entry = this.#nodes.adopt(fd);
    this.#shown(entry.status);
    return entry;
  }

  /** Attributes as the client sees them. */
  #shown(status: Statx): Statx {
    status.uid = this.#uids.toGuest(status.uid);
    status.gid = this.#gids.toGuest(status.gid);
    return status;
  }

  #opened(node: Node, open: () => number, flags: number): OpenFile {
    if (this.#open >= MAX_OPEN) throw new OsError('open', ENFILE);
    const file = new OpenFile(this.retain(node), this.#orRelease({ node }, open), flags);
    this.#open++;
    node.opened.push(file.fd);
    return file;
  }

  /** Gives the entry's reference back when `body` fails. */
  #orRelease<T>({ node }: { readonly node: Node }, body: () => T): T {
    try {
      return body();
    } catch (error) {
      this.release(node);
      throw error;
    }
  }

  #as<T>(caller: Caller, body: () => T): T {
    const { uid, gid } = caller;
    return !this.#impersonates || (uid === 0 && gid === 0) ? body() : this.#credentials.as(uid, gid, body);
  }

  #requireWritable(): void {
    if (this.#readOnly) throw new OsError('open', EROFS);
  }
}

const EMPTY = new Uint8Array(0);

/** Opening a device, a FIFO or a socket would reach beyond the directory, or wait for ever. */
function requireOpenable(node: Node, type: number): void {
  if (node.type === type) return;
  if (node.type === S_IFDIR) throw new OsError('open', EISDIR);
  throw new OsError('open', node.type === S_IFLNK ? ELOOP : ENXIO);
}

function xattrName(name: Uint8Array): files.CName {
  if (name.length === 0 || name.length > XATTR_NAME_MAX) throw new OsError('xattr', ERANGE);
  const text = Buffer.from(name).toString('latin1');
  if (!XATTR_PREFIXES.some((prefix) => text.startsWith(prefix))) throw new OsError('xattr', EOPNOTSUPP);
  return terminated(name);
}

function timespec(time: FileTime | 'now' | undefined): [bigint, bigint] {
  if (time === undefined) return [0n, UTIME_OMIT];
  if (time === 'now') return [0n, UTIME_NOW];
  // The kernel's two special values are no nanoseconds.
  if (time.nanoseconds >= 1e9) throw new OsError('utimensat', EINVAL);
  return [time.seconds, BigInt(time.nanoseconds)];
}
