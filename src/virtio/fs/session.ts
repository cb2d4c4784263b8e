/** A client of the FUSE protocol as virtio-fs carries it (virtio 1.2, 5.11): its requests, served on a directory. */
import { sliceRanges } from '../../disk/iovec.ts';
import type { Exchange, FileSession } from '../../fs/exchange.ts';
import { LockWaiters, type Timers, type Waiter } from '../../fs/locks.ts';
import { isDots } from '../../fs/names.ts';
import type { Node } from '../../fs/node.ts';
import type { Entry } from '../../fs/nodes.ts';
import type { OpenFile } from '../../fs/open-file.ts';
import type { Caller, FileServer } from '../../fs/server.ts';
import type { CachePolicy } from '../../fs/shared-directory.ts';
import { WireReader, WireWriter } from '../../fs/wire.ts';
import { E2BIG, EAGAIN, EBADF, EINTR, EINVAL, ENOSYS, ERANGE, OsError } from '../../host/errno.ts';
import { F_UNLCK } from '../../host/file-locks.ts';
import { seekFile } from '../../host/files.ts';
import { S_IFDIR } from '../../host/statx.ts';
import * as fuse from './protocol.ts';
import {
  readChanges,
  readLock,
  type Validity,
  writeAttributes,
  writeEntry,
  writeFileSystem,
  writeLock,
} from './structs.ts';
import { Handles, NodeIds } from './tables.ts';

/** Bytes of a file in one request: 256 pages. */
const MAX_WRITE = 2 ** 20;
/** A request without a file's bytes; the longest sets an extended attribute. */
const MAX_REQUEST = 2 ** 17;
/** An answer without a file's bytes: a piece of a directory, or of attributes' names. */
const MAX_ANSWER = 2 ** 17;
const O_APPEND = 0o2000;
const O_CREAT = 0o100;
const O_EXCL = 0o200;

/** What is always agreed on, if the client has it. */
const FEATURES =
  fuse.FUSE_ASYNC_READ |
  fuse.FUSE_POSIX_LOCKS |
  fuse.FUSE_ATOMIC_O_TRUNC |
  fuse.FUSE_BIG_WRITES |
  fuse.FUSE_FLOCK_LOCKS |
  fuse.FUSE_AUTO_INVAL_DATA |
  fuse.FUSE_DO_READDIRPLUS |
  fuse.FUSE_READDIRPLUS_AUTO |
  fuse.FUSE_ASYNC_DIO |
  fuse.FUSE_PARALLEL_DIROPS |
  fuse.FUSE_MAX_PAGES |
  fuse.FUSE_HANDLE_KILLPRIV_V2;

/** How long names and attributes are valid. */
const SECONDS: Readonly<Record<CachePolicy, bigint>> = { never: 0n, auto: 1n, always: 86400n };

/** A request, and where its answer goes. */
interface Request {
  readonly exchange: Exchange;
  readonly unique: bigint;
  readonly id: number;
  readonly caller: Caller;
  readonly reply: (written: number) => void;
  /** Bytes of the answer that are in their place already, behind what the writer holds. */
  payload: number;
  /** Is it answered later, or never? */
  waits: boolean;
}

type Handler = (message: WireReader, answer: WireWriter, request: Request) => void;

export class FuseSession implements FileSession {
  readonly #server: FileServer;
  readonly #cache: CachePolicy;
  readonly #valid: Validity;
  readonly #ids: NodeIds;
  readonly #handles: Handles;
  readonly #waiters: LockWaiters;
  /** Requests that wait, by their unique number. */
  readonly #waiting = new Map<bigint, { readonly request: Request; readonly waiter: Waiter }>();
  readonly #request = Buffer.alloc(MAX_REQUEST);
  readonly #answer = Buffer.alloc(MAX_ANSWER);

  constructor(server: FileServer, cache: CachePolicy, timers: Timers) {
    this.#server = server;
    this.#cache = cache;
    this.#valid = { entry: SECONDS[cache], attributes: SECONDS[cache] };
    this.#ids = new NodeIds(server);
    this.#handles = new Handles(server);
    this.#waiters = new LockWaiters(timers);
  }

  reset(): void {
    this.#waiters.clear();
    this.#waiting.clear();
    this.#handles.clear();
    this.#ids.clear();
  }

