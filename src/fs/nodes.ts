/** The files that a client knows: how often it was told of each, and by which names. */
import { closeDescriptor } from '../host/descriptor.ts';
import { ENFILE, ESTALE, OsError } from '../host/errno.ts';
import { statFile } from '../host/files.ts';
import { S_IFDIR, type Statx } from '../host/statx.ts';
import { Descriptors } from './descriptors.ts';
import { CLOSED, deviceOf, isSame, keyOf, type Name, Node } from './node.ts';

/** Files that one client may know at a time: 0.8 KB of memory each. */
const MAX_NODES = 2 ** 18;
/** Names that are kept of a file with several. */
const MAX_NAMES = 4;
/** In an inode number that the client sees, for files of another device than the root's: the device's index. */
const DEVICE_SHIFT = 48n;

/** A node, and its attributes as they are now. */
export interface Entry {
  readonly node: Node;
  readonly status: Statx;
}

export interface NodeLimits {
  /** Nodes that the client may know, at most: for tests. */
  readonly maxNodes?: number | undefined;
  /** Descriptors for them; half of the process's if not given. */
  readonly maxDescriptors?: number | undefined;
}

export class NodeTable {
  readonly #nodes = new Map<string, Node>();
  readonly #descriptors: Descriptors;
  /** What #deviceBits() gives, by a device's number. */
  readonly #devices = new Map<number, bigint>();
  readonly #limit: number;
  /** As #nodes has them, and those whose inode's number is another's by now. */
  #size = 0;

  constructor({ maxNodes = MAX_NODES, maxDescriptors }: NodeLimits) {
    this.#limit = maxNodes;
    this.#descriptors = new Descriptors(maxDescriptors);
  }

  get size(): number {
    return this.#size;
  }

  /**
   * A node's descriptor, which stays open while one other is asked for, and until a node is adopted. Throws OsError: ESTALE when
   * it was put aside, and its names do not lead to it any more.
   */
  descriptor(node: Node): number {
    return this.#descriptors.of(node);
  }

  /** As Descriptors.making(). What descriptor() gave last is still good then. */
  making(make: () => number): number {
    return this.#descriptors.making(make);
  }

  /**
   * The node for an O_PATH descriptor, which is the table's from here on. Release it as often as it was given. Throws OsError:
   * ENFILE when there are too many.
   */
  adopt(fd: number): Entry {
    let taken = false;
    try {
      const status = statFile(fd);
      const key = keyOf(status);
      let node = this.#nodes.get(key);
      if (node?.fd === CLOSED && !isSame(node, status)) {
        // That file is no more: its number is this one's now.
        this.#forgetNames(node);
        node = undefined;
      }
      if (node?.fd === undefined || node.fd === CLOSED) {
        if (node === undefined && this.#size >= this.#limit) throw new OsError('node', ENFILE);
        this.#descriptors.makeRoom();
        if (node === undefined) {
          node = new Node(key, status.type, status.ino, this.#deviceBits(deviceOf(status)));
          this.#nodes.set(key, node);
          this.#size++;
        } else {
          node.references++;
        }
        this.#descriptors.give(node, fd);
        taken = true;
      } else {
        node.references++;
      }
      status.ino = node.ino;
      return { node, status };
    } finally {
      if (!taken) closeDescriptor(fd);
    }
  }

  release(node: Node, count = 1): void {
    node.references -= count;
    if (node.references > 0) return;
    // Its names go, and with them perhaps the last that held the directories above.
    const free = [node];
    for (let next = free.pop(); next !== undefined; next = free.pop()) {
      if (this.#nodes.get(next.key) === next) this.#nodes.delete(next.key);
      this.#size--;
      this.#descriptors.close(next);
      for (const { parent, text } of next.names) {
        parent.children?.delete(text);
        if (--parent.references === 0) free.push(parent);
      }
    }
  }

  /** A directory was seen to have a node under this name. `links`: names that the file has, at most. */
  found(node: Node, parent: Node, bytes: Uint8Array, links = MAX_NAMES): void {
    const text = textOf(bytes);
    const there = parent.children?.get(text);
    if (there?.node !== node) {
      if (there !== undefined) this.#forget(there);
      const names = node.type === S_IFDIR ? 1 : Math.max(1, Math.min(links, MAX_NAMES));
      // The older ones are not true any more, when there are more than the file has.
      while (node.names.length >= names) this.#forget(node.names[0]!);
      // The host may have moved directories so that names, some of them old, would go round in a circle.
      if (node.children !== undefined && isAbove(node, parent)) return;
      const name: Name = { node, parent, text };
      node.names.push(name);
      parent.references++;
      parent.children ??= new Map();
      parent.children.set(text, name);
    }
    node.kept = false;
    this.#descriptors.changed(node);
  }

  /** Runs `change`, after which a name leads to nothing any more, or to something else. If it throws, all is as before. */
  replaced(parent: Node, bytes: Uint8Array, change: () => void): void {
    const name = parent.children?.get(textOf(bytes));
    if (name === undefined) return change();
    const { node } = name;
    // The last chance to have its descriptor; the client may go on with a file that has no name.
    if (node.names.length === 1) this.#openIfThere(node);
    this.#forget(name);
    try {
      change();
    } catch (error) {
      this.found(node, parent, bytes);
      throw error;
    }
  }

  /** Two names have changed places; there may be no nodes behind them, or behind one. */
  exchanged(from: Node, bytes: Uint8Array, to: Node, newBytes: Uint8Array): void {
    const [first, second] = [from.children?.get(textOf(bytes)), to.children?.get(textOf(newBytes))];
    for (const name of [first, second]) if (name !== undefined) this.#forget(name);
    if (first !== undefined) this.found(first.node, to, newBytes);
    if (second !== undefined) this.found(second.node, from, bytes);
  }

  #openIfThere(node: Node): void {
    try {
      this.#descriptors.of(node);
    } catch (error) {
      if (!(error instanceof OsError) || error.errno !== ESTALE) throw error;
    }
  }

  #forgetNames(node: Node): void {
    for (const name of [...node.names]) this.#forget(name);
  }

  /** A name does not lead to its node any more. */
  #forget(name: Name): void {
    const { node, parent, text } = name;
    node.names.splice(node.names.indexOf(name), 1);
    parent.children?.delete(text);
    node.kept = node.names.length === 0;
    this.#descriptors.changed(node);
    this.release(parent);
  }

  /** Has 0 for the first device, which is the root's. */
  #deviceBits(device: number): bigint {
    let bits = this.#devices.get(device);
    if (bits === undefined) {
      bits = BigInt.asUintN(64, BigInt(this.#devices.size) << DEVICE_SHIFT);
      this.#devices.set(device, bits);
    }
    return bits;
  }
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

/** Is it a directory, or above it by the names that are known? */
function isAbove(node: Node, directory: Node): boolean {
  for (let at: Node | undefined = directory; at !== undefined; at = at.names[0]?.parent) if (at === node) return true;
  return false;
}
