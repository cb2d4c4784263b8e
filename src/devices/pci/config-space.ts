import { DeviceState, type LineCallback, type SharedRange } from '../device-state.ts';
import { type BarDescription, barAddress, barFlags, checkBars } from './bar.ts';

/** Bytes of configuration space: the first 256 are those of mechanism #1. */
export const CONFIG_SIZE = 4096;
const BASIC_CONFIG_SIZE = 256;
const WORDS_SIZE = 64;
export const CONFIG_SPACE_STATE_SIZE = WORDS_SIZE + CONFIG_SIZE;

// Type 0 header (PCI Local Bus 3.0, 6.1).
const VENDOR_ID = 0x00;
const DEVICE_ID = 0x02;
const COMMAND = 0x04;
const STATUS = 0x06;
const REVISION_ID = 0x08;
const CLASS_CODE = 0x09;
const CACHE_LINE_SIZE = 0x0c;
const BAR0 = 0x10;
const SUBSYSTEM_VENDOR_ID = 0x2c;
const SUBSYSTEM_ID = 0x2e;
const CAPABILITIES_POINTER = 0x34;
const INTERRUPT_LINE = 0x3c;
const INTERRUPT_PIN = 0x3d;
const HEADER_END = 0x40;

export const COMMAND_IO = 0x0001;
export const COMMAND_MEMORY = 0x0002;
export const COMMAND_BUS_MASTER = 0x0004;
const COMMAND_PARITY = 0x0040;
const COMMAND_SERR = 0x0100;
const COMMAND_INTX_DISABLE = 0x0400;
const STATUS_INTX = 0x0008;
const STATUS_CAPABILITIES = 0x0010;

const CAPABILITY_MSIX = 0x11;
/** Message control's enable bit, in the capability's fourth byte. */
const MSIX_ENABLE = 0x80;

/** The level that the INTx line was last told. */
const W_LINE = 1;

/** What a function is. */
export interface ConfigDescription {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly revisionId?: number;
  /** Base class, subclass and interface: 24 bits. */
  readonly classCode: number;
  readonly subsystemVendorId?: number;
  readonly subsystemId?: number;
  readonly bars?: readonly BarDescription[];
  /** The interrupt pin, 0 (INTA) to 3 (INTD), and its line. */
  readonly intx?: { readonly pin: number; readonly line: LineCallback };
}

/** A capability: what follows its id and the pointer to the next one. */
export interface Capability {
  /** Capability id. */
  readonly id: number;
  /** Contents from the third byte on. */
  readonly body: Uint8Array;
  /** Bits of the contents that the guest can write, as long as `body`; absent: none. */
  readonly writable?: Uint8Array;
  /**
   * Called before the guest reads `length` bytes from `offset` on (0: the id) of the capability, so that they can be renewed
   * with poke().
   */
  readonly beforeRead?: (offset: number, length: number) => void;
  /** Called after the guest wrote such bytes. Both are called without the configuration space's lock. */
  readonly afterWrite?: (offset: number, length: number) => void;
}

interface PlacedCapability extends Capability {
  readonly start: number;
  readonly end: number;
}

/**
 * Configuration space of a function with a type 0 header. The registers are shared; what they are made of (sizes,
 * bits that can be written) is the same in every thread, as every thread builds the same function.
 */
export class ConfigSpace {
  readonly bars: readonly BarDescription[];
  readonly #state: DeviceState;
  readonly #bytes: Uint8Array;
  /** Contents at power-on. */
  readonly #image = new Uint8Array(CONFIG_SIZE);
  /** Bits that the guest can write. */
  readonly #mask = new Uint8Array(CONFIG_SIZE);
  readonly #capabilities: PlacedCapability[] = [];
  readonly #line: LineCallback | undefined;
  /** Where the byte with the last capability's pointer to the next is. */
  #lastPointer = CAPABILITIES_POINTER;
  #nextFree = HEADER_END;
  #msixControl: number | undefined;

