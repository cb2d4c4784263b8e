/**
 * What both transports do: device status, features and queue registers (virtio 1.2, 2.1 to 2.4, 3.1). Each vCPU thread has one
 * over the same memory; the words that the back end reads are in state.ts, the transport's own and its lock here.
 */
import { DeviceState, type SharedRange } from '../devices/device-state.ts';
import { signalEvent } from '../host/eventfd.ts';
import * as V from './constants.ts';
import { MAX_QUEUE_SIZE } from './queue.ts';
import type { QueueAddress, VirtioState } from './state.ts';

export const TRANSPORT_STATE_SIZE = 64;

// Words.
const FEATURE_SELECT = 1;
const DRIVER_FEATURE_SELECT = 2;
const QUEUE_SELECT = 3;

/** Looks at a configuration that is being changed. */
const SPINS = 10_000;

/** A device as its transport knows it; survives structured clone. */
export interface TransportModel {
  readonly type: number;
  readonly queueSizes: readonly number[];
  readonly features: bigint;
  readonly configSize: number;
  readonly writableConfig: readonly (readonly [number, number])[];
  /** Event for the back end: the status has changed, or the configuration. */
  readonly control: number;
  /** Events for the back end, one a queue. */
  readonly notify: readonly number[];
}

export class Transport {
  readonly model: TransportModel;
  readonly state: VirtioState;
  readonly #own: DeviceState;

  /** `range` has TRANSPORT_STATE_SIZE bytes. */
  constructor(range: SharedRange, state: VirtioState, model: TransportModel) {
    this.#own = new DeviceState(range, TRANSPORT_STATE_SIZE);
    this.state = state;
    this.model = model;
  }

  /** Power-on state: once, before any other call in any thread. */
  reset(): void {
    this.#own.words.fill(0);
    this.#forget();
  }

  // ---- Device status -------------------------------------------------------------------------------------------------------

  /** 0 once a reset is done. */
  get status(): number {
    const bits = this.state.status & 0xff;
    return this.resetPending ? bits | V.ACKNOWLEDGE : bits;
  }

  get resetPending(): boolean {
    return this.state.resetDone !== this.state.resetWanted;
  }

