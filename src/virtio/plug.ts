/** Puts the transports of a machine's virtio devices onto its platform: the same in every thread. */
import { VIRTIO_MMIO_SIZE, VIRTIO_MMIO_START } from '../devices/pc-map.ts';
import { intxGsi } from '../devices/pci/intx.ts';
import type { Platform } from '../devices/platform.ts';
import { hasEvent } from '../host/eventfd.ts';
import { type SharedRange, StateAllocator, stateSize } from '../host/shared-state.ts';
import type { Vm } from '../hypervisor/hypervisor.ts';
import { MMIO_SIZE, QUEUE_NOTIFY, VirtioMmio } from './mmio.ts';
import { MsiRoutes, msiRoutesStateSize } from './msi-routes.ts';
import { pciStateSize, VirtioPci } from './pci.ts';
import { VirtioState } from './state.ts';
import { TRANSPORT_STATE_SIZE, Transport, type TransportModel } from './transport.ts';

export const TRANSPORTS = ['pci', 'mmio'] as const;
export type TransportKind = (typeof TRANSPORTS)[number];

/** Lines of the devices in memory: those that neither the PC's own devices nor, without devices, the PCI bus uses. */
const MMIO_GSIS = [5, 6, 7, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23] as const;

/** Most devices that each transport has room for. */
export const MAX_DEVICES: Record<TransportKind, number> = {
  // Slot 0 is the host bridge.
  pci: 31,
  mmio: Math.min(MMIO_GSIS.length, VIRTIO_MMIO_SIZE / MMIO_SIZE),
};

/** A device as every thread needs it; survives structured clone. */
export interface PluggedDevice {
  readonly model: TransportModel;
  /** Where its state is in VirtioShare.states. */
  readonly stateOffset: number;
  /** Events of its vectors: PCI. */
  readonly vectors: readonly number[];
  /** Event of its interrupt line: MMIO. */
  readonly interrupt: number;
}

/** The virtio devices of a machine; survives structured clone. */
export interface VirtioShare {
  readonly transport: TransportKind;
  /** transportStateSize() bytes. */
  readonly range: SharedRange;
  /** The devices' memfds, mapped. */
  readonly states: SharedArrayBuffer;
  readonly devices: readonly PluggedDevice[];
}

type Shape = Pick<VirtioShare, 'transport'> & {
  readonly devices: readonly { readonly model: Pick<TransportModel, 'queueSizes'> }[];
};

function lineCount({ devices }: Shape): number {
  return devices.reduce((sum, { model }) => sum + model.queueSizes.length + 1, 0);
}

/** Bytes of state that the transports have among themselves. */
export function transportStateSize(shape: Shape): number {
  const { transport, devices } = shape;
  return stateSize([
    ...(transport === 'pci' ? [msiRoutesStateSize(lineCount(shape))] : []),
    ...devices.flatMap(({ model }) =>
      transport === 'pci' ? [TRANSPORT_STATE_SIZE, pciStateSize(model.queueSizes.length)] : [TRANSPORT_STATE_SIZE],
    ),
  ]);
}

/** Where the kernel finds a device that no bus tells of. */
export interface MmioPlace {
  readonly address: number;
  readonly size: number;
  readonly gsi: number;
}

/** Where device number `index` is with MMIO. */
export function mmioPlace(index: number): MmioPlace {
  const gsi = MMIO_GSIS[index];
  if (gsi === undefined) throw new RangeError(`no room for device ${index}`);
  return { address: VIRTIO_MMIO_START + index * MMIO_SIZE, size: MMIO_SIZE, gsi };
}

/** A machine's transports in the calling thread. */
export interface Transports {
  /** Power-on state, before the platform's: once, before any other call in any thread. */
  reset(): void;
  /** The pin of a device follows its ISR status. */
  updateIntx(device: number): void;
}

/** Before the platform's reset(). */
export function plugDevices(platform: Platform, vm: Vm, share: VirtioShare): Transports {
  const state = new StateAllocator(share.range.buffer, share.range.offset);
  const plug = share.transport === 'pci' ? pciPlug(platform, vm, share, state) : mmioPlug(platform, vm);
  const plugged = share.devices.map((device, index) => {
    const { model, stateOffset } = device;
    const shape = { queues: model.queueSizes.length, configSize: model.configSize };
    const shared = new VirtioState(share.states, stateOffset, shape);
    const transport = new Transport(state.allocate(TRANSPORT_STATE_SIZE), shared, model);
    return { transport, ...plug(transport, device, index) };
  });
  return {
    reset: () => {
      for (const { transport, start } of plugged) {
        transport.reset();
        start?.();
      }
    },
    updateIntx: (device) => plugged[device]?.pci?.updateIntx(),
  };
}

type Plug = (
  transport: Transport,
  device: PluggedDevice,
  index: number,
) => { readonly pci?: VirtioPci; readonly start?: () => void };

function pciPlug(platform: Platform, vm: Vm, share: VirtioShare, state: StateAllocator): Plug {
  const lines = lineCount(share);
  const routes = new MsiRoutes(state.allocate(msiRoutesStateSize(lines)), lines, vm);
  let nextLine = 0;
  return (transport, { model, vectors }, index) => {
    const slot = index + 1;
    const firstLine = nextLine;
    nextLine += vectors.length;
    const fd = (vector: number): number => vectors[vector] as number;
    const pci = new VirtioPci(state.allocate(pciStateSize(model.queueSizes.length)), transport, {
      intx: { pin: 0, line: platform.irqLines.connect(intxGsi(slot, 0)) },
      vectors: {
        connect: (vector, msi) => routes.connect(firstLine + vector, fd(vector), msi),
        disconnect: (vector) => routes.disconnect(firstLine + vector, fd(vector)),
        pending: (vector) => hasEvent(fd(vector)),
      },
      ioEvent: (queue, where, present) => {
        const event = { fd: model.notify[queue] as number };
        if (present) vm.registerIoEvent(event, where);
        else vm.unregisterIoEvent(event, where);
      },
    });
    platform.pci.add(slot, pci);
    return { pci };
  };
}

function mmioPlug(platform: Platform, vm: Vm): Plug {
  return (transport, { model, interrupt }, index) => {
    const { address, size, gsi } = mmioPlace(index);
    platform.mmio.insert(address, size, new VirtioMmio(transport));
    const start = (): void => {
      vm.registerIrqfd({ fd: interrupt }, gsi);
      for (const [queue, fd] of model.notify.entries()) {
        const where = { space: 'mmio', address: address + QUEUE_NOTIFY, length: 4, dataMatch: BigInt(queue) } as const;
        vm.registerIoEvent({ fd }, where);
      }
    };
    return { start };
  };
}
