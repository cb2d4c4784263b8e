/** A client of 9P2000.L: its messages, served on a directory. */
import { sliceRanges } from '../../disk/iovec.ts';
import type { Exchange, FileSession } from '../../fs/exchange.ts';
import { LockWaiters, type Timers, type Waiter } from '../../fs/locks.ts';
import { isDots } from '../../fs/names.ts';
import type { Entry } from '../../fs/nodes.ts';
import type { Caller, FileServer } from '../../fs/server.ts';
import { WireReader, WireWriter } from '../../fs/wire.ts';
import { EBADF, EBUSY, EINTR, EINVAL, ENFILE, ENOENT, EOPNOTSUPP, OsError } from '../../host/errno.ts';
import { F_UNLCK, type RangeLock } from '../../host/file-locks.ts';
import { S_IFDIR, S_IFMT } from '../../host/statx.ts';
import { qidType, readChanges, writeAttributes, writeFileSystem, writeQid } from './attributes.ts';
import { type Fid, Fids } from './fids.ts';
import type { Place } from './place.ts';
import * as p9 from './protocol.ts';
import { createXattr, finishXattr, readXattr, walkXattr, writeXattr } from './xattr.ts';

/** Messages, with what they carry: bytes. */
export const MIN_MSIZE = 4096;
export const MAX_MSIZE = 512 * 1024;
/** A request without a file's bytes; the longest is Twalk with 16 names. */
const MAX_REQUEST = 8192;
/** Of Treaddir's entry without its name. */
const DIRENT_SIZE = 24;
const FLAG_BITS = 0o7777_7777;

/** A request, and where its answer goes. */
interface Request {
  readonly exchange: Exchange;
  readonly tag: number;
  readonly type: number;
  readonly reply: (written: number) => void;
  /** Bytes of the answer that are in their place already, behind what the writer holds. */
  payload: number;
  /** Is it answered later? */
  waits: boolean;
}

type Handler = (message: WireReader, answer: WireWriter, request: Request) => void;

export class P9Session implements FileSession {
  readonly #server: FileServer;
  readonly #fids: Fids;
  readonly #waiters: LockWaiters;
  /** Requests that wait, by tag. */
  readonly #waiting = new Map<number, { readonly request: Request; readonly waiter: Waiter }>();
  readonly #request = Buffer.alloc(MAX_REQUEST);
  readonly #answer = Buffer.alloc(MAX_MSIZE);
  #msize = MIN_MSIZE;

  constructor(server: FileServer, timers: Timers) {
    this.#server = server;
    this.#fids = new Fids(server);
    this.#waiters = new LockWaiters(timers);
  }

  reset(): void {
    this.#waiters.clear();
    this.#waiting.clear();
    this.#fids.clear();
  }

  serve(exchange: Exchange, reply: (written: number) => void): void {
    const bytes = this.#request;
    const got = exchange.read(bytes.subarray(0, p9.WRITE_HEADER_SIZE));
    // Such a request cannot be answered.
    if (got < p9.HEADER_SIZE || exchange.writableLength < p9.READ_HEADER_SIZE) return reply(0);
    const size = bytes.readUInt32LE(0);
    const request = { exchange, type: bytes.readUInt8(4), tag: bytes.readUInt16LE(5), reply, payload: 0, waits: false };
    try {
      if (size < p9.HEADER_SIZE || size > exchange.readableLength) throw new OsError('message', EINVAL);
      const length = request.type === p9.Twrite ? Math.min(size, p9.WRITE_HEADER_SIZE) : size;
      if (length > MAX_REQUEST) throw new OsError('message', EINVAL);
      if (length > got) exchange.read(bytes.subarray(got, length), got);
      const handler = this.#handlers[request.type];
      if (handler === undefined) throw new OsError('message', EOPNOTSUPP);
      const answer = this.#writer();
      handler(new WireReader(bytes.subarray(0, length), p9.HEADER_SIZE), answer, request);
      if (!request.waits) finish(request, answer);
    } catch (error) {
      if (!(error instanceof OsError)) throw error;
      this.#fail(request, error.errno);
    }
  }

  #writer(): WireWriter {
    return new WireWriter(this.#answer).moveTo(p9.HEADER_SIZE);
  }

  #fail(request: Request, errno: number): void {
    finish({ ...request, type: p9.Tlerror }, this.#writer().u32(errno));
  }

