/** What answers register accesses. Every access is total: any offset, and any length from 1 to 8, has an answer. */
export interface BusDevice {
  /** Fills `data` from the registers at `offset`. Bytes that no register has are left as they are. */
  read(offset: number, data: Uint8Array): void;
  write(offset: number, data: Uint8Array): void;
}

/** Two devices want the same addresses. */
export class BusOverlapError extends Error {
  override readonly name = 'BusOverlapError';
}

export interface BusEntry {
  readonly start: number;
  /** First address after the range. */
  readonly end: number;
  readonly device: BusDevice;
}

/** Ranges of addresses that the guest can move. */
export interface MovableEntries {
  /** Who has `address` now. */
  find(address: number): BusEntry | undefined;
}

/** An address space: half-open ranges of addresses, none overlapping, each with its device. */
export class Bus {
  /** Sorted by start. */
  readonly #entries: BusEntry[] = [];
  /** Guests mostly stay at one device. */
  #last: BusEntry | undefined;
  #movable: MovableEntries | undefined;

  /** Gives `size` addresses from `start` on to a device. Throws BusOverlapError, or RangeError for an impossible range. */
  insert(start: number, size: number, device: BusDevice): void {
    const end = start + size;
    if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || size <= 0) {
      throw new RangeError(`no range of addresses: ${start}, ${size} long`);
    }
    const other = this.#overlapping(start, end);
    if (other !== undefined) {
      throw new BusOverlapError(`${range(start, end)} overlaps ${range(other.start, other.end)}`);
    }
    this.#entries.splice(this.#upperBound(start), 0, { start, end, device });
  }

  /** Where no inserted range is, `movable` is asked. */
  setMovable(movable: MovableEntries): void {
    this.#movable = movable;
  }

  /** Does no inserted range have any of these addresses? */
  isFree(start: number, size: number): boolean {
    return this.#overlapping(start, start + size) === undefined;
  }

  /** Reads from whoever has `address`; offset = address - start. Nobody: `data` stays as it is, and the answer is false. */
  read(address: number, data: Uint8Array): boolean {
    const entry = this.#find(address);
    entry?.device.read(address - entry.start, data);
    return entry !== undefined;
  }

  /** Writes to whoever has `address`; false: nobody. */
  write(address: number, data: Uint8Array): boolean {
    const entry = this.#find(address);
    entry?.device.write(address - entry.start, data);
    return entry !== undefined;
  }

  #find(address: number): BusEntry | undefined {
    const last = this.#last;
    if (last !== undefined && address >= last.start && address < last.end) return last;
    const entry = this.#entries[this.#upperBound(address) - 1];
    if (entry === undefined || address >= entry.end) return this.#movable?.find(address);
    this.#last = entry;
    return entry;
  }

  #overlapping(start: number, end: number): BusEntry | undefined {
    const index = this.#upperBound(start);
    const before = this.#entries[index - 1];
    if (before !== undefined && before.end > start) return before;
    const after = this.#entries[index];
    return after !== undefined && after.start < end ? after : undefined;
  }

  /** Index of the first entry that starts after `address`. */
  #upperBound(address: number): number {
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#entries[middle] as BusEntry).start <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function range(start: number, end: number): string {
  return `0x${start.toString(16)}-0x${(end - 1).toString(16)}`;
}
