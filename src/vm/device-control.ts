/** What the control sockets may do with the virtio devices. */
import type { BalloonControl, DiskControl } from '../control/machine.ts';
import type { Json } from '../virtio/backend.ts';
import type { BalloonRequest } from '../virtio/balloon/backend.ts';
import { CONFIG_ACTUAL, CONFIG_NUM_PAGES, PAGE_SIZE } from '../virtio/balloon/constants.ts';
import type { BlockRequest } from '../virtio/block/backend.ts';
import { CONFIG_CAPACITY, SECTOR } from '../virtio/block/constants.ts';
import type { DiskConfig } from '../virtio/block/model.ts';
import type { VirtioDevices } from './virtio-devices.ts';

type Figures = Readonly<Record<string, number>>;

/** The balloon of a machine with so much memory, bytes. */
export function balloonControl(devices: VirtioDevices, memory: number): BalloonControl | undefined {
  const [device] = devices.numbersOf('balloon');
  if (device === undefined) return undefined;
  const config = devices.config(device);
  const request = (message: BalloonRequest): Promise<Json> => devices.request(device, { ...message });
  return {
    get target() {
      return config.getUint32(CONFIG_NUM_PAGES, true) * PAGE_SIZE;
    },
    get actual() {
      return config.getUint32(CONFIG_ACTUAL, true) * PAGE_SIZE;
    },
    maximum: memory,
    setTarget: async (size) => void (await request({ kind: 'set', size })),
    statistics: async () => (await request({ kind: 'statistics' })) as Figures,
  };
}

/** The disks of a machine, in the order of the guest's names. */
export function diskControls(devices: VirtioDevices, disks: readonly DiskConfig[]): DiskControl[] {
  return devices.numbersOf('block').map((device, index) => {
    const { path, writable, overlay } = disks[index] as DiskConfig;
    const config = devices.config(device);
    const request = (message: BlockRequest): Promise<Json> => devices.request(device, { ...message });
    return {
      name: `vd${String.fromCharCode('a'.charCodeAt(0) + index)}`,
      path,
      writable: writable || overlay === true,
      get size() {
        return Number(config.getBigUint64(CONFIG_CAPACITY, true)) * SECTOR;
      },
      resize: async (size) => void (await request({ kind: 'resize', size })),
      statistics: async () => (await request({ kind: 'statistics' })) as Figures,
    };
  });
}
