/** The virtio devices of a machine: what they share, their back ends' processes or threads, and word of how these end. */
import { createRequire } from 'node:module';
import { closeDescriptor } from '../host/descriptor.ts';
import { EventFd } from '../host/eventfd.ts';
import { createMemfd, mapInto } from '../host/memory.ts';
import { Poller } from '../host/poller.ts';
import { socketPair } from '../host/stream-socket.ts';
import type { DeviceModel, Json } from '../virtio/backend.ts';
import { BackendLink } from '../virtio/backend-link.ts';
import type { BackendStart } from '../virtio/backend-start.ts';
import {
  MAX_DEVICES,
  type PluggedDevice,
  type TransportKind,
  transportStateSize,
  type VirtioShare,
} from '../virtio/plug.ts';
import { type StateShape, stateSize, VirtioState } from '../virtio/state.ts';
import { ConfigError, type SandboxConfig } from './config.ts';
import type { SharedMemory } from './memory.ts';

const require = createRequire(import.meta.url);

const WASM_PAGE_SIZE = 65536;

/** A back end's thread or process, as started. */
export interface RunningBackend {
  /** Why it has ended, in one line: undefined if that was in order. Never rejects. */
  readonly ended: Promise<string | undefined>;
  /** Ends it at once. */
  kill(): void;
}

export interface DeviceEvents {
  /** A line for the user. */
  readonly log: (line: string) => void;
  /** A device has ended by itself: the machine cannot go on. One line. */
  readonly failed: (line: string) => void;
  /** The ISR status of a device has got bits. */
  readonly interrupt: (device: number) => void;
  readonly event: (device: number, message: Json) => void;
}

/** One device's part in this process. */
interface Device {
  readonly model: DeviceModel;
  readonly shape: StateShape;
  readonly stateFd: number;
  readonly events: { control: EventFd; interrupt: EventFd; queues: EventFd[]; vectors: EventFd[] };
  readonly stateOffset: number;
}

/** A back end that has not gone after this time hangs, ms. */
const HANG_TIMEOUT = 5000;

export class VirtioDevices {
  readonly share: VirtioShare;
  readonly #devices: readonly Device[];
  readonly #memory: SharedMemory;
  readonly #sandbox: SandboxConfig | undefined;
  readonly #events: DeviceEvents;
  readonly #links: BackendLink[] = [];
  readonly #running: RunningBackend[] = [];
  #poller: Poller | undefined;
  #closing = false;

