/** Which names the guest knows an address by: those that it asked for, and that were answered with the address. */
import { formatAddress, type IpAddress } from '../address.ts';

/** Programs use an answer for longer than its time to live: at least so long, ms. */
const LEAST = 10 * 60_000;
const MOST = 24 * 3600_000;
/** A guest that asks for everything forgets what it asked for first. */
const MAX_ADDRESSES = 4096;
const MAX_NAMES = 16;

export class KnownNames {
  /** By address; the names with the time when each is forgotten. The oldest first. */
  readonly #names = new Map<string, Map<string, number>>();

  /** `ttl`: seconds; `now`: ms. */
  learn(address: IpAddress, name: string, ttl: number, now: number): void {
    const key = formatAddress(address);
    const names = this.#names.get(key) ?? new Map<string, number>();
    names.delete(name);
    names.set(name, now + Math.min(Math.max(ttl * 1000, LEAST), MOST));
    if (names.size > MAX_NAMES) names.delete(names.keys().next().value as string);
    this.#names.delete(key);
    this.#names.set(key, names);
    if (this.#names.size > MAX_ADDRESSES) this.#names.delete(this.#names.keys().next().value as string);
  }

  of(address: IpAddress, now: number): string[] {
    const names = this.#names.get(formatAddress(address));
    return names === undefined ? [] : [...names].filter(([, until]) => until > now).map(([name]) => name);
  }

  forget(): void {
    this.#names.clear();
  }
}
