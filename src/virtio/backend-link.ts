/** The main process's end of the channel to a back end. */
import { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { Json } from './backend.ts';
import type { ChannelMessage } from './backend-channel.ts';

/** What a back end tells without being asked. */
export interface LinkEvents {
  readonly log: (line: string) => void;
  readonly event: (message: Json) => void;
  /** The ISR status has got bits. */
  readonly interrupt: () => void;
}

/** A back end that has ended, as its thread or process told before: one line. */
export class BackendError extends Error {
  override readonly name = 'BackendError';
}

export class BackendLink {
  /** Resolves when the device serves its queues; rejects with a BackendError when it never will. */
  readonly ready: Promise<void>;
  /** What it said of its end. */
  failure: string | undefined;
  readonly #socket: Socket;
  readonly #events: LinkEvents;
  readonly #ready = Promise.withResolvers<void>();
  readonly #requests = new Map<number, PromiseWithResolvers<Json>>();
  readonly #closed: Promise<void>;
  #nextId = 0;

  /** Takes the descriptor, a Unix stream socket. */
  constructor(fd: number, events: LinkEvents) {
    this.#events = events;
    this.ready = this.#ready.promise;
    // Whoever waits for it is told; that nobody does is no reason to end.
    this.ready.catch(() => {});
    this.#socket = new Socket({ fd, readable: true, writable: true });
    // A peer that is gone is what 'close' tells.
    this.#socket.on('error', () => {});
    const lines = createInterface({ input: this.#socket });
    lines.on('line', (line) => this.#receive(JSON.parse(line) as ChannelMessage));
    lines.on('error', () => {});
    this.#closed = new Promise((resolve) =>
      this.#socket.once('close', () => {
        this.#end();
        resolve();
      }),
    );
  }

  /** Asks the back end. Rejects with the Error that it answers, and when it ends before. */
  request(message: Json): Promise<Json> {
    if (!this.#socket.writable) return Promise.reject(this.#ended());
    const id = this.#nextId++;
    const answer = Promise.withResolvers<Json>();
    this.#requests.set(id, answer);
    this.#socket.write(`${JSON.stringify({ id, request: message })}\n`);
    return answer.promise;
  }

  /** Tells the back end that it is over. Resolves when it has closed its end. */
  async close(): Promise<void> {
    this.#socket.end();
    await this.#closed;
  }

  /** Does not wait for the back end. */
  destroy(): void {
    this.#socket.destroy();
  }

  #receive(message: ChannelMessage): void {
    if ('interrupt' in message) this.#events.interrupt();
    else if ('ready' in message) this.#ready.resolve();
    else if ('log' in message) this.#events.log(message.log);
    else if ('event' in message) this.#events.event(message.event);
    else if ('failed' in message) this.failure ??= message.failed;
    else {
      const request = this.#requests.get(message.id);
      this.#requests.delete(message.id);
      if ('error' in message) request?.reject(new Error(message.error));
      else request?.resolve(message.answer);
    }
  }

  #ended(): BackendError {
    return new BackendError(this.failure ?? 'it ended');
  }

  #end(): void {
    const error = this.#ended();
    this.#ready.reject(error);
    for (const request of this.#requests.values()) request.reject(error);
    this.#requests.clear();
  }
}
