/** The clients of the 9P server: each has a session, and a file server, of its own. */
import { FileServer } from '../fs/server.ts';
import type { SharedDirectory } from '../fs/shared-directory.ts';
import { closeDescriptor } from '../host/descriptor.ts';
import { EPOLLIN } from '../host/epoll.ts';
import { EAGAIN, OsError } from '../host/errno.ts';
import type { EventLoop } from '../host/event-loop.ts';
import { descriptorLimit, openStart } from '../host/files.ts';
import { acceptTcp } from '../host/socket.ts';
import { acceptStream } from '../host/stream-socket.ts';
import { acceptVsock } from '../host/vsock-socket.ts';
import { Connection } from './connection.ts';

/** At the same time; more wait until one has gone. */
const MAX_CLIENTS = 16;
/** Where no descriptor is to be had, it is tried again after so many milliseconds. */
const RETRY_MS = 100;

/** What is served, and to whom. */
export interface Service {
  readonly directory: Pick<SharedDirectory, 'path' | 'readOnly' | 'uid' | 'gid'>;
  readonly family: 'unix' | 'tcp' | 'vsock';
  /** The only machine that may connect, by vsock. */
  readonly acceptCid: number | null;
}

export class Clients {
  readonly #loop: EventLoop;
  readonly #listener: number;
  readonly #service: Service;
  readonly #connections = new Set<Connection>();
  /** Half of the descriptors are for nodes, as with one client. */
  readonly #maxDescriptors = Math.floor(descriptorLimit() / 2 / MAX_CLIENTS);
  #listening = false;

  /** `listener`: a socket that waits for connections and does not block. */
  constructor(loop: EventLoop, listener: number, service: Service) {
    this.#loop = loop;
    this.#listener = listener;
    this.#service = service;
    this.#listen();
  }

  #listen(): void {
    if (this.#listening || this.#connections.size >= MAX_CLIENTS) return;
    this.#listening = true;
    this.#loop.watch(this.#listener, EPOLLIN, () => this.#accept());
  }

  #pause(): void {
    this.#listening = false;
    this.#loop.unwatch(this.#listener);
  }

  #accept(): void {
    const fd = this.#next();
    if (fd === undefined || fd === -EAGAIN) return;
    if (fd < 0) return this.#later();
    try {
      const { directory } = this.#service;
      const server = new FileServer(openStart(directory.path), { ...directory, maxDescriptors: this.#maxDescriptors });
      const connection: Connection = new Connection(this.#loop, fd, server, () => {
        this.#connections.delete(connection);
        this.#listen();
      });
      this.#connections.add(connection);
      if (this.#connections.size >= MAX_CLIENTS) this.#pause();
    } catch (error) {
      closeDescriptor(fd);
      if (!(error instanceof OsError)) throw error;
      this.#later();
    }
  }

  /** Who connects next: a descriptor, or the negated errno; undefined: somebody who may not. */
  #next(): number | undefined {
    const { family, acceptCid } = this.#service;
    if (family === 'unix') return acceptStream(this.#listener);
    const accepted = family === 'tcp' ? acceptTcp(this.#listener) : acceptVsock(this.#listener);
    if (typeof accepted === 'number') return accepted;
    if (!('cid' in accepted) || accepted.cid === acceptCid) return accepted.fd;
    closeDescriptor(accepted.fd);
    return undefined;
  }

  #later(): void {
    this.#pause();
    this.#loop.after(RETRY_MS, () => this.#listen());
  }

  close(): void {
    for (const connection of [...this.#connections]) connection.close();
  }
}
