import { ControlError, type DiskControl } from '../control/machine.ts';
import type { Json } from '../virtio/backend.ts';
import type { BlockRequest } from '../virtio/block/backend.ts';
import { CONFIG_CAPACITY, SECTOR } from '../virtio/block/constants.ts';
import type { DiskConfig } from '../virtio/block/model.ts';

/** A disk as the control socket has it, under the guest's name for it. */
export class MachineDisk implements DiskControl {
  readonly name: string;
  readonly path: string;
  readonly writable: boolean;
  #size: number;
  readonly #request: (request: BlockRequest) => Promise<Json>;

  /** `index` counts the machine's disks; `config`: the device's configuration as it is at first. */
  constructor(index: number, disk: DiskConfig, config: Uint8Array, request: (request: BlockRequest) => Promise<Json>) {
    this.name = `vd${String.fromCharCode('a'.charCodeAt(0) + index)}`;
    this.path = disk.path;
    this.writable = disk.writable || disk.overlay === true;
    const capacity = new DataView(config.buffer, config.byteOffset).getBigUint64(CONFIG_CAPACITY, true);
    this.#size = Number(capacity) * SECTOR;
    this.#request = request;
  }

  get size(): number {
    return this.#size;
  }

  async resize(size: number): Promise<void> {
    try {
      await this.#request({ kind: 'resize', size });
    } catch (error) {
      throw new ControlError(409, `${this.name}: ${(error as Error).message}`);
    }
    this.#size = size;
  }

  async statistics(): Promise<Record<string, number>> {
    return (await this.#request({ kind: 'statistics' })) as Record<string, number>;
  }
}
