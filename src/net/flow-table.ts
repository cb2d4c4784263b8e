/** Flows by their two ends. */
import { type IpAddress, sameBytes } from './address.ts';

/** The two ends of a flow as the guest sees them. */
export interface FlowEnds {
  /** Hardware address of the guest. */
  readonly mac: Uint8Array;
  readonly guest: IpAddress;
  readonly guestPort: number;
  readonly remote: IpAddress;
  readonly remotePort: number;
}

/** A port of the guest, and how to get there. */
export interface GuestPort {
  readonly mac: Uint8Array;
  readonly address: IpAddress;
  readonly port: number;
}

/** Ports that connections of published ports seem to come from. */
const FIRST_EPHEMERAL = 32768;
const LAST_EPHEMERAL = 65535;

export class FlowTable<Flow extends { readonly ends: FlowEnds }> {
  /** By both ports. */
  readonly #buckets = new Map<number, Flow[]>();
  #nextPort = FIRST_EPHEMERAL;
  size = 0;

  find(guest: IpAddress, guestPort: number, remote: IpAddress, remotePort: number): Flow | undefined {
    const bucket = this.#buckets.get(keyOf(guestPort, remotePort));
    if (bucket === undefined) return undefined;
    for (const flow of bucket) {
      if (sameBytes(flow.ends.remote, remote) && sameBytes(flow.ends.guest, guest)) return flow;
    }
    return undefined;
  }

  /** One with the same ends is not there yet. */
  add(flow: Flow): void {
    const key = keyOf(flow.ends.guestPort, flow.ends.remotePort);
    this.#buckets.set(key, [...(this.#buckets.get(key) ?? []), flow]);
    this.size++;
  }

  remove(flow: Flow): void {
    const key = keyOf(flow.ends.guestPort, flow.ends.remotePort);
    const bucket = this.#buckets.get(key) ?? [];
    const rest = bucket.filter((other) => other !== flow);
    this.size -= bucket.length - rest.length;
    if (rest.length > 0) this.#buckets.set(key, rest);
    else this.#buckets.delete(key);
  }

  all(): Flow[] {
    return [...this.#buckets.values()].flat();
  }

  /** A port of `remote` that has no flow to the guest's port; undefined: all have. */
  freePort(guest: IpAddress, guestPort: number, remote: IpAddress): number | undefined {
    for (let left = LAST_EPHEMERAL - FIRST_EPHEMERAL; left >= 0; left--) {
      const port = this.#nextPort;
      this.#nextPort = port === LAST_EPHEMERAL ? FIRST_EPHEMERAL : port + 1;
      if (this.find(guest, guestPort, remote, port) === undefined) return port;
    }
    return undefined;
  }
}

function keyOf(guestPort: number, remotePort: number): number {
  return guestPort * 65536 + remotePort;
}
