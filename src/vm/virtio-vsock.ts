/** A machine's sockets between guest and host: the Unix socket where the host connects, and the connections of the guest. */
import { makeSocketFile, requireFree } from '../control/socket-file.ts';
import { closeDescriptor } from '../host/descriptor.ts';
import { EAGAIN, EPIPE, OsError } from '../host/errno.ts';
import { descriptorLimit } from '../host/files.ts';
import { connectTo, listenAt } from '../host/stream-socket.ts';
import { messageSocketPair, sendMessage } from '../host/unix-socket.ts';
import type { DeviceModel } from '../virtio/backend.ts';
import type { HostAnswer, VsockEvent } from '../virtio/vsock/backend.ts';
import { vsockModel } from '../virtio/vsock/model.ts';
import { ConfigError, type UserVsockConfig } from './config.ts';

/** Connections at the same time, at most, and descriptors that are left for everything else. */
const MAX_CONNECTIONS = 8192;
const OTHER_DESCRIPTORS = 512;
/** A service that is too busy to accept is asked again after this time, and so many times, ms. */
const RETRY_DELAY = 10;
const RETRIES = 200;

/** What a port of the host has behind the path. */
const portSuffix = (port: number): string => `_${port}`;

/**
 * The guest names only a port. The monitor makes the connection, so that the device's process needs neither the folder
 * with the sockets nor the call that makes one.
 */
export class VirtioVsock {
  readonly model: DeviceModel;
  readonly #path: string;
  readonly #answers: number;
  readonly #remove: () => void;
  #closed = false;

  /** Makes the socket at the path. Throws ConfigError, ControlError, OsError. */
  constructor({ path, cid }: UserVsockConfig) {
    requireFree(path, '--vsock', portSuffix(2 ** 32 - 1));
    this.#path = path;
    let listener = -1;
    try {
      this.#remove = makeSocketFile(path, () => {
        listener = listenAt(path);
      });
    } catch (error) {
      if (!(error instanceof OsError)) throw error;
      throw new ConfigError(`${path}: the socket cannot be made: ${error.message}: give another path with --vsock`);
    }
    const [mine, its] = messageSocketPair();
    this.#answers = mine;
    const connections = Math.min(MAX_CONNECTIONS, Math.max(descriptorLimit() - OTHER_DESCRIPTORS, 1));
    this.model = vsockModel({ cid, connections }, { listener, connections: its });
  }

  /** The device tells of a connection of the guest. */
  onEvent({ id, port }: VsockEvent): void {
    this.#connect(id, this.#path + portSuffix(port), RETRIES);
  }

  #connect(id: number, path: string, retries: number): void {
    if (this.#closed) return;
    const fd = this.#tryConnect(path);
    if (fd === -EAGAIN && retries > 0) {
      setTimeout(() => this.#connect(id, path, retries - 1), RETRY_DELAY);
      return;
    }
    const answer: HostAnswer = { id };
    try {
      sendMessage(this.#answers, Buffer.from(JSON.stringify(answer)), fd < 0 ? [] : [fd]);
    } catch (error) {
      // The device has ended, and with it the machine.
      if (!(error instanceof OsError && error.errno === EPIPE)) throw error;
    } finally {
      if (fd >= 0) closeDescriptor(fd);
    }
  }

  /** A descriptor, or a negated errno. */
  #tryConnect(path: string): number {
    try {
      return connectTo(path);
    } catch (error) {
      // No descriptor is left: to the guest, nobody is there.
      if (error instanceof OsError) return -error.errno;
      throw error;
    }
  }

  /** Takes the socket away. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#remove();
    closeDescriptor(this.#answers);
  }
}
