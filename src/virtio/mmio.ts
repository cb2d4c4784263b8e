/** A virtio device in memory, without a bus (virtio 1.2, 4.2), version 2. 4 KiB of addresses each. */
import type { BusDevice } from '../devices/bus.ts';
import { getLittleEndian, putLittleEndian } from '../devices/device-state.ts';
import type { Transport } from './transport.ts';

/** Bytes of addresses. */
export const MMIO_SIZE = 0x1000;

const MAGIC = 0x7472_6976;
const VERSION = 2;
const VENDOR = 0;

// Registers (4.2.2).
const MAGIC_VALUE = 0x000;
const VERSION_ = 0x004;
const DEVICE_ID = 0x008;
const VENDOR_ID = 0x00c;
const DEVICE_FEATURES = 0x010;
const DEVICE_FEATURES_SEL = 0x014;
const DRIVER_FEATURES = 0x020;
const DRIVER_FEATURES_SEL = 0x024;
const QUEUE_SEL = 0x030;
const QUEUE_NUM_MAX = 0x034;
const QUEUE_NUM = 0x038;
const QUEUE_READY = 0x044;
/** The driver writes a queue's number here. */
export const QUEUE_NOTIFY = 0x050;
const INTERRUPT_STATUS = 0x060;
const INTERRUPT_ACK = 0x064;
const STATUS = 0x070;
const QUEUE_DESC_LOW = 0x080;
const QUEUE_DESC_HIGH = 0x084;
const QUEUE_DRIVER_LOW = 0x090;
const QUEUE_DRIVER_HIGH = 0x094;
const QUEUE_DEVICE_LOW = 0x0a0;
const QUEUE_DEVICE_HIGH = 0x0a4;
const SHM_LEN_LOW = 0x0b0;
const SHM_LEN_HIGH = 0x0b4;
const CONFIG_GENERATION = 0x0fc;
const CONFIG = 0x100;

const ISR_BITS = 3;
/** A driver does not wait for the end of a reset: it is waited for here, in steps, ms. */
const RESET_STEP = 0.1;
const RESET_STEPS = 10_000;

export class VirtioMmio implements BusDevice {
  readonly #transport: Transport;
  readonly #sleep = new Int32Array(new SharedArrayBuffer(4));

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Registers are 32 bits wide; the device's configuration takes any width. */
  read(offset: number, data: Uint8Array): void {
    if (offset >= CONFIG) this.#transport.readConfig(offset - CONFIG, data);
    else putLittleEndian(data, data.length === 4 ? this.#readRegister(offset) : 0);
  }

  write(offset: number, data: Uint8Array): void {
    if (offset >= CONFIG) this.#transport.writeConfig(offset - CONFIG, data);
    else if (data.length === 4) this.#writeRegister(offset, getLittleEndian(data));
  }

  #readRegister(offset: number): number {
    const t = this.#transport;
    switch (offset) {
      case MAGIC_VALUE:
        return MAGIC;
      case VERSION_:
        return VERSION;
      case DEVICE_ID:
        return t.model.type;
      case VENDOR_ID:
        return VENDOR;
      case DEVICE_FEATURES:
        return t.deviceFeatures;
      case QUEUE_NUM_MAX:
        return t.maxQueueSize;
      case QUEUE_READY:
        return t.queueEnabled ? 1 : 0;
      case INTERRUPT_STATUS:
        return t.state.isr & ISR_BITS;
      case STATUS:
        return t.status;
      case SHM_LEN_LOW:
      case SHM_LEN_HIGH:
        // No region has this number.
        return 0xffff_ffff;
      case CONFIG_GENERATION:
        return t.configGeneration;
      default:
        return 0;
    }
  }

  #writeRegister(offset: number, value: number): void {
    const t = this.#transport;
    switch (offset) {
      case DEVICE_FEATURES_SEL:
        t.featureSelect = value;
        break;
      case DRIVER_FEATURES:
        t.driverFeatures = value;
        break;
      case DRIVER_FEATURES_SEL:
        t.driverFeatureSelect = value;
        break;
      case QUEUE_SEL:
        t.queueSelect = value;
        break;
      case QUEUE_NUM:
        t.queueSize = value;
        break;
      case QUEUE_READY:
        if (value === 1) t.enableQueue();
        else if (value === 0) t.disableQueue();
        break;
      case QUEUE_NOTIFY:
        t.notify(value);
        break;
      case INTERRUPT_ACK:
        t.state.takeIsr(value & ISR_BITS);
        break;
      case STATUS:
        t.writeStatus(value);
        if (value === 0) this.#waitForReset();
        break;
      case QUEUE_DESC_LOW:
        t.setQueueAddressHalf('descriptors', 0, value);
        break;
      case QUEUE_DESC_HIGH:
        t.setQueueAddressHalf('descriptors', 1, value);
        break;
      case QUEUE_DRIVER_LOW:
        t.setQueueAddressHalf('driver', 0, value);
        break;
      case QUEUE_DRIVER_HIGH:
        t.setQueueAddressHalf('driver', 1, value);
        break;
      case QUEUE_DEVICE_LOW:
        t.setQueueAddressHalf('device', 0, value);
        break;
      case QUEUE_DEVICE_HIGH:
        t.setQueueAddressHalf('device', 1, value);
        break;
    }
  }

  /** When this returns the back end has let go of the queues, or it hangs. */
  #waitForReset(): void {
    for (let i = 0; i < RESET_STEPS && this.#transport.resetPending; i++) {
      Atomics.wait(this.#sleep, 0, 0, RESET_STEP);
    }
  }
}
