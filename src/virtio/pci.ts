/**
 * A virtio device on the PCI bus (virtio 1.2, 4.1), without the legacy interface. One BAR holds everything: registers,
 * notification addresses, and MSI-X.
 */
import { DeviceState, type LineCallback, type SharedRange } from '../devices/device-state.ts';
import { CONFIG_SPACE_STATE_SIZE, ConfigSpace } from '../devices/pci/config-space.ts';
import { Msix, msixStateSize, type VectorEvents } from '../devices/pci/msix.ts';
import type { PciDevice } from '../devices/pci/pci-device.ts';
import { StateAllocator, stateSize } from '../host/shared-state.ts';
import type { IoEventAddress } from '../hypervisor/hypervisor.ts';
import { COMMON_CONFIG_SIZE, CommonConfig } from './common-config.ts';
import * as V from './constants.ts';
import type { Transport } from './transport.ts';

const VENDOR_ID = 0x1af4;
/** Device ids of modern devices: this and the virtio device id. */
const DEVICE_ID_BASE = 0x1040;
/** 0x40 and above: not a transitional device. */
const SUBSYSTEM_ID = 0x40;
const REVISION_ID = 1;

const CLASS_OTHER = 0xff_00_00;
const CLASSES: Readonly<Record<number, number>> = {
  [V.ID_NET]: 0x02_00_00,
  [V.ID_BLOCK]: 0x01_00_00,
  [V.ID_CONSOLE]: 0x07_80_00,
};

// The BAR, and what is where in it.
const BAR = 0;
const BAR_SIZE = 0x4000;
const COMMON = 0x0000;
const ISR = 0x0800;
const DEVICE_CONFIG = 0x1000;
const DEVICE_CONFIG_SIZE = 0x1000;
const NOTIFY = 0x2000;
const NOTIFY_MULTIPLIER = 4;
const MSIX_TABLE = 0x3000;
const MSIX_PBA = 0x3800;

// Vendor-specific capabilities (4.1.4).
const CAPABILITY_VENDOR = 0x09;
const VIRTIO_PCI_CAP_COMMON_CFG = 1;
const VIRTIO_PCI_CAP_NOTIFY_CFG = 2;
const VIRTIO_PCI_CAP_ISR_CFG = 3;
const VIRTIO_PCI_CAP_DEVICE_CFG = 4;
const VIRTIO_PCI_CAP_PCI_CFG = 5;
// Offsets in a capability.
const CAP_BAR = 4;
const CAP_OFFSET = 8;
const CAP_LENGTH = 12;
const CAP_SIZE = 16;
const CAP_DATA = 16;

const LINE_STATE_SIZE = 64;
/** Word of it: where the BAR's notification addresses are known to be; 0: nowhere. */
const W_NOTIFY = 1;

/** Queues that the places in the BAR have room for. */
export const MAX_PCI_QUEUES = 64;

/** Bytes of shared state of a device with so many queues. */
export function pciStateSize(queues: number): number {
  return stateSize([CONFIG_SPACE_STATE_SIZE, msixStateSize(queues + 1), LINE_STATE_SIZE]);
}

/** What a device on the bus asks of the machine. */
export interface PciSurroundings {
  /** The function's interrupt pin and its line, for drivers that take no messages. */
  readonly intx: { readonly pin: number; readonly line: LineCallback };
  readonly vectors: VectorEvents;
  /** A notification address of a queue has come into being, or is no more. */
  ioEvent(queue: number, where: IoEventAddress, present: boolean): void;
}

export class VirtioPci implements PciDevice {
  readonly config: ConfigSpace;
  readonly #transport: Transport;
  readonly #common: CommonConfig;
  readonly #msix: Msix;
  /** Guards the line: whoever looked at the ISR last tells the line. */
  readonly #line: DeviceState;
  readonly #surroundings: PciSurroundings;
  readonly #window: number;

  /** `range` has pciStateSize() bytes. */
  constructor(range: SharedRange, transport: Transport, surroundings: PciSurroundings) {
    const { model } = transport;
    const queues = model.queueSizes.length;
    if (queues > MAX_PCI_QUEUES) throw new RangeError(`${queues} queues are too many for virtio over PCI`);
    const vectors = queues + 1;
    const state = new StateAllocator(range.buffer, range.offset);
    this.#transport = transport;
    this.#surroundings = surroundings;
    this.#common = new CommonConfig(transport, vectors);
    this.config = new ConfigSpace(state.allocate(CONFIG_SPACE_STATE_SIZE), {
      vendorId: VENDOR_ID,
      deviceId: DEVICE_ID_BASE + model.type,
      revisionId: REVISION_ID,
      classCode: CLASSES[model.type] ?? CLASS_OTHER,
      subsystemVendorId: VENDOR_ID,
      subsystemId: SUBSYSTEM_ID,
      bars: [{ index: BAR, kind: 'memory32', size: BAR_SIZE }],
      intx: surroundings.intx,
    });
    const place = { vectors, bar: BAR, tableOffset: MSIX_TABLE, pbaOffset: MSIX_PBA };
    const onControl = (): void => {
      this.#transport.state.msix = this.#msix.enabled;
    };
    this.#msix = new Msix(state.allocate(msixStateSize(vectors)), this.config, place, surroundings.vectors, onControl);
    this.#line = new DeviceState(state.allocate(LINE_STATE_SIZE), LINE_STATE_SIZE);
    this.#addCapability(VIRTIO_PCI_CAP_COMMON_CFG, COMMON, COMMON_CONFIG_SIZE);
    this.#addCapability(VIRTIO_PCI_CAP_ISR_CFG, ISR, 1);
    if (model.configSize > 0) this.#addCapability(VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE_CONFIG, model.configSize);
    this.#addCapability(VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY, queues * NOTIFY_MULTIPLIER, NOTIFY_MULTIPLIER);
    this.#window = this.#addWindow();
  }

