/** What a client's numbers stand for: nodes by id, open files by handle. */
import type { Node } from '../../fs/node.ts';
import type { Entry } from '../../fs/nodes.ts';
import type { OpenFile } from '../../fs/open-file.ts';
import type { FileServer } from '../../fs/server.ts';
import { EBADF, ESTALE, OsError } from '../../host/errno.ts';
import { FUSE_ROOT_ID } from './protocol.ts';

interface Known {
  readonly id: number;
  readonly node: Node;
  /** How often the client was told of it and has not forgotten it. */
  lookups: number;
}

export class NodeIds {
  readonly #server: FileServer;
  readonly #byId = new Map<number, Known>();
  readonly #byNode = new Map<Node, Known>();
  #next = FUSE_ROOT_ID + 1;

  constructor(server: FileServer) {
    this.#server = server;
  }

  /** Throws OsError ESTALE. */
  get(id: number): Node {
    if (id === FUSE_ROOT_ID) return this.#server.root;
    const known = this.#byId.get(id);
    if (known === undefined) throw new OsError('node', ESTALE);
    return known.node;
  }

  /** The client learns of an entry, whose reference is now the client's. */
  tell({ node }: Entry): number {
    if (node === this.#server.root) {
      this.#server.release(node);
      return FUSE_ROOT_ID;
    }
    let known = this.#byNode.get(node);
    if (known === undefined) {
      known = { id: this.#next++, node, lookups: 0 };
      this.#byId.set(known.id, known);
      this.#byNode.set(node, known);
    }
    known.lookups++;
    return known.id;
  }

  /** The client forgets a node that it was told of so often. What it makes up is nobody's harm. */
  forget(id: number, lookups: bigint): void {
    const known = this.#byId.get(id);
    if (known === undefined) return;
    const count = lookups < BigInt(known.lookups) ? Number(lookups) : known.lookups;
    known.lookups -= count;
    if (known.lookups === 0) {
      this.#byId.delete(id);
      this.#byNode.delete(known.node);
    }
    this.#server.release(known.node, count);
  }

  clear(): void {
    for (const { id, lookups } of [...this.#byId.values()]) this.forget(id, BigInt(lookups));
  }
}

export class Handles {
  readonly #server: FileServer;
  readonly #files = new Map<bigint, OpenFile>();
  #next = 1n;

  constructor(server: FileServer) {
    this.#server = server;
  }

  /** Throws OsError EBADF. */
  get(handle: bigint): OpenFile {
    const file = this.#files.get(handle);
    if (file === undefined) throw new OsError('handle', EBADF);
    return file;
  }

  add(file: OpenFile): bigint {
    const handle = this.#next++;
    this.#files.set(handle, file);
    return handle;
  }

  remove(handle: bigint): OpenFile {
    const file = this.get(handle);
    this.#files.delete(handle);
    this.#server.close(file);
    return file;
  }

  clear(): void {
    for (const handle of [...this.#files.keys()]) this.remove(handle);
  }
}
