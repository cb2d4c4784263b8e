import { createRequire } from 'node:module';
import { type Clock, type ClockOrigin, HostClock, SharedClock } from '../../host/clock.ts';
import type {
  HostEvent,
  IoEventAddress,
  IrqRoute,
  MemorySlot,
  Msi,
  Vcpu,
  VcpuInsight,
  Vm,
  VmOptions,
  VmShare,
} from '../hypervisor.ts';
import { Irqchip, type IrqchipShare } from '../irqchip/irqchip.ts';
import { REQUEST_KICK } from '../irqchip/lapic-registers.ts';
import { PHYSICAL_ADDRESS_BITS, TSC_HZ } from './cpuid.ts';
import { IoEventTable } from './io-events.ts';
import { IrqfdSet, type IrqfdShare } from './irqfd-set.ts';
import { SlotTable } from './slots.ts';

const require = createRequire(import.meta.url);

/** The processor and its instruction table. Loaded by the threads that have one: it is most of what there is to load. */
export function loadVcpu(): typeof import('./vcpu.ts') {
  return require('./vcpu.ts') as typeof import('./vcpu.ts');
}

/** What other threads need for the same machine; survives structured clone. */
interface SoftShare {
  readonly slots: SharedArrayBuffer;
  readonly ioEvents: SharedArrayBuffer;
  readonly irqchip: IrqchipShare;
  readonly irqfds: IrqfdShare;
  readonly origin: ClockOrigin;
  readonly wallClockOrigin: number;
  /** Of a machine whose time counts instructions. */
  readonly instructionClock: SharedArrayBuffer | undefined;
}

/** A machine of the built-in processor, as one thread sees it. */
export class SoftVm implements Vm {
  readonly #share: SoftShare;
  readonly #slots: SlotTable;
  readonly #ioEvents: IoEventTable;
  readonly #clock: Clock;
  readonly #irqchip: Irqchip;
  readonly #vcpus: Vcpu[] = [];
  readonly #irqfds: IrqfdSet;
  /** Not of a machine that was attached to. */
  readonly #owner: boolean;

  private constructor(share: SoftShare, irqfds: IrqfdSet, owner: boolean) {
    this.#share = share;
    this.#slots = new SlotTable(share.slots);
    this.#ioEvents = new IoEventTable(share.ioEvents);
    this.#clock = share.instructionClock ? new SharedClock(share.instructionClock) : new HostClock(share.origin);
    this.#irqchip = new Irqchip(share.irqchip, this.#clock);
    this.#irqfds = irqfds;
    this.#owner = owner;
  }

  static create(options: VmOptions): SoftVm {
    const clock = new HostClock();
    const chip = Irqchip.create(
      { vcpuCount: options.vcpuCount, tscHz: TSC_HZ, physicalAddressBits: PHYSICAL_ADDRESS_BITS },
      clock,
    );
    const irqfds = new IrqfdSet();
    const share = {
      slots: new SlotTable().buffer,
      ioEvents: new IoEventTable().buffer,
      irqchip: chip.share,
      irqfds: irqfds.share,
      origin: clock.origin,
      // A machine whose time counts instructions begins at the same time each time it is run.
      wallClockOrigin: options.instructionClock ? 0 : Date.now() * 1e6 - clock.now(),
      instructionClock: options.instructionClock,
    };
    return new SoftVm(share, irqfds, true);
  }

  static attach(share: VmShare): SoftVm {
    const data = share.data as SoftShare;
    return new SoftVm(data, new IrqfdSet(data.irqfds), false);
  }

  share(): VmShare {
    return { hypervisor: 'soft', data: this.#share };
  }

  setMemorySlot(slot: MemorySlot): void {
    this.#slots.set(slot);
    // Running vCPUs see the change at their next look at requests.
    for (let id = 0; id < this.#share.irqchip.vcpuCount; id++) this.#irqchip.request(id, 0);
  }

  setIrqLine(gsi: number, level: boolean): void {
    this.#irqchip.setIrqLine(gsi, level);
  }

  signalMsi(msi: Msi): void {
    this.#irqchip.signalMsi(msi);
  }

  setGsiRouting(routes: readonly IrqRoute[]): void {
    this.#irqchip.setGsiRouting(routes);
  }

  registerIoEvent(event: HostEvent, where: IoEventAddress): void {
    this.#ioEvents.add(event, where);
  }

  unregisterIoEvent(event: HostEvent, where: IoEventAddress): void {
    this.#ioEvents.remove(event, where);
  }

  registerIrqfd(event: HostEvent, gsi: number, resample?: HostEvent): void {
    if (resample) throw new RangeError('the built-in machine has no level-triggered irqfd yet');
    this.#irqfds.add(event.fd, gsi);
  }

  unregisterIrqfd(event: HostEvent, gsi: number): void {
    this.#irqfds.remove(event.fd, gsi);
  }

  createVcpu(id: number, insight: VcpuInsight = {}): Vcpu {
    const { SoftVcpu } = loadVcpu();
    const vcpu = new SoftVcpu(id, {
      slots: this.#slots,
      ioEvents: this.#ioEvents,
      interrupts: this.#irqchip.cpu(id),
      ...(id === 0 && { irqfds: { set: this.#irqfds, raise: (gsi: number) => this.#irqchip.pulseIrqLine(gsi) } }),
      clock: this.#clock,
      wallClockOrigin: this.#share.wallClockOrigin,
      pio: (port, data, write) => {
        if (!this.#irqchip.claimsPort(port)) return false;
        if (write) this.#irqchip.portWrite(port, data);
        else this.#irqchip.portRead(port, data);
        return true;
      },
      mmio: (address, data, write) => this.#irqchip.ioapicAccess(address, data, write),
      insight,
    });
    this.#vcpus.push(vcpu);
    return vcpu;
  }

  kick(vcpuId: number): void {
    this.#irqchip.request(vcpuId, REQUEST_KICK);
  }

  close(): void {
    for (const vcpu of this.#vcpus) vcpu.close();
    if (this.#owner) this.#irqfds.close();
  }
}
