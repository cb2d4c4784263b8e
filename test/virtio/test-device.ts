// A device with its back end and the registers of its transport in one thread, and a test as its driver.
import { readSync, writeSync } from 'node:fs';
import { closeDescriptor } from '../../src/host/descriptor.ts';
import { EventFd, hasEvent } from '../../src/host/eventfd.ts';
import { createMemfd, window } from '../../src/host/memory.ts';
import { shutDown, socketPair } from '../../src/host/stream-socket.ts';
import { GuestMemory } from '../../src/hypervisor/guest-memory.ts';
import type { BackendFactory, DeviceModel, Json } from '../../src/virtio/backend.ts';
import { BackendChannel, type ChannelMessage } from '../../src/virtio/backend-channel.ts';
import { BackendRunner } from '../../src/virtio/backend-runner.ts';
import type { BackendStart } from '../../src/virtio/backend-start.ts';
import * as V from '../../src/virtio/constants.ts';
import { stateSize, VirtioState } from '../../src/virtio/state.ts';
import { TRANSPORT_STATE_SIZE, Transport } from '../../src/virtio/transport.ts';
import { DriverQueue } from './driver.ts';

const PAGE = 4096;
/** Guest-physical address of the first queue; each has 64 KiB. */
const QUEUES = 0x10_0000;
const QUEUE_ROOM = 0x1_0000;

export interface TestDeviceOptions {
  /** Bytes of guest RAM, from address 0 on. */
  readonly memory?: number;
  /** Interrupts by ISR status and one event, not by vectors. */
  readonly line?: boolean;
  /** BackendStart.countsWrites; by default so. */
  readonly countsWrites?: boolean;
}

export class TestDevice {
  readonly model: DeviceModel;
  readonly memory: GuestMemory;
  /** The memfd of guest RAM. */
  readonly memoryFd: number;
  /** Counts of the device's writes, a page each. */
  readonly writes: Uint16Array;
  readonly transport: Transport;
  readonly start: BackendStart;
  queues: (DriverQueue | undefined)[] = [];
  readonly #events: EventFd[];
  readonly #fds: number[];
  readonly #channel: number;
  readonly #runner: BackendRunner | undefined;
  #nextId = 0;

  /** Without a factory nothing runs in this thread: somebody else runs `start`. */
  constructor(model: DeviceModel, create: BackendFactory | undefined, options: TestDeviceOptions = {}) {
    const size = options.memory ?? 4 << 20;
    const shape = { queues: model.queueSizes.length, configSize: model.config.length };
    const counts = Math.ceil(((size / PAGE) * 2) / PAGE) * PAGE;
    const [mine, its] = socketPair();
    const countsWrites = options.countsWrites ?? true;
    this.model = model;
    this.memoryFd = createMemfd('test-ram', size);
    const stateFd = createMemfd('test-state', stateSize(shape));
    const writesFd = createMemfd('test-writes', counts);
    this.memory = new GuestMemory([{ guestAddress: 0, bytes: window(this.memoryFd, 0, size) }]);
    this.writes = new Uint16Array(window(writesFd, 0, counts).buffer, 0, size / PAGE);
    const state = new VirtioState(window(stateFd, 0, stateSize(shape)).buffer, 0, shape);
    state.config.set(model.config);
    const vectors = options.line === true ? 0 : shape.queues + 1;
    this.#events = Array.from({ length: 2 + shape.queues + vectors }, () => new EventFd());
    const events = this.#events.map(({ fd }) => fd);
    this.transport = new Transport({ buffer: new SharedArrayBuffer(TRANSPORT_STATE_SIZE), offset: 0 }, state, {
      type: model.type,
      queueSizes: model.queueSizes,
      features: model.features,
      configSize: model.config.length,
      writableConfig: model.writableConfig ?? [],
      control: events[0]!,
      notify: events.slice(2, 2 + shape.queues),
    });
    this.transport.reset();
    this.transport.state.msix = vectors > 0;
    this.start = {
      device: model.device,
      params: model.params,
      shape,
      interrupt: 'event',
      memory: [{ start: 0, size, fdOffset: 0 }],
      countsWrites,
      vectors,
      fds: [this.memoryFd, stateFd, its, ...events, ...(countsWrites ? [writesFd] : []), ...model.fds],
    };
    this.#channel = mine;
    this.#fds = [this.memoryFd, writesFd, stateFd, its, mine];
    if (create === undefined) return;
    this.#runner = new BackendRunner(this.start, new BackendChannel(its));
    this.#runner.begin(create);
  }

