/** Which frames the driver wants to see (virtio 1.2, 5.1.6.5.1 and 5.1.6.5.2). */

const MAC_SIZE = 6;
/** Addresses of a table: with more, all of its kind are let through. */
const MAX_TABLE = 64;

export class FrameFilter {
  /** Until the driver says something else. */
  promiscuous = true;
  allMulticast = false;
  #mac: string;
  #unicast: ReadonlySet<string> | undefined = new Set();
  #multicast: ReadonlySet<string> | undefined = new Set();

  constructor(mac: Uint8Array) {
    this.#mac = keyOf(mac);
  }

  set mac(mac: Uint8Array) {
    this.#mac = keyOf(mac);
  }

  /** Two tables, each with the number of its addresses (32 bits) before it. False: they are malformed. */
  setTables(data: Uint8Array): boolean {
    const unicast = readTable(data, 0);
    if (unicast === undefined) return false;
    const multicast = readTable(data, unicast.end);
    if (multicast?.end !== data.length) return false;
    this.#unicast = unicast.addresses;
    this.#multicast = multicast.addresses;
    return true;
  }

  /** `head`: the frame's first bytes. */
  accepts(head: Uint8Array): boolean {
    if (this.promiscuous) return true;
    const first = head[0] as number;
    const key = keyOf(head);
    if (key === 'ffffffffffff') return true;
    if ((first & 1) === 0) return key === this.#mac || this.#unicast === undefined || this.#unicast.has(key);
    return this.allMulticast || this.#multicast === undefined || this.#multicast.has(key);
  }
}

function keyOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, MAC_SIZE).toString('hex');
}

/** Addresses, undefined where there are too many to tell them apart. */
function readTable(
  data: Uint8Array,
  start: number,
): { readonly addresses: ReadonlySet<string> | undefined; readonly end: number } | undefined {
  if (start + 4 > data.length) return undefined;
  const count = new DataView(data.buffer, data.byteOffset).getUint32(start, true);
  const end = start + 4 + count * MAC_SIZE;
  if (end > data.length) return undefined;
  if (count > MAX_TABLE) return { addresses: undefined, end };
  const one = (i: number): string => keyOf(data.subarray(start + 4 + i * MAC_SIZE));
  return { addresses: new Set(Array.from({ length: count }, (_, i) => one(i))), end };
}
