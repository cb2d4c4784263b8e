/** A small client of the FUSE protocol. */
import { isDeepStrictEqual } from 'node:util';
import type { FileSession } from '../../../src/fs/exchange.ts';
import type { CachePolicy } from '../../../src/fs/shared-directory.ts';
import { WireReader } from '../../../src/fs/wire.ts';
import * as fuse from '../../../src/virtio/fs/protocol.ts';
import { FuseSession } from '../../../src/virtio/fs/session.ts';
import {
  type AttributeChanges,
  type Attributes,
  ask,
  bytesOf,
  type Connect,
  type Handle,
  type LockRequest,
  type Name,
  type Ref,
  ServerError,
  type TestClient,
} from '../../fs/client.ts';
import { MemoryExchange } from '../../fs/memory-exchange.ts';
import { u32, u64 } from '../p9/client.ts';

const text = (name: Name): Buffer => Buffer.concat([bytesOf(name), Buffer.alloc(1)]);
const TYPES = ['read', 'write', 'unlock'] as const;

/** A request of these fields. */
export function request(opcode: number, unique: bigint, id: number, ...fields: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(fields);
  const header = [u32(body.length + fuse.IN_HEADER_SIZE), u32(opcode), u64(unique), u64(id), u32(0), u32(0), u32(1)];
  return Buffer.concat([...header, u32(0), body]);
}

export class FuseClient implements TestClient {
  readonly session: FileSession;
  readonly root: Ref = { number: fuse.FUSE_ROOT_ID };
  readonly sent: Buffer[] = [];
  /** What FUSE_INIT agreed on. */
  readonly features: number;
  #unique = 2n;

  constructor(session: FileSession) {
    this.session = session;
    const answer = this.ask(fuse.FUSE_INIT, 0, u32(7), u32(37), u32(131072), u32(0xffff_ffff), Buffer.alloc(48));
    answer.skip(12);
    this.features = answer.u32();
  }

  /** Sends a request; returns the answer's body. */
  ask(opcode: number, id: number, ...fields: readonly Uint8Array[]): WireReader {
    const sent = request(opcode, this.#unique++, id, ...fields);
    this.sent.push(sent);
    const answer = ask(this.session, sent, opcode === fuse.FUSE_READ ? 2 ** 20 + 4096 : 70_000);
    checkAnswer(answer);
    return new WireReader(answer, fuse.OUT_HEADER_SIZE);
  }

  #attributes(answer: WireReader): Attributes {
    const [ino, size] = [answer.u64(), Number(answer.u64())];
    answer.skip(8);
    const [atime, mtime] = [Number(answer.u64()), Number(answer.u64())];
    answer.skip(20);
    return { ino, size, atime, mtime, mode: answer.u32(), nlink: answer.u32(), uid: answer.u32(), gid: answer.u32() };
  }

