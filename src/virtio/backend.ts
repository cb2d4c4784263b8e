/**
 * A virtio device is two things. Its transport (pci.ts, mmio.ts) has the registers, and runs in the vCPU thread that accesses
 * them. Its back end serves the queues, in a loop of its own (device-main.ts), in a Worker or in a jailed process: it does not
 * know which. They share state.ts, guest RAM, and eventfds.
 *
 * A device is a folder of src/virtio: `model.ts` makes its DeviceModel in the main process, from what the user said, with all
 * paths opened; `backend.ts` exports `create: BackendFactory`. backends.ts knows it by its name.
 *
 * A back end is synchronous. It runs in one thread that blocks in an EventLoop: promises, Node's timers and streams never
 * go on there. It opens nothing, imports nothing later and makes no thread: in the jailed process, which has locked itself in
 * before the factory is called, it could not.
 */
import type { EventLoop } from '../host/event-loop.ts';
import type { GuestMemory } from '../hypervisor/guest-memory.ts';
import type { Queue } from './queue.ts';

/** What JSON can say. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** What a device is, to its driver and to the monitor. Made in the main process; survives structured clone. */
export interface DeviceModel {
  /** Name of the back end's module, and of its jail's policy. */
  readonly device: string;
  /** For people: `disk /home/me/root.img`. */
  readonly label: string;
  /** Virtio device id (virtio 1.2, 5). */
  readonly type: number;
  /** Largest size of each queue: powers of two. */
  readonly queueSizes: readonly number[];
  /** Feature bits on offer; constants.ts's COMMON_FEATURES among them. */
  readonly features: bigint;
  /** The device's configuration as it is at first. */
  readonly config: Uint8Array;
  /** Parts of it that the driver can write: [offset, length]. */
  readonly writableConfig?: readonly (readonly [number, number])[];
  /** For the back end's factory: no secrets, no descriptors. */
  readonly params: Json;
  /** Descriptors that are the back end's: it gets them in this order, under other numbers in a process of its own. */
  readonly fds: readonly number[];
}

/** What tells of a queue, for a back end whose queues the kernel serves (vhost). */
export interface QueueEvents {
  /** Descriptor of the event that the driver signals. */
  readonly notification: number;
  /** Descriptor of the event that interrupts the driver, as it has chosen by now; undefined: only interrupt() does. */
  interruption(): number | undefined;
  interrupt(): void;
}

/** What a back end has from its start on. */
export interface BackendHost {
  readonly loop: EventLoop;
  readonly memory: GuestMemory;
  /** DeviceModel.params. */
  readonly params: Json;
  /** DeviceModel.fds. They stay open as long as the back end lives; it does not close them. */
  readonly fds: readonly number[];
  /** By number of the queue. */
  readonly queueEvents: readonly QueueEvents[];
  /** The configuration: to be read. The driver can change what is writable at any time. */
  readonly config: Uint8Array;
  /** Changes the configuration and tells the driver. */
  changeConfig(offset: number, bytes: Uint8Array): void;
  /** Gives whole pages of guest RAM back to the host; they read as zeroes then. What is not RAM is left alone. */
  releaseMemory(guestAddress: number, length: number): void;
  /** A line for the user, without newline. The monitor puts the device's label before it. */
  log(line: string): void;
  /** Sends a message that nobody asked for to the main process. */
  event(message: Json): void;
}

/** The time from the driver's DRIVER_OK to its reset. */
export interface Session {
  /** As negotiated. */
  readonly features: bigint;
  /** By number; undefined where the driver has not set one up. */
  readonly queues: readonly (Queue | undefined)[];
}

/** An answer that comes later. */
export class Later {
  #send: ((answer: Json) => void) | undefined;

  /** The first answer counts. */
  answer(answer: Json): void {
    this.#send?.(answer);
    this.#send = undefined;
  }

  /** Where the answer goes: before answer(). */
  connect(send: (answer: Json) => void): void {
    this.#send = send;
  }
}

/**
 * What it throws: BrokenDriverError in any call stops the device until the driver resets it; any other error ends the device,
 * and with it the machine.
 */
export interface Backend {
  /** Queues of a session, from its start() on, that are served elsewhere: their notifications are not taken here. */
  readonly kernelQueues?: readonly number[];
  /** The driver is ready: set each queue's onNotify. Each is called once afterwards, for what is there already. */
  start(session: Session): void;
  /** The queues are gone. Requests that are under way are dropped, or finished without touching guest memory. */
  reset(): void;
  /** The driver has written to the configuration. */
  configWritten?(): void;
  /** A request of the main process; its answer, or a promise of one. An Error that it throws is the answer, too. */
  request?(message: Json): Json | Later;
  /** The end: what is not yet on disk is written. */
  close?(): void;
}

/** Throws Error with one line for the user where the device cannot be. */
export type BackendFactory = (host: BackendHost) => Backend;
