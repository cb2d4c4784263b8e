/** The debugger's hand in a vCPU's thread: stops the vCPU where it must, and answers questions about it while it is stopped. */

import { isDeepStrictEqual } from 'node:util';
import type { GuestMemory } from '../../hypervisor/guest-memory.ts';
import type { Exit, Vcpu } from '../../hypervisor/hypervisor.ts';
import { type AgentEnd, type AgentMessage, type AgentQuestion, pollCommand, waitForCommand } from './channel.ts';
import type { CpuState, ResumeAction, StopPoints, StopReason } from './target.ts';

const MSR_KERNEL_GS_BASE = 0xc0000102;
const DR6_BS = 1n << 14n;
const PAGE = 4096n;
const LINEAR_MASK = (1n << 64n) - 1n;

/**
 * Lives in the thread that runs the vCPU. The run loop calls start() before the first run(), and attend() for the exits `debug`
 * and `interrupted`; both come back when the vCPU shall run (on).
 */
export class DebugAgent {
  readonly #vcpu: Vcpu;
  readonly #memory: GuestMemory;
  readonly #end: AgentEnd;
  #points: StopPoints = { breakpoints: [], watchpoints: [] };
  #stepping = false;
  #released = false;
  /** Bytes of guest memory were changed: the processor must look at its code anew. */
  #written = false;

  constructor(vcpu: Vcpu, memory: GuestMemory, end: AgentEnd) {
    this.#vcpu = vcpu;
    this.#memory = memory;
    this.#end = end;
  }

  /** Waits, before the first instruction, for a debugger to let the vCPU run. */
  start(): void {
    this.#stop({ kind: 'paused' });
  }

  attend(exit: Exit): void {
    if (exit.kind === 'debug') {
      if (!this.#released) this.#stop(this.#reason(exit.address, exit.dr6));
      return;
    }
    // run() was left for somebody: perhaps for the debugger.
    for (let command = pollCommand(this.#end); command !== undefined; command = pollCommand(this.#end)) {
      if (command.kind === 'release') this.#release();
      else if (command.kind === 'pause') return this.#stop({ kind: 'paused' });
    }
  }

  #reason(address: bigint, dr6: bigint): StopReason {
    const watchpoint = this.#points.watchpoints.find((_, i) => (dr6 & (1n << BigInt(i))) !== 0n);
    if (watchpoint !== undefined) return { kind: 'watchpoint', watchpoint };
    // A step that ends at a breakpoint is a step: the breakpoint has not been run into yet.
    if (this.#stepping || (dr6 & DR6_BS) !== 0n) return { kind: 'step' };
    return { kind: 'breakpoint', address };
  }

  /** Tells the debugger, and serves it until it lets the vCPU run. */
  #stop(reason: StopReason): void {
    if (this.#released) return;
    this.#send({ kind: 'stopped', reason });
    for (;;) {
      const command = waitForCommand(this.#end);
      switch (command.kind) {
        case 'question':
          this.#question(command.id, command.question);
          break;
        case 'resume':
          return this.#resume(command.action);
        case 'release':
          return this.#release();
        case 'pause':
          // It was on its way when the vCPU stopped by itself.
          break;
      }
    }
  }

  #resume(action: ResumeAction): void {
    const stepping = action === 'step';
    if (stepping !== this.#stepping || this.#written) {
      this.#stepping = stepping;
      this.#written = false;
      this.#vcpu.setGuestDebug({ singleStep: stepping, ...this.#points });
    }
  }

  #release(): void {
    this.#released = true;
    this.#vcpu.setGuestDebug({ singleStep: false, breakpoints: [], watchpoints: [] });
    this.#end.port.close();
  }

  #send(message: AgentMessage): void {
    this.#end.port.postMessage(message);
  }

  #question(id: number, question: AgentQuestion): void {
    try {
      this.#send({ kind: 'answer', id, value: this.#answer(question) });
    } catch (error) {
      this.#send({ kind: 'failure', id, message: error instanceof Error ? error.message : String(error) });
    }
  }

  #answer(question: AgentQuestion): unknown {
    switch (question.kind) {
      case 'get-state':
        return this.#state();
      case 'set-state':
        return this.#setState(question.state);
      case 'read':
        return this.#read(question.address, question.length);
      case 'write':
        return this.#write(question.address, question.bytes);
      case 'stop-points':
        this.#vcpu.setGuestDebug({ singleStep: this.#stepping, ...question.points });
        this.#points = question.points;
        return undefined;
    }
  }

  #state(): CpuState {
    const vcpu = this.#vcpu;
    return {
      regs: vcpu.getRegs(),
      sregs: vcpu.getSregs(),
      xsave: vcpu.getXsave(),
      kernelGsBase: vcpu.getMsr(MSR_KERNEL_GS_BASE),
    };
  }

  /** Writes back what differs: setting a register to what it is can have effects of its own. */
  #setState(state: CpuState): void {
    const old = this.#state();
    const vcpu = this.#vcpu;
    if (!isDeepStrictEqual(state.sregs, old.sregs)) vcpu.setSregs(state.sregs);
    if (!isDeepStrictEqual(state.xsave, old.xsave)) vcpu.setXsave(state.xsave);
    if (state.kernelGsBase !== old.kernelGsBase) vcpu.setMsr(MSR_KERNEL_GS_BASE, state.kernelGsBase);
    if (!isDeepStrictEqual(state.regs, old.regs)) vcpu.setRegs(state.regs);
  }

  #read(address: bigint, length: number): Uint8Array {
    const out = new Uint8Array(length);
    const done = this.#pieces(address, length, (memory, from) => out.set(memory, from));
    return out.subarray(0, done);
  }

  #write(address: bigint, bytes: Uint8Array): void {
    const pieces: (() => void)[] = [];
    const done = this.#pieces(address, bytes.length, (memory, from, to) => {
      pieces.push(() => memory.set(bytes.subarray(from, to)));
    });
    if (done < bytes.length) throw new RangeError(`0x${address.toString(16)} is not mapped to memory`);
    for (const piece of pieces) piece();
    this.#written = true;
  }

  /** Goes through linear memory page by page. Returns the bytes that were there, from the start on. */
  #pieces(address: bigint, length: number, visit: (memory: Uint8Array, from: number, to: number) => void): number {
    let from = 0;
    while (from < length) {
      const linear = (address + BigInt(from)) & LINEAR_MASK;
      const to = Math.min(length, from + Number(PAGE - (linear % PAGE)));
      const physical = this.#vcpu.translate(linear);
      if (physical === undefined || !this.#memory.contains(physical, to - from)) break;
      visit(this.#memory.slice(physical, to - from), from, to);
      from = to;
    }
    return from;
  }
}
