// A driver that means harm: anything it can write, it writes, and now and then a request that makes sense.

import * as V from '../../src/virtio/constants.ts';
import type { Random } from '../disk/pseudo-random.ts';
import { EDGES } from '../fuzz/mutate.ts';
import type { TestDevice } from './test-device.ts';

/** Where request headers and indirect tables are put, guest-physical: in what follows the queues. */
const SCRATCH = 0x3f_0000;
const SCRATCH_SIZE = 0x1_0000;
const SMALL = 300;
const OLD_QUEUES = 4;

/** What the device knows of requests. */
export interface RequestKind {
  /** First words of headers. */
  readonly types: readonly number[];
  /** Most of a header, for a device that looks at much of it before it does anything. */
  readonly header?: (below: (limit: number) => number) => Uint8Array;
}

export class HostileDriver {
  readonly #device: TestDevice;
  readonly #random: Random;
  readonly #kind: RequestKind;

  constructor(device: TestDevice, kind: RequestKind, random: Random) {
    this.#device = device;
    this.#kind = kind;
    this.#random = random;
  }

  /** Does one thing. */
  step(): void {
    const below = (limit: number): number => this.#random.below(limit);
    const device = this.#device;
    switch (below(16)) {
      case 0:
        if (below(20) === 0) this.#restart();
        else device.notify(below(device.model.queueSizes.length));
        break;
      case 1:
        this.#writeConfig();
        break;
      case 2:
        this.#scribble();
        break;
      case 3:
        if (below(50) === 0) device.transport.writeStatus(below(256));
        else this.#register();
        break;
      case 4:
      case 5:
        this.#offer(this.#number(0xffff));
        break;
      default:
        this.#request();
    }
    if ((device.transport.status & V.DEVICE_NEEDS_RESET) !== 0 || device.transport.resetPending) this.#restart();
  }

  /** A reset, sometimes none too early, and a new beginning, sometimes a strange one. */
  #restart(): void {
    const { below } = this.#bound;
    const device = this.#device;
    device.transport.writeStatus(0);
    if (below(4) === 0) device.transport.writeStatus(V.ACKNOWLEDGE);
    device.poll();
    device.queues = [];
    let features = device.model.features;
    // Each feature is left out now and then.
    for (let bit = 0n; bit < 64n; bit++) if (below(8) === 0) features &= ~(1n << bit);
    features |= 1n << V.VIRTIO_F_VERSION_1;
    if (!device.negotiate(features)) return;
    for (const [number, most] of device.model.queueSizes.entries()) {
      if (below(30) === 0) continue;
      device.setUpQueue(number, Math.min(most, 1 << below(9)));
      if (below(OLD_QUEUES) === 0) device.memory.writeU16(device.queues[number]!.config.device, below(2));
      if (below(60) !== 0) continue;
      const which = (['descriptors', 'driver', 'device'] as const)[below(3)]!;
      device.transport.state.setQueueAddressHalf(number, which, below(2) as 0 | 1, this.#number(2 ** 32));
    }
    device.transport.writeStatus(V.ACKNOWLEDGE | V.DRIVER | V.FEATURES_OK | V.DRIVER_OK);
    device.poll();
  }

  get #bound() {
    return { below: (limit: number): number => this.#random.below(limit) };
  }

