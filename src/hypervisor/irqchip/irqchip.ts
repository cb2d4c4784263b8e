import type { Clock } from '../../host/clock.ts';
import { Lock, type SharedRange, StateAllocator, stateSize } from '../../host/shared-state.ts';
import type { IrqRoute, Msi } from '../hypervisor.ts';
import { CpuInterrupts } from './cpu.ts';
import { IOAPIC_STATE_SIZE, IoApic } from './ioapic.ts';
import { Lapic } from './lapic.ts';
import * as A from './lapic-registers.ts';
import { LAPIC_STATE_SIZE, LapicState } from './lapic-state.ts';
import { MessageBus } from './message-bus.ts';
import { PIC_STATE_SIZE, PicPair } from './pic.ts';
import { PIT_STATE_SIZE, Pit } from './pit.ts';
import { defaultRouting, ROUTING_STATE_SIZE, type RouteTarget, Routing } from './routing.ts';

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

const LOCK_SIZE = 64;
/** Line of channel 0 of the 8254. */
const PIT_GSI = 0;

/**
 * The PC's interrupt chip: local APICs, I/O APIC, 8259 pair, 8254 and the routing table. All state is in one shared
 * buffer; each thread has an object of this class over it. The chip's lock guards everything but the local APICs,
 * which are posted to by atomic operations and otherwise belong to their vCPUs' threads.
 */
export class Irqchip {
  readonly #share: IrqchipShare;
  readonly #clock: Clock;
  readonly #lock: Lock;
  readonly #pic: PicPair;
  readonly #pit: Pit;
  readonly #ioapic: IoApic;
  readonly #routing: Routing;
  readonly #apics: readonly LapicState[];
  readonly #messages: MessageBus;
  readonly #target: RouteTarget;