  /** Lets the back end do what there is to do. */
  poll(): void {
    this.#runner?.poll();
  }

  /** Status bits up to FEATURES_OK. False: the device does not take the features. */
  negotiate(features = this.model.features): boolean {
    const { transport } = this;
    transport.writeStatus(V.ACKNOWLEDGE);
    transport.writeStatus(V.ACKNOWLEDGE | V.DRIVER);
    for (const half of [0, 1]) {
      transport.driverFeatureSelect = half;
      transport.driverFeatures = Number((features >> BigInt(32 * half)) & 0xffff_ffffn);
    }
    transport.writeStatus(V.ACKNOWLEDGE | V.DRIVER | V.FEATURES_OK);
    return (transport.status & V.FEATURES_OK) !== 0;
  }

  /** Puts a queue of `size` into guest memory and enables it. */
  setUpQueue(number: number, size = this.model.queueSizes[number]!): DriverQueue {
    const { transport } = this;
    const queue = new DriverQueue(this.memory, QUEUES + number * QUEUE_ROOM, size);
    transport.queueSelect = number;
    transport.queueSize = size;
    transport.queueVector = number + 1;
    for (const which of ['descriptors', 'driver', 'device'] as const) {
      transport.setQueueAddressHalf(which, 0, queue.config[which]);
      transport.setQueueAddressHalf(which, 1, 0);
    }
    transport.enableQueue();
    this.queues[number] = queue;
    return queue;
  }

  /** All that a driver does until the device is in use. */
  bringUp(features = this.model.features): void {
    if (!this.negotiate(features)) throw new Error('the device does not take the features');
    for (const number of this.model.queueSizes.keys()) this.setUpQueue(number);
    this.transport.state.configVector = 0;
    this.transport.writeStatus(V.ACKNOWLEDGE | V.DRIVER | V.FEATURES_OK | V.DRIVER_OK);
    this.poll();
  }

  /** A reset by the driver, done. */
  reset(): void {
    this.transport.writeStatus(0);
    this.poll();
    this.queues = [];
  }

  /** Tells the device of a queue, and lets it serve it. */
  notify(queue: number): void {
    this.transport.notify(queue);
    this.poll();
  }

  /** Interrupts since the last call: of a queue, or of the configuration. */
  interrupts(of: number | 'config'): number {
    const vector = of === 'config' ? 0 : of + 1;
    return this.#events[2 + this.start.shape.queues + vector]!.take();
  }

  /** Descriptor of a queue's vector's event. */
  vectorEvent(queue: number): number {
    return this.#events[2 + this.start.shape.queues + queue + 1]!.fd;
  }

  /** Tells a back end that runs elsewhere that it is over. */
  end(): void {
    shutDown(this.#channel);
  }

  /** Signals of the line's event since the last call. */
  lineEdges(): number {
    return this.#events[1]!.take();
  }

  /** Messages of the back end, one at least; it blocks until there is one. */
  messages(): ChannelMessage[] {
    const buffer = Buffer.alloc(1 << 16);
    const text = buffer.toString('utf8', 0, readSync(this.#channel, buffer));
    return text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as ChannelMessage);
  }

  /** Is there a message of the back end? */
  get hasMessage(): boolean {
    return hasEvent(this.#channel);
  }

  /** Sends a request, as the main process does. */
  request(request: Json): void {
    writeSync(this.#channel, `${JSON.stringify({ id: this.#nextId++, request })}\n`);
    this.poll();
  }

  close(): void {
    for (const event of this.#events) event.close();
    for (const fd of [...this.#fds, ...this.model.fds]) closeDescriptor(fd);
  }
}
