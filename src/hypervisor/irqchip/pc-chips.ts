import type { Clock } from '../../host/clock.ts';
import { Lock, type StateAllocator, stateSize } from '../../host/shared-state.ts';
import type { IrqRoute } from '../hypervisor.ts';
import { IOAPIC_STATE_SIZE, IoApic } from './ioapic.ts';
import type { InterruptMessage } from './message-bus.ts';
import { PIC_STATE_SIZE, PicPair } from './pic.ts';
import { PIT_STATE_SIZE, Pit } from './pit.ts';
import { defaultRouting, ROUTING_STATE_SIZE, type RouteTarget, Routing } from './routing.ts';

const IOAPIC_START = 0xfec00000;
const IOAPIC_SIZE = 0x1000;

const LOCK_SIZE = 64;
/** Line of channel 0 of the 8254. */
const PIT_GSI = 0;

/** Sizes of the ranges of shared state, in their order. */
export const PC_CHIPS_STATE_SIZE = stateSize([
  LOCK_SIZE,
  PIC_STATE_SIZE,
  IOAPIC_STATE_SIZE,
  PIT_STATE_SIZE,
  ROUTING_STATE_SIZE,
]);

/** What the chips are wired to. All are called with the chips' lock held. */
export interface PcChipsWires {
  readonly clock: Clock;
  /** A message of the I/O APIC. Returns false when no local APIC took it. */
  readonly send: (message: InterruptMessage) => boolean;
  /** A message-signalled interrupt that a route makes of a line's rise. */
  readonly sendMsi: (addressLow: number, addressHigh: number, data: number) => void;
  /** The 8259's INT output changed. */
  readonly picOutput: (level: boolean) => void;
  /** What a pin of the I/O APIC sends has changed. */
  readonly redirected?: () => void;
}

/**
 * The interrupt chips outside the processors: I/O APIC, 8259 pair, 8254 and the routing table. State is shared; each
 * thread has an object of this class over it. One lock guards all of it.
 */
export class PcChips {
  /** To be held for calls of the chips that ask for it. */
  readonly lock: Lock;
  readonly pic: PicPair;
  readonly pit: Pit;
  readonly ioapic: IoApic;
  readonly routing: Routing;
  readonly #target: RouteTarget;

  /** Takes PC_CHIPS_STATE_SIZE bytes. */
  constructor(state: StateAllocator, wires: PcChipsWires) {
    const lock = state.allocate(LOCK_SIZE);
    this.lock = new Lock(new Int32Array(lock.buffer, lock.offset, 1), 0);
    this.pic = new PicPair(state.allocate(PIC_STATE_SIZE), wires.picOutput);
    this.ioapic = new IoApic(state.allocate(IOAPIC_STATE_SIZE), wires.send, wires.redirected);
    this.pit = new Pit(state.allocate(PIT_STATE_SIZE), wires.clock, () => this.#pulse(PIT_GSI));
    this.routing = new Routing(state.allocate(ROUTING_STATE_SIZE));
    this.#target = {
      pic: (input, level) => this.pic.setLine(input, level),
      ioapic: (pin, level) => this.ioapic.setPin(pin, level),
      msi: wires.sendMsi,
    };
  }

  /** Power-on state, with the default routing. */
  reset(): void {
    this.pit.reset();
    this.ioapic.reset();
    this.routing.set(defaultRouting());
  }

  /** Level of an interrupt line. A line without a route is not connected. */
  setIrqLine(gsi: number, level: boolean): void {
    this.locked(() => this.routing.forward(gsi, level, this.#target));
  }

  /** Raises and lowers a line: one edge, as an irqfd does. */
  pulseIrqLine(gsi: number): void {
    this.locked(() => this.#pulse(gsi));
  }

  /** Replaces the routing table; RangeError if it is not valid. */
  setGsiRouting(routes: readonly IrqRoute[]): void {
    this.locked(() => this.routing.set(routes));
  }

  /** Does this port belong to the chips (8259 pair, 8254, system control port B)? */
  claimsPort(port: number): boolean {
    return isPicPort(port) || isPitPort(port);
  }

  /** Reads bytes at `port` and after; bytes of ports that are not the chips' stay as they are. */
  portRead(port: number, data: Uint8Array): void {
    this.locked(() => {
      for (let i = 0; i < data.length; i++) {
        const at = port + i;
        if (isPicPort(at)) data[i] = this.pic.read(at);
        else if (isPitPort(at)) data[i] = this.pit.read(at);
      }
    });
  }

  /** Returns true when the 8254's next deadline may have changed. */
  portWrite(port: number, data: Uint8Array): boolean {
    return this.locked(() => {
      let pitChanged = false;
      for (let i = 0; i < data.length; i++) {
        const at = port + i;
        const value = data[i] as number;
        if (isPicPort(at)) this.pic.write(at, value);
        else if (isPitPort(at)) pitChanged = this.pit.write(at, value) || pitChanged;
      }
      return pitChanged;
    });
  }

  /**
   * Answers an access in the I/O APIC's page; false: the address is somebody else's. Registers are 32 bits wide: other reads give
   * all ones, other writes do nothing.
   */
  ioapicAccess(address: number, data: Uint8Array, write: boolean): boolean {
    const offset = address - IOAPIC_START;
    if (offset < 0 || offset >= IOAPIC_SIZE) return false;
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    if (data.length !== 4) {
      if (!write) data.fill(0xff);
    } else if (write) this.locked(() => this.ioapic.write(offset, view.getUint32(0, true)));
    else
      view.setUint32(
        0,
        this.locked(() => this.ioapic.read(offset)),
        true,
      );
    return true;
  }

  /** A local APIC's end of a level-triggered interrupt. */
  endOfInterrupt(vector: number): void {
    this.locked(() => this.ioapic.endOfInterrupt(vector));
  }

  /** The 8259's interrupt acknowledge cycle: the vector, which is in service now; -1: the request has gone. */
  takeExternal(): number {
    return this.locked(() => (this.pic.output ? this.pic.acknowledge() : -1));
  }

  /** Lets the 8254 do what is due at `now`, ns of the clock. */
  advance(now: number): void {
    if (now >= this.pit.nextDeadline()) this.locked(() => this.pit.advance(now));
  }

  /** Runs `body` with the lock held. It must not take the lock again. */
  locked<T>(body: () => T): T {
    this.lock.acquire();
    try {
      return body();
    } finally {
      this.lock.release();
    }
  }

  #pulse(gsi: number): void {
    this.routing.forward(gsi, true, this.#target);
    this.routing.forward(gsi, false, this.#target);
  }
}

function isPicPort(port: number): boolean {
  return (port & ~0x81) === 0x20 || (port & ~1) === 0x4d0;
}

function isPitPort(port: number): boolean {
  return (port & ~3) === 0x40 || port === 0x61;
}
