/** The machine as the GDB stub sees it, over channels to the vCPUs' threads. */

import type { AgentMessage, AgentQuestion, DebuggerEnd } from './channel.ts';
import type { CpuState, DebugTarget, ResumeAction, Stop, StopPoints, StopReason, TargetListener } from './target.ts';

/** What the machine around it must offer. */
export interface TargetMachine {
  /** Makes the vCPU's run() come back. */
  kick(vcpu: number): void;
  /** Ends the machine. */
  kill(): void;
}

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A DebugTarget in the main thread; each vCPU's thread has a DebugAgent at the other end. vCPUs count as running until they say otherwise. */
export class WorkerTarget implements DebugTarget {
  listener: TargetListener | undefined;
  readonly #ends: readonly DebuggerEnd[];
  readonly #machine: TargetMachine;
  readonly #pending = new Map<number, Pending>();
  readonly #running: Set<number>;
  /** The first stop since vCPUs ran. */
  #first: Stop | undefined;
  #pausing = false;
  #ended = false;
  #nextId = 0;

  constructor(ends: readonly DebuggerEnd[], machine: TargetMachine) {
    this.#ends = ends;
    this.#machine = machine;
    this.#running = new Set(ends.keys());
    for (const [vcpu, end] of ends.entries()) {
      end.port.on('message', (message: AgentMessage) => this.#message(vcpu, message));
      // The machine keeps the process alive, not its debugger.
      end.port.unref();
    }
  }

  get vcpuCount(): number {
    return this.#ends.length;
  }

  get stop(): Stop | undefined {
    return this.#running.size === 0 ? this.#first : undefined;
  }

  async getState(vcpu: number): Promise<CpuState> {
    return (await this.#ask(vcpu, { kind: 'get-state' })) as CpuState;
  }

  async setState(vcpu: number, state: CpuState): Promise<void> {
    await this.#ask(vcpu, { kind: 'set-state', state });
  }

  async readMemory(vcpu: number, address: bigint, length: number): Promise<Uint8Array> {
    return (await this.#ask(vcpu, { kind: 'read', address, length })) as Uint8Array;
  }

  async writeMemory(vcpu: number, address: bigint, bytes: Uint8Array): Promise<void> {
    await this.#ask(vcpu, { kind: 'write', address, bytes });
  }

  async setStopPoints(points: StopPoints): Promise<void> {
    await Promise.all(this.#ends.map((_, vcpu) => this.#ask(vcpu, { kind: 'stop-points', points })));
  }

  resume(actions: ReadonlyMap<number, ResumeAction>): void {
    if (this.#ended || this.#running.size > 0) return;
    this.#first = undefined;
    this.#pausing = false;
    for (const [vcpu, action] of actions) {
      this.#running.add(vcpu);
      this.#ends[vcpu]?.send({ kind: 'resume', action });
    }
  }

  pause(): void {
    if (this.#ended || this.#pausing || this.#running.size === 0) return;
    this.#pausing = true;
    for (const vcpu of this.#running) {
      this.#ends[vcpu]?.send({ kind: 'pause' });
      this.#machine.kick(vcpu);
    }
  }

  kill(): void {
    this.#machine.kill();
  }

  /** The machine ends or has ended: vCPUs that wait for the debugger go on, so that their threads can. */
  end(status: number): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const end of this.#ends) end.send({ kind: 'release' });
    for (const { reject } of this.#pending.values()) reject(new Error('the machine has ended'));
    this.#pending.clear();
    this.listener?.ended(status);
  }

  #ask(vcpu: number, question: AgentQuestion): Promise<unknown> {
    const end = this.#ends[vcpu];
    if (this.#ended || end === undefined) return Promise.reject(new Error('the machine has ended'));
    if (this.#running.size > 0) return Promise.reject(new Error('the machine is running'));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      end.send({ kind: 'question', id, question });
    });
  }

  #message(vcpu: number, message: AgentMessage): void {
    if (message.kind === 'stopped') return this.#stopped(vcpu, message.reason);
    const pending = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (message.kind === 'answer') pending?.resolve(message.value);
    else pending?.reject(new Error(message.message));
  }

  #stopped(vcpu: number, reason: StopReason): void {
    this.#running.delete(vcpu);
    // A breakpoint met while the others are being paused is the better story.
    if (this.#first === undefined || this.#first.reason.kind === 'paused') this.#first = { vcpu, reason };
    if (this.#running.size > 0) return this.pause();
    this.#pausing = false;
    this.listener?.stopped(this.#first);
  }
}
