/** What the control sockets ask of a machine: the seam between them and src/vm. Sizes and addresses are bytes. */

import type { ThreadTime } from '../host/threads.ts';

export type MachineState = 'running' | 'paused' | 'ending';

/** A range of guest RAM, guest-physical. */
export interface MemoryRegion {
  readonly guestAddress: number;
  readonly size: number;
}

/** A balloon: memory that the guest lends back to the host. */
export interface BalloonControl {
  /** What the guest is asked to give. */
  readonly target: number;
  /** What it has given. */
  readonly actual: number;
  /** The largest target. */
  readonly maximum: number;
  /** Asks the guest for so much, a multiple of 4096 from 0 to `maximum`. It gives in its own time. */
  setTarget(size: number): Promise<void>;
  /** Asks the guest once for what memory is free, which goes back to the host and stays the guest's: its bytes. Throws Error. */
  reclaim(): Promise<number>;
  /** The guest's own figures by name (virtio 1.2, 5.5.6.3), bytes or counts; none while it has sent none. */
  statistics(): Promise<Readonly<Record<string, number>>>;
}

/** A disk of the machine. */
export interface DiskControl {
  /** Its name in requests, such as the guest's `vda`. */
  readonly name: string;
  readonly path: string;
  readonly writable: boolean;
  readonly size: number;
  /** A new size, a multiple of 512. Throws ControlError, DiskError, OsError. */
  resize(size: number): Promise<void>;
  /** Counts since the start, by name. */
  statistics(): Promise<Readonly<Record<string, number>>>;
}

/** What of a machine does not change while it runs. */
export interface MachineDescription {
  readonly kernel: string;
  readonly hypervisor: string;
  readonly cpus: number;
  readonly memory: number;
}

export interface ControlledMachine {
  readonly description: MachineDescription;
  readonly state: MachineState;
  readonly memory: readonly MemoryRegion[];
  /** Undefined: the machine has none. */
  readonly balloon: BalloonControl | undefined;
  readonly disks: readonly DiskControl[];
  /** Processor time of the host that each vCPU's thread has taken. */
  processors(): readonly ThreadTime[];
  /** Resolves when no vCPU runs guest code any more. Throws ControlError. */
  pause(): Promise<void>;
  resume(): void;
  exit(): void;
}

/** A request that cannot be served. `message` is one line for whoever asked. */
export class ControlError extends Error {
  override readonly name = 'ControlError';
  /** HTTP's: 400 it makes no sense, 404 there is no such thing, 409 not in this state. */
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}
