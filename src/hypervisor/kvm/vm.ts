import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { threadFile } from '../../host/bundle.ts';
import { closeDescriptor } from '../../host/descriptor.ts';
import type { Request } from '../../host/ioctl.ts';
import { kickSignal } from '../../host/kick-signal.ts';
import { allocate, set } from '../../host/struct.ts';
import type {
  HostEvent,
  IoEventAddress,
  IrqRoute,
  MemorySlot,
  Msi,
  Vcpu,
  Vm,
  VmOptions,
  VmShare,
} from '../hypervisor.ts';
import { IOAPIC_PINS } from '../irqchip/ioapic.ts';
import { defaultRouting } from '../irqchip/routing.ts';
import { call } from './call.ts';
import * as K from './constants.ts';
import { capability, createVmDescriptor, KvmUnavailable, openKvm } from './device.ts';
import * as I from './ioctls.ts';
import { Slots } from './slots.ts';
import { SplitIrqchip, type SplitIrqchipShare, type SplitIrqchipSurroundings } from './split-irqchip.ts';
import * as S from './structs.ts';
import { EXTERNAL_VCPU, KvmVcpu } from './vcpu.ts';
import { VcpuTable } from './vcpu-table.ts';

/**
 * Guest-physical addresses that KVM on Intel takes for real mode: three pages for a task state segment, and before them one
 * for an identity page table. Both are outside of RAM and of all devices.
 */
const TSS_ADDRESS = 0xfffbd000;
const IDENTITY_MAP_ADDRESS = 0xfffbc000n;

const CHIPS = {
  'pic-master': K.KVM_IRQCHIP_PIC_MASTER,
  'pic-slave': K.KVM_IRQCHIP_PIC_SLAVE,
  ioapic: K.KVM_IRQCHIP_IOAPIC,
} as const;

/** What other threads need for the same machine; survives structured clone. Descriptors are the process's. */
interface KvmShare {
  readonly vm: number;
  readonly vcpus: SharedArrayBuffer;
  readonly vcpuCount: number;
  readonly runSize: number;
  readonly xsaveSize: number;
  /** Present: only the local APICs are the kernel's. */
  readonly split: SplitIrqchipShare | undefined;
}

/** A machine of KVM, as one thread sees it. */
export class KvmVm implements Vm {
  #share: KvmShare;
  readonly #fd: number;
  readonly #table: VcpuTable;
  readonly #slots: Slots;
  #split: SplitIrqchip | undefined;
  /** This object made the machine, and ends it. */
  readonly #owner: boolean;
  #closed = false;

  private constructor(share: KvmShare, owner: boolean) {
    this.#share = share;
    this.#fd = share.vm;
    this.#table = new VcpuTable(share.vcpuCount, share.vcpus);
    this.#slots = new Slots(share.vm);
    this.#owner = owner;
    if (share.split !== undefined) this.#split = new SplitIrqchip(share.split, this.#aroundSplit());
  }

  /** Throws KvmUnavailable, KvmError: one line each; nothing stays open. */
  static create({ vcpuCount, splitIrqchip }: VmOptions): KvmVm {
    // Before any vCPU: doing it later could lose a kick.
    kickSignal();
    const kvm = openKvm();
    try {
      const runSize = call('the size of a vCPU cannot be asked for', kvm, I.KVM_GET_VCPU_MMAP_SIZE);
      if (runSize < S.kvm_run.size) throw new RangeError(`KVM: a vCPU of ${runSize} bytes is too small`);
      const vm = createVmDescriptor(kvm);
      try {
        const xsaveSize = Math.max(capability(vm, K.KVM_CAP_XSAVE2), S.kvm_xsave.size);
        const { buffer } = new VcpuTable(vcpuCount);
        const machine = new KvmVm({ vm, vcpus: buffer, vcpuCount, runSize, xsaveSize, split: undefined }, true);
        machine.#setUp();
        if (splitIrqchip === true) machine.#makeSplitChip();
        else machine.#makeChip();
        return machine;
      } catch (error) {
        closeDescriptor(vm);
        throw error;
      }
    } finally {
      closeSync(kvm);
    }
  }

