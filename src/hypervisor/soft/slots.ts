import { fstatSync } from 'node:fs';
import * as L from '../../cpu/x86_64/layout.ts';
import { mapInto, unmapFrom } from '../../host/memory.ts';
import type { MemorySlot } from '../hypervisor.ts';
import { SharedTable } from './shared-table.ts';

/** Guest memory as the machine itself reaches it. */
export interface GuestBytes {
  /** `length` bytes at a guest-physical address, if they are in one slot. */
  at(address: number, length: number): DataView | undefined;
}

/** The slots of a machine, in memory that all its threads share. Every vCPU maps them into its own memory. */
export class SlotTable {
  readonly #table: SharedTable;

  constructor(buffer?: SharedArrayBuffer) {
    this.#table = new SharedTable(L.SLOTS_MAX, 6, buffer);
  }

  get buffer(): SharedArrayBuffer {
    return this.#table.buffer;
  }

  /** Changes with every set(). */
  get version(): number {
    return this.#table.version;
  }

  /** Throws RangeError on a slot number or range that cannot be. */
  set(slot: MemorySlot): void {
    if (!Number.isInteger(slot.slot) || slot.slot < 0 || slot.slot >= L.SLOTS_MAX) {
      throw new RangeError(`memory slot ${slot.slot}: numbers are 0 to ${L.SLOTS_MAX - 1}`);
    }
    for (const value of [slot.guestAddress, slot.size, slot.fdOffset]) {
      if (!Number.isSafeInteger(value) || value < 0 || value % 4096 !== 0) {
        throw new RangeError(`memory slot ${slot.slot}: ${value} is not a multiple of 4096`);
      }
    }
    this.#table.exclusive(() => {
      for (const other of this.#all()) {
        if (other.slot === slot.slot || slot.size === 0) continue;
        if (slot.guestAddress < other.guestAddress + other.size && other.guestAddress < slot.guestAddress + slot.size) {
          throw new RangeError(`memory slot ${slot.slot} overlaps slot ${other.slot}`);
        }
      }
      this.#table.setRow(slot.slot, [
        slot.guestAddress,
        slot.size,
        slot.fd,
        slot.fdOffset,
        slot.readOnly ? 1 : 0,
        slot.deviceWrites ?? -1,
      ]);
    });
  }

  list(): MemorySlot[] {
    return this.#table.exclusive(() => this.#all());
  }

  #all(): MemorySlot[] {
    const slots: MemorySlot[] = [];
    for (let slot = 0; slot < this.#table.rows; slot++) {
      const [guestAddress = 0, size = 0, fd = -1, fdOffset = 0, readOnly, deviceWrites = -1] = this.#table.row(slot);
      if (size === 0) continue;
      const writes = deviceWrites < 0 ? {} : { deviceWrites };
      slots.push({ slot, guestAddress, size, fd, fdOffset, readOnly: readOnly === 1, ...writes });
    }
    return slots;
  }
}

interface Mapped extends MemorySlot {
  readonly host: number;
}

const sameSlot = (a: MemorySlot, b: MemorySlot): boolean =>
  a.guestAddress === b.guestAddress &&
  a.size === b.size &&
  a.fd === b.fd &&
  a.fdOffset === b.fdOffset &&
  a.readOnly === b.readOnly;

/** The slots as one vCPU has them mapped, above RAM_BASE in its memory. */
export class SlotMap implements GuestBytes {
  readonly #buffer: ArrayBuffer;
  readonly #view: DataView;
  readonly #mapped = new Map<number, Mapped>();
  /** The file that is mapped at DEVICE_WRITES. */
  #deviceWrites: number | undefined;

  constructor(buffer: ArrayBuffer) {
    this.#buffer = buffer;
    this.#view = new DataView(buffer);
  }

  /** Maps what is new, unmaps what is gone. Throws when the slots are larger than the processor's memory. */
  update(slots: readonly MemorySlot[]): void {
    for (const mapped of [...this.#mapped.values()]) {
      const wanted = slots.find((slot) => slot.slot === mapped.slot);
      if (wanted && sameSlot(wanted, mapped)) continue;
      unmapFrom(this.#buffer, mapped.host, mapped.size);
      this.#mapped.delete(mapped.slot);
    }
    this.#mapDeviceWrites(slots);
    for (const slot of slots) {
      if (this.#mapped.has(slot.slot)) continue;
      const host = this.#place(slot.size);
      mapInto(this.#buffer, host, slot.fd, slot.fdOffset, slot.size);
      this.#mapped.set(slot.slot, { ...slot, host });
    }
    this.#writeTable();
  }

  /** All slots with counts have them in one file. */
  #mapDeviceWrites(slots: readonly MemorySlot[]): void {
    const fd = slots.find(({ deviceWrites }) => deviceWrites !== undefined)?.deviceWrites;
    if (fd === undefined || fd === this.#deviceWrites) return;
    mapInto(this.#buffer, L.DEVICE_WRITES, fd, 0, Math.min(fstatSync(fd).size, L.DEVICE_WRITES_SIZE));
    this.#deviceWrites = fd;
  }

  /** Lowest free range above RAM_BASE. */
  #place(size: number): number {
    const taken = [...this.#mapped.values()].sort((a, b) => a.host - b.host);
    let at = L.RAM_BASE;
    for (const slot of taken) {
      if (at + size <= slot.host) break;
      at = slot.host + slot.size;
    }
    if (at + size > 2 ** 32) throw new RangeError('guest memory is larger than the built-in processor can hold');
    return at;
  }

  #writeTable(): void {
    const view = this.#view;
    let at = L.SLOTS;
    view.setUint32(L.SLOT_COUNT, this.#mapped.size, true);
    for (const slot of this.#mapped.values()) {
      view.setBigUint64(at + L.SLOT_O_START, BigInt(slot.guestAddress), true);
      view.setBigUint64(at + L.SLOT_O_SIZE, BigInt(slot.size), true);
      view.setUint32(at + L.SLOT_O_HOST, slot.host, true);
      view.setUint32(at + L.SLOT_O_FLAGS, slot.readOnly ? 1 : 0, true);
      const counts = slot.deviceWrites === undefined ? 0 : L.DEVICE_WRITES + (slot.fdOffset / 4096) * 2;
      view.setUint32(at + L.SLOT_O_WRITES, counts, true);
      at += L.SLOT_SIZE;
    }
  }

  at(address: number, length: number): DataView | undefined {
    const slot = this.#find(address, length);
    return slot && new DataView(this.#buffer, slot.host + address - slot.guestAddress, length);
  }

  #find(address: number, length: number): Mapped | undefined {
    for (const slot of this.#mapped.values()) {
      if (address >= slot.guestAddress && address + length <= slot.guestAddress + slot.size) return slot;
    }
    return undefined;
  }

  /** Guest-physical address of a byte in the processor's memory. */
  guestAddress(host: number): number | undefined {
    for (const slot of this.#mapped.values()) {
      if (host >= slot.host && host < slot.host + slot.size) return slot.guestAddress + host - slot.host;
    }
    return undefined;
  }
}