  /** `range` has CONFIG_SPACE_STATE_SIZE bytes. Throws RangeError for BARs that cannot be. */
  constructor(range: SharedRange, description: ConfigDescription) {
    this.bars = description.bars ?? [];
    checkBars(this.bars);
    this.#state = new DeviceState(range, WORDS_SIZE);
    this.#bytes = new Uint8Array(range.buffer, range.offset + WORDS_SIZE, CONFIG_SIZE);
    this.#line = description.intx?.line;
    put(this.#image, VENDOR_ID, 2, description.vendorId);
    put(this.#image, DEVICE_ID, 2, description.deviceId);
    put(this.#image, REVISION_ID, 1, description.revisionId ?? 0);
    put(this.#image, CLASS_CODE, 3, description.classCode);
    put(this.#image, SUBSYSTEM_VENDOR_ID, 2, description.subsystemVendorId ?? 0);
    put(this.#image, SUBSYSTEM_ID, 2, description.subsystemId ?? 0);
    put(this.#mask, CACHE_LINE_SIZE, 1, 0xff);
    put(this.#mask, INTERRUPT_LINE, 1, 0xff);
    let command = COMMAND_BUS_MASTER | COMMAND_PARITY | COMMAND_SERR;
    for (const bar of this.bars) {
      command |= bar.kind === 'io' ? COMMAND_IO : COMMAND_MEMORY;
      put(this.#image, BAR0 + 4 * bar.index, 4, barFlags(bar));
      put(this.#mask, BAR0 + 4 * bar.index, 4, -bar.size);
      if (bar.kind === 'memory64') put(this.#mask, BAR0 + 4 * bar.index + 4, 4, 0xffff_ffff);
    }
    if (description.intx !== undefined) {
      command |= COMMAND_INTX_DISABLE;
      put(this.#image, INTERRUPT_PIN, 1, description.intx.pin + 1);
    }
    put(this.#mask, COMMAND, 2, command);
  }

  /**
   * Adds a capability at the list's end, before reset() and in the same order in every thread. Returns its offset.
   * Throws RangeError when the first 256 bytes have no room.
   */
  addCapability(capability: Capability): number {
    const { id, body, writable } = capability;
    const start = this.#nextFree;
    const end = start + 2 + body.length;
    if (end > BASIC_CONFIG_SIZE || (writable !== undefined && writable.length !== body.length)) {
      throw new RangeError(`no room for capability ${id} of ${body.length} bytes`);
    }
    this.#image[this.#lastPointer] = start;
    this.#lastPointer = start + 1;
    this.#nextFree = (end + 3) & ~3;
    this.#image[start] = id;
    this.#image.set(body, start + 2);
    if (writable !== undefined) this.#mask.set(writable, start + 2);
    put(this.#image, STATUS, 2, STATUS_CAPABILITIES);
    this.#capabilities.push({ ...capability, start, end });
    if (id === CAPABILITY_MSIX) this.#msixControl = start + 3;
    return start;
  }

  /** Power-on state: once, before any other call in any thread. */
  reset(): void {
    this.#state.words.fill(0);
    this.#bytes.set(this.#image);
  }

  /** A guest's read; bytes after the end of configuration space read as ones. */
  read(offset: number, data: Uint8Array): void {
    for (const capability of this.#capabilities) tell(capability, capability.beforeRead, offset, data.length);
    this.peek(offset, data);
  }

  /** A guest's write. Returns true when it may have moved a BAR. */
  write(offset: number, data: Uint8Array): boolean {
    const end = offset + data.length;
    this.#state.locked(() => {
      for (let i = 0; i < data.length && offset + i < CONFIG_SIZE; i++) {
        const mask = this.#mask[offset + i] as number;
        const before = this.#bytes[offset + i] as number;
        this.#bytes[offset + i] = (before & ~mask) | ((data[i] as number) & mask);
      }
      this.#updateLine();
    });
    for (const capability of this.#capabilities) tell(capability, capability.afterWrite, offset, data.length);
    return (offset < STATUS && end > COMMAND) || (offset < BAR0 + 24 && end > BAR0);
  }

  /** Reads as the device itself does: without any capability's beforeRead(). */
  peek(offset: number, data: Uint8Array): void {
    this.#state.locked(() => {
      for (let i = 0; i < data.length; i++) data[i] = this.#bytes[offset + i] ?? 0xff;
    });
  }

  /** Writes as the device itself does: any bit, and no afterWrite(). */
  poke(offset: number, data: Uint8Array): void {
    this.#state.locked(() => this.#bytes.set(data, offset));
  }

  /** COMMAND_* bits. */
  get command(): number {
    return this.#state.locked(() => this.#get16(COMMAND));
  }

  /** Where a BAR answers now; undefined: nowhere, because decoding is off or there is no such address. */
  barAddress(bar: BarDescription): number | undefined {
    const enable = bar.kind === 'io' ? COMMAND_IO : COMMAND_MEMORY;
    return this.#state.locked(() => {
      if ((this.#get16(COMMAND) & enable) === 0) return undefined;
      const register = BAR0 + 4 * bar.index;
      return barAddress(bar, this.#get32(register), bar.kind === 'memory64' ? this.#get32(register + 4) : 0);
    });
  }

  /** Places a BAR and turns its decoding on, as firmware does. */
  placeBar(bar: BarDescription, address: number): void {
    const register = BAR0 + 4 * bar.index;
    this.#state.locked(() => {
      put(this.#bytes, register, 4, (address | barFlags(bar)) >>> 0);
      if (bar.kind === 'memory64') put(this.#bytes, register + 4, 4, Math.floor(address / 2 ** 32));
      put(this.#bytes, COMMAND, 2, this.#get16(COMMAND) | (bar.kind === 'io' ? COMMAND_IO : COMMAND_MEMORY));
    });
  }

  /** The function asserts or releases INTx: the line follows unless the guest turned it off or took MSI-X. */
  setIntx(level: boolean): void {
    this.#state.locked(() => {
      const status = this.#get16(STATUS);
      put(this.#bytes, STATUS, 2, level ? status | STATUS_INTX : status & ~STATUS_INTX);
      this.#updateLine();
    });
  }

  #updateLine(): void {
    const off = (this.#get16(COMMAND) & COMMAND_INTX_DISABLE) !== 0 || this.#usesMsix();
    const level = !off && (this.#get16(STATUS) & STATUS_INTX) !== 0 ? 1 : 0;
    if (level === this.#state.get(W_LINE)) return;
    this.#state.set(W_LINE, level);
    this.#line?.(level === 1);
  }

  #usesMsix(): boolean {
    return this.#msixControl !== undefined && ((this.#bytes[this.#msixControl] as number) & MSIX_ENABLE) !== 0;
  }

  #get16(offset: number): number {
    return (this.#bytes[offset] as number) | ((this.#bytes[offset + 1] as number) << 8);
  }

  #get32(offset: number): number {
    return (this.#get16(offset) | (this.#get16(offset + 2) << 16)) >>> 0;
  }
}

/** Calls a capability's function with the part of an access that is in the capability, if any. */
function tell(at: PlacedCapability, callback: Capability['afterWrite'], offset: number, length: number): void {
  const start = Math.max(offset, at.start);
  const end = Math.min(offset + length, at.end);
  if (start < end) callback?.(start - at.start, end - start);
}

/** Puts the low `size` bytes of `value`, little-endian. */
function put(bytes: Uint8Array, offset: number, size: number, value: number): void {
  for (let i = 0; i < size; i++) bytes[offset + i] = (value >>> (8 * i)) & 0xff;
}
