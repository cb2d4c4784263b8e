import type { Clock } from '../../host/clock.ts';
import { StateAllocator, stateSize } from '../../host/shared-state.ts';
import type { IrqRoute, Msi } from '../hypervisor.ts';
import { CpuInterrupts } from './cpu.ts';
import { Lapic } from './lapic.ts';
import * as A from './lapic-registers.ts';
import { LAPIC_STATE_SIZE, LapicState } from './lapic-state.ts';
import { MessageBus } from './message-bus.ts';
import { PC_CHIPS_STATE_SIZE, PcChips } from './pc-chips.ts';

/** What another thread needs to attach to the same chip; survives structured clone. */
export interface IrqchipShare {
  readonly buffer: SharedArrayBuffer;
  readonly vcpuCount: number;
  /** Rate of the counter that the guests' TSCs follow, Hz. */
  readonly tscHz: number;
  /** Width of a guest-physical address, bits: 36 to 52. */
  readonly physicalAddressBits: number;
}

export { CpuInterrupts };

export type IrqchipOptions = Omit<IrqchipShare, 'buffer'>;

/**
 * The PC's interrupt chip: local APICs, and the chips outside the processors. All state is in one shared buffer; each
 * thread has an object of this class over it. The chips' lock guards everything but the local APICs, which are posted to
 * by atomic operations and otherwise belong to their vCPUs' threads.
 */
export class Irqchip {
  readonly #share: IrqchipShare;
  readonly #clock: Clock;
  readonly #chips: PcChips;
  readonly #apics: readonly LapicState[];
  readonly #messages: MessageBus;

  /** Another thread's view of the chip that `share` describes. `clock` must agree with the other threads' clocks. */
  constructor(share: IrqchipShare, clock: Clock) {
    const state = new StateAllocator(share.buffer);
    this.#share = share;
    this.#clock = clock;
    this.#chips = new PcChips(state, {
      clock,
      send: (message) => this.#messages.send(message),
      sendMsi: (addressLow, addressHigh, data) => this.#sendMsi(addressLow, addressHigh, data),
      picOutput: (level) => this.#picOutput(level),
    });
    this.#apics = Array.from(
      { length: share.vcpuCount },
      (_, id) => new LapicState(id, state.allocate(LAPIC_STATE_SIZE)),
    );
    this.#messages = new MessageBus(this.#apics);
  }

  /** Makes a chip in its power-on state, with the default routing. */
  static create(options: IrqchipOptions, clock: Clock): Irqchip {
    if (!Number.isInteger(options.vcpuCount) || options.vcpuCount < 1) throw new RangeError('a machine has vCPUs');
    const size = stateSize([PC_CHIPS_STATE_SIZE, ...Array.from({ length: options.vcpuCount }, () => LAPIC_STATE_SIZE)]);
    const { vcpuCount, tscHz, physicalAddressBits } = options;
    const share = { buffer: new SharedArrayBuffer(size), vcpuCount, tscHz, physicalAddressBits };
    const chip = new Irqchip(share, clock);
    chip.#chips.reset();
    for (const apic of chip.#apics) new Lapic(apic, chip.#surroundings()).powerOn();
    return chip;
  }

  get share(): IrqchipShare {
    return this.#share;
  }

  /** Host's counter at a time of the clock: the guests' TSCs are this plus their offsets. */
  tsc(now: number): number {
    return Math.floor(now * (this.#share.tscHz / 1e9));
  }

  // ---- For devices and the control loop -------------------------------------------------------------------------------------

  /** Level of an interrupt line. A line without a route is not connected. */
  setIrqLine(gsi: number, level: boolean): void {
    this.#chips.setIrqLine(gsi, level);
  }

  /** Raises and lowers a line: one edge, as an irqfd does. */
  pulseIrqLine(gsi: number): void {
    this.#chips.pulseIrqLine(gsi);
  }

  /** Sends a message-signalled interrupt. Returns false when no processor took it. */
  signalMsi(msi: Msi): boolean {
    return this.#sendMsi(Number(msi.address & 0xffff_ffffn), Number((msi.address >> 32n) & 0xffff_ffffn), msi.data);
  }

  /** Replaces the routing table; RangeError if it is not valid. */
  setGsiRouting(routes: readonly IrqRoute[]): void {
    this.#chips.setGsiRouting(routes);
  }

  /** Sets REQUEST_* bits of a vCPU and wakes it if it sleeps. */
  request(vcpuId: number, bits: number): void {
    this.#apic(vcpuId).request(bits);
  }

  // ---- For vCPUs ---------------------------------------------------------------------------------------------------------------

  /** The chip as a vCPU's own thread uses it. */
  cpu(vcpuId: number): CpuInterrupts {
    const lapic = new Lapic(this.#apic(vcpuId), this.#surroundings());
    return new CpuInterrupts(lapic, this.#chips, vcpuId === 0);
  }

  /** Does this port belong to the chip (8259 pair, 8254, system control port B)? */
  claimsPort(port: number): boolean {
    return this.#chips.claimsPort(port);
  }

  /** Reads bytes at `port` and after; bytes of ports that are not the chip's stay as they are. */
  portRead(port: number, data: Uint8Array): void {
    this.#chips.portRead(port, data);
  }

  portWrite(port: number, data: Uint8Array): void {
    // vCPU 0 serves the timer: it may sleep until a deadline that is no longer the next.
    if (this.#chips.portWrite(port, data)) this.request(0, A.REQUEST_INTERRUPT);
  }

  /** Answers an access in the I/O APIC's page; false: the address is somebody else's. */
  ioapicAccess(address: number, data: Uint8Array, write: boolean): boolean {
    return this.#chips.ioapicAccess(address, data, write);
  }

  // ---- Within ---------------------------------------------------------------------------------------------------------------------

  #surroundings() {
    const { tscHz, physicalAddressBits } = this.#share;
    return {
      clock: this.#clock,
      tscHz,
      physicalAddressBits,
      messages: this.#messages,
      endOfInterrupt: (vector: number): void => this.#chips.endOfInterrupt(vector),
    };
  }

  #sendMsi(addressLow: number, addressHigh: number, data: number): boolean {
    if (addressHigh !== 0 || addressLow >>> 20 !== 0xfee) return false;
    const level = (data & 0x8000) !== 0;
    // A level-triggered message that says "de-assert" has nothing to withdraw.
    if (level && (data & 0x4000) === 0) return false;
    return this.#messages.send({
      destination: (addressLow >>> 12) & 0xff,
      logical: (addressLow & 4) !== 0,
      mode: (data >> 8) & 7,
      vector: data & 0xff,
      level,
      wide: false,
    });
  }

  /** The 8259's output is wired to LINT0 of every local APIC. */
  #picOutput(level: boolean): void {
    if (!level) return;
    for (const apic of this.#apics) {
      const mode = (apic.register(A.APIC_LVT0) >> 8) & 7;
      if (!apic.hardwareEnabled || mode === A.DELIVERY_EXTINT) apic.request(A.REQUEST_INTERRUPT);
      else apic.deliverLocal(A.APIC_LVT0);
    }
  }

  #apic(vcpuId: number): LapicState {
    const apic = this.#apics[vcpuId];
    if (apic === undefined) throw new RangeError(`no vCPU ${vcpuId}`);
    return apic;
  }
}
