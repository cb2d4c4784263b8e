import type { BalloonControl } from '../control/machine.ts';
import type { Json } from '../virtio/backend.ts';
import type { BalloonRequest } from '../virtio/balloon/backend.ts';
import { CONFIG_ACTUAL, CONFIG_NUM_PAGES, PAGE_SIZE } from '../virtio/balloon/constants.ts';
import type { VirtioDevices } from './virtio-devices.ts';

/** The balloon of a machine, as the control sockets see it. */
export class MachineBalloon implements BalloonControl {
  readonly maximum: number;
  readonly #config: DataView;
  readonly #request: (message: BalloonRequest) => Promise<Json>;

  /** `memory`: the machine's, bytes. */
  constructor(devices: VirtioDevices, memory: number) {
    const [device] = devices.numbersOf('balloon');
    if (device === undefined) throw new RangeError('a machine without a balloon');
    this.maximum = memory;
    this.#config = devices.config(device);
    this.#request = (message) => devices.request(device, { ...message });
  }

  get target(): number {
    return this.#config.getUint32(CONFIG_NUM_PAGES, true) * PAGE_SIZE;
  }

  get actual(): number {
    return this.#config.getUint32(CONFIG_ACTUAL, true) * PAGE_SIZE;
  }

  async setTarget(size: number): Promise<void> {
    await this.#request({ kind: 'set', size });
  }

  async reclaim(): Promise<number> {
    return (await this.#request({ kind: 'hint' })) as number;
  }

  async statistics(): Promise<Readonly<Record<string, number>>> {
    return (await this.#request({ kind: 'statistics' })) as Readonly<Record<string, number>>;
  }
}
