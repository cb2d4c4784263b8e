/**
 * The life of a back end: this runs in a thread or a process of its own, and does not know which. It maps what it shares
 * with the monitor, makes the device, and then serves its queues in one loop that blocks.
 */
import { EPOLLET, EPOLLIN } from '../host/epoll.ts';
import { EventLoop } from '../host/event-loop.ts';
import { signalEvent, takeEvent } from '../host/eventfd.ts';
import { window } from '../host/memory.ts';
import { GuestMemory } from '../hypervisor/guest-memory.ts';
import type { Backend, BackendFactory, Json } from './backend.ts';
import { BackendChannel } from './backend-channel.ts';
import { BrokenDriverError } from './chain.ts';
import * as V from './constants.ts';
import { GuestRanges } from './guest-ranges.ts';
import { Queue } from './queue.ts';
import { type StateShape, stateSize, VirtioState } from './state.ts';

/** How interrupts that are no MSI-X vectors are told of. */
export type Interrupt =
  /** By an event, which is an edge of a line (MMIO). */
  | 'event'
  /** By a message to the main process, which has the pin (PCI). */
  | 'message';

/** Everything that a back end starts from: plain JSON. */
export interface BackendStart {
  readonly device: string;
  readonly params: Json;
  readonly shape: StateShape;
  readonly interrupt: Interrupt;
  /** Guest RAM: where what part of its descriptor is in guest-physical memory. */
  readonly memory: readonly { readonly start: number; readonly size: number; readonly fdOffset: number }[];
  /** Vectors: one for the configuration, one for each queue; 0 where there is no MSI-X. */
  readonly vectors: number;
  /**
   * Descriptors, in this order: guest RAM, the state's memfd, the channel (a Unix stream socket), the control event, the interrupt's
   * event, one event for each queue, one for each vector, and then the device's own. A process of its own gets them under
   * other numbers in the same order.
   */
  readonly fds: readonly number[];
}

/** Where descriptors are in BackendStart.fds. */
const FD_MEMORY = 0;
const FD_STATE = 1;
const FD_CHANNEL = 2;
const FD_CONTROL = 3;
const FD_INTERRUPT = 4;
const FD_QUEUES = 5;

/**
 * Maps what a back end shares with the monitor. Returns what makes the device and serves its queues, until the main process says
 * that it is over, or is gone: a process of its own locks itself in between the two, before anything is looked at that a guest may
 * have written. What that throws ends the device; the main process has been told by then.
 */
export function prepareBackend(start: BackendStart, create: BackendFactory): () => void {
  const channel = new BackendChannel(start.fds[FD_CHANNEL] as number);
  const tellFailure = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      channel.send({ failed: error instanceof Error ? describe(error) : String(error) });
      throw error;
    }
  };
  const runner = tellFailure(() => new BackendRunner(start, channel));
  return () => tellFailure(() => runner.run(create));
}

/** A failure of the host is one line; a mistake of ours comes with its trace. */
function describe(error: Error): string {
  const ours = error instanceof TypeError || error instanceof ReferenceError;
  return ours ? (error.stack ?? error.message) : error.message;
}

class BackendRunner {
  readonly #start: BackendStart;
  readonly #channel: BackendChannel;
  readonly #loop = new EventLoop();
  readonly #memory: GuestMemory;
  readonly #ranges: GuestRanges;
  readonly #state: VirtioState;
  #backend: Backend | undefined;
  /** Between DRIVER_OK and reset. */
  #queues: readonly (Queue | undefined)[] | undefined;
  /** The driver broke the rules: nothing goes on until its reset. */
  #broken = false;
  #resets: number;
  #configWrites: number;