  static attach(share: VmShare): KvmVm {
    return new KvmVm(share.data as KvmShare, false);
  }

  #setUp(): void {
    const identity = new BigUint64Array([IDENTITY_MAP_ADDRESS]);
    this.#call('its task state segment has no place', I.KVM_SET_TSS_ADDR, TSS_ADDRESS);
    this.#call('its identity map has no place', I.KVM_SET_IDENTITY_MAP_ADDR, identity);
  }

  #makeChip(): void {
    this.#call('there are no interrupt controllers', I.KVM_CREATE_IRQCHIP);
    const pit = allocate(S.kvm_pit_config);
    // Port 0x61 as well, which shows the timer's second channel.
    set(S.kvm_pit_config, pit, 'flags', K.KVM_PIT_SPEAKER_DUMMY);
    this.#call('there is no timer', I.KVM_CREATE_PIT2, pit);
    this.setGsiRouting(defaultRouting());
  }

  #makeSplitChip(): void {
    if (capability(this.#fd, K.KVM_CAP_SPLIT_IRQCHIP) === 0) {
      throw new KvmUnavailable('/dev/kvm is without KVM_CAP_SPLIT_IRQCHIP: leave --split-irqchip out');
    }
    const view = allocate(S.kvm_enable_cap);
    set(S.kvm_enable_cap, view, 'cap', K.KVM_CAP_SPLIT_IRQCHIP);
    set(S.kvm_enable_cap, view, 'args', BigInt(IOAPIC_PINS));
    this.#call('its interrupt controllers cannot be split', I.KVM_ENABLE_CAP, view);
    this.#split = SplitIrqchip.create(this.#aroundSplit());
    this.#share = { ...this.#share, split: this.#split.share };
    new Worker(threadFile(new URL('./timer-thread.ts', import.meta.url)), {
      name: 'vivarium_pit',
      workerData: this.share(),
    }).unref();
  }

  #aroundSplit(): SplitIrqchipSurroundings {
    return {
      signalMsi: (msi) => this.#signalMsi(msi),
      route: (routes) => this.#setRouting(routes),
      wakeForExternal: () => this.#table.wake(EXTERNAL_VCPU),
    };
  }

  /** The thread that serves the timer of a split interrupt chip; comes back when the machine is closed. */
  serveTimer(): void {
    this.#split?.serveTimer();
  }

  #call(what: string, request: Request, argument: number | NodeJS.ArrayBufferView = 0): number {
    return call(what, this.#fd, request, argument);
  }

  share(): VmShare {
    return { hypervisor: 'kvm', data: this.#share };
  }

  setMemorySlot(slot: MemorySlot): void {
    this.#slots.set(slot);
  }

  setIrqLine(gsi: number, level: boolean): void {
    if (this.#split !== undefined) {
      this.#split.setIrqLine(gsi, level);
      return;
    }
    const view = allocate(S.kvm_irq_level);
    set(S.kvm_irq_level, view, 'irq', gsi);
    set(S.kvm_irq_level, view, 'level', level ? 1 : 0);
    this.#call(`interrupt line ${gsi} cannot be set`, I.KVM_IRQ_LINE, view);
  }

  signalMsi(msi: Msi): void {
    this.#signalMsi(msi);
  }

  /** Returns false when no processor took it: it names none that is on. */
  #signalMsi({ address, data }: Msi): boolean {
    const view = allocate(S.kvm_msi);
    set(S.kvm_msi, view, 'address_lo', Number(address & 0xffffffffn));
    set(S.kvm_msi, view, 'address_hi', Number((address >> 32n) & 0xffffffffn));
    set(S.kvm_msi, view, 'data', data);
    return this.#call('an interrupt message cannot be sent', I.KVM_SIGNAL_MSI, view) > 0;
  }

  setGsiRouting(routes: readonly IrqRoute[]): void {
    if (this.#split === undefined) this.#setRouting(routes);
    else this.#split.setGsiRouting(routes);
  }

  #setRouting(routes: readonly IrqRoute[]): void {
    const view = allocate(S.kvm_irq_routing, routes.length * S.kvm_irq_routing_entry.size);
    set(S.kvm_irq_routing, view, 'nr', routes.length);
    for (const [i, route] of routes.entries()) {
      const at = S.kvm_irq_routing.size + i * S.kvm_irq_routing_entry.size;
      const put = (name: keyof typeof S.kvm_irq_routing_entry.fields, value: number): void =>
        set(S.kvm_irq_routing_entry, view, name, value, at);
      put('gsi', route.gsi);
      if (route.kind === 'irqchip') {
        put('type', K.KVM_IRQ_ROUTING_IRQCHIP);
        put('u.irqchip.irqchip', CHIPS[route.chip]);
        put('u.irqchip.pin', route.pin);
      } else {
        put('type', K.KVM_IRQ_ROUTING_MSI);
        put('u.msi.address_lo', Number(route.msi.address & 0xffffffffn));
        put('u.msi.address_hi', Number((route.msi.address >> 32n) & 0xffffffffn));
        put('u.msi.data', route.msi.data);
      }
    }
    this.#call('interrupts cannot be routed', I.KVM_SET_GSI_ROUTING, view);
  }

  registerIoEvent(event: HostEvent, where: IoEventAddress): void {
    this.#ioEvent(event, where, 0);
  }

  unregisterIoEvent(event: HostEvent, where: IoEventAddress): void {
    this.#ioEvent(event, where, K.KVM_IOEVENTFD_FLAG_DEASSIGN);
  }

  #ioEvent(event: HostEvent, { space, address, length, dataMatch }: IoEventAddress, flags: number): void {
    const view = allocate(S.kvm_ioeventfd);
    set(S.kvm_ioeventfd, view, 'addr', BigInt(address));
    set(S.kvm_ioeventfd, view, 'len', length);
    set(S.kvm_ioeventfd, view, 'fd', event.fd);
    set(S.kvm_ioeventfd, view, 'datamatch', dataMatch ?? 0n);
    const match = dataMatch === undefined ? 0 : K.KVM_IOEVENTFD_FLAG_DATAMATCH;
    const pio = space === 'pio' ? K.KVM_IOEVENTFD_FLAG_PIO : 0;
    set(S.kvm_ioeventfd, view, 'flags', flags | match | pio);
    const verb = flags === 0 ? 'set' : 'taken away';
    this.#call(`the event at ${space} 0x${address.toString(16)} cannot be ${verb}`, I.KVM_IOEVENTFD, view);
  }

  registerIrqfd(event: HostEvent, gsi: number, resample?: HostEvent): void {
    this.#irqfd(event, gsi, resample === undefined ? 0 : K.KVM_IRQFD_FLAG_RESAMPLE, resample?.fd);
  }

  unregisterIrqfd(event: HostEvent, gsi: number): void {
    this.#irqfd(event, gsi, K.KVM_IRQFD_FLAG_DEASSIGN);
  }

  #irqfd(event: HostEvent, gsi: number, flags: number, resample = 0): void {
    const view = allocate(S.kvm_irqfd);
    set(S.kvm_irqfd, view, 'fd', event.fd);
    set(S.kvm_irqfd, view, 'gsi', gsi);
    set(S.kvm_irqfd, view, 'flags', flags);
    set(S.kvm_irqfd, view, 'resamplefd', resample);
    this.#call(`interrupt line ${gsi} cannot be bound to an event`, I.KVM_IRQFD, view);
  }

  createVcpu(id: number): Vcpu {
    const { vm, runSize, xsaveSize } = this.#share;
    return new KvmVcpu(id, { vm, table: this.#table, runSize, xsaveSize, split: this.#split });
  }

  kick(vcpuId: number): void {
    this.#table.kick(vcpuId);
  }

  /** The threads of the vCPUs have ended: what they left open is closed, too. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#owner) {
      this.#split?.end();
      for (let id = 0; id < this.#table.count; id++) {
        const fd = this.#table.takeDescriptor(id);
        if (fd !== undefined) closeDescriptor(fd);
      }
      closeDescriptor(this.#fd);
    }
    this.#slots.close();
  }
}
