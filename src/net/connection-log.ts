/** The log of the guest's connections: a JSON object a line. */
import { libc } from '../host/ffi.ts';

const write = libc('intptr_t write(int fd, void *buf, size_t count)');

/** Lines in a second, at most: a guest must not fill the host's disk as fast as it can send packets. */
const LINES_PER_SECOND = 1000;

/** What is told of a connection. */
export interface ConnectionEvent {
  /** `open`, `close`, `deny`, `fail`, `accept` (of a published port), `query` and `refuse` (of names). */
  readonly event: string;
  readonly protocol: string;
  readonly [field: string]: string | number | readonly string[] | undefined;
}

export class ConnectionLog {
  readonly #fd: number | undefined;
  #second = 0;
  #lines = 0;
  #lost = 0;

  /** Without a descriptor nothing is written. It is open for appending. */
  constructor(fd: number | undefined) {
    this.#fd = fd;
  }

  add(event: ConnectionEvent): void {
    if (this.#fd === undefined) return;
    const time = Date.now();
    const second = Math.floor(time / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#lines = 0;
      if (this.#lost > 0) this.#write({ time: new Date(time).toISOString(), event: 'lost', lines: this.#lost });
      this.#lost = 0;
    }
    if (this.#lines >= LINES_PER_SECOND) {
      this.#lost++;
      return;
    }
    this.#write({ time: new Date(time).toISOString(), ...event });
  }

  #write(line: object): void {
    this.#lines++;
    const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
    // A full disk costs lines of the log, not the guest's connections.
    if (write(this.#fd as number, bytes, bytes.length) < 0) this.#lost++;
  }
}
