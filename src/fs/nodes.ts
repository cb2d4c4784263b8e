/** The files that a client knows, each held by an O_PATH descriptor: it stays the same file, whatever happens to its names. */
import { closeDescriptor } from '../host/descriptor.ts';
import { ENFILE, OsError } from '../host/errno.ts';
import { descriptorLimit, statFile } from '../host/files.ts';
import type { Statx } from '../host/statx.ts';

/** Files that one client may know at a time, where the process may have so many descriptors. */
const MAX_NODES = 2 ** 18;
/** In an inode number that the client sees, for files of another device than the root's: the device's index. */
const DEVICE_SHIFT = 48n;

/** A file, directory, link or other. */
export class Node {
  /** O_PATH. */
  readonly fd: number;
  /** S_IF*. */
  readonly type: number;
  /** As the client sees it. */
  readonly ino: bigint;
  /** What makes the host's inode numbers of its device into the client's, by exclusive or. */
  readonly device: bigint;
  readonly key: string;
  /** How often it was given out and not released. */
  references = 1;
  /** Open files of it. */
  opened = 0;

  constructor(fd: number, key: string, type: number, ino: bigint, device: bigint) {
    this.fd = fd;
    this.key = key;
    this.type = type;
    this.device = device;
    this.ino = ino ^ device;
  }
}

/** A node, and its attributes as they are now. */
export interface Entry {
  readonly node: Node;
  readonly status: Statx;
}

export class NodeTable {
  readonly #nodes = new Map<string, Node>();
  /** Index of a device, by its number. */
  readonly #devices = new Map<number, number>();
  readonly #limit: number;

  /** `limit`: nodes at most; half of the process's descriptors if not given. */
  constructor(limit = Math.min(MAX_NODES, Math.floor(descriptorLimit() / 2))) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#nodes.size;
  }

  /**
   * The node for an O_PATH descriptor, which is the table's from here on. Release it as often as it was given. Throws OsError:
   * ENFILE when there are too many.
   */
  adopt(fd: number): Entry {
    let kept = false;
    try {
      const status = statFile(fd);
      const device = status.deviceMajor * 2 ** 20 + status.deviceMinor;
      const key = `${device}:${status.ino}`;
      const known = this.#nodes.get(key);
      if (known !== undefined) {
        known.references++;
        status.ino = known.ino;
        return { node: known, status };
      }
      if (this.#nodes.size >= this.#limit) throw new OsError('node', ENFILE);
      const node = new Node(fd, key, status.type, status.ino, this.#deviceBits(device));
      status.ino = node.ino;
      this.#nodes.set(key, node);
      kept = true;
      return { node, status };
    } finally {
      if (!kept) closeDescriptor(fd);
    }
  }

  release(node: Node, count = 1): void {
    node.references -= count;
    if (node.references > 0) return;
    this.#nodes.delete(node.key);
    closeDescriptor(node.fd);
  }

  #deviceBits(device: number): bigint {
    let index = this.#devices.get(device);
    if (index === undefined) {
      index = this.#devices.size;
      this.#devices.set(device, index);
    }
    return BigInt.asUintN(64, BigInt(index) << DEVICE_SHIFT);
  }
}
