/** A small client of 9P2000.L. */

import type { FileSession } from '../../../src/fs/exchange.ts';
import { WireReader } from '../../../src/fs/wire.ts';
import * as p9 from '../../../src/virtio/p9/protocol.ts';
import { P9Session } from '../../../src/virtio/p9/session.ts';
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

export const u8 = (value: number): Buffer => Buffer.of(value);
export const u16 = (value: number): Buffer => Buffer.of(value & 0xff, value >> 8);
export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
};
export const u64 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
  return bytes;
};
export const text = (name: Name): Buffer => Buffer.concat([u16(bytesOf(name).length), bytesOf(name)]);

/** A message of these fields. */
export function message(type: number, tag: number, ...fields: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat([u8(type), u16(tag), ...fields]);
  return Buffer.concat([u32(body.length + 4), body]);
}

const TYPES = ['read', 'write', 'unlock'] as const;

export class P9Client implements TestClient {
  readonly session: FileSession;
  readonly root: Ref = { number: 0 };
  readonly sent: Buffer[] = [];
  readonly msize: number = 8192;
  #nextFid = 1;

  constructor(session: FileSession, msize = 128 * 1024) {
    this.session = session;
    const version = this.ask(p9.Tversion, u32(msize), text(p9.VERSION));
    this.msize = version.u32();
    this.attach();
  }

  attach(): void {
    this.ask(p9.Tattach, u32(0), u32(0xffff_ffff), text('root'), text(''), u32(0));
  }

  /** Sends a message; returns the answer's body. */
  ask(type: number, ...fields: readonly Uint8Array[]): WireReader {
    return new WireReader(this.raw(type, ...fields), p9.HEADER_SIZE);
  }

  raw(type: number, ...fields: readonly Uint8Array[]): Buffer {
    const sent = message(type, 1, ...fields);
    this.sent.push(sent);
    const answer = ask(this.session, sent, this.msize);
    checkAnswer(answer, type);
    return answer;
  }

  clone(ref: Ref): Ref {
    return this.walk(ref, []);
  }

  walk(ref: Ref, names: readonly Name[]): Ref {
    const number = this.#nextFid++;
    const answer = this.ask(p9.Twalk, u32(ref.number), u32(number), u16(names.length), ...names.map(text));
    // A way that ends too early makes no fid.
    if (answer.u16() < names.length) throw new ServerError(2);
    return { number };
  }

  lookup(directory: Ref, name: Name): Ref {
    return this.walk(directory, [name]);
  }

  forget(ref: Ref): void {
    this.ask(p9.Tclunk, u32(ref.number));
  }

  attributes(ref: Ref): Attributes {
    const answer = this.ask(p9.Tgetattr, u32(ref.number), u64(0x7ff));
    answer.skip(8 + 5);
    const ino = answer.u64();
    const [mode, uid, gid, nlink] = [answer.u32(), answer.u32(), answer.u32(), Number(answer.u64())];
    answer.skip(8);
    const size = Number(answer.u64());
    answer.skip(16);
    const atime = Number(answer.u64());
    answer.skip(8);
    return { mode, uid, gid, nlink, size, ino, atime, mtime: Number(answer.u64()) };
  }

  setAttributes(ref: Ref, { mode, uid, gid, size, atime, mtime }: AttributeChanges): void {
    const bits = [
      mode !== undefined && p9.SETATTR_MODE,
      uid !== undefined && p9.SETATTR_UID,
      gid !== undefined && p9.SETATTR_GID,
      size !== undefined && p9.SETATTR_SIZE,
      atime !== undefined && p9.SETATTR_ATIME,
      mtime !== undefined && p9.SETATTR_MTIME,
      typeof atime === 'number' && p9.SETATTR_ATIME_SET,
      typeof mtime === 'number' && p9.SETATTR_MTIME_SET,
    ];
    const valid = bits.reduce<number>((sum, bit) => sum | Number(bit), 0);
    this.ask(
      p9.Tsetattr,
      ...[u32(ref.number), u32(valid), u32(mode ?? 0), u32(uid ?? 0), u32(gid ?? 0), u64(size ?? 0)],
      ...[u64(Number(atime) || 0), u64(0), u64(Number(mtime) || 0), u64(0)],
    );
  }

  open(ref: Ref, flags: number): Handle {
    const own = this.clone(ref);
    this.#orForget(own, () => this.ask(p9.Tlopen, u32(own.number), u32(flags)));
    return { ref: own, handle: 0n };
  }

  create(directory: Ref, name: Name, flags: number, mode: number): Handle {
    const own = this.clone(directory);
    this.#orForget(own, () => this.ask(p9.Tlcreate, u32(own.number), text(name), u32(flags), u32(mode), u32(0)));
    return { ref: own, handle: 0n };
  }

  close({ ref }: Handle): void {
    this.forget(ref);
  }

  read({ ref }: Handle, offset: number, count: number): Buffer {
    const answer = this.ask(p9.Tread, u32(ref.number), u64(offset), u32(count));
    return Buffer.from(answer.bytes(answer.u32()));
  }

  write({ ref }: Handle, offset: number, bytes: Uint8Array): number {
    return this.ask(p9.Twrite, u32(ref.number), u64(offset), u32(bytes.length), bytes).u32();
  }

  sync({ ref }: Handle): void {
    this.ask(p9.Tfsync, u32(ref.number), u32(0));
  }