  serve(exchange: Exchange, reply: (written: number) => void): void {
    const bytes = this.#request;
    const start = fuse.IN_HEADER_SIZE + fuse.WRITE_IN_SIZE;
    const got = exchange.read(bytes.subarray(0, start));
    if (got < fuse.IN_HEADER_SIZE) return reply(0);
    const header = new WireReader(bytes, 0);
    const [length, opcode, unique] = [header.u32(), header.u32(), header.u64()];
    const id = Number(header.u64());
    const caller = { uid: header.u32(), gid: header.u32() };
    const request = { exchange, unique, id, caller, reply, payload: 0, waits: false };
    const answer = this.#writer();
    try {
      const size = opcode === fuse.FUSE_WRITE ? Math.min(length, start) : length;
      if (length < fuse.IN_HEADER_SIZE || length > exchange.readableLength) throw new OsError('message', EINVAL);
      if (size > MAX_REQUEST) throw new OsError('message', E2BIG);
      if (size > got) exchange.read(bytes.subarray(got, size), got);
      const handler = this.#handlers[opcode];
      if (handler === undefined) throw new OsError('message', ENOSYS);
      handler(new WireReader(bytes.subarray(0, size), fuse.IN_HEADER_SIZE), answer, request);
      if (!request.waits) finish(request, answer, 0);
    } catch (error) {
      if (!(error instanceof OsError)) throw error;
      this.#fail(request, error.errno);
    }
  }

  #writer(): WireWriter {
    return new WireWriter(this.#answer).moveTo(fuse.OUT_HEADER_SIZE);
  }

  #fail(request: Request, errno: number): void {
    finish({ ...request, payload: 0 }, this.#writer(), errno);
  }