  reset(): void {
    this.#line.words.fill(0);
    this.#msix.reset();
    this.#transport.state.msix = false;
  }

  #addCapability(type: number, offset: number, length: number, extra?: number): void {
    const size = CAP_SIZE + (extra === undefined ? 0 : 4);
    const capability = new DataView(new ArrayBuffer(size));
    capability.setUint8(2, size);
    capability.setUint8(3, type);
    capability.setUint8(CAP_BAR, BAR);
    capability.setUint32(CAP_OFFSET, offset, true);
    capability.setUint32(CAP_LENGTH, length, true);
    if (extra !== undefined) capability.setUint32(CAP_SIZE, extra, true);
    this.config.addCapability({ id: CAPABILITY_VENDOR, body: new Uint8Array(capability.buffer, 2) });
  }

  // ---- The window in configuration space (4.1.4.9): for firmware that cannot reach BARs ----------------------------------------

  #addWindow(): number {
    const body = new Uint8Array(CAP_SIZE + 4 - 2);
    body[0] = CAP_SIZE + 4;
    body[1] = VIRTIO_PCI_CAP_PCI_CFG;
    const writable = new Uint8Array(body.length);
    for (const at of [CAP_BAR, CAP_OFFSET, CAP_LENGTH, CAP_DATA]) {
      writable.fill(0xff, at - 2, at - 2 + (at === CAP_BAR ? 1 : 4));
    }
    return this.config.addCapability({
      id: CAPABILITY_VENDOR,
      body,
      writable,
      beforeRead: (offset, length) => {
        if (offset + length <= CAP_DATA) return;
        const access = this.#windowAccess();
        if (access === undefined) return;
        this.readBar(BAR, access.offset, access.data);
        this.config.poke(this.#window + CAP_DATA, access.data);
      },
      afterWrite: (offset, length) => {
        if (offset + length <= CAP_DATA) return;
        const access = this.#windowAccess();
        if (access === undefined) return;
        this.config.peek(this.#window + CAP_DATA, access.data);
        this.writeBar(BAR, access.offset, access.data);
      },
    });
  }

  /** Where the window is, with room for its data; undefined: nowhere that there is. */
  #windowAccess(): { readonly offset: number; readonly data: Uint8Array } | undefined {
    const capability = new Uint8Array(CAP_SIZE);
    this.config.peek(this.#window, capability);
    const view = new DataView(capability.buffer);
    const offset = view.getUint32(CAP_OFFSET, true);
    const length = view.getUint32(CAP_LENGTH, true);
    const fits = view.getUint8(CAP_BAR) === BAR && [1, 2, 4].includes(length) && offset + length <= BAR_SIZE;
    return fits && offset % length === 0 ? { offset, data: new Uint8Array(length) } : undefined;
  }

  // ---- The BAR ---------------------------------------------------------------------------------------------------------------

  readBar(_bar: number, offset: number, data: Uint8Array): void {
    data.fill(0);
    if (offset < COMMON + COMMON_CONFIG_SIZE) this.#common.read(offset - COMMON, data);
    else if (offset === ISR) data[0] = this.#readIsr();
    else if (offset >= DEVICE_CONFIG && offset < DEVICE_CONFIG + DEVICE_CONFIG_SIZE) {
      this.#transport.readConfig(offset - DEVICE_CONFIG, data);
    } else if (offset >= MSIX_PBA) this.#msix.readPba(offset - MSIX_PBA, data);
    else if (offset >= MSIX_TABLE) this.#msix.readTable(offset - MSIX_TABLE, data);
  }

  writeBar(_bar: number, offset: number, data: Uint8Array): void {
    if (offset < COMMON + COMMON_CONFIG_SIZE) {
      this.#common.write(offset - COMMON, data);
      // A reset takes the interrupt back.
      this.updateIntx();
    } else if (offset >= DEVICE_CONFIG && offset < DEVICE_CONFIG + DEVICE_CONFIG_SIZE) {
      this.#transport.writeConfig(offset - DEVICE_CONFIG, data);
    } else if (offset >= NOTIFY && offset < MSIX_TABLE) {
      this.#transport.notify(Math.floor((offset - NOTIFY) / NOTIFY_MULTIPLIER));
    } else if (offset >= MSIX_TABLE && offset < MSIX_PBA) {
      this.#msix.writeTable(offset - MSIX_TABLE, data);
    }
  }

  barMoved(_bar: number, address: number | undefined): void {
    this.#eachNotifyAddress(this.#line.get(W_NOTIFY) >>> 0, false);
    this.#line.set(W_NOTIFY, address ?? 0);
    this.#eachNotifyAddress(address ?? 0, true);
  }

  #eachNotifyAddress(base: number, present: boolean): void {
    if (base === 0) return;
    for (const [queue] of this.#transport.model.queueSizes.entries()) {
      const address = base + NOTIFY + queue * NOTIFY_MULTIPLIER;
      this.#surroundings.ioEvent(queue, { space: 'mmio', address, length: 2 }, present);
    }
  }

  // ---- The interrupt pin -------------------------------------------------------------------------------------------------------

  #readIsr(): number {
    const bits = this.#transport.state.takeIsr(V.ISR_QUEUE | V.ISR_CONFIG);
    this.updateIntx();
    return bits;
  }

  /** The pin follows the ISR status: after the back end has set bits in it. */
  updateIntx(): void {
    this.#line.locked(() => this.config.setIntx(this.#transport.state.isr !== 0));
  }
}
