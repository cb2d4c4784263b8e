/** Between the debugger in the main thread and a vCPU's thread, which blocks in run() or waits here. */

import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { CpuState, ResumeAction, StopPoints, StopReason } from './target.ts';

/** What the vCPU's thread is asked while its vCPU is stopped. */
export type AgentQuestion =
  | { readonly kind: 'get-state' }
  | { readonly kind: 'set-state'; readonly state: CpuState }
  | { readonly kind: 'read'; readonly address: bigint; readonly length: number }
  | { readonly kind: 'write'; readonly address: bigint; readonly bytes: Uint8Array }
  | { readonly kind: 'stop-points'; readonly points: StopPoints };

/** To the vCPU's thread. */
export type AgentCommand =
  | { readonly kind: 'question'; readonly id: number; readonly question: AgentQuestion }
  | { readonly kind: 'pause' }
  | { readonly kind: 'resume'; readonly action: ResumeAction }
  /** The debugger has gone, or the machine ends: run without stops. */
  | { readonly kind: 'release' };

/** From the vCPU's thread. */
export type AgentMessage =
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }
  /** The question failed. */
  | { readonly kind: 'failure'; readonly id: number; readonly message: string }
  | { readonly kind: 'stopped'; readonly reason: StopReason };

/** The vCPU's end; goes to its Worker with `port` in the transfer list. */
export interface AgentEnd {
  readonly port: MessagePort;
  /** An Int32 that changes with every command. */
  readonly wake: SharedArrayBuffer;
}

/** The debugger's end. */
export class DebuggerEnd {
  readonly port: MessagePort;
  readonly #wake: Int32Array;

  constructor(port: MessagePort, wake: SharedArrayBuffer) {
    this.port = port;
    this.#wake = new Int32Array(wake);
  }

  send(command: AgentCommand): void {
    this.port.postMessage(command);
    Atomics.add(this.#wake, 0, 1);
    Atomics.notify(this.#wake, 0);
  }
}

/** Makes the two ends for one vCPU. */
export function createChannel(): { debuggerEnd: DebuggerEnd; agentEnd: AgentEnd } {
  const { port1, port2 } = new MessageChannel();
  const wake = new SharedArrayBuffer(4);
  return { debuggerEnd: new DebuggerEnd(port1, wake), agentEnd: { port: port2, wake } };
}

/** The next command; undefined: none is there. */
export function pollCommand(end: AgentEnd): AgentCommand | undefined {
  return receiveMessageOnPort(end.port)?.message as AgentCommand | undefined;
}

/** Blocks this thread until there is a command. */
export function waitForCommand(end: AgentEnd): AgentCommand {
  const wake = new Int32Array(end.wake);
  for (;;) {
    const count = Atomics.load(wake, 0);
    const command = pollCommand(end);
    if (command !== undefined) return command;
    Atomics.wait(wake, 0, count);
  }
}
