import type { Clock } from '../host/clock.ts';
import type { OsError } from '../host/errno.ts';
import { type SharedRange, StateAllocator, stateSize } from '../host/shared-state.ts';
import { ACPI_PM_STATE_SIZE, AcpiPm } from './acpi-pm.ts';
import { Bus } from './bus.ts';
import { CMOS_STATE_SIZE, Cmos } from './cmos.ts';
import { CONSOLE_OUTPUT_STATE_SIZE, ConsoleOutput } from './console-output.ts';
import { DebugExit } from './debug-exit.ts';
import { I8042, I8042_STATE_SIZE } from './i8042.ts';
import { IRQ_LINES_STATE_SIZE, IrqLines } from './irq-lines.ts';
import { type ExitReason, MACHINE_EXIT_SIZE, MachineExit } from './machine-exit.ts';
import { NullDevice } from './null-device.ts';
import {
  ACPI_PM_PORT,
  ACPI_PM_PORTS,
  ACPI_SCI_GSI,
  CMOS_PORT,
  CMOS_PORTS,
  DEBUG_EXIT_PORT,
  DEBUG_EXIT_PORTS,
  DELAY_PORT,
  FPU_ERROR_PORT,
  FPU_ERROR_PORTS,
  I8042_DATA_PORT,
  I8042_PORTS,
  PIT_PORT,
  PIT_PORTS,
  RTC_GSI,
  SERIAL_GSIS,
  SERIAL_PORT_COUNT,
  SERIAL_PORTS,
} from './pc-map.ts';
import { CONFIG_SPACE_STATE_SIZE } from './pci/config-space.ts';
import { HostBridge } from './pci/host-bridge.ts';
import { PCI_ROOT_BUS_STATE_SIZE, PciRootBus } from './pci/root-bus.ts';
import { SERIAL_STATE_SIZE, Serial } from './serial.ts';

const ATTENTION_SIZE = 64;
/** Bytes of shared memory that a platform takes. */
export const PLATFORM_STATE_SIZE = stateSize([
  ATTENTION_SIZE,
  MACHINE_EXIT_SIZE,
  IRQ_LINES_STATE_SIZE,
  CONSOLE_OUTPUT_STATE_SIZE,
  ...SERIAL_PORTS.map(() => SERIAL_STATE_SIZE),
  I8042_STATE_SIZE,
  CMOS_STATE_SIZE,
  ACPI_PM_STATE_SIZE,
  PCI_ROOT_BUS_STATE_SIZE,
  CONFIG_SPACE_STATE_SIZE,
]);

/** What the platform is made of: the same in every thread. Survives structured clone. */
export interface PlatformConfig {
  /** Where COM1's output goes; absent: nowhere. */
  readonly consoleFd?: number | undefined;
  /** Is there a debug exit port? */
  readonly debugExit?: boolean;
}

/** What a thread has for the platform. */
export interface PlatformSurroundings {
  /** Clocks of all threads have one origin. */
  readonly clock: Clock;
  /** Host's time, milliseconds since 1970. */
  readonly wallTime: () => number;
  /** Level of an interrupt line, in the hypervisor. */
  readonly setIrqLine: (gsi: number, level: boolean) => void;
}

/**
 * The devices of the PC around processors, memory and interrupt chip. Every thread builds one over the same shared
 * memory, and any of them may do any access on the two buses. PlatformLoop does the main thread's part.
 */
export class Platform {
  readonly pio = new Bus();
  readonly mmio = new Bus();
  /** Devices are plugged in before reset(), the same in every thread. */
  readonly pci: PciRootBus;
  /** To share a line that a device of the platform may have. */
  readonly irqLines: IrqLines;
  readonly #attention: Int32Array;
  readonly #exit: MachineExit;
  readonly #console: ConsoleOutput | undefined;
  readonly #serials: readonly Serial[];
  readonly #i8042: I8042;
  readonly #cmos: Cmos;
  readonly #acpi: AcpiPm;

