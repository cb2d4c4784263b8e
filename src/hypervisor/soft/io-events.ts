import { signalEvent } from '../../host/eventfd.ts';
import type { HostEvent, IoEventAddress } from '../hypervisor.ts';
import { SharedTable } from './shared-table.ts';

/** Notification addresses of a machine at most. */
const ROWS = 512;

interface IoEvent {
  readonly fd: number;
  readonly mmio: boolean;
  readonly address: number;
  /** 0: any. */
  readonly length: number;
  readonly match: bigint | undefined;
}

/** Addresses whose writes signal an event instead of leaving run() (KVM_IOEVENTFD), shared by all threads. */
export class IoEventTable {
  readonly #table: SharedTable;
  #version = -1;
  #byAddress = new Map<string, IoEvent[]>();

  constructor(buffer?: SharedArrayBuffer) {
    this.#table = new SharedTable(ROWS, 8, buffer);
  }

  get buffer(): SharedArrayBuffer {
    return this.#table.buffer;
  }

  /** Throws RangeError when the same address is taken or the table is full. */
  add(event: HostEvent, where: IoEventAddress): void {
    this.#table.exclusive(() => {
      let free = -1;
      for (let i = 0; i < this.#table.rows; i++) {
        const row = this.#row(i);
        if (!row) {
          if (free < 0) free = i;
        } else if (this.#same(row, where)) {
          throw new RangeError(`${where.space} 0x${where.address.toString(16)} has an event already`);
        }
      }
      if (free < 0) throw new RangeError(`more than ${ROWS} notification addresses`);
      const match = where.dataMatch;
      const [low, high] =
        match === undefined ? [0, 0] : [Number(match & 0xffffffffn), Number(BigInt.asUintN(64, match) >> 32n)];
      this.#table.setRow(free, [
        1,
        event.fd,
        where.space === 'mmio' ? 1 : 0,
        where.address,
        where.length,
        match === undefined ? 0 : 1,
        low,
        high,
      ]);
    });
  }

  /** Throws RangeError when it was not there. */
  remove(event: HostEvent, where: IoEventAddress): void {
    this.#table.exclusive(() => {
      for (let i = 0; i < this.#table.rows; i++) {
        const row = this.#row(i);
        if (row && row.fd === event.fd && this.#same(row, where)) {
          this.#table.setRow(i, new Array(8).fill(0));
          return;
        }
      }
      throw new RangeError(`${where.space} 0x${where.address.toString(16)} has no such event`);
    });
  }

  /** Signals the events of a write; false when it has none. */
  signal(space: 'pio' | 'mmio', address: number, size: number, data: DataView): boolean {
    if (this.#version !== this.#table.version) this.#refresh();
    if (this.#byAddress.size === 0) return false;
    const events = this.#byAddress.get(`${space}:${address}`);
    const event = events?.find(
      (e) => (e.length === 0 || e.length === size) && (e.match === undefined || e.match === value(data, size)),
    );
    if (!event) return false;
    signalEvent(event.fd);
    return true;
  }

  #same(row: IoEvent, where: IoEventAddress): boolean {
    return (
      row.mmio === (where.space === 'mmio') &&
      row.address === where.address &&
      row.length === where.length &&
      row.match === where.dataMatch
    );
  }

  #row(index: number): IoEvent | undefined {
    const [used, fd = -1, mmio, address = 0, length = 0, hasMatch, low = 0, high = 0] = this.#table.row(index);
    if (used !== 1) return undefined;
    const match = hasMatch === 1 ? (BigInt(high) << 32n) | BigInt(low) : undefined;
    return { fd, mmio: mmio === 1, address, length, match };
  }

  #refresh(): void {
    this.#table.exclusive(() => {
      this.#version = this.#table.version;
      this.#byAddress = new Map();
      for (let i = 0; i < this.#table.rows; i++) {
        const row = this.#row(i);
        if (!row) continue;
        const key = `${row.mmio ? 'mmio' : 'pio'}:${row.address}`;
        const events = this.#byAddress.get(key);
        if (events) events.push(row);
        else this.#byAddress.set(key, [row]);
      }
    });
  }
}

function value(data: DataView, size: number): bigint {
  if (size === 1) return BigInt(data.getUint8(0));
  if (size === 2) return BigInt(data.getUint16(0, true));
  if (size === 4) return BigInt(data.getUint32(0, true));
  return data.getBigUint64(0, true);
}