  constructor(start: BackendStart, channel: BackendChannel) {
    this.#start = start;
    this.#channel = channel;
    const memoryFd = start.fds[FD_MEMORY] as number;
    this.#memory = new GuestMemory(
      start.memory.map(({ start: guestAddress, size, fdOffset }) => ({
        guestAddress,
        bytes: window(memoryFd, fdOffset, size),
      })),
    );
    this.#ranges = new GuestRanges(this.#memory);
    const state = window(start.fds[FD_STATE] as number, 0, stateSize(start.shape));
    this.#state = new VirtioState(state.buffer, state.byteOffset, start.shape);
    this.#resets = this.#state.resetDone;
    this.#configWrites = this.#state.configWrites;
  }

  run(create: BackendFactory): void {
    const { fds, shape, vectors } = this.#start;
    const control = fds[FD_CONTROL] as number;
    this.#backend = create({
      loop: this.#loop,
      memory: this.#memory,
      params: this.#start.params,
      fds: fds.slice(FD_QUEUES + shape.queues + vectors),
      config: this.#state.config,
      changeConfig: (offset, bytes) => this.#changeConfig(offset, bytes),
      log: (line) => this.#channel.send({ log: line }),
      event: (event) => this.#channel.send({ event }),
    });
    for (let queue = 0; queue < shape.queues; queue++) {
      this.#loop.watch(fds[FD_QUEUES + queue] as number, EPOLLIN | EPOLLET, () => this.#notified(queue));
    }
    this.#loop.watch(control, EPOLLIN, () => {
      takeEvent(control);
      this.#guarded(() => this.#look());
    });
    this.#loop.watch(fds[FD_CHANNEL] as number, EPOLLIN, () => this.#receive());
    this.#channel.send({ ready: true });
    for (;;) {
      try {
        this.#loop.run();
        break;
      } catch (error) {
        // From a callback of the back end's own.
        this.#fail(error);
      }
    }
    this.#endSession();
    this.#backend.close?.();
  }

  /** Runs something of the back end's; a driver that broke the rules is stopped. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (!(error instanceof BrokenDriverError)) throw error;
    if (this.#broken) return;
    this.#endSession();
    this.#broken = true;
    this.#channel.send({ log: `its driver broke the rules of virtio: ${error.message}; the device waits for a reset` });
    this.#state.setStatus(V.DEVICE_NEEDS_RESET);
    this.#interruptConfig();
  }

  #endSession(): void {
    if (this.#queues === undefined) return;
    for (const queue of this.#queues) queue?.close();
    this.#queues = undefined;
    this.#backend?.reset();
  }

  /** The driver has written to the status or to the configuration. */
  #look(): void {
    const { resetWanted } = this.#state;
    if (resetWanted !== this.#resets) {
      this.#endSession();
      this.#broken = false;
      this.#resets = resetWanted;
      this.#state.clearStatus();
      this.#state.resetDone = resetWanted;
    }
    const { configWrites } = this.#state;
    if (configWrites !== this.#configWrites) {
      this.#configWrites = configWrites;
      this.#backend?.configWritten?.();
    }
    if ((this.#state.status & V.DRIVER_OK) !== 0 && this.#queues === undefined && !this.#broken) this.#startSession();
  }

  #startSession(): void {
    const { features } = this.#state;
    this.#queues = Array.from({ length: this.#start.shape.queues }, (_, index) => {
      if (!this.#state.queueEnabled(index)) return undefined;
      const interrupt = (): void => this.#interruptQueue(index);
      return new Queue(index, this.#state.queueConfig(index), this.#ranges, features, interrupt);
    });
    this.#backend?.start({ features, queues: this.#queues });
    for (const queue of this.#queues) queue?.onNotify();
  }

  #notified(queue: number): void {
    this.#guarded(() => this.#queues?.[queue]?.onNotify());
  }

  #changeConfig(offset: number, bytes: Uint8Array): void {
    this.#state.nextConfigGeneration();
    this.#state.config.set(bytes, offset);
    this.#state.nextConfigGeneration();
    if ((this.#state.status & V.DRIVER_OK) !== 0) this.#interruptConfig();
  }

  #interruptQueue(queue: number): void {
    if (this.#state.msix) this.#signalVector(this.#state.queueVector(queue));
    else this.#signalLine(V.ISR_QUEUE);
  }

  #interruptConfig(): void {
    if (this.#state.msix) this.#signalVector(this.#state.configVector);
    else this.#signalLine(V.ISR_CONFIG);
  }

  #signalVector(vector: number): void {
    const { fds, shape, vectors } = this.#start;
    if (vector < vectors) signalEvent(fds[FD_QUEUES + shape.queues + vector] as number);
  }

  #signalLine(bits: number): void {
    this.#state.addIsr(bits);
    if (this.#start.interrupt === 'event') signalEvent(this.#start.fds[FD_INTERRUPT] as number);
    else this.#channel.send({ interrupt: true });
  }

  #receive(): void {
    const messages = this.#channel.receive();
    if (messages === undefined) {
      this.#loop.stop();
      return;
    }
    for (const { id, request } of messages) this.#channel.send(this.#answer(id, request));
  }

  #answer(id: number, request: Json): { id: number; answer: Json } | { id: number; error: string } {
    try {
      return { id, answer: this.#backend?.request?.(request) ?? null };
    } catch (error) {
      if (error instanceof BrokenDriverError) this.#fail(error);
      else if (error instanceof TypeError || error instanceof ReferenceError) throw error;
      return { id, error: (error as Error).message };
    }
  }
}