  /**
   * Takes the models' descriptors. Without a sandbox, back ends are threads of this process. Throws ConfigError when there are
   * too many devices, and OsError.
   */
  constructor(
    models: readonly DeviceModel[],
    transport: TransportKind,
    memory: SharedMemory,
    sandbox: SandboxConfig | undefined,
    events: DeviceEvents,
  ) {
    if (models.length > MAX_DEVICES[transport]) {
      throw new ConfigError(
        `${models.length} devices: virtio over ${transport} has room for ${MAX_DEVICES[transport]}: take some away`,
      );
    }
    this.#memory = memory;
    this.#sandbox = sandbox;
    this.#events = events;
    let stateOffset = 0;
    this.#devices = models.map((model) => {
      const shape = { queues: model.queueSizes.length, configSize: model.config.length };
      const size = stateSize(shape);
      const device: Device = {
        model,
        shape,
        stateFd: createMemfd(`vivarium-${model.device}`, size),
        stateOffset,
        events: {
          control: new EventFd(),
          interrupt: new EventFd(),
          queues: model.queueSizes.map(() => new EventFd()),
          vectors: transport === 'pci' ? [new EventFd(), ...model.queueSizes.map(() => new EventFd())] : [],
        },
      };
      stateOffset += size;
      return device;
    });
    const states = mapStates(this.#devices, stateOffset);
    const devices = this.#devices.map((device) => plugged(device));
    const size = transportStateSize({ transport, devices });
    this.share = { transport, range: { buffer: new SharedArrayBuffer(size), offset: 0 }, states, devices };
  }

  /**
   * Starts the back ends, after the transports' reset(). Resolves when all of them serve their queues; what the guest asks of them before
   * waits there. Rejects with one line for the user when one cannot.
   */
  async start(): Promise<void> {
    for (const [index, device] of this.#devices.entries()) {
      const [mine, its] = socketPair();
      const { label } = device.model;
      const link = new BackendLink(mine, {
        log: (line) => this.#events.log(`${label}: ${line}`),
        event: (message) => this.#events.event(index, message),
        interrupt: () => this.#events.interrupt(index),
      });
      this.#links.push(link);
      const running = this.#startBackend(this.#startOf(device, its));
      this.#running.push(running);
      void running.ended.then((failure) => {
        link.failure ??= failure;
        closeDescriptor(its);
        if (!this.#closing) this.#events.failed(told(label, link.failure ?? 'its back end ended'));
      });
    }
    await Promise.all(
      this.#links.map((link, index) =>
        link.ready.catch((error: Error) => {
          throw new ConfigError(told(this.#devices[index]?.model.label ?? '', error.message));
        }),
      ),
    );
  }

  #startBackend(start: BackendStart): RunningBackend {
    // Loaded when the guest runs already: jails are much to load.
    if (this.#sandbox === undefined) {
      const { startThread } = require('./backend-thread.ts') as typeof import('./backend-thread.ts');
      return startThread(start);
    }
    const { startProcess } = require('./backend-process.ts') as typeof import('./backend-process.ts');
    this.#poller ??= Poller.shared();
    return startProcess(start, this.#sandbox, this.#poller);
  }

  #startOf(device: Device, channel: number): BackendStart {
    const { model, shape, events, stateFd } = device;
    const all = [events.control, events.interrupt, ...events.queues, ...events.vectors].map(({ fd }) => fd);
    const { fd: memory, deviceWrites } = this.#memory;
    const counts = deviceWrites === undefined ? [] : [deviceWrites];
    return {
      device: model.device,
      params: model.params,
      shape,
      interrupt: this.share.transport === 'pci' ? 'message' : 'event',
      memory: this.#memory.ranges,
      countsWrites: deviceWrites !== undefined,
      vectors: events.vectors.length,
      fds: [memory, stateFd, channel, ...all, ...counts, ...model.fds],
    };
  }

  /** Numbers of the devices of a kind, in their order. */
  numbersOf(device: string): number[] {
    return this.#devices.flatMap(({ model }, index) => (model.device === device ? [index] : []));
  }

  /** A device's configuration, as its driver sees it now. To be read. */
  config(device: number): DataView {
    const { stateOffset, shape } = this.#devices[device] as Device;
    const { buffer, byteOffset, length } = new VirtioState(this.share.states, stateOffset, shape).config;
    return new DataView(buffer, byteOffset, length);
  }

  /** Asks a back end. Rejects with its answer where that is an error. */
  request(device: number, message: Json): Promise<Json> {
    const link = this.#links[device];
    if (link === undefined) throw new RangeError(`no device ${device}`);
    return link.request(message);
  }

  /** Ends the back ends, what they hold written, and gives everything back: once no vCPU runs any more. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    const hang = setTimeout(() => {
      for (const running of this.#running) running.kill();
    }, HANG_TIMEOUT);
    for (const link of this.#links) void link.close();
    await Promise.all(this.#running.map(({ ended }) => ended));
    clearTimeout(hang);
    await this.#poller?.close();
    for (const link of this.#links) link.destroy();
    for (const { model, stateFd, events } of this.#devices) {
      for (const event of [events.control, events.interrupt, ...events.queues, ...events.vectors]) event.close();
      for (const fd of [stateFd, ...model.fds]) closeDescriptor(fd);
    }
  }
}

/** A device's failure for the user. What begins with the path that the device is called by already does not say it again. */
function told(label: string, failure: string): string {
  const [subject = ''] = failure.split(': ', 1);
  return label.endsWith(` ${subject}`) ? `${label}${failure.slice(subject.length)}` : `${label}: ${failure}`;
}

/** All states in one shared memory. */
function mapStates(devices: readonly Device[], size: number): SharedArrayBuffer {
  const pages = Math.max(Math.ceil(size / WASM_PAGE_SIZE), 1);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  for (const { model, stateFd, stateOffset, shape } of devices) {
    mapInto(memory.buffer, stateOffset, stateFd, 0, stateSize(shape));
    new VirtioState(memory.buffer, stateOffset, shape).config.set(model.config);
  }
  return memory.buffer as unknown as SharedArrayBuffer;
}

function plugged({ model, events, stateOffset }: Device): PluggedDevice {
  const { type, queueSizes, features, config, writableConfig = [] } = model;
  return {
    model: {
      type,
      queueSizes,
      features,
      configSize: config.length,
      writableConfig,
      control: events.control.fd,
      notify: events.queues.map(({ fd }) => fd),
    },
    stateOffset,
    vectors: events.vectors.map(({ fd }) => fd),
    interrupt: events.interrupt.fd,
  };
}
