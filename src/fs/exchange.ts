import type { HostRange } from '../disk/iovec.ts';

/** A request with the room for its answer: a chain of a virtqueue. */
export interface Exchange {
  readonly readable: readonly HostRange[];
  readonly writable: readonly HostRange[];
  /** Bytes. */
  readonly readableLength: number;
  readonly writableLength: number;
  /** Copies readable bytes from `offset` on. Returns how many there were. The client may change them at any time. */
  read(target: Uint8Array, offset?: number): number;
  /** Copies over writable bytes from `offset` on. Returns how many there was room for. */
  write(source: Uint8Array, offset?: number): number;
}

/** A client's session of either protocol. */
export interface FileSession {
  /**
   * Serves one request. `reply` is called once, with the bytes of the answer, before this returns; or later, when the request
   * waits for a lock.
   */
  serve(exchange: Exchange, reply: (written: number) => void): void;
  /** Gives back all that the client holds. Requests that wait are not answered any more. */
  reset(): void;
}
