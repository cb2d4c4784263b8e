/** A file that a client knows. By its descriptor it stays the same file; by its names the descriptor is found again. */
import type { Statx } from '../host/statx.ts';

/** Node.fd while the descriptor is put aside. */
export const CLOSED = -1;

/** Where a node was found, as far as this server has heard. The directory is known as long as the name is. */
export interface Name {
  readonly node: Node;
  readonly parent: Node;
  /** Bytes, as latin1. */
  readonly text: string;
}

/** A file, directory, link or other. */
export class Node {
  /** O_PATH; CLOSED while it is put aside. To be had from Descriptors alone. */
  fd = CLOSED;
  /** Is the descriptor never put aside, as no name leads to the file? */
  kept = true;
  /** When the file was made, ns, while its descriptor is put aside: inode numbers are used again. */
  birth = 0n;
  /** The newest last. A directory has one at most. */
  readonly names: Name[] = [];
  /** Names in this directory that lead to nodes. */
  children: Map<string, Name> | undefined;
  /** S_IF*. */
  readonly type: number;
  /** As the client sees it. */
  readonly ino: bigint;
  /** What makes the host's inode numbers of its device into the client's, by exclusive or. */
  readonly device: bigint;
  readonly key: string;
  /** How often it was given out and not released. */
  references = 1;
  /** Descriptors of it by which the client has it open. */
  readonly opened: number[] = [];

  constructor(key: string, type: number, ino: bigint, device: bigint) {
    this.key = key;
    this.type = type;
    this.device = device;
    this.ino = ino ^ device;
  }
}

/** Number of the device that a file is on. */
export function deviceOf({ deviceMajor, deviceMinor }: Statx): number {
  return deviceMajor * 2 ** 20 + deviceMinor;
}

/** What no other file has as long as this one is there. */
export function keyOf(status: Statx): string {
  return `${deviceOf(status)}:${status.ino}`;
}

/** When a file was made, ns; 0 where its file system does not tell. */
export function birthOf({ btime }: Statx): bigint {
  return btime.seconds * 1_000_000_000n + BigInt(btime.nanoseconds);
}

/** Does a closed node have these attributes? Not all of them are to be the same: those that make it this file. */
export function isSame(node: Node, status: Statx): boolean {
  return node.key === keyOf(status) && node.type === status.type && node.birth === birthOf(status);
}
