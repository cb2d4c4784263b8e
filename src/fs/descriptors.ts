/**
 * Descriptors of nodes. A client may know more files than a process may have descriptors: those that were not used for the longest
 * time are closed, and opened again by name, one directory after the other, when the client uses them. What is found so must be the
 * very file that it was.
 */
import { closeDescriptor } from '../host/descriptor.ts';
import { ELOOP, EMFILE, ENFILE, ENOENT, ENOTDIR, ESTALE, EXDEV, OsError } from '../host/errno.ts';
import { descriptorLimit, O_PATH, openEntry, reopen, statFile } from '../host/files.ts';
import { terminated } from './names.ts';
import { birthOf, CLOSED, isSame, type Name, type Node } from './node.ts';

/** What a name that has become false gives. */
const GONE: readonly number[] = [ENOENT, ENOTDIR, ELOOP, EXDEV];
/** Descriptors that are put aside at once where the process has none left: others in it need some, too. */
const ROOM = 32;

export class Descriptors {
  readonly #limit: number;
  /** Nodes whose descriptors may be put aside, the most recently used last. */
  readonly #recent = new Set<Node>();
  #last: Node | undefined;
  /** The one whose descriptor was asked for last. */
  #asked: Node | undefined;
  #open = 0;

  constructor(limit = Math.floor(descriptorLimit() / 2)) {
    this.#limit = limit;
  }

  /** A node's descriptor, opened again if it must be. That of the node that was asked for before stays open. Throws OsError. */
  of(node: Node): number {
    if (node.fd === CLOSED) this.#reopen(node);
    else this.#use(node);
    this.#asked = node;
    return node.fd;
  }

  /**
   * Calls what makes a descriptor of whatever kind. Where the process may have no more (files that are open count, too), others are put
   * aside for it. Throws OsError: EMFILE when there are none.
   */
  making(make: () => number): number {
    for (;;) {
      try {
        return make();
      } catch (error) {
        if (!(error instanceof OsError) || error.errno !== EMFILE || !this.#giveWay()) throw error;
      }
    }
  }

  /** Puts others' descriptors aside, but for the one used last, so that there is room for one more. Throws OsError ENFILE. */
  makeRoom(): void {
    while (this.#open >= this.#limit && this.#recent.size > 1) {
      const [oldest] = this.#recent;
      this.#putAside(oldest!);
    }
    if (this.#open - this.#recent.size >= this.#limit) throw new OsError('node', ENFILE);
  }

  /** The descriptor is the node's from here on. */
  give(node: Node, fd: number): void {
    node.fd = fd;
    this.#open++;
    this.#use(node);
  }

  close(node: Node): void {
    if (node.fd === CLOSED) return;
    closeDescriptor(node.fd);
    node.fd = CLOSED;
    this.#open--;
    this.#recent.delete(node);
    if (this.#last === node) this.#last = undefined;
  }

  /** Its names are others than before. */
  changed(node: Node): void {
    if (!node.kept) {
      if (node.fd !== CLOSED) this.#use(node);
      return;
    }
    this.#recent.delete(node);
    if (this.#last === node) this.#last = undefined;
  }

  #use(node: Node): void {
    if (node.kept || node === this.#last) return;
    this.#recent.delete(node);
    this.#recent.add(node);
    this.#last = node;
  }

  /** Puts the oldest ones aside, but for those in use. False: there are none. */
  #giveWay(): boolean {
    let given = 0;
    for (const node of this.#recent) {
      if (node === this.#asked || node === this.#last) continue;
      this.#putAside(node);
      if (node.fd === CLOSED) given++;
      if (given === ROOM) break;
    }
    return given > 0;
  }

  #putAside(node: Node): void {
    const status = statFile(node.fd);
    node.birth = birthOf(status);
    // Somebody on the host has removed it.
    if (status.nlink === 0) {
      node.kept = true;
      this.changed(node);
    } else {
      this.close(node);
    }
  }

  #reopen(node: Node): void {
    this.makeRoom();
    const [opened] = node.opened;
    if (opened !== undefined) {
      this.give(
        node,
        this.making(() => reopen(opened, O_PATH)),
      );
      return;
    }
    // The newest first.
    if (!node.names.toReversed().some((name) => this.#follow(name))) throw new OsError('node', ESTALE);
  }

  /** Opens a name's node, from the nearest directory above that has a descriptor. False: the name is false by now. Throws OsError. */
  #follow(name: Name): boolean {
    const way = [name];
    let directory = name.parent;
    while (directory.fd === CLOSED) {
      const [above] = directory.names;
      if (above === undefined) return false;
      way.push(above);
      directory = above.parent;
    }
    this.#use(directory);
    for (let next = way.pop(); next !== undefined; next = way.pop()) {
      const { node, parent, text } = next;
      const fd = this.#openNamed(parent.fd, text);
      // One on the way stays open if there is room.
      if (parent !== directory && this.#open >= this.#limit) this.close(parent);
      if (fd === undefined) return false;
      if (!isSame(node, statFile(fd))) {
        closeDescriptor(fd);
        return false;
      }
      this.give(node, fd);
    }
    return true;
  }

  #openNamed(directory: number, text: string): number | undefined {
    try {
      return this.making(() => openEntry(directory, terminated(Buffer.from(text, 'latin1'))));
    } catch (error) {
      if (error instanceof OsError && GONE.includes(error.errno)) return undefined;
      throw error;
    }
  }
}