  #entry(answer: WireReader): Ref {
    const number = Number(answer.u64());
    answer.skip(fuse.ENTRY_OUT_SIZE - 8);
    return { number };
  }

  lookup(directory: Ref, name: Name): Ref {
    return this.#entry(this.ask(fuse.FUSE_LOOKUP, directory.number, text(name)));
  }

  forget({ number }: Ref): void {
    this.forgetMany(number, 1n);
  }

  forgetMany(id: number, lookups: bigint): void {
    const sent = request(fuse.FUSE_FORGET, this.#unique++, id, u64(lookups));
    this.sent.push(sent);
    if (ask(this.session, sent, 0).length !== 0) throw new Error('FUSE_FORGET has an answer');
  }

  attributes({ number }: Ref): Attributes {
    const answer = this.ask(fuse.FUSE_GETATTR, number, Buffer.alloc(16));
    answer.skip(16);
    return this.#attributes(answer);
  }

  setAttributes({ number }: Ref, { mode, uid, gid, size, atime, mtime }: AttributeChanges): void {
    const bits = [
      mode !== undefined && fuse.FATTR_MODE,
      uid !== undefined && fuse.FATTR_UID,
      gid !== undefined && fuse.FATTR_GID,
      size !== undefined && fuse.FATTR_SIZE,
      atime !== undefined && fuse.FATTR_ATIME,
      mtime !== undefined && fuse.FATTR_MTIME,
      atime === 'now' && fuse.FATTR_ATIME_NOW,
      mtime === 'now' && fuse.FATTR_MTIME_NOW,
    ];
    const valid = bits.reduce<number>((sum, bit) => sum | Number(bit), 0);
    this.ask(
      fuse.FUSE_SETATTR,
      number,
      ...[u32(valid), u32(0), u64(0), u64(size ?? 0), u64(0), u64(Number(atime) || 0), u64(Number(mtime) || 0)],
      ...[u64(0), u32(0), u32(0), u32(0), u32(mode ?? 0), u32(0), u32(uid ?? 0), u32(gid ?? 0), u32(0)],
    );
  }

  open(ref: Ref, flags: number): Handle {
    const isDirectory = (this.attributes(ref).mode & 0o170000) === 0o040000;
    const opcode = isDirectory ? fuse.FUSE_OPENDIR : fuse.FUSE_OPEN;
    return { ref, handle: this.ask(opcode, ref.number, u32(flags), u32(0)).u64() };
  }

  create(directory: Ref, name: Name, flags: number, mode: number): Handle {
    const fields = [u32(flags), u32(mode | 0o100000), u32(0), u32(0), text(name)];
    const answer = this.ask(fuse.FUSE_CREATE, directory.number, ...fields);
    const ref = this.#entry(answer);
    this.forget(ref);
    return { ref, handle: answer.u64() };
  }

  close({ ref, handle }: Handle): void {
    this.ask(fuse.FUSE_FLUSH, ref.number, u64(handle), u64(0), u64(0));
    this.ask(fuse.FUSE_RELEASE, ref.number, u64(handle), u32(0), u32(0), u64(0));
  }

  read({ ref, handle }: Handle, offset: number, count: number): Buffer {
    const fields = [u64(handle), u64(offset), u32(count), u32(0), u64(0), u32(0), u32(0)];
    const answer = this.ask(fuse.FUSE_READ, ref.number, ...fields);
    return Buffer.from(answer.bytes(answer.left));
  }

  write(handle: Handle, offset: number, bytes: Uint8Array): number {
    return this.writeWith(handle, offset, bytes, 0, 0);
  }

  writeWith({ ref, handle }: Handle, offset: number, bytes: Uint8Array, writeFlags: number, flags: number): number {
    const fields = [u64(handle), u64(offset), u32(bytes.length), u32(writeFlags), u64(0), u32(flags), u32(0), bytes];
    return this.ask(fuse.FUSE_WRITE, ref.number, ...fields).u32();
  }

  sync({ ref, handle }: Handle): void {
    this.ask(fuse.FUSE_FSYNC, ref.number, u64(handle), u64(0));
  }

  list(directory: Ref): string[] {
    const names = this.#list(directory, false);
    if (!isDeepStrictEqual(names, this.#list(directory, true))) {
      throw new Error('FUSE_READDIR and FUSE_READDIRPLUS give different names');
    }
    return names;
  }

  #list(directory: Ref, plus: boolean): string[] {
    const handle = this.open(directory, 0);
    const names: string[] = [];
    for (let offset = 0n; ; ) {
      const fields = [u64(handle.handle), u64(offset), u32(1000), u32(0), u64(0), u32(0), u32(0)];
      const answer = this.ask(plus ? fuse.FUSE_READDIRPLUS : fuse.FUSE_READDIR, directory.number, ...fields);
      if (answer.left === 0) break;
      while (answer.left > 0) {
        const entry = plus ? this.#entry(answer).number : 0;
        if (entry > fuse.FUSE_ROOT_ID) this.forget({ number: entry });
        answer.skip(8);
        offset = answer.u64();
        const length = answer.u32();
        answer.skip(4);
        names.push(Buffer.from(answer.bytes(length)).toString('latin1'));
        answer.skip(-length & 7);
      }
    }
    this.close(handle);
    return names.filter((name) => name !== '.' && name !== '..').sort();
  }

  makeDirectory(directory: Ref, name: Name, mode: number): void {
    this.forget(this.#entry(this.ask(fuse.FUSE_MKDIR, directory.number, u32(mode), u32(0), text(name))));
  }

  makeNode(directory: Ref, name: Name, mode: number): void {
    const fields = [u32(mode), u32(0x103), u32(0), u32(0), text(name)];
    this.forget(this.#entry(this.ask(fuse.FUSE_MKNOD, directory.number, ...fields)));
  }

  makeLink(directory: Ref, name: Name, target: Name): void {
    this.forget(this.#entry(this.ask(fuse.FUSE_SYMLINK, directory.number, text(name), text(target))));
  }

  readLink({ number }: Ref): string {
    const answer = this.ask(fuse.FUSE_READLINK, number);
    return Buffer.from(answer.bytes(answer.left)).toString();
  }

  link(ref: Ref, directory: Ref, name: Name): void {
    this.forget(this.#entry(this.ask(fuse.FUSE_LINK, directory.number, u64(ref.number), text(name))));
  }

  rename(from: Ref, name: Name, to: Ref, newName: Name): void {
    this.renameWith(from, name, to, newName, 0);
  }

  renameWith(from: Ref, name: Name, to: Ref, newName: Name, flags: number): void {
    this.ask(fuse.FUSE_RENAME2, from.number, u64(to.number), u32(flags), u32(0), text(name), text(newName));
  }

  remove(directory: Ref, name: Name, isDirectory: boolean): void {
    this.ask(isDirectory ? fuse.FUSE_RMDIR : fuse.FUSE_UNLINK, directory.number, text(name));
  }

  freeBlocks({ number }: Ref): bigint {
    const answer = this.ask(fuse.FUSE_STATFS, number);
    answer.skip(8);
    return answer.u64();
  }

  getXattr({ number }: Ref, name: Name): Buffer {
    const size = this.ask(fuse.FUSE_GETXATTR, number, u32(0), u32(0), text(name)).u32();
    if (size === 0) return Buffer.alloc(0);
    return Buffer.from(this.ask(fuse.FUSE_GETXATTR, number, u32(size), u32(0), text(name)).bytes(size));
  }

  listXattrs({ number }: Ref): string[] {
    const size = this.ask(fuse.FUSE_LISTXATTR, number, u32(0), u32(0)).u32();
    if (size === 0) return [];
    const names = this.ask(fuse.FUSE_LISTXATTR, number, u32(size), u32(0)).bytes(size);
    return Buffer.from(names).toString().split('\0').slice(0, -1);
  }

  setXattr({ number }: Ref, name: Name, value: Uint8Array): void {
    this.ask(fuse.FUSE_SETXATTR, number, u32(value.length), u32(0), text(name), value);
  }

  removeXattr({ number }: Ref, name: Name): void {
    this.ask(fuse.FUSE_REMOVEXATTR, number, text(name));
  }

  lock(handle: Handle, lock: LockRequest): boolean {
    try {
      this.ask(fuse.FUSE_SETLK, handle.ref.number, ...lockFields(handle, lock));
      return true;
    } catch (error) {
      if ((error as ServerError).code === 'EAGAIN') return false;
      throw error;
    }
  }

  testLock(handle: Handle, lock: LockRequest): LockRequest['type'] {
    const answer = this.ask(fuse.FUSE_GETLK, handle.ref.number, ...lockFields(handle, lock));
    answer.skip(16);
    return TYPES[answer.u32()]!;
  }

  waitForLock(handle: Handle, lock: LockRequest, done: (code: string) => void): { cancel(): void } {
    const unique = this.#unique++;
    const sent = request(fuse.FUSE_SETLKW, unique, handle.ref.number, ...lockFields(handle, lock));
    const exchange = new MemoryExchange(sent, 100);
    this.session.serve(exchange, (written) => {
      try {
        checkAnswer(exchange.answer.subarray(0, written));
        done('');
      } catch (error) {
        done((error as ServerError).code);
      }
    });
    return {
      cancel: () => void ask(this.session, request(fuse.FUSE_INTERRUPT, this.#unique++, 0, u64(unique)), 0),
    };
  }
}

function lockFields({ handle }: Handle, { type, owner, start = 0, length = 0 }: LockRequest): Buffer[] {
  const end = length === 0 ? fuse.OFFSET_MAX : BigInt(start + length - 1);
  return [u64(handle), u64(owner), u64(start), u64(end), u32(TYPES.indexOf(type)), u32(7), u32(0), u32(0)];
}

/** Throws ServerError for an answer that is an error. */
function checkAnswer(answer: Buffer): void {
  if (answer.length < fuse.OUT_HEADER_SIZE) throw new Error(`an answer of ${answer.length} bytes`);
  if (answer.readUInt32LE(0) !== answer.length) throw new Error('an answer of another length than it says');
  const error = answer.readInt32LE(4);
  if (error !== 0) throw new ServerError(-error);
}

export const connectFuse: Connect<FuseClient> = (server, timers) => connectCached('auto')(server, timers);

/** With a policy for the client's cache. */
export function connectCached(cache: CachePolicy): Connect<FuseClient> {
  return (server, timers) => new FuseClient(new FuseSession(server, cache, timers));
}
