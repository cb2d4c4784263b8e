import type { BalloonControl, DiskControl, MemoryRegion } from '../control/machine.ts';
import {
  ControlError,
  type ControlledMachine,
  type MachineDescription,
  type MachineState,
} from '../control/machine.ts';
import type { ThreadTime } from '../host/threads.ts';
import type { VcpuThreads } from './vcpus.ts';

/** What the control sockets may do with a machine. */
export class MachineControl implements ControlledMachine {
  readonly description: MachineDescription;
  readonly memory: readonly MemoryRegion[];
  readonly balloon: BalloonControl | undefined;
  readonly disks: readonly DiskControl[];
  readonly #vcpus: VcpuThreads;
  readonly #debugged: boolean;
  readonly #exit: () => void;
  #state: MachineState = 'running';
  #pausing: Promise<void> | undefined;

  constructor(parts: {
    readonly description: MachineDescription;
    readonly memory: readonly MemoryRegion[];
    readonly vcpus: VcpuThreads;
    readonly balloon: BalloonControl | undefined;
    readonly disks: readonly DiskControl[];
    /** A debugger stops and starts the vCPUs. */
    readonly debugged: boolean;
    readonly exit: () => void;
  }) {
    this.description = parts.description;
    this.memory = parts.memory;
    this.balloon = parts.balloon;
    this.disks = parts.disks;
    this.#vcpus = parts.vcpus;
    this.#debugged = parts.debugged;
    this.#exit = parts.exit;
  }

  get state(): MachineState {
    return this.#state;
  }

  /** The machine's run is over: nothing is paused any more. */
  ended(): void {
    this.#state = 'ending';
  }

  processors(): ThreadTime[] {
    return this.#vcpus.times();
  }

  async pause(): Promise<void> {
    // A vCPU that a debugger holds does not come to stand still.
    if (this.#debugged) throw new ControlError(409, 'a debugger steers this machine');
    this.#pausing ??= this.#vcpus.pause();
    const pausing = this.#pausing;
    await pausing;
    // It may have been resumed meanwhile, and paused again.
    if (this.#pausing === pausing && this.#state === 'running') this.#state = 'paused';
  }

  resume(): void {
    this.#pausing = undefined;
    this.#vcpus.resume();
    if (this.#state === 'paused') this.#state = 'running';
  }

  exit(): void {
    this.#exit();
  }
}