  /** `range` has PLATFORM_STATE_SIZE bytes. */
  constructor(range: SharedRange, config: PlatformConfig, { clock, wallTime, setIrqLine }: PlatformSurroundings) {
    const state = new StateAllocator(range.buffer, range.offset);
    const onDeadline = (): void => this.callAttention();
    const attention = state.allocate(ATTENTION_SIZE);
    this.#attention = new Int32Array(attention.buffer, attention.offset, 1);
    this.#exit = new MachineExit(state.allocate(MACHINE_EXIT_SIZE), () => this.callAttention());
    this.irqLines = new IrqLines(state.allocate(IRQ_LINES_STATE_SIZE), setIrqLine);

    const output = state.allocate(CONSOLE_OUTPUT_STATE_SIZE);
    if (config.consoleFd !== undefined) {
      this.#console = new ConsoleOutput(output, config.consoleFd, () => this.callAttention());
    }
    this.#serials = SERIAL_PORTS.map((port, i) => {
      const interrupt = this.irqLines.connect(SERIAL_GSIS[i] as number);
      const send = i === 0 ? this.#console?.write.bind(this.#console) : undefined;
      const serial = new Serial(state.allocate(SERIAL_STATE_SIZE), { interrupt, output: send });
      this.pio.insert(port, SERIAL_PORT_COUNT, serial);
      return serial;
    });

    this.#i8042 = new I8042(state.allocate(I8042_STATE_SIZE), this.#exit);
    this.pio.insert(I8042_DATA_PORT, I8042_PORTS, this.#i8042);
    const rtcLine = this.irqLines.connect(RTC_GSI);
    this.#cmos = new Cmos(state.allocate(CMOS_STATE_SIZE), { clock, wallTime, interrupt: rtcLine, onDeadline });
    this.pio.insert(CMOS_PORT, CMOS_PORTS, this.#cmos);
    const sci = this.irqLines.connect(ACPI_SCI_GSI);
    this.#acpi = new AcpiPm(state.allocate(ACPI_PM_STATE_SIZE), { clock, sci, exit: this.#exit, onDeadline });
    this.pio.insert(ACPI_PM_PORT, ACPI_PM_PORTS, this.#acpi);

    this.pci = new PciRootBus(state.allocate(PCI_ROOT_BUS_STATE_SIZE), this.pio, this.mmio, this.#exit);
    this.pci.add(0, new HostBridge(state.allocate(CONFIG_SPACE_STATE_SIZE)));

    const nobody = new NullDevice();
    this.pio.insert(PIT_PORT, PIT_PORTS, nobody);
    this.pio.insert(DELAY_PORT, 1, nobody);
    this.pio.insert(FPU_ERROR_PORT, FPU_ERROR_PORTS, nobody);
    if (config.debugExit === true) this.pio.insert(DEBUG_EXIT_PORT, DEBUG_EXIT_PORTS, new DebugExit(this.#exit));
  }

  /** Power-on state: once, before any other call in any thread. */
  reset(): void {
    this.#attention.fill(0);
    this.#exit.reset();
    this.irqLines.reset();
    this.#console?.reset();
    for (const serial of this.#serials) serial.reset();
    this.#i8042.reset();
    this.#cmos.reset();
    this.#acpi.reset();
    this.pci.reset();
  }

  // ---- For the main thread -----------------------------------------------------------------------------------------------

  /** Bytes typed at COM1. Returns how many it took: the rest must come again after waitForInputSpace(). */
  queueInput(bytes: Uint8Array): number {
    return (this.#serials[0] as Serial).queueInput(bytes);
  }

  waitForInputSpace(): Promise<void> {
    return (this.#serials[0] as Serial).waitForSpace();
  }

  /** Asks the guest to shut down. Not all guests listen. */
  pressPowerButton(): void {
    this.#acpi.pressPowerButton();
  }

  /** Why a device ended the run, in whatever thread; undefined: none did. */
  get exitReason(): ExitReason | undefined {
    return this.#exit.reason;
  }

  /** When advance() has something to do, ns of the clock; Infinity: never. */
  nextDeadline(): number {
    return Math.min(this.#cmos.nextDeadline(), this.#acpi.nextDeadline());
  }

  /** Lets the devices' timers do what is due at `now`, ns of the clock. */
  advance(now: number): void {
    if (now < this.nextDeadline()) return;
    this.#cmos.advance(now);
    this.#acpi.advance(now);
  }

  /** Writes as much of the console's output as goes without waiting. Returns how many bytes are left. */
  flushConsole(): number {
    return this.#console?.flush() ?? 0;
  }

  /** Bytes of the console's output that wait for flushConsole(). */
  get consolePending(): number {
    return this.#console?.pending ?? 0;
  }

  /** No thread waits for the console any longer. */
  stopConsole(): void {
    this.#console?.stop();
  }

  /** Why the console's output could not be written. */
  get consoleError(): OsError | undefined {
    return this.#console?.error;
  }

  /**
   * Counts up whenever the main thread has something to look at: an exit reason, an earlier deadline, console output or its
   * error. To be read before looking.
   */
  get attention(): number {
    return Atomics.load(this.#attention, 0);
  }

  /** Resolves when `attention` is no longer `seen`. */
  async waitForAttention(seen: number): Promise<void> {
    await Atomics.waitAsync(this.#attention, 0, seen).value;
  }

  /** Makes waitForAttention() come back. */
  callAttention(): void {
    Atomics.add(this.#attention, 0, 1);
    Atomics.notify(this.#attention, 0);
  }
}