  readonly #handlers: Readonly<Record<number, Handler>> = {
    [p9.Tversion]: (message, answer) => {
      const msize = message.u32();
      const version = Buffer.from(message.string()).toString('latin1');
      if (msize < MIN_MSIZE) throw new OsError('msize', EINVAL);
      for (const { request } of this.#waiting.values()) this.#fail(request, EINTR);
      this.reset();
      this.#msize = Math.min(msize, MAX_MSIZE);
      answer.u32(this.#msize).string(Buffer.from(version === p9.VERSION ? p9.VERSION : p9.VERSION_UNKNOWN));
    },
    [p9.Tattach]: (message, answer) => {
      const number = message.u32();
      // afid: there is no authentication. uname, aname: one directory, and users by number.
      message.u32();
      message.string();
      message.string();
      const uid = message.u32();
      this.#fids.requireFree(number);
      const { place } = this.#fids.set(number, this.#fids.places.root(), uid === p9.NONUNAME ? 0 : uid);
      writeQid(answer, this.#server.attributes(place.node));
    },
    [p9.Tflush]: (message) => {
      const waiting = this.#waiting.get(message.u16());
      if (waiting === undefined || !this.#waiters.cancel(waiting.waiter)) return;
      this.#waiting.delete(waiting.request.tag);
      this.#fail(waiting.request, EINTR);
    },
    [p9.Twalk]: (message, answer) => this.#walk(message, answer),
    [p9.Tclunk]: (message) => this.#clunk(message.u32()),
    [p9.Tremove]: (message) => {
      const number = message.u32();
      const fid = this.#fids.get(number);
      try {
        const parent = this.#named(fid);
        this.#server.remove(parent.node, fid.place.name, fid.place.node.type === S_IFDIR);
      } finally {
        this.#fids.remove(number);
      }
    },
    [p9.Tlopen]: (message, answer) => {
      const fid = this.#fids.get(message.u32());
      const flags = message.u32() & FLAG_BITS;
      this.#fids.requireUnopened(fid);
      fid.file = this.#server.open(fid.place.node, flags);
      writeQid(answer, this.#server.attributes(fid.place.node));
      answer.u32(0);
    },
    [p9.Tlcreate]: (message, answer) => {
      const fid = this.#fids.get(message.u32());
      const name = message.string();
      const [flags, mode, gid] = [message.u32() & FLAG_BITS, message.u32(), message.u32()];
      this.#fids.requireUnopened(fid);
      const made = this.#server.create(fid.place.node, name, flags, mode, { uid: fid.uid, gid });
      fid.file = made.file;
      this.#fids.move(fid, this.#fids.places.below(fid.place, name, made.node));
      writeQid(answer, made.status);
      answer.u32(0);
    },
    [p9.Tread]: (message, answer, request) => this.#read(message, answer, request),
    [p9.Twrite]: (message, answer, request) => this.#write(message, answer, request),
    [p9.Treaddir]: (message, answer, request) => this.#readDirectory(message, answer, request),
    [p9.Tfsync]: (message) => {
      const file = this.#fids.opened(message.u32());
      // Older clients do not send it.
      file.sync(message.left >= 4 && message.u32() !== 0);
    },
    [p9.Tgetattr]: (message, answer) => {
      writeAttributes(answer, this.#server.attributes(this.#fids.get(message.u32()).place.node));
    },
    [p9.Tsetattr]: (message) => {
      const { place, file, uid } = this.#fids.get(message.u32());
      const changes = readChanges(message);
      this.#server.setAttributes(place.node, changes, file);
      if (changes.size !== undefined && uid !== 0) this.#server.killPrivileges(place.node);
    },
    [p9.Tstatfs]: (message, answer) => {
      writeFileSystem(answer, this.#server.statFileSystem(this.#fids.get(message.u32()).place.node));
    },
    [p9.Tsymlink]: (message, answer) => {
      const fid = this.#fids.get(message.u32());
      const [name, target, gid] = [message.string(), message.string(), message.u32()];
      this.#made(answer, this.#server.makeLink(fid.place.node, name, target, { uid: fid.uid, gid }));
    },
    [p9.Tmknod]: (message, answer) => {
      const fid = this.#fids.get(message.u32());
      const [name, mode] = [message.string(), message.u32()];
      // major, minor
      message.skip(8);
      this.#made(answer, this.#server.makeNode(fid.place.node, name, mode, { uid: fid.uid, gid: message.u32() }));
    },
    [p9.Tmkdir]: (message, answer) => {
      const fid = this.#fids.get(message.u32());
      const [name, mode] = [message.string(), message.u32()];
      const caller: Caller = { uid: fid.uid, gid: message.u32() };
      this.#made(answer, this.#server.makeDirectory(fid.place.node, name, mode & ~S_IFMT, caller));
    },
    [p9.Treadlink]: (message, answer) => {
      answer.string(this.#server.readLink(this.#fids.get(message.u32()).place.node));
    },
    [p9.Tlink]: (message) => {
      const directory = this.#fids.get(message.u32());
      const fid = this.#fids.get(message.u32());
      this.#server.link(fid.place.node, directory.place.node, message.string());
    },
    [p9.Trename]: (message) => {
      const fid = this.#fids.get(message.u32());
      const to = this.#fids.get(message.u32()).place;
      const name = message.string();
      this.#rename(this.#named(fid), fid.place.name, to, name);
    },
    [p9.Trenameat]: (message) => {
      const from = this.#fids.get(message.u32()).place;
      const name = message.string();
      const to = this.#fids.get(message.u32()).place;
      this.#rename(from, name, to, message.string());
    },
    [p9.Tunlinkat]: (message) => {
      const { place } = this.#fids.get(message.u32());
      const name = message.string();
      this.#server.remove(place.node, name, (message.u32() & p9.DOTL_AT_REMOVEDIR) !== 0);
    },
    [p9.Txattrwalk]: (message, answer) => walkXattr(this.#server, this.#fids, message, answer),
    [p9.Txattrcreate]: (message) => createXattr(this.#fids, message),
    [p9.Tlock]: (message, answer, request) => this.#lock(message, answer, request),
    [p9.Tgetlock]: (message, answer) => {
      const { node } = this.#fids.opened(message.u32());
      const lock = readLock(message.u8(), message);
      const process = message.u32();
      const client = message.string();
      const other = this.#server.locks.test(node, lockOwner(client, process), lock);
      // Whose it is, the host's kernel does not tell.
      answer
        .u8(other?.type ?? F_UNLCK)
        .u64(other?.start ?? lock.start)
        .u64(other?.length ?? lock.length);
      answer.u32(other === undefined ? process : 0).string(client);
    },
  };

  #walk(message: WireReader, answer: WireWriter): void {
    const number = message.u32();
    const fid = this.#fids.get(number);
    const newNumber = message.u32();
    const count = message.u16();
    if (count > p9.MAXWELEM) throw new OsError('walk', EINVAL);
    if (newNumber === number) this.#fids.requireUnopened(fid);
    else this.#fids.requireFree(newNumber);
    answer.u16(count);
    let place = this.#fids.places.retain(fid.place);
    let walked = 0;
    let arrived = false;
    try {
      for (; walked < count; walked++) {
        place = this.#step(place, message.string(), answer);
      }
      arrived = true;
    } catch (error) {
      // The way as far as it goes is an answer, and nobody is there then.
      if (walked === 0 || !(error instanceof OsError)) throw error;
      const end = answer.length;
      answer.moveTo(p9.HEADER_SIZE).u16(walked).moveTo(end);
    } finally {
      if (!arrived) this.#fids.places.release(place);
    }
    if (!arrived) return;
    if (newNumber === number) this.#fids.move(fid, place);
    else this.#fids.set(newNumber, place, fid.uid);
  }

  /** From a place to the next, whose reference it becomes. The root's parent is the root. */
  #step(from: Place, name: Uint8Array, answer: WireWriter): Place {
    const { places } = this.#fids;
    let to: Place;
    if (name.length === 2 && isDots(name)) {
      to = from.parent ?? from;
      writeQid(answer, this.#server.attributes(to.node));
      places.retain(to);
    } else {
      const { node, status } = this.#server.lookup(from.node, name);
      to = places.below(from, name, node);
      writeQid(answer, status);
    }
    places.release(from);
    return to;
  }

  #clunk(number: number): void {
    const { place, xattr } = this.#fids.get(number);
    try {
      if (xattr !== undefined) finishXattr(this.#server, place.node, xattr);
    } finally {
      this.#fids.remove(number);
    }
  }

  #read(message: WireReader, answer: WireWriter, request: Request): void {
    const { exchange } = request;
    const fid = this.#fids.get(message.u32());
    const offset = message.size();
    const count = this.#room(message.u32(), exchange);
    if (fid.xattr !== undefined) {
      readXattr(fid.xattr, offset, count, answer);
      return;
    }
    const file = opened(fid);
    request.payload = file.read(sliceRanges(exchange.writable, p9.READ_HEADER_SIZE, count), offset);
    answer.u32(request.payload);
  }

  #write(message: WireReader, answer: WireWriter, { exchange }: Request): void {
    const fid = this.#fids.get(message.u32());
    const offset = message.size();
    const count = message.u32();
    if (count > exchange.readableLength - p9.WRITE_HEADER_SIZE) throw new OsError('message', EINVAL);
    if (fid.xattr !== undefined) {
      answer.u32(writeXattr(fid.xattr, offset, count, exchange));
      return;
    }
    const ranges = sliceRanges(exchange.readable, p9.WRITE_HEADER_SIZE, count);
    answer.u32(opened(fid).write(ranges, offset, false));
    // Linux's client leaves that to the server.
    if (fid.uid !== 0) this.#server.killPrivileges(fid.place.node);
  }

  #readDirectory(message: WireReader, answer: WireWriter, { exchange }: Request): void {
    const { node, directory } = this.#fids.opened(message.u32());
    directory.seek(message.i64());
    const end = p9.READ_HEADER_SIZE + this.#room(message.u32(), exchange);
    answer.moveTo(p9.READ_HEADER_SIZE);
    for (let entry = directory.peek(); entry !== undefined; entry = directory.peek()) {
      if (answer.length + DIRENT_SIZE + entry.name.length > end) {
        // Nothing at all would be the end of the directory.
        if (answer.length === p9.READ_HEADER_SIZE) throw new OsError('readdir', EINVAL);
        break;
      }
      answer
        .u8(qidType(entry.type << 12))
        .u32(0)
        .u64(entry.ino ^ node.device);
      answer.u64(entry.offset).u8(entry.type).string(entry.name);
      directory.advance(entry);
    }
    const length = answer.length;
    answer
      .moveTo(p9.HEADER_SIZE)
      .u32(length - p9.READ_HEADER_SIZE)
      .moveTo(length);
  }

  /** How many of `count` bytes an answer has room for, by what was agreed and by its memory. */
  #room(count: number, exchange: Exchange): number {
    return Math.min(count, this.#msize - p9.IO_HEADER_SIZE, exchange.writableLength - p9.READ_HEADER_SIZE);
  }

  /** The directory that a fid's file was found in, if it is still there under its name. */
  #named({ place }: Fid): Place {
    const { parent, name, node } = place;
    if (parent === undefined) throw new OsError('rename', EBUSY);
    const there = this.#server.lookup(parent.node, name).node;
    this.#server.release(there);
    if (there !== node) throw new OsError('rename', ENOENT);
    return parent;
  }

  #rename(from: Place, name: Uint8Array, to: Place, newName: Uint8Array): void {
    this.#server.rename(from.node, name, to.node, newName, 0);
    this.#fids.places.renamed(from.node, name, to, newName);
  }

  #made(answer: WireWriter, { node, status }: Entry): void {
    writeQid(answer, status);
    this.#server.release(node);
  }

  #lock(message: WireReader, answer: WireWriter, request: Request): void {
    const file = this.#fids.opened(message.u32());
    const type = message.u8();
    const flags = message.u32();
    const lock = readLock(type, message);
    const process = message.u32();
    const owner = lockOwner(message.string(), process);
    const attempt = (): boolean => {
      if (file.closed) throw new OsError('lock', EBADF);
      return this.#server.locks.set(file.node, owner, lock);
    };
    const set = attempt();
    if (set && type === F_UNLCK) this.#waiters.retry();
    if (set || (flags & p9.LOCK_FLAGS_BLOCK) === 0) {
      answer.u8(set ? p9.LOCK_SUCCESS : p9.LOCK_BLOCKED);
      return;
    }
    const { tag } = request;
    if (this.#waiting.has(tag)) throw new OsError('lock', ENFILE);
    const waiter = this.#waiters.add(attempt, (errno) => {
      this.#waiting.delete(tag);
      if (errno !== 0) this.#fail(request, errno);
      else finish(request, this.#writer().u8(p9.LOCK_SUCCESS));
    });
    this.#waiting.set(tag, { request, waiter });
    request.waits = true;
  }
}

/** Sends an answer. */
function finish({ exchange, type, tag, reply, payload }: Request, answer: WireWriter): void {
  const size = answer.length + payload;
  const { written } = answer;
  answer
    .moveTo(0)
    .u32(size)
    .u8(type + 1)
    .u16(tag);
  exchange.write(written);
  // A driver that has no room for the whole of it gets a message that is cut off.
  reply(Math.min(size, exchange.writableLength));
}

function opened({ file }: Fid): NonNullable<Fid['file']> {
  if (file === undefined) throw new OsError('fid', EBADF);
  return file;
}

/** start[8] length[8]. */
function readLock(type: number, message: WireReader): RangeLock {
  if (type > F_UNLCK) throw new OsError('lock', EINVAL);
  const [start, length] = [message.i64(), message.i64()];
  return { type, start, length };
}

function lockOwner(client: Uint8Array, process: number): string {
  return `${Buffer.from(client).toString('latin1')}/${process}`;
}
