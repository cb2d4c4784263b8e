/** Whose files are whose: user and group ids of the host and of the guest. */
import { EPERM, OsError } from '../host/errno.ts';

/** What the guest is shown as the owner of files whose owner it cannot name: `nobody`. */
const OVERFLOW_ID = 65534;
/** As an id in a request: no change. */
export const KEEP_ID = 0xffff_ffff;

/**
 * Users, or groups. With `guest` given, the guest knows the server's own id by that number; other ids are the same on both sides,
 * but for the two that would be taken twice.
 */
export class IdMap {
  readonly #server: number;
  readonly #guest: number;

  constructor(server: number, guest: number | null | undefined) {
    this.#server = server;
    this.#guest = guest ?? server;
  }

  toGuest(id: number): number {
    if (id === this.#server) return this.#guest;
    return id === this.#guest ? OVERFLOW_ID : id;
  }

  /** Throws OsError EPERM for an id that nobody on the host has. */
  toHost(id: number): number {
    if (id === KEEP_ID) return id;
    if (id === this.#guest) return this.#server;
    if (id === this.#server) throw new OsError('id', EPERM);
    return id;
  }
}
