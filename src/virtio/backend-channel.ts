/** Messages between a back end and the main process: lines of JSON on a stream socket. This is the back end's end, which blocks. */
import { readSync, writeSync } from 'node:fs';
import type { Json } from './backend.ts';

/** A request of the main process. */
export interface ChannelRequest {
  readonly id: number;
  readonly request: Json;
}

/** What a back end says. */
export type ChannelMessage =
  /** Once: the device is there, and serves its queues. */
  | { readonly ready: true }
  | { readonly id: number; readonly answer: Json }
  | { readonly id: number; readonly error: string }
  /** A line for the user. */
  | { readonly log: string }
  | { readonly event: Json }
  /** The ISR status has got bits: the pin follows. */
  | { readonly interrupt: true }
  /** The last one: why the device ends. */
  | { readonly failed: string };

const NEWLINE = 0x0a;
const READ_SIZE = 64 * 1024;

export class BackendChannel {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(READ_SIZE);
  #rest = Buffer.alloc(0);

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** A main process that is gone is not told any more. */
  send(message: ChannelMessage): void {
    const bytes = Buffer.from(`${JSON.stringify(message)}\n`);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'EPIPE' && code !== 'ECONNRESET') throw error;
    }
  }

  /** Requests that are there, after the descriptor was ready; undefined: the main process has closed its end. */
  receive(): ChannelRequest[] | undefined {
    const count = this.#read();
    if (count === 0) return undefined;
    this.#rest = Buffer.concat([this.#rest, this.#buffer.subarray(0, count)]);
    const requests: ChannelRequest[] = [];
    for (let end = this.#rest.indexOf(NEWLINE); end >= 0; end = this.#rest.indexOf(NEWLINE)) {
      requests.push(JSON.parse(this.#rest.toString('utf8', 0, end)) as ChannelRequest);
      this.#rest = this.#rest.subarray(end + 1);
    }
    return requests;
  }

  #read(): number {
    try {
      return readSync(this.#fd, this.#buffer);
    } catch (error) {
      // Closed with something of ours unread.
      if ((error as NodeJS.ErrnoException).code === 'ECONNRESET') return 0;
      throw error;
    }
  }
}
