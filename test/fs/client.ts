/** What the tests ask of a file server, by either protocol. Names are text or bytes; errors are ServerError. */
import { constants, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FileSession } from '../../src/fs/exchange.ts';
import type { Timers } from '../../src/fs/locks.ts';
import { FileServer, type ServerOptions } from '../../src/fs/server.ts';
import { errnoName } from '../../src/host/errno.ts';
import { openStart } from '../../src/host/files.ts';
import { MemoryExchange } from './memory-exchange.ts';

export const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND } = constants;

export class ServerError extends Error {
  readonly code: string;

  constructor(errno: number) {
    super(`the server answers ${errnoName(errno)}`);
    this.code = errnoName(errno);
  }
}

export type Name = string | Uint8Array;

/** A file that was walked to: a fid, or a node's id. */
export interface Ref {
  readonly number: number;
}

export interface Handle {
  readonly ref: Ref;
  readonly handle: bigint;
}

export interface Attributes {
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly ino: bigint;
  /** Seconds. */
  readonly atime: number;
  readonly mtime: number;
}

export interface AttributeChanges {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atime?: number | 'now';
  readonly mtime?: number | 'now';
}

export interface LockRequest {
  readonly type: 'read' | 'write' | 'unlock';
  readonly owner: number;
  readonly start?: number;
  /** 0: to the end. */
  readonly length?: number;
}

export interface TestClient {
  readonly session: FileSession;
  readonly root: Ref;
  /** Every request that was sent. */
  readonly sent: Buffer[];
  lookup(directory: Ref, name: Name): Ref;
  /** Gives a reference up. */
  forget(ref: Ref): void;
  attributes(ref: Ref): Attributes;
  setAttributes(ref: Ref, changes: AttributeChanges): void;
  open(ref: Ref, flags: number): Handle;
  create(directory: Ref, name: Name, flags: number, mode: number): Handle;
  close(handle: Handle): void;
  read(handle: Handle, offset: number, count: number): Buffer;
  write(handle: Handle, offset: number, bytes: Uint8Array): number;
  sync(handle: Handle): void;
  list(directory: Ref): string[];
  makeDirectory(directory: Ref, name: Name, mode: number): void;
  makeNode(directory: Ref, name: Name, mode: number): void;
  makeLink(directory: Ref, name: Name, target: Name): void;
  readLink(ref: Ref): string;
  link(ref: Ref, directory: Ref, name: Name): void;
  rename(from: Ref, name: Name, to: Ref, newName: Name): void;
  remove(directory: Ref, name: Name, isDirectory: boolean): void;
  freeBlocks(ref: Ref): bigint;
  getXattr(ref: Ref, name: Name): Buffer;
  listXattrs(ref: Ref): string[];
  setXattr(ref: Ref, name: Name, value: Uint8Array): void;
  removeXattr(ref: Ref, name: Name): void;
  /** False: somebody else has it. */
  lock(handle: Handle, request: LockRequest): boolean;
  testLock(handle: Handle, request: LockRequest): LockRequest['type'];
  /** Waits for the lock: `done` is called with the errno's name, or '' when it is there. */
  waitForLock(handle: Handle, request: LockRequest, done: (code: string) => void): { cancel(): void };
}

/** Walks on by names. */
export function walk(client: TestClient, ...names: readonly Name[]): Ref {
  return names.reduce<Ref>((ref, name) => client.lookup(ref, name), client.root);
}

export const bytesOf = (name: Name): Uint8Array => (typeof name === 'string' ? Buffer.from(name) : name);

/** Sends a message and returns the answer, which comes at once. */
export function ask(session: FileSession, message: Uint8Array, room: number): Buffer {
  const exchange = new MemoryExchange(message, room);
  let answer: Buffer | undefined;
  session.serve(exchange, (written) => {
    answer = exchange.answer.subarray(0, written);
  });
  if (answer === undefined) throw new Error('the server lets its client wait');
  return answer;
}

/** Timers that a test lets go by. */
export class ManualTimers implements Timers<() => void> {
  readonly #due: (() => void)[] = [];

  after(_: number, callback: () => void): () => void {
    this.#due.push(callback);
    return callback;
  }

  cancel(timer: () => void): void {
    const index = this.#due.indexOf(timer);
    if (index >= 0) this.#due.splice(index, 1);
  }

  /** All timers are due. */
  pass(): void {
    for (const callback of this.#due.splice(0)) callback();
  }
}

/** A directory that is served; its end checks that nothing was left open. */
export interface Served<T extends TestClient> {
  readonly path: string;
  readonly server: FileServer;
  readonly client: T;
  readonly timers: ManualTimers;
  end(): void;
}

export type Connect<T extends TestClient> = (server: FileServer, timers: Timers) => T;

/** Runs a body, and ends what is served. Where the body fails, that is what is told. */
export function use<S extends Served<TestClient>>(served: S, body: (served: S) => void): void {
  try {
    body(served);
  } catch (error) {
    served.client.session.reset();
    throw error;
  }
  served.end();
}

/** Serves a new directory, `share`, of a new directory. */
export function serve<T extends TestClient>(connect: Connect<T>, options: Partial<ServerOptions> = {}): Served<T> {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-fs-'));
  const path = join(folder, 'share');
  mkdirSync(path);
  const server = new FileServer(openStart(path), { readOnly: false, ...options });
  const timers = new ManualTimers();
  const client = connect(server, timers);
  return {
    path,
    server,
    client,
    timers,
    end: () => {
      client.session.reset();
      const left = `${server.nodeCount} nodes, ${server.openCount} files`;
      server.end();
      rmSync(folder, { recursive: true, force: true });
      if (left !== '1 nodes, 0 files') throw new Error(`the server is left with ${left}`);
    },
  };
}