  writeStatus(value: number): void {
    this.#own.locked(() => {
      if (value === 0) {
        this.#reset();
        return;
      }
      // The driver has to read 0 before it goes on.
      if (this.resetPending) return;
      const before = this.state.status;
      const allowed = V.ACKNOWLEDGE | V.DRIVER | V.FEATURES_OK | V.DRIVER_OK | V.FAILED;
      let bits = value & allowed & ~before;
      if ((bits & V.FEATURES_OK) !== 0 && !this.#featuresFit()) bits &= ~V.FEATURES_OK;
      // Without features that both know there is nothing to start.
      if ((bits & V.DRIVER_OK) !== 0 && ((before | bits) & V.FEATURES_OK) === 0) bits &= ~V.DRIVER_OK;
      this.state.setStatus(bits);
      if ((bits & V.DRIVER_OK) !== 0) signalEvent(this.model.control);
    });
  }

  #reset(): void {
    this.#forget();
    // It has nothing to let go of, and may not even have begun.
    if (this.status === 0) return;
    this.state.wantReset();
    signalEvent(this.model.control);
  }

  /** Registers that a reset puts back; the status is the back end's to clear, when it has let go of the queues. */
  #forget(): void {
    this.#own.set(FEATURE_SELECT, 0);
    this.#own.set(DRIVER_FEATURE_SELECT, 0);
    this.#own.set(QUEUE_SELECT, 0);
    this.state.setFeatures(0, 0);
    this.state.setFeatures(1, 0);
    this.state.takeIsr(0xff);
    this.state.configVector = V.VIRTIO_MSI_NO_VECTOR;
    for (const [queue, size] of this.model.queueSizes.entries()) {
      this.state.setQueueSize(queue, size);
      this.state.setQueueEnabled(queue, false);
      this.state.setQueueVector(queue, V.VIRTIO_MSI_NO_VECTOR);
      for (const which of ['descriptors', 'driver', 'device'] as const) {
        this.state.setQueueAddressHalf(queue, which, 0, 0);
        this.state.setQueueAddressHalf(queue, which, 1, 0);
      }
    }
  }

  #featuresFit(): boolean {
    const { features } = this.state;
    return (features & ~this.model.features) === 0n && V.hasFeature(features, V.VIRTIO_F_VERSION_1);
  }

  // ---- Features ------------------------------------------------------------------------------------------------------------

  get featureSelect(): number {
    return this.#own.get(FEATURE_SELECT) >>> 0;
  }

  set featureSelect(value: number) {
    this.#own.set(FEATURE_SELECT, value);
  }

  /** 32 features on offer. */
  get deviceFeatures(): number {
    const select = this.featureSelect;
    return select > 1 ? 0 : Number((this.model.features >> BigInt(32 * select)) & 0xffff_ffffn);
  }

  get driverFeatureSelect(): number {
    return this.#own.get(DRIVER_FEATURE_SELECT) >>> 0;
  }

  set driverFeatureSelect(value: number) {
    this.#own.set(DRIVER_FEATURE_SELECT, value);
  }

  get driverFeatures(): number {
    const select = this.driverFeatureSelect;
    return select === 0 || select === 1 ? this.state.featuresHalf(select) : 0;
  }

  /** The driver's choice; too late once it is settled. */
  set driverFeatures(bits: number) {
    const select = this.driverFeatureSelect;
    if ((select === 0 || select === 1) && (this.state.status & V.FEATURES_OK) === 0) {
      this.state.setFeatures(select, bits);
    }
  }

  // ---- Queues --------------------------------------------------------------------------------------------------------------

  get queueSelect(): number {
    return this.#own.get(QUEUE_SELECT);
  }

  set queueSelect(queue: number) {
    this.#own.set(QUEUE_SELECT, queue);
  }

  /** The queue that is selected; undefined: there is none such. */
  get queue(): number | undefined {
    const queue = this.queueSelect >>> 0;
    return queue < this.model.queueSizes.length ? queue : undefined;
  }

  /** The selected queue, if its registers can be written: not once it is in use. */
  get #ownQueue(): number | undefined {
    const { queue } = this;
    return queue === undefined || this.state.queueEnabled(queue) ? undefined : queue;
  }

  get maxQueueSize(): number {
    return this.queue === undefined ? 0 : (this.model.queueSizes[this.queue] as number);
  }

  get queueSize(): number {
    return this.queue === undefined ? 0 : this.state.queueSize(this.queue);
  }

  /** Sizes that a queue cannot have are not taken. */
  set queueSize(size: number) {
    const queue = this.#ownQueue;
    if (queue === undefined || size < 1 || size > Math.min(this.maxQueueSize, MAX_QUEUE_SIZE)) return;
    if ((size & (size - 1)) === 0) this.state.setQueueSize(queue, size);
  }

  get queueEnabled(): boolean {
    return this.queue !== undefined && this.state.queueEnabled(this.queue);
  }

  enableQueue(): void {
    if (this.queue !== undefined) this.state.setQueueEnabled(this.queue, true);
  }

  /** Takes a queue back before the device is in use; afterwards only a reset does. */
  disableQueue(): void {
    if (this.queue !== undefined && (this.state.status & V.DRIVER_OK) === 0) {
      this.state.setQueueEnabled(this.queue, false);
    }
  }

  get queueVector(): number {
    return this.queue === undefined ? V.VIRTIO_MSI_NO_VECTOR : this.state.queueVector(this.queue);
  }

  set queueVector(vector: number) {
    if (this.queue !== undefined) this.state.setQueueVector(this.queue, vector);
  }

  queueAddressHalf(which: QueueAddress, half: 0 | 1): number {
    return this.queue === undefined ? 0 : this.state.queueAddressHalf(this.queue, which, half);
  }

  setQueueAddressHalf(which: QueueAddress, half: 0 | 1, value: number): void {
    const queue = this.#ownQueue;
    if (queue !== undefined) this.state.setQueueAddressHalf(queue, which, half, value);
  }

  /** The driver tells that a queue has something: where no ioeventfd took it. */
  notify(queue: number): void {
    const event = this.model.notify[queue];
    if (event !== undefined) signalEvent(event);
  }

  // ---- The device's configuration ------------------------------------------------------------------------------------------

  /** Differs between two reads when the configuration has changed between them. */
  get configGeneration(): number {
    let generation = this.state.configGeneration;
    // The back end is at it: that is over in no time, or else it never will be.
    for (let i = 0; i < SPINS && (generation & 1) !== 0; i++) generation = this.state.configGeneration;
    return generation;
  }

  /** Past the configuration's end reads give zeroes. */
  readConfig(offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) data[i] = this.state.config[offset + i] ?? 0;
  }

  writeConfig(offset: number, data: Uint8Array): void {
    let written = false;
    for (let i = 0; i < data.length; i++) {
      const at = offset + i;
      if (!this.model.writableConfig.some(([start, length]) => at >= start && at < start + length)) continue;
      this.state.config[at] = data[i] as number;
      written = true;
    }
    if (!written) return;
    this.state.countConfigWrite();
    signalEvent(this.model.control);
  }
}