  readonly #handlers: Readonly<Record<number, Handler>> = {
    [fuse.FUSE_INIT]: (message, answer) => this.#init(message, answer),
    [fuse.FUSE_DESTROY]: () => this.#restart(),
    [fuse.FUSE_LOOKUP]: (message, answer, { id }) => {
      this.#tell(answer, this.#server.lookup(this.#ids.get(id), message.text()));
    },
    [fuse.FUSE_FORGET]: (message, _, request) => {
      this.#ids.forget(request.id, message.u64());
      silent(request);
    },
    [fuse.FUSE_BATCH_FORGET]: (message, _, request) => {
      const count = message.u32();
      message.skip(4);
      for (let i = 0; i < count && message.left >= fuse.FORGET_ONE_SIZE; i++) {
        this.#ids.forget(Number(message.u64()), message.u64());
      }
      silent(request);
    },
    [fuse.FUSE_INTERRUPT]: (message, _, request) => {
      const waiting = this.#waiting.get(message.u64());
      silent(request);
      if (waiting === undefined || !this.#waiters.cancel(waiting.waiter)) return;
      this.#waiting.delete(waiting.request.unique);
      this.#fail(waiting.request, EINTR);
    },
    [fuse.FUSE_GETATTR]: (message, answer, { id }) => {
      const flags = message.u32();
      message.skip(4);
      const handle = message.u64();
      // The handle's file, which the id's may have been forgotten for.
      const node = (flags & fuse.FUSE_GETATTR_FH) !== 0 ? this.#handles.get(handle).node : this.#ids.get(id);
      this.#attributes(answer, node);
    },
    [fuse.FUSE_SETATTR]: (message, answer, { id }) => {
      const node = this.#ids.get(id);
      const { changes, handle, killPrivileges } = readChanges(message);
      const file = handle === undefined ? undefined : this.#handles.get(handle);
      if (file !== undefined && file.node !== node) throw new OsError('setattr', EINVAL);
      this.#server.setAttributes(node, changes, file);
      if (killPrivileges) this.#server.killPrivileges(node);
      this.#attributes(answer, node);
    },
    [fuse.FUSE_READLINK]: (_, answer, { id }) => {
      answer.bytes(this.#server.readLink(this.#ids.get(id)));
    },
    [fuse.FUSE_SYMLINK]: (message, answer, { id, caller }) => {
      const [name, target] = [message.text(), message.text()];
      this.#tell(answer, this.#server.makeLink(this.#ids.get(id), name, target, caller));
    },
    [fuse.FUSE_MKNOD]: (message, answer, { id, caller }) => {
      const mode = message.u32();
      // rdev, umask
      message.skip(12);
      this.#tell(answer, this.#server.makeNode(this.#ids.get(id), message.text(), mode, caller));
    },
    [fuse.FUSE_MKDIR]: (message, answer, { id, caller }) => {
      const mode = message.u32();
      message.skip(4);
      this.#tell(answer, this.#server.makeDirectory(this.#ids.get(id), message.text(), mode, caller));
    },
    [fuse.FUSE_UNLINK]: (message, _, { id }) => this.#server.remove(this.#ids.get(id), message.text(), false),
    [fuse.FUSE_RMDIR]: (message, _, { id }) => this.#server.remove(this.#ids.get(id), message.text(), true),
    [fuse.FUSE_RENAME]: (message, _, { id }) => this.#rename(id, Number(message.u64()), 0, message),
    [fuse.FUSE_RENAME2]: (message, _, { id }) => {
      const to = Number(message.u64());
      const flags = message.u32();
      message.skip(4);
      this.#rename(id, to, flags, message);
    },
    [fuse.FUSE_LINK]: (message, answer, { id }) => {
      const node = this.#ids.get(Number(message.u64()));
      this.#server.link(node, this.#ids.get(id), message.text());
      this.#tell(answer, { node: this.#server.retain(node), status: this.#server.attributes(node) });
    },
    [fuse.FUSE_OPEN]: (message, answer, { id }) => {
      const [flags, openFlags] = [message.u32(), message.u32()];
      const node = this.#ids.get(id);
      if (node.type === S_IFDIR) throw new OsError('open', EINVAL);
      this.#opened(answer, this.#server.open(node, flags & ~O_APPEND), openFlags);
    },
    [fuse.FUSE_OPENDIR]: (message, answer, { id }) => {
      const flags = message.u32();
      const node = this.#ids.get(id);
      if (node.type !== S_IFDIR) throw new OsError('open', EINVAL);
      this.#opened(answer, this.#server.open(node, flags), 0);
    },
    [fuse.FUSE_CREATE]: (message, answer, request) => this.#create(message, answer, request),
    [fuse.FUSE_TMPFILE]: (message, answer, { id, caller }) => {
      const [flags, mode] = [message.u32(), message.u32()];
      const directory = this.#ids.get(id);
      const made = this.#server.createUnnamed(directory, flags & ~(O_APPEND | O_CREAT | O_EXCL), mode, caller);
      this.#tell(answer, made);
      this.#opened(answer, made.file, 0);
    },
    [fuse.FUSE_RELEASE]: (message) => this.#release(message),
    [fuse.FUSE_RELEASEDIR]: (message) => this.#release(message),
    [fuse.FUSE_FLUSH]: (message) => {
      const file = this.#handles.get(message.u64());
      message.skip(8);
      this.#unlock(file, message.u64());
    },
    [fuse.FUSE_READ]: (message, _, request) => {
      const { exchange } = request;
      const file = this.#handles.get(message.u64());
      const offset = message.size();
      const count = room(message.u32(), exchange);
      request.payload = file.read(sliceRanges(exchange.writable, fuse.OUT_HEADER_SIZE, count), offset);
    },
    [fuse.FUSE_WRITE]: (message, answer, { exchange }) => {
      const file = this.#handles.get(message.u64());
      const offset = message.size();
      const [count, writeFlags] = [message.u32(), message.u32()];
      // lock_owner
      message.skip(8);
      const flags = message.u32();
      const start = fuse.IN_HEADER_SIZE + fuse.WRITE_IN_SIZE;
      if (count > exchange.readableLength - start) throw new OsError('message', EINVAL);
      // Pages of a cache belong where they are, whoever wrote them.
      const append = (flags & O_APPEND) !== 0 && (writeFlags & fuse.FUSE_WRITE_CACHE) === 0;
      const written = file.write(sliceRanges(exchange.readable, start, count), offset, append);
      if ((writeFlags & fuse.FUSE_WRITE_KILL_SUIDGID) !== 0) this.#server.killPrivileges(file.node);
      answer.u32(written).u32(0);
    },
    [fuse.FUSE_STATFS]: (_, answer, { id }) => {
      writeFileSystem(answer, this.#server.statFileSystem(this.#ids.get(id)));
    },
    [fuse.FUSE_FSYNC]: (message) => this.#sync(message),
    [fuse.FUSE_FSYNCDIR]: (message) => this.#sync(message),
    [fuse.FUSE_SYNCFS]: () => this.#server.syncFileSystem(),
    [fuse.FUSE_GETXATTR]: (message, answer, { id }) => {
      const size = message.u32();
      message.skip(4);
      writeSized(answer, this.#server.getXattr(this.#ids.get(id), message.text()), size);
    },
    [fuse.FUSE_LISTXATTR]: (message, answer, { id }) => {
      writeSized(answer, this.#server.listXattrs(this.#ids.get(id)), message.u32());
    },
    [fuse.FUSE_SETXATTR]: (message, _, { id }) => {
      const [size, flags] = [message.u32(), message.u32()];
      const name = message.text();
      this.#server.setXattr(this.#ids.get(id), name, message.bytes(size), flags);
    },
    [fuse.FUSE_REMOVEXATTR]: (message, _, { id }) => {
      this.#server.removeXattr(this.#ids.get(id), message.text());
    },
    [fuse.FUSE_READDIR]: (message, answer, request) => this.#readDirectory(message, answer, request, false),
    [fuse.FUSE_READDIRPLUS]: (message, answer, request) => this.#readDirectory(message, answer, request, true),
    [fuse.FUSE_GETLK]: (message, answer) => {
      const { node } = this.#handles.get(message.u64());
      const { owner, lock } = readLock(message);
      writeLock(answer, this.#server.locks.test(node, owner, lock));
    },
    [fuse.FUSE_SETLK]: (message, _, request) => this.#lock(message, request, false),
    [fuse.FUSE_SETLKW]: (message, _, request) => this.#lock(message, request, true),
    [fuse.FUSE_FALLOCATE]: (message) => {
      const file = this.#handles.get(message.u64());
      const [offset, length] = [message.i64(), message.i64()];
      this.#server.allocate(file, message.u32(), offset, length);
    },
    [fuse.FUSE_LSEEK]: (message, answer) => {
      const file = this.#handles.get(message.u64());
      const offset = message.i64();
      answer.u64(BigInt(seekFile(file.fd, offset, message.u32())));
    },
    [fuse.FUSE_COPY_FILE_RANGE]: (message, answer) => {
      const from = this.#handles.get(message.u64());
      const fromOffset = message.i64();
      // nodeid_out
      message.skip(8);
      const to = this.#handles.get(message.u64());
      const toOffset = message.i64();
      const length = Number(message.u64());
      answer.u32(this.#server.copyRange(from, fromOffset, to, toOffset, length)).u32(0);
    },
  };

  #init(message: WireReader, answer: WireWriter): void {
    const [major, minor] = [message.u32(), message.u32()];
    // max_readahead
    message.skip(4);
    const offered = message.u32();
    // A newer client speaks the older version after this answer; there is none older that has virtio-fs.
    if (major < fuse.FUSE_KERNEL_VERSION || (major === fuse.FUSE_KERNEL_VERSION && minor < fuse.MIN_MINOR_VERSION)) {
      throw new OsError('init', EINVAL);
    }
    this.#restart();
    const features = FEATURES | (this.#cache === 'always' ? fuse.FUSE_CACHE_SYMLINKS : 0);
    answer.u32(fuse.FUSE_KERNEL_VERSION).u32(fuse.FUSE_KERNEL_MINOR_VERSION);
    // The client takes the lesser one of this and its own, which the guest may have raised since it asked.
    answer.u32(MAX_WRITE).u32((offered & features) >>> 0);
    // max_background, congestion_threshold; max_write, time_gran, max_pages, map_alignment.
    answer
      .u16(0)
      .u16(0)
      .u32(MAX_WRITE)
      .u32(1)
      .u16(MAX_WRITE / 4096)
      .u16(0)
      .zeroes(32);
  }

  /** The client begins anew, or ends. */
  #restart(): void {
    for (const { request } of this.#waiting.values()) this.#fail(request, EINTR);
    this.reset();
  }

  #tell(answer: WireWriter, entry: Entry): void {
    writeEntry(answer, this.#ids.tell(entry), entry.status, this.#valid);
  }

  #attributes(answer: WireWriter, node: Node): void {
    answer.u64(this.#valid.attributes).u32(0).u32(0);
    writeAttributes(answer, this.#server.attributes(node));
  }

  #rename(from: number, to: number, flags: number, message: WireReader): void {
    const [name, newName] = [message.text(), message.text()];
    this.#server.rename(this.#ids.get(from), name, this.#ids.get(to), newName, flags);
  }

  #create(message: WireReader, answer: WireWriter, { id, caller }: Request): void {
    const [flags, mode] = [message.u32(), message.u32()];
    // umask: the client has applied it.
    message.skip(4);
    const openFlags = message.u32();
    const made = this.#server.create(this.#ids.get(id), message.text(), flags & ~O_APPEND, mode, caller);
    this.#tell(answer, made);
    this.#opened(answer, made.file, openFlags);
  }

  /** struct fuse_open_out. */
  #opened(answer: WireWriter, file: OpenFile, openFlags: number): void {
    answer.u64(this.#handles.add(file)).u32(this.#openFlags(file)).u32(0);
    if ((openFlags & fuse.FUSE_OPEN_KILL_SUIDGID) !== 0) this.#server.killPrivileges(file.node);
  }

  #openFlags({ node }: OpenFile): number {
    const isDirectory = node.type === S_IFDIR;
    if (this.#cache === 'never') return isDirectory ? 0 : fuse.FOPEN_DIRECT_IO;
    if (this.#cache === 'auto') return 0;
    return isDirectory ? fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR : fuse.FOPEN_KEEP_CACHE;
  }

  #release(message: WireReader): void {
    const handle = message.u64();
    const file = this.#handles.get(handle);
    // flags
    message.skip(4);
    if ((message.u32() & fuse.FUSE_RELEASE_FLUSH) !== 0) this.#unlock(file, message.u64());
    this.#handles.remove(handle);
    this.#waiters.retry();
  }

  /** A process has closed the file once: all its locks go. */
  #unlock({ node }: OpenFile, owner: bigint): void {
    this.#server.locks.drop(node, `${owner}`);
    this.#waiters.retry();
  }

  #sync(message: WireReader): void {
    const file = this.#handles.get(message.u64());
    file.sync((message.u32() & fuse.FUSE_FSYNC_FDATASYNC) !== 0);
  }

  #lock(message: WireReader, request: Request, blocking: boolean): void {
    const file = this.#handles.get(message.u64());
    const { owner, lock, whole } = readLock(message);
    const attempt = (): boolean => {
      if (file.closed) throw new OsError('lock', EBADF);
      return whole ? file.lockWhole(lock.type) : this.#server.locks.set(file.node, owner, lock);
    };
    const set = attempt();
    if (set && lock.type === F_UNLCK) this.#waiters.retry();
    if (set) return;
    if (!blocking) throw new OsError('lock', EAGAIN);
    const waiter = this.#waiters.add(attempt, (errno) => {
      this.#waiting.delete(request.unique);
      finish(request, this.#writer(), errno);
    });
    this.#waiting.set(request.unique, { request, waiter });
    request.waits = true;
  }

  #readDirectory(message: WireReader, answer: WireWriter, { exchange }: Request, plus: boolean): void {
    const { node, directory } = this.#handles.get(message.u64());
    directory.seek(message.i64());
    const end = fuse.OUT_HEADER_SIZE + Math.min(room(message.u32(), exchange), MAX_ANSWER - fuse.OUT_HEADER_SIZE);
    const start = answer.length;
    for (let entry = directory.peek(); entry !== undefined; entry = directory.peek()) {
      const { name } = entry;
      const padding = -name.length & 7;
      const size = (plus ? fuse.ENTRY_OUT_SIZE : 0) + fuse.DIRENT_SIZE + name.length + padding;
      if (answer.length + size > end) {
        // Nothing at all would be the end of the directory.
        if (answer.length === start) throw new OsError('readdir', EINVAL);
        break;
      }
      if (plus) this.#tellListed(answer, node, name);
      answer
        .u64(entry.ino ^ node.device)
        .u64(entry.offset)
        .u32(name.length)
        .u32(entry.type);
      answer.bytes(name).zeroes(padding);
      directory.advance(entry);
    }
  }