  list(directory: Ref): string[] {
    const handle = this.open(directory, 0);
    const names: string[] = [];
    for (let offset = 0n; ; ) {
      const answer = this.ask(p9.Treaddir, u32(handle.ref.number), u64(offset), u32(1000));
      answer.skip(4);
      if (answer.left === 0) break;
      while (answer.left > 0) {
        answer.skip(13);
        offset = answer.u64();
        answer.skip(1);
        names.push(Buffer.from(answer.string()).toString('latin1'));
      }
    }
    this.close(handle);
    return names.filter((name) => name !== '.' && name !== '..').sort();
  }

  makeDirectory(directory: Ref, name: Name, mode: number): void {
    this.ask(p9.Tmkdir, u32(directory.number), text(name), u32(mode), u32(0));
  }

  makeNode(directory: Ref, name: Name, mode: number): void {
    this.ask(p9.Tmknod, u32(directory.number), text(name), u32(mode), u32(1), u32(3), u32(0));
  }

  makeLink(directory: Ref, name: Name, target: Name): void {
    this.ask(p9.Tsymlink, u32(directory.number), text(name), text(target), u32(0));
  }

  readLink(ref: Ref): string {
    return Buffer.from(this.ask(p9.Treadlink, u32(ref.number)).string()).toString();
  }

  link(ref: Ref, directory: Ref, name: Name): void {
    this.ask(p9.Tlink, u32(directory.number), u32(ref.number), text(name));
  }

  rename(from: Ref, name: Name, to: Ref, newName: Name): void {
    this.ask(p9.Trenameat, u32(from.number), text(name), u32(to.number), text(newName));
  }

  remove(directory: Ref, name: Name, isDirectory: boolean): void {
    this.ask(p9.Tunlinkat, u32(directory.number), text(name), u32(isDirectory ? p9.DOTL_AT_REMOVEDIR : 0));
  }

  freeBlocks(ref: Ref): bigint {
    const answer = this.ask(p9.Tstatfs, u32(ref.number));
    answer.skip(16);
    return answer.u64();
  }

  getXattr(ref: Ref, name: Name): Buffer {
    const number = this.#nextFid++;
    const size = Number(this.ask(p9.Txattrwalk, u32(ref.number), u32(number), text(name)).u64());
    const value = this.read({ ref: { number }, handle: 0n }, 0, size);
    this.forget({ number });
    return value;
  }

  listXattrs(ref: Ref): string[] {
    return this.getXattr(ref, '').toString().split('\0').slice(0, -1);
  }

  setXattr(ref: Ref, name: Name, value: Uint8Array): void {
    this.#setXattr(ref, name, value, 0);
  }

  removeXattr(ref: Ref, name: Name): void {
    this.#setXattr(ref, name, new Uint8Array(0), p9.XATTR_REPLACE);
  }

  #setXattr(ref: Ref, name: Name, value: Uint8Array, flags: number): void {
    const own = this.clone(ref);
    this.#orForget(own, () => {
      this.ask(p9.Txattrcreate, u32(own.number), text(name), u64(value.length), u32(flags));
      if (value.length > 0) this.write({ ref: own, handle: 0n }, 0, value);
    });
    this.forget(own);
  }

  lock({ ref }: Handle, request: LockRequest): boolean {
    return this.ask(p9.Tlock, ...lockFields(ref, request, 0)).u8() === p9.LOCK_SUCCESS;
  }

  testLock({ ref }: Handle, { type, owner, start = 0, length = 0 }: LockRequest): LockRequest['type'] {
    const fields = [u32(ref.number), u8(TYPES.indexOf(type)), u64(start), u64(length), u32(owner), text('test')];
    return TYPES[this.ask(p9.Tgetlock, ...fields).u8()]!;
  }

  waitForLock({ ref }: Handle, request: LockRequest, done: (code: string) => void): { cancel(): void } {
    const tag = 100 + request.owner;
    const exchange = new MemoryExchange(message(p9.Tlock, tag, ...lockFields(ref, request, p9.LOCK_FLAGS_BLOCK)), 100);
    this.session.serve(exchange, (written) => {
      try {
        checkAnswer(exchange.answer.subarray(0, written), p9.Tlock);
        done('');
      } catch (error) {
        done((error as ServerError).code);
      }
    });
    return { cancel: () => this.ask(p9.Tflush, u16(tag)) };
  }

  #orForget(ref: Ref, body: () => void): void {
    try {
      body();
    } catch (error) {
      this.forget(ref);
      throw error;
    }
  }
}

function lockFields(ref: Ref, { type, owner, start = 0, length = 0 }: LockRequest, flags: number): Buffer[] {
  const fields = [u32(ref.number), u8(TYPES.indexOf(type)), u32(flags), u64(start), u64(length)];
  return [...fields, u32(owner), text('test')];
}

/** Throws ServerError for Rlerror. */
function checkAnswer(answer: Buffer, type: number): void {
  if (answer.length < p9.HEADER_SIZE) throw new Error(`an answer of ${answer.length} bytes`);
  if (answer.readUInt32LE(0) !== answer.length) throw new Error('an answer of another length than it says');
  if (answer[4] === p9.Rlerror) throw new ServerError(answer.readUInt32LE(p9.HEADER_SIZE));
  if (answer[4] !== type + 1) throw new Error(`message ${answer[4]} answers message ${type}`);
}

export const connectP9: Connect<P9Client> = (server, timers) => new P9Client(new P9Session(server, timers));