  /** Another thread's view of the chip that `share` describes. `clock` must agree with the other threads' clocks. */
  constructor(share: IrqchipShare, clock: Clock) {
    const state = new StateAllocator(share.buffer);
    this.#share = share;
    this.#clock = clock;
    this.#lock = new Lock(new Int32Array(share.buffer, state.allocate(LOCK_SIZE).offset, 1), 0);
    const pic: SharedRange = state.allocate(PIC_STATE_SIZE);
    const ioapic = state.allocate(IOAPIC_STATE_SIZE);
    const pit = state.allocate(PIT_STATE_SIZE);
    const routing = state.allocate(ROUTING_STATE_SIZE);
    this.#apics = Array.from(
      { length: share.vcpuCount },
      (_, id) => new LapicState(id, state.allocate(LAPIC_STATE_SIZE)),
    );
    this.#messages = new MessageBus(this.#apics);
    this.#pic = new PicPair(pic, (level) => this.#picOutput(level));
    this.#ioapic = new IoApic(ioapic, this.#messages);
    this.#pit = new Pit(pit, clock, () => {
      this.#forward(PIT_GSI, true);
      this.#forward(PIT_GSI, false);
    });
    this.#routing = new Routing(routing);
    this.#target = {
      pic: (input, level) => this.#pic.setLine(input, level),
      ioapic: (pin, level) => this.#ioapic.setPin(pin, level),
      msi: (addressLow, addressHigh, data) => this.#sendMsi(addressLow, addressHigh, data),
    };
  }

  /** Makes a chip in its power-on state, with the default routing. */
  static create(options: IrqchipOptions, clock: Clock): Irqchip {
    if (!Number.isInteger(options.vcpuCount) || options.vcpuCount < 1) throw new RangeError('a machine has vCPUs');
    const size = stateSize([
      ...[LOCK_SIZE, PIC_STATE_SIZE, IOAPIC_STATE_SIZE, PIT_STATE_SIZE, ROUTING_STATE_SIZE],
      ...Array.from({ length: options.vcpuCount }, () => LAPIC_STATE_SIZE),
    ]);
    const { vcpuCount, tscHz, physicalAddressBits } = options;
    const share = { buffer: new SharedArrayBuffer(size), vcpuCount, tscHz, physicalAddressBits };
    const chip = new Irqchip(share, clock);
    chip.#pit.reset();
    chip.#ioapic.reset();
    chip.#routing.set(defaultRouting());
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
    this.#lock.acquire();
    try {
      this.#forward(gsi, level);
    } finally {
      this.#lock.release();
    }
  }

  /** Raises and lowers a line: one edge, as an irqfd does. */
  pulseIrqLine(gsi: number): void {
    this.#lock.acquire();
    try {
      this.#forward(gsi, true);
      this.#forward(gsi, false);
    } finally {
      this.#lock.release();
    }
  }

  /** Sends a message-signalled interrupt. Returns false when no processor took it. */
  signalMsi(msi: Msi): boolean {
    return this.#sendMsi(Number(msi.address & 0xffff_ffffn), Number((msi.address >> 32n) & 0xffff_ffffn), msi.data);
  }

  /** Replaces the routing table; RangeError if it is not valid. */
  setGsiRouting(routes: readonly IrqRoute[]): void {
    this.#lock.acquire();
    try {
      this.#routing.set(routes);
    } finally {
      this.#lock.release();
    }
  }

  /** Sets REQUEST_* bits of a vCPU and wakes it if it sleeps. */
  request(vcpuId: number, bits: number): void {
    this.#apic(vcpuId).request(bits);
  }

  // ---- For vCPUs ---------------------------------------------------------------------------------------------------------------

  /** The chip as a vCPU's own thread uses it. */
  cpu(vcpuId: number): CpuInterrupts {
    const lapic = new Lapic(this.#apic(vcpuId), this.#surroundings());
    return new CpuInterrupts(lapic, this.#pic, vcpuId === 0 ? this.#pit : undefined, this.#lock);
  }

  /** Does this port belong to the chip (8259 pair, 8254, system control port B)? */
  claimsPort(port: number): boolean {
    return isPicPort(port) || isPitPort(port);
  }

  /** Reads bytes at `port` and after; bytes of ports that are not the chip's stay as they are. */
  portRead(port: number, data: Uint8Array): void {
    this.#lock.acquire();
    try {
      for (let i = 0; i < data.length; i++) {
        const at = port + i;
        if (isPicPort(at)) data[i] = this.#pic.read(at);
        else if (isPitPort(at)) data[i] = this.#pit.read(at);
      }
    } finally {
      this.#lock.release();
    }
  }

  portWrite(port: number, data: Uint8Array): void {
    let pitChanged = false;
    this.#lock.acquire();
    try {
      for (let i = 0; i < data.length; i++) {
        const at = port + i;
        const value = data[i] as number;
        if (isPicPort(at)) this.#pic.write(at, value);
        else if (isPitPort(at)) pitChanged = this.#pit.write(at, value) || pitChanged;
      }
    } finally {
      this.#lock.release();
    }
    // vCPU 0 serves the timer: it may sleep until a deadline that is no longer the next.
    if (pitChanged) this.request(0, A.REQUEST_INTERRUPT);
  }

  /** A 32-bit read in the I/O APIC's page. */
  ioapicRead(offset: number): number {
    this.#lock.acquire();
    try {
      return this.#ioapic.read(offset);
    } finally {
      this.#lock.release();
    }
  }

  ioapicWrite(offset: number, value: number): void {
    this.#lock.acquire();
    try {
      this.#ioapic.write(offset, value);
    } finally {
      this.#lock.release();
    }
  }

  // ---- Within ---------------------------------------------------------------------------------------------------------------------

  #surroundings() {
    const { tscHz, physicalAddressBits } = this.#share;
    return {
      clock: this.#clock,
      tscHz,
      physicalAddressBits,
      messages: this.#messages,
      endOfInterrupt: (vector: number): void => {
        this.#lock.acquire();
        try {
          this.#ioapic.endOfInterrupt(vector);
        } finally {
          this.#lock.release();
        }
      },
    };
  }

  /** With the lock held. */
  #forward(gsi: number, level: boolean): void {
    this.#routing.forward(gsi, level, this.#target);
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

function isPicPort(port: number): boolean {
  return (port & ~0x81) === 0x20 || (port & ~1) === 0x4d0;
}

function isPitPort(port: number): boolean {
  return (port & ~3) === 0x40 || port === 0x61;
}
