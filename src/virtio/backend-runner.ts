/** Runs one back end: status, sessions, interrupts, and requests of the main process. */
import { fstatSync } from 'node:fs';
import { EPOLLET, EPOLLIN } from '../host/epoll.ts';
import { EventLoop } from '../host/event-loop.ts';
import { signalEvent, takeEvent } from '../host/eventfd.ts';
import { PAGE_SIZE, punchHole, window } from '../host/memory.ts';
import { GuestMemory } from '../hypervisor/guest-memory.ts';
import { type Backend, type BackendFactory, type Json, Later, type QueueEvents } from './backend.ts';
import type { BackendChannel } from './backend-channel.ts';
import {
  type BackendStart,
  FD_CHANNEL,
  FD_CONTROL,
  FD_INTERRUPT,
  FD_MEMORY,
  FD_QUEUES,
  FD_STATE,
} from './backend-start.ts';
import { BrokenDriverError } from './chain.ts';
import * as V from './constants.ts';
import { DeviceWrites, GuestRange, GuestRanges } from './guest-ranges.ts';
import { Queue } from './queue.ts';
import { stateSize, VirtioState } from './state.ts';

/** A back end with its loop, and with what it shares with the monitor. Its device has to be begun. */
export class BackendRunner {
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
  /** Said once: a guest cannot fill the log. */
  #toldBroken = false;
  /** The main process has ended it, or is gone. */
  #over = false;
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
    this.#ranges = new GuestRanges(this.#memory, start.countsWrites ? deviceWrites(start) : undefined);
    const state = window(start.fds[FD_STATE] as number, 0, stateSize(start.shape));
    this.#state = new VirtioState(state.buffer, state.byteOffset, start.shape);
    this.#resets = this.#state.resetDone;
    this.#configWrites = this.#state.configWrites;
  }

  /** Makes the device, which serves its queues from now on whenever poll() or run() is called. */
  begin(create: BackendFactory): void {
    const { fds, countsWrites } = this.#start;
    const control = fds[FD_CONTROL] as number;
    this.#backend = create({
      loop: this.#loop,
      memory: this.#memory,
      params: this.#start.params,
      fds: fds.slice(afterEvents(this.#start) + (countsWrites ? 1 : 0)),
      queueEvents: Array.from({ length: this.#start.shape.queues }, (_, queue) => this.#eventsOf(queue)),
      config: this.#state.config,
      releaseMemory: (address, length) => this.#releaseMemory(address, length),
      changeConfig: (offset, bytes) => this.#changeConfig(offset, bytes),
      log: (line) => this.#channel.send({ log: line }),
      event: (event) => this.#channel.send({ event }),
    });
    this.#loop.watch(control, EPOLLIN, () => {
      takeEvent(control);
      this.#guarded(() => this.#look());
    });
    this.#loop.watch(fds[FD_CHANNEL] as number, EPOLLIN, () => this.#receive());
    this.#channel.send({ ready: true });
  }

  #eventsOf(queue: number): QueueEvents {
    return {
      notification: this.#start.fds[FD_QUEUES + queue] as number,
      interruption: () => (this.#state.msix ? this.#vectorEvent(this.#state.queueVector(queue)) : undefined),
      interrupt: () => {
        if (this.#queues !== undefined) this.#interruptQueue(queue);
      },
    };
  }

  /** Serves until the main process ends it. */
  run(): void {
    // From a callback of the back end's own comes what a driver does wrong, too.
    while (!this.#over) this.#guarded(() => this.#loop.run());
    this.#endSession();
    this.#backend?.close?.();
    this.#loop.close();
  }

  /** Does what there is to do now. */
  poll(): void {
    this.#guarded(() => this.#loop.poll(0));
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
    if (!this.#toldBroken) {
      this.#toldBroken = true;
      const what = `its driver broke the rules of virtio: ${error.message}`;
      this.#channel.send({ log: `${what}; the device waits for a reset` });
    }
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
    this.#watchQueues();
    for (const queue of this.#queues) queue?.onNotify();
  }

  #watchQueues(): void {
    for (let queue = 0; queue < this.#start.shape.queues; queue++) {
      const fd = this.#start.fds[FD_QUEUES + queue] as number;
      this.#loop.unwatch(fd);
      if (this.#backend?.kernelQueues?.includes(queue) === true) continue;
      this.#loop.watch(fd, EPOLLIN | EPOLLET, () => this.#notified(queue));
    }
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

  #vectorEvent(vector: number): number | undefined {
    const { fds, shape, vectors } = this.#start;
    return vector < vectors ? fds[FD_QUEUES + shape.queues + vector] : undefined;
  }

  #signalVector(vector: number): void {
    const event = this.#vectorEvent(vector);
    if (event !== undefined) signalEvent(event);
  }

  #signalLine(bits: number): void {
    this.#state.addIsr(bits);
    if (this.#start.interrupt === 'event') signalEvent(this.#start.fds[FD_INTERRUPT] as number);
    else this.#channel.send({ interrupt: true });
  }

  #receive(): void {
    const messages = this.#channel.receive();
    if (messages === undefined) {
      this.#over = true;
      this.#loop.stop();
      return;
    }
    for (const { id, request } of messages) this.#answer(id, request);
  }

  #answer(id: number, request: Json): void {
    try {
      const answer = this.#backend?.request?.(request) ?? null;
      if (answer instanceof Later) answer.connect((late) => this.#channel.send({ id, answer: late }));
      else this.#channel.send({ id, answer });
    } catch (error) {
      if (error instanceof BrokenDriverError) this.#fail(error);
      else if (error instanceof TypeError || error instanceof ReferenceError) throw error;
      this.#channel.send({ id, error: (error as Error).message });
    }
  }

  #releaseMemory(guestAddress: number, length: number): void {
    const place = this.#start.memory.find(
      ({ start, size }) => guestAddress >= start && guestAddress + length <= start + size,
    );
    if (place === undefined) return;
    const from = Math.ceil(guestAddress / PAGE_SIZE) * PAGE_SIZE;
    const to = Math.floor((guestAddress + length) / PAGE_SIZE) * PAGE_SIZE;
    if (from >= to) return;
    punchHole(this.#start.fds[FD_MEMORY] as number, from - place.start + place.fdOffset, to - from);
    const region = this.#ranges.find(from, to - from);
    if (region !== undefined) this.#ranges.writes?.add(new GuestRange(region, from, to - from));
  }
}

/** Where descriptors go on in BackendStart.fds after the queues' and the vectors' events. */
function afterEvents({ shape, vectors }: BackendStart): number {
  return FD_QUEUES + shape.queues + vectors;
}

function deviceWrites(start: BackendStart): DeviceWrites {
  const { fds, memory } = start;
  const fd = fds[afterEvents(start)] as number;
  const counts = window(fd, 0, fstatSync(fd).size);
  const places = memory.map(({ start: guestAddress, fdOffset }) => ({ guestAddress, fdOffset }));
  return new DeviceWrites(new Uint16Array(counts.buffer), places);
}
