/** Interrupt lines behind MSI-X vectors: each has a line of its own (GSI) that is routed to the vector's message. */
import { DeviceState, type SharedRange } from '../devices/device-state.ts';
import type { IrqRoute, Msi, Vm } from '../hypervisor/hypervisor.ts';
import { defaultRouting } from '../hypervisor/irqchip/routing.ts';

/** The first line that is no pin of the I/O APIC. */
const FIRST_GSI = 24;
const WORDS_SIZE = 64;
// Words of a line, after the first WORDS_SIZE bytes.
const ROUTED = 0;
const BOUND = 1;
const ADDRESS_LOW = 2;
const ADDRESS_HIGH = 3;
const DATA = 4;
const LINE_WORDS = 5;

/** Bytes of shared state for so many lines. */
export function msiRoutesStateSize(lines: number): number {
  return WORDS_SIZE + lines * LINE_WORDS * 4;
}

/** The routing of a machine whose other lines are as they are at power-on. Each thread has one over the same memory. */
export class MsiRoutes {
  readonly #state: DeviceState;
  readonly #lines: Int32Array;
  readonly #count: number;
  readonly #vm: Vm;

  /** `range` has msiRoutesStateSize() bytes, all zero at first. */
  constructor(range: SharedRange, lines: number, vm: Vm) {
    this.#state = new DeviceState(range, WORDS_SIZE);
    this.#lines = new Int32Array(range.buffer, range.offset + WORDS_SIZE, lines * LINE_WORDS);
    this.#count = lines;
    this.#vm = vm;
  }

  /** From now on each signal of event `fd`, and one that waits already, sends the message. `line` counts from 0. */
  connect(line: number, fd: number, msi: Msi): void {
    const at = line * LINE_WORDS;
    const words = [Number(msi.address & 0xffff_ffffn), Number(msi.address >> 32n), msi.data].map((word) => word | 0);
    this.#state.locked(() => {
      const known =
        this.#lines[at + ROUTED] === 1 && words.every((word, i) => this.#lines[at + ADDRESS_LOW + i] === word);
      if (!known) {
        this.#lines.set(words, at + ADDRESS_LOW);
        this.#lines[at + ROUTED] = 1;
        this.#vm.setGsiRouting([...defaultRouting(), ...this.#routes()]);
      }
      if (this.#lines[at + BOUND] === 1) return;
      this.#vm.registerIrqfd({ fd }, FIRST_GSI + line);
      this.#lines[at + BOUND] = 1;
    });
  }

  /** From now on its signals wait. */
  disconnect(line: number, fd: number): void {
    this.#state.locked(() => {
      if (this.#lines[line * LINE_WORDS + BOUND] !== 1) return;
      this.#vm.unregisterIrqfd({ fd }, FIRST_GSI + line);
      this.#lines[line * LINE_WORDS + BOUND] = 0;
    });
  }

  #routes(): IrqRoute[] {
    const word = (line: number, index: number): number => (this.#lines[line * LINE_WORDS + index] as number) >>> 0;
    return Array.from({ length: this.#count }, (_, line) => line)
      .filter((line) => word(line, ROUTED) === 1)
      .map((line) => ({
        gsi: FIRST_GSI + line,
        kind: 'msi',
        msi: {
          address: (BigInt(word(line, ADDRESS_HIGH)) << 32n) | BigInt(word(line, ADDRESS_LOW)),
          data: word(line, DATA),
        },
      }));
  }
}