  /** An entry of a listing with its attributes; zeroes say nothing about it. */
  #tellListed(answer: WireWriter, directory: Node, name: Uint8Array): void {
    const entry = isDots(name) ? undefined : this.#find(directory, name);
    if (entry === undefined) answer.zeroes(fuse.ENTRY_OUT_SIZE);
    else this.#tell(answer, entry);
  }

  /** Undefined for what is gone meanwhile, or is not part of the directory, or finds no room. */
  #find(directory: Node, name: Uint8Array): Entry | undefined {
    try {
      return this.#server.lookup(directory, name);
    } catch (error) {
      if (error instanceof OsError) return undefined;
      throw error;
    }
  }
}

/** Sends an answer. */
function finish({ exchange, unique, reply, payload }: Request, answer: WireWriter, errno: number): void {
  const size = answer.length + payload;
  if (exchange.writableLength < size) return reply(0);
  const { written } = answer;
  answer.moveTo(0).u32(size).i32(-errno).u64(unique);
  exchange.write(written);
  reply(size);
}

/** Requests that have no answer. */
function silent(request: Request): void {
  request.waits = true;
  request.reply(0);
}

/** How many of `count` bytes there is room for. */
function room(count: number, exchange: Exchange): number {
  return Math.max(Math.min(count, exchange.writableLength - fuse.OUT_HEADER_SIZE), 0);
}

/** The value; or, for a client that has no room at all, its size. */
function writeSized(answer: WireWriter, value: Uint8Array, size: number): void {
  if (size === 0) answer.u32(value.length).u32(0);
  else if (value.length > size) throw new OsError('xattr', ERANGE);
  else answer.bytes(value);
}
