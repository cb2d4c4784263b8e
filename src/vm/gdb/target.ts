/** What the GDB stub debugs: a machine whose vCPUs can be stopped, looked into, and let run. */

import type { GuestDebug, Regs, Sregs } from '../../hypervisor/hypervisor.ts';

/** A vCPU's registers as far as a debugger shows them. */
export interface CpuState {
  readonly regs: Regs;
  readonly sregs: Sregs;
  /** XSAVE area in standard form; its first 512 bytes are FXSAVE64's. */
  readonly xsave: Uint8Array;
  /** IA32_KERNEL_GS_BASE. */
  kernelGsBase: bigint;
}

export interface Watchpoint {
  /** Linear address. */
  readonly address: bigint;
  /** Bytes: 1, 2, 4 or 8. */
  readonly length: number;
  readonly kind: 'write' | 'access';
}

/** Where vCPUs stop; the single step apart from GuestDebug. */
export type StopPoints = Omit<GuestDebug, 'singleStep'>;

export type StopReason =
  /** Asked for by pause(). */
  | { readonly kind: 'paused' }
  | { readonly kind: 'step' }
  /** Linear address. */
  | { readonly kind: 'breakpoint'; readonly address: bigint }
  | { readonly kind: 'watchpoint'; readonly watchpoint: Watchpoint };

/** All vCPUs are stopped; `vcpu` was the first. */
export interface Stop {
  readonly vcpu: number;
  readonly reason: StopReason;
}

export type ResumeAction = 'continue' | 'step';

/** What a target tells its debugger. */
export interface TargetListener {
  stopped(stop: Stop): void;
  /** The machine has ended, with this exit status of the program. */
  ended(status: number): void;
}

/**
 * A machine under a debugger. vCPUs run or are stopped together, except that resume() may leave some stopped. Registers,
 * memory and stop points can be used only while all are stopped. Every promise rejects when the machine refuses or has ended.
 */
export interface DebugTarget {
  readonly vcpuCount: number;
  /** One at a time; undefined: nobody listens. */
  listener: TargetListener | undefined;
  /** Undefined while a vCPU runs. */
  readonly stop: Stop | undefined;
  getState(vcpu: number): Promise<CpuState>;
  setState(vcpu: number, state: CpuState): Promise<void>;
  /** Bytes at a linear address as this vCPU maps it; fewer than `length` where the mapping ends. */
  readMemory(vcpu: number, address: bigint, length: number): Promise<Uint8Array>;
  /** Rejects, with nothing written, where a byte is not mapped. */
  writeMemory(vcpu: number, address: bigint, bytes: Uint8Array): Promise<void>;
  setStopPoints(points: StopPoints): Promise<void>;
  /** Lets vCPUs run; those without an action stay stopped. */
  resume(actions: ReadonlyMap<number, ResumeAction>): void;
  /** Stops all vCPUs; the listener hears of it, unless all are stopped already. */
  pause(): void;
  /** Ends the machine. */
  kill(): void;
}