  /** A number below `limit`: an edge, a small one, or any. */
  #number(limit: number): number {
    const { below } = this.#bound;
    const kind = below(4);
    if (kind === 0) return (EDGES[below(EDGES.length)] as number) % limit;
    return below(kind === 1 ? Math.min(limit, SMALL) : limit);
  }

  #address(): number {
    const { below } = this.#bound;
    const size = this.#device.memory.size;
    switch (below(12)) {
      case 0:
        return size - below(SMALL);
      case 1:
        return this.#number(2 ** 32) * 2 ** below(24);
      case 2:
        // Queues themselves.
        return 0x10_0000 + below(0x4_0000);
      default:
        return SCRATCH + below(SCRATCH_SIZE);
    }
  }

  /** Bytes anywhere near the queues. */
  #scribble(): void {
    const { below } = this.#bound;
    const { memory, queues } = this.#device;
    const queue = queues[below(queues.length + 1)];
    if (queue === undefined) return;
    const { descriptors, driver, device, size } = queue.config;
    const [start, length] = [
      [descriptors, 16 * size],
      [driver, 6 + 2 * size],
      [device, 6 + 8 * size],
    ][below(3)] as [number, number];
    memory.writeU8(start + below(length), this.#number(256));
  }

  #offer(head: number): void {
    const { queues } = this.#device;
    const number = this.#random.below(queues.length + 1);
    queues[number]?.offer(head & 0xffff);
    if (this.#random.below(3) === 0 && queues[number] !== undefined) this.#device.notify(number);
  }

  /** A chain of a few descriptors: most of them as they should be, the first with a header that the device may know. */
  #request(): void {
    const { below } = this.#bound;
    const device = this.#device;
    const number = below(device.model.queueSizes.length);
    const queue = device.queues[number];
    if (queue === undefined) return;
    const { size, descriptors } = queue.config;
    this.#writeHeader();
    const indirect = below(4) === 0;
    const table = indirect ? SCRATCH + 0x8000 : descriptors;
    const count = 1 + below(Math.min(size, 6));
    const first = indirect ? 0 : below(size);
    for (let i = 0; i < count; i++) {
      const index = indirect ? i : (first + i) % size;
      const last = i === count - 1;
      const sane = below(40) !== 0;
      const header = i === 0 && below(8) !== 0;
      const piece = header
        ? { address: SCRATCH, length: [4, 8, 10, 12, 16, 24, 40, 44, 64][below(9)]!, writable: below(20) === 0 }
        : {
            address: sane ? SCRATCH + below(0x7000) : this.#address(),
            length: sane ? below(4096) : this.#number(2 ** 32),
            writable: sane ? i > count / 2 : below(2) === 0,
          };
      const flags = sane ? (last ? 0 : 1) : below(8);
      const next = indirect ? i + 1 : (index + 1) % size;
      queue.writeDescriptor(table, index, piece, flags, sane ? next : this.#number(0xffff));
    }
    // The status byte, where there is one.
    const head = indirect ? below(size) : first;
    if (indirect) queue.writeDescriptor(descriptors, head, { address: table, length: 16 * count }, 4, 0);
    queue.offer(head);
    if (below(3) !== 0) device.notify(number);
  }

  #writeHeader(): void {
    const { below } = this.#bound;
    const { memory } = this.#device;
    const { types, header } = this.#kind;
    if (header !== undefined && below(8) !== 0) {
      memory.write(SCRATCH, header(below));
      return;
    }
    memory.writeU32(SCRATCH, types[below(types.length)] ?? this.#number(2 ** 32));
    for (let at = 4; at < 64; at += 4) {
      const value = below(3) === 0 ? this.#number(2 ** 32) : below(8) === 0 ? below(SMALL) : 0;
      memory.writeU32(SCRATCH + at, value);
    }
  }

  #writeConfig(): void {
    const { below } = this.#bound;
    const data = Uint8Array.from({ length: 1 << below(4) }, () => this.#number(256));
    this.#device.transport.writeConfig(below(80), data);
    if (below(2) === 0) this.#device.poll();
  }

  /** A register of the transport, while the device is in use. */
  #register(): void {
    const { below } = this.#bound;
    const { transport } = this.#device;
    const value = this.#number(2 ** 32);
    switch (below(8)) {
      case 0:
        transport.queueSelect = value & 0xffff;
        break;
      case 1:
        transport.queueSize = value & 0xffff;
        break;
      case 2:
        transport.queueVector = value & 0xffff;
        break;
      case 3:
        transport.setQueueAddressHalf('device', below(2) as 0 | 1, value);
        break;
      case 4:
        transport.driverFeatures = value;
        break;
      case 5:
        transport.state.configVector = value & 0xffff;
        break;
      case 6:
        transport.state.msix = below(2) === 0;
        break;
      case 7:
        transport.disableQueue();
        break;
    }
  }
}
