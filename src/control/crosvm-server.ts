/** The socket for crosvm's own clients: datagrams, watched by a thread, served in the main one. */
import { DatagramSocket } from '../host/datagram-socket.ts';
import { EPOLLIN } from '../host/epoll.ts';
import { OsError } from '../host/errno.ts';
import type { Poller } from '../host/poller.ts';
import { BadRequest, REQUEST_SIZE, serveRequest } from './crosvm-protocol.ts';
import { ControlError, type ControlledMachine } from './machine.ts';
import { makeSocketFile, requireFree } from './socket-file.ts';

/** Datagrams taken at a time: the machine has other things to do. */
const BATCH = 16;

export class CrosvmServer {
  readonly path: string;
  readonly #socket: DatagramSocket;
  readonly #remove: () => void;
  readonly #log: (line: string) => void;
  #logged = false;
  #unwatch: () => void = () => {};

  /** Makes the socket; requests wait for serve(). `log` is told of the first that is none. Throws ControlError, OsError. */
  constructor(path: string, log: (line: string) => void) {
    requireFree(path);
    this.path = path;
    this.#log = log;
    this.#socket = new DatagramSocket();
    try {
      this.#remove = makeSocketFile(path, () => this.#socket.bind(path));
    } catch (error) {
      this.#socket.close();
      if (error instanceof OsError) throw new ControlError(409, `${path}: the socket cannot be made: ${error.message}`);
      throw error;
    }
  }

  /** Answers requests from now on. */
  serve(machine: ControlledMachine, poller: Poller): void {
    const token = poller.watch(this.#socket.fd, EPOLLIN, () => this.#take(machine));
    this.#unwatch = () => poller.unwatch(token);
  }

  close(): void {
    this.#unwatch();
    this.#socket.close();
    this.#remove();
  }

  #take(machine: ControlledMachine): void {
    for (let taken = 0; taken < BATCH; taken++) {
      const datagram = this.#socket.receive(REQUEST_SIZE);
      if (datagram === undefined) return;
      void this.#answer(machine, datagram.bytes, datagram.length, datagram.sender);
    }
  }

  async #answer(
    machine: ControlledMachine,
    bytes: Buffer,
    length: number,
    sender: Uint8Array | undefined,
  ): Promise<void> {
    try {
      const response = await serveRequest(machine, bytes, length);
      // crosvm's client of 2018 has no address, and waits for nothing.
      if (sender !== undefined) this.#socket.send(response, sender);
    } catch (error) {
      if (!(error instanceof BadRequest || error instanceof OsError)) throw error;
      if (this.#logged) return;
      this.#logged = true;
      this.#log(`${this.path}: ${error.message}`);
    }
  }
}
