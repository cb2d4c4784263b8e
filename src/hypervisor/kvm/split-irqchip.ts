import { type ClockOrigin, HostClock } from '../../host/clock.ts';
import { StateAllocator, stateSize } from '../../host/shared-state.ts';
import type { Exit, IrqRoute, Msi } from '../hypervisor.ts';
import { IOAPIC_PINS } from '../irqchip/ioapic.ts';
import { DELIVERY_EXTINT, DELIVERY_LOWEST } from '../irqchip/lapic-registers.ts';
import type { InterruptMessage } from '../irqchip/message-bus.ts';
import { PC_CHIPS_STATE_SIZE, PcChips } from '../irqchip/pc-chips.ts';

// Message address and data (SDM volume 3, 11.11).
const MESSAGE_ADDRESS = 0xfee00000;
const REDIRECTION_HINT = 0x8;
const LOGICAL = 0x4;
const ASSERT = 0x4000;
const LEVEL = 0x8000;

const WORDS_SIZE = 64;
/** Words of state: counts the changes of the 8254's deadline and the end, for the timer's thread. */
const W_ATTENTION = 0;
const W_ENDED = 1;
const STATE_SIZE = stateSize([WORDS_SIZE, PC_CHIPS_STATE_SIZE]);

/** What other threads need; survives structured clone. */
export interface SplitIrqchipShare {
  readonly buffer: SharedArrayBuffer;
  readonly origin: ClockOrigin;
}

/** What the chips do to the machine in the kernel. */
export interface SplitIrqchipSurroundings {
  /** Sends a message; false: no processor took it. */
  readonly signalMsi: (msi: Msi) => boolean;
  /** Gives the kernel its routing table: messages alone, those of the I/O APIC's pins among them. */
  readonly route: (routes: readonly IrqRoute[]) => void;
  /** The 8259 asks for vCPU 0. */
  readonly wakeForExternal: () => void;
}

/**
 * The split interrupt chip (KVM_CAP_SPLIT_IRQCHIP): local APICs are the kernel's; I/O APIC, 8259 pair and 8254 are the built-in
 * machine's own, in shared state of all threads. They reach the processors by messages, and by the kernel's interrupt window
 * for the 8259's vector.
 */
export class SplitIrqchip {
  readonly share: SplitIrqchipShare;
  readonly #clock: HostClock;
  readonly #words: Int32Array;
  readonly #chips: PcChips;
  readonly #tellKernel: (routes: readonly IrqRoute[]) => void;

  constructor(share: SplitIrqchipShare, { signalMsi, route, wakeForExternal }: SplitIrqchipSurroundings) {
    const state = new StateAllocator(share.buffer);
    this.share = share;
    this.#clock = new HostClock(share.origin);
    this.#tellKernel = route;
    const words = state.allocate(WORDS_SIZE);
    this.#words = new Int32Array(words.buffer, words.offset, WORDS_SIZE / 4);
    this.#chips = new PcChips(state, {
      clock: this.#clock,
      // ExtINT is the 8259's wire, which the processors have at LINT0.
      send: (message) => message.mode !== DELIVERY_EXTINT && signalMsi(msiOf(message)),
      sendMsi: (low, high, data) => signalMsi({ address: (BigInt(high) << 32n) | BigInt(low), data }),
      picOutput: (level) => {
        if (level) wakeForExternal();
      },
      redirected: () => this.#route(),
    });
  }

  /** Chips in their power-on state. */
  static create(surroundings: SplitIrqchipSurroundings): SplitIrqchip {
    const share = { buffer: new SharedArrayBuffer(STATE_SIZE), origin: new HostClock().origin };
    const split = new SplitIrqchip(share, surroundings);
    split.#chips.reset();
    split.#route();
    return split;
  }

  setIrqLine(gsi: number, level: boolean): void {
    this.#chips.setIrqLine(gsi, level);
  }

  setGsiRouting(routes: readonly IrqRoute[]): void {
    this.#chips.locked(() => {
      this.#chips.routing.set(routes);
      this.#route();
    });
  }

  /** A local APIC's end of a level-triggered interrupt (KVM_EXIT_IOAPIC_EOI). */
  endOfInterrupt(vector: number): void {
    this.#chips.endOfInterrupt(vector);
  }

  /** Does the 8259 ask? */
  get asksForExternal(): boolean {
    return this.#chips.pic.output;
  }

  /** The 8259's vector, which is in service now; -1: the request has gone. */
  takeExternal(): number {
    return this.#chips.takeExternal();
  }

  /** Answers an access to the chips' ports or page; false: it is somebody else's. */
  answer(exit: Exit): boolean {
    switch (exit.kind) {
      case 'io-in':
        if (!this.#chips.claimsPort(exit.port)) return false;
        this.#chips.portRead(exit.port, exit.data);
        return true;
      case 'io-out':
        if (!this.#chips.claimsPort(exit.port)) return false;
        if (this.#chips.portWrite(exit.port, exit.data)) this.#callAttention();
        return true;
      case 'mmio-read':
      case 'mmio-write':
        return this.#chips.ioapicAccess(exit.address, exit.data, exit.kind === 'mmio-write');
      default:
        return false;
    }
  }

  // ---- The timer's thread ----------------------------------------------------------------------------------------------

  /** Advances the 8254 when it is due; comes back after end(). */
  serveTimer(): void {
    for (;;) {
      const seen = Atomics.load(this.#words, W_ATTENTION);
      const now = this.#clock.now();
      // With the lock held: whoever has ended the machine may close it, and nothing is sent to it any more.
      const ended = this.#chips.locked(() => {
        if (Atomics.load(this.#words, W_ENDED) !== 0) return true;
        this.#chips.pit.advance(now);
        return false;
      });
      if (ended) return;
      const milliseconds = (this.#chips.pit.nextDeadline() - now) / 1e6;
      if (milliseconds > 0) Atomics.wait(this.#words, W_ATTENTION, seen, milliseconds);
    }
  }

  /** The machine ends: serveTimer() comes back. */
  end(): void {
    this.#chips.locked(() => Atomics.store(this.#words, W_ENDED, 1));
    this.#callAttention();
  }

  #callAttention(): void {
    Atomics.add(this.#words, W_ATTENTION, 1);
    Atomics.notify(this.#words, W_ATTENTION);
  }

  /** The kernel tells of the end of an interrupt when its table has it as a level-triggered one. */
  #route(): void {
    const pins = Array.from({ length: IOAPIC_PINS }, (_, pin): IrqRoute => {
      return { gsi: pin, kind: 'msi', msi: msiOf(this.#chips.ioapic.message(pin)) };
    });
    this.#tellKernel([...pins, ...this.#chips.routing.messages()]);
  }
}

/** The message-signalled interrupt that is an I/O APIC's message. */
function msiOf({ destination, logical, mode, vector, level }: InterruptMessage): Msi {
  const hint = mode === DELIVERY_LOWEST ? REDIRECTION_HINT : 0;
  const address = MESSAGE_ADDRESS + destination * 0x1000 + hint + (logical ? LOGICAL : 0);
  return { address: BigInt(address), data: vector | (mode << 8) | (level ? LEVEL | ASSERT : 0) };
}
