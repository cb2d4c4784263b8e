import { StateAllocator, stateSize } from '../../host/shared-state.ts';
import type { Bus, BusDevice } from '../bus.ts';
import { DeviceState, getLittleEndian, putLittleEndian, type SharedRange } from '../device-state.ts';
import type { MachineExit } from '../machine-exit.ts';
import {
  PCI_CONFIG_PORT,
  PCI_CONFIG_PORTS,
  PCI_ECAM_SIZE,
  PCI_ECAM_START,
  PCI_IO_END,
  PCI_IO_START,
  PCI_MMIO_SIZE,
  PCI_MMIO_START,
  RESET_PORT,
} from '../pc-map.ts';
import { BAR_MAP_STATE_SIZE, BarMap, PCI_SLOTS } from './bar-map.ts';
import type { PciDevice } from './pci-device.ts';

const WORDS_SIZE = 64;
export const PCI_ROOT_BUS_STATE_SIZE = stateSize([WORDS_SIZE, BAR_MAP_STATE_SIZE]);

// Configuration mechanism #1 (PCI Local Bus 3.0, 3.2.2.3.2), offsets from its first port.
const CONFIG_ADDRESS_SIZE = 4;
const RESET_CONTROL = RESET_PORT - PCI_CONFIG_PORT;
const ENABLE = 0x8000_0000;
/** Bits of CONFIG_ADDRESS that exist: enable, bus, device, function, register. */
const ADDRESS_BITS = 0x80ff_fffc;

// Reset control register.
const RST_CPU = 0x04;
/** Kind of reset: kept, but all are the same here. */
const RESET_KIND_BITS = 0x0a;

// Words of state.
const W_ADDRESS = 1;
const W_RESET_CONTROL = 2;

/**
 * PCI bus 0, with no bridges: devices 0 to 31 of one function each. Configuration space is reached through the ports and through
 * memory (ECAM); what is not there reads as ones.
 */
export class PciRootBus {
  readonly #state: DeviceState;
  readonly #exit: MachineExit;
  readonly #map: BarMap;
  readonly #devices: (PciDevice | undefined)[] = new Array(PCI_SLOTS).fill(undefined);

  /** `range` has PCI_ROOT_BUS_STATE_SIZE bytes. Puts configuration access on the two buses. */
  constructor(range: SharedRange, pio: Bus, mmio: Bus, exit: MachineExit) {
    const allocator = new StateAllocator(range.buffer, range.offset);
    this.#state = new DeviceState(allocator.allocate(WORDS_SIZE), WORDS_SIZE);
    this.#map = new BarMap(allocator.allocate(BAR_MAP_STATE_SIZE), pio, mmio);
    this.#exit = exit;
    pio.insert(PCI_CONFIG_PORT, PCI_CONFIG_PORTS, this.#ports());
    mmio.insert(PCI_ECAM_START, PCI_ECAM_SIZE, this.#ecam());
  }

  /** Plugs a device in: before reset(), and the same in every thread. Throws RangeError when the slot is taken. */
  add(slot: number, device: PciDevice): void {
    if (!Number.isInteger(slot) || slot < 0 || slot >= PCI_SLOTS || this.#devices[slot] !== undefined) {
      throw new RangeError(`PCI slot ${slot} is taken or does not exist`);
    }
    this.#devices[slot] = device;
    this.#map.add(slot, device);
  }

  /** Power-on state of the bus and its functions, their BARs placed: once, before any other call in any thread. */
  reset(): void {
    this.#state.words.fill(0);
    this.#map.reset();
    for (const device of this.#devices) {
      device?.config.reset();
      device?.reset?.();
    }
    this.#placeBars();
    this.#map.update();
  }

  /** What firmware does: largest first, each at a multiple of its size, so that no room is lost. What finds none is left out. */
  #placeBars(): void {
    const next = { io: PCI_IO_START, memory: PCI_MMIO_START };
    const end = { io: PCI_IO_END, memory: PCI_MMIO_START + PCI_MMIO_SIZE };
    const all = this.#devices.flatMap(
      (device) => device?.config.bars.map((bar) => ({ config: device.config, bar })) ?? [],
    );
    all.sort((a, b) => b.bar.size - a.bar.size);
    for (const { config, bar } of all) {
      const space = bar.kind === 'io' ? 'io' : 'memory';
      if (next[space] + bar.size > end[space]) continue;
      config.placeBar(bar, next[space]);
      next[space] += bar.size;
    }
  }

  // ---- Configuration access ------------------------------------------------------------------------------------------------

  #ports(): BusDevice {
    return {
      read: (offset, data) => {
        const split = Math.min(Math.max(CONFIG_ADDRESS_SIZE - offset, 0), data.length);
        if (split > 0) this.#readAddress(offset, data.subarray(0, split));
        if (split < data.length) this.#readData(offset + split - CONFIG_ADDRESS_SIZE, data.subarray(split));
      },
      write: (offset, data) => {
        if (offset === 0 && data.length === CONFIG_ADDRESS_SIZE) {
          this.#state.set(W_ADDRESS, getLittleEndian(data) & ADDRESS_BITS);
          return;
        }
        // Narrower writes do not reach CONFIG_ADDRESS; one of them has a register of its own there.
        if (offset === RESET_CONTROL && data.length === 1) this.#writeResetControl(data[0] as number);
        const split = Math.min(Math.max(CONFIG_ADDRESS_SIZE - offset, 0), data.length);
        if (split < data.length) this.#writeData(offset + split - CONFIG_ADDRESS_SIZE, data.subarray(split));
      },
    };
  }

  #readAddress(offset: number, data: Uint8Array): void {
    const single = offset === RESET_CONTROL && data.length === 1;
    const value = single ? this.#state.get(W_RESET_CONTROL) : this.#state.get(W_ADDRESS) >>> (8 * offset);
    putLittleEndian(data, value);
  }

  #writeResetControl(value: number): void {
    const rises = this.#state.locked(() => {
      const before = this.#state.get(W_RESET_CONTROL);
      this.#state.set(W_RESET_CONTROL, value & (RESET_KIND_BITS | RST_CPU));
      return (value & ~before & RST_CPU) !== 0;
    });
    if (rises) this.#exit.report({ kind: 'reset' });
  }

  /** CONFIG_DATA; `offset` in it. Bytes past its end belong to nobody. */
  #readData(offset: number, data: Uint8Array): void {
    const address = this.#state.get(W_ADDRESS);
    const part = data.subarray(0, Math.max(4 - offset, 0));
    if ((address & ENABLE) === 0) return;
    part.fill(0xff);
    this.#device((address >>> 8) & 0xffff)?.config.read((address & 0xfc) + offset, part);
  }

  #writeData(offset: number, data: Uint8Array): void {
    const address = this.#state.get(W_ADDRESS);
    if ((address & ENABLE) === 0) return;
    this.#write((address >>> 8) & 0xffff, (address & 0xfc) + offset, data.subarray(0, Math.max(4 - offset, 0)));
  }

  #ecam(): BusDevice {
    return {
      read: (offset, data) => {
        data.fill(0xff);
        this.#device(offset >>> 12)?.config.read(offset & 0xfff, data);
      },
      write: (offset, data) => this.#write(offset >>> 12, offset & 0xfff, data),
    };
  }

  #write(address: number, register: number, data: Uint8Array): void {
    if (this.#device(address)?.config.write(register, data) === true) this.#map.update();
  }

  /** The device at bus << 8 | device << 3 | function. */
  #device(address: number): PciDevice | undefined {
    return (address & 7) === 0 ? this.#devices[address >>> 3] : undefined;
  }
}
