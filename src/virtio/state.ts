/**
 * What a device's transport and its back end share: flat words in a memfd of its own, which the vCPU threads and the back
 * end's thread or process map. Each side may be hostile to the other: what is read here is checked like a register write, and
 * nobody waits for a lock in it.
 */
import type { QueueConfig } from './queue.ts';

// Words.
/** Device status, as the driver reads it. */
const STATUS = 0;
/** Counts up with each reset the driver asks for; RESET_DONE follows when the back end has let go of the queues. */
const RESET_WANTED = 1;
const RESET_DONE = 2;
const FEATURES_LOW = 3;
const FEATURES_HIGH = 4;
const ISR = 5;
/** Vectors are in use: interrupts go there, not by ISR and line. */
const MSIX = 6;
const CONFIG_VECTOR = 7;
/** Odd while the back end changes the configuration. */
const CONFIG_GENERATION = 8;
/** Counts up with each write of the driver to the configuration. */
const CONFIG_WRITES = 9;
const QUEUES = 16;

// Words of a queue.
const Q_SIZE = 0;
const Q_ENABLED = 1;
const Q_VECTOR = 2;
/** Pairs of words, low half first. */
const Q_DESCRIPTORS = 4;
const Q_DRIVER = 6;
const Q_DEVICE = 8;
const QUEUE_WORDS = 10;

/** Most bytes that a device's configuration can have. */
export const MAX_CONFIG_SIZE = 1024;

const PAGE_SIZE = 4096;

/** What the layout of a device's state follows from. */
export interface StateShape {
  readonly queues: number;
  /** Bytes of the device's configuration. */
  readonly configSize: number;
}

/** Bytes of the memfd: whole pages. */
export function stateSize({ queues, configSize }: StateShape): number {
  return Math.ceil((4 * (QUEUES + queues * QUEUE_WORDS) + configSize) / PAGE_SIZE) * PAGE_SIZE;
}

/** The three addresses that a driver gives a queue. */
export type QueueAddress = 'descriptors' | 'driver' | 'device';
const ADDRESS_WORDS: Record<QueueAddress, number> = { descriptors: Q_DESCRIPTORS, driver: Q_DRIVER, device: Q_DEVICE };

/** The state of a device in the calling thread. */
export class VirtioState {
  readonly config: Uint8Array;
  readonly queueCount: number;
  readonly #words: Int32Array;

  /** `buffer` has stateSize() bytes from `byteOffset` on, a multiple of 4. */
  constructor(buffer: ArrayBufferLike, byteOffset: number, { queues, configSize }: StateShape) {
    const words = QUEUES + queues * QUEUE_WORDS;
    this.queueCount = queues;
    this.#words = new Int32Array(buffer, byteOffset, words);
    this.config = new Uint8Array(buffer, byteOffset + 4 * words, configSize);
  }

  #get(word: number): number {
    return Atomics.load(this.#words, word) >>> 0;
  }

  #set(word: number, value: number): void {
    Atomics.store(this.#words, word, value | 0);
  }

  get status(): number {
    return this.#get(STATUS);
  }

  /** Both sides set bits: the driver's are set with the transport's lock. */
  setStatus(bits: number): void {
    Atomics.or(this.#words, STATUS, bits);
  }

  clearStatus(): void {
    this.#set(STATUS, 0);
  }

  /** Number of resets that the driver has asked for, and of those that are done. */
  get resetWanted(): number {
    return this.#get(RESET_WANTED);
  }

  get resetDone(): number {
    return this.#get(RESET_DONE);
  }

  set resetDone(count: number) {
    this.#set(RESET_DONE, count);
  }

  wantReset(): void {
    Atomics.add(this.#words, RESET_WANTED, 1);
  }

  /** The driver's features. */
  get features(): bigint {
    return (BigInt(this.#get(FEATURES_HIGH)) << 32n) | BigInt(this.#get(FEATURES_LOW));
  }

  /** Features 0 to 31 (`half` 0) or 32 to 63 (1). */
  setFeatures(half: 0 | 1, bits: number): void {
    this.#set(half === 0 ? FEATURES_LOW : FEATURES_HIGH, bits);
  }

  featuresHalf(half: 0 | 1): number {
    return this.#get(half === 0 ? FEATURES_LOW : FEATURES_HIGH);
  }

  get isr(): number {
    return this.#get(ISR);
  }

  addIsr(bits: number): void {
    Atomics.or(this.#words, ISR, bits);
  }

  /** Clears bits; returns what there was. */
  takeIsr(bits: number): number {
    return Atomics.and(this.#words, ISR, ~bits) & bits;
  }

  get msix(): boolean {
    return this.#get(MSIX) !== 0;
  }

  set msix(on: boolean) {
    this.#set(MSIX, on ? 1 : 0);
  }

  /** VIRTIO_MSI_NO_VECTOR for none. */
  get configVector(): number {
    return this.#get(CONFIG_VECTOR);
  }

  set configVector(vector: number) {
    this.#set(CONFIG_VECTOR, vector);
  }

  get configGeneration(): number {
    return this.#get(CONFIG_GENERATION);
  }

  nextConfigGeneration(): void {
    Atomics.add(this.#words, CONFIG_GENERATION, 1);
  }

  get configWrites(): number {
    return this.#get(CONFIG_WRITES);
  }

  countConfigWrite(): void {
    Atomics.add(this.#words, CONFIG_WRITES, 1);
  }

  #queue(queue: number, word: number): number {
    return QUEUES + queue * QUEUE_WORDS + word;
  }

  queueSize(queue: number): number {
    return this.#get(this.#queue(queue, Q_SIZE));
  }

  setQueueSize(queue: number, size: number): void {
    this.#set(this.#queue(queue, Q_SIZE), size);
  }

  queueEnabled(queue: number): boolean {
    return this.#get(this.#queue(queue, Q_ENABLED)) !== 0;
  }

  setQueueEnabled(queue: number, enabled: boolean): void {
    this.#set(this.#queue(queue, Q_ENABLED), enabled ? 1 : 0);
  }

  queueVector(queue: number): number {
    return this.#get(this.#queue(queue, Q_VECTOR));
  }

  setQueueVector(queue: number, vector: number): void {
    this.#set(this.#queue(queue, Q_VECTOR), vector);
  }

  /** 32 bits of an address: the low half, or the high one. */
  queueAddressHalf(queue: number, which: QueueAddress, half: 0 | 1): number {
    return this.#get(this.#queue(queue, ADDRESS_WORDS[which] + half));
  }

  setQueueAddressHalf(queue: number, which: QueueAddress, half: 0 | 1, value: number): void {
    this.#set(this.#queue(queue, ADDRESS_WORDS[which] + half), value);
  }

  #address(queue: number, which: QueueAddress): number {
    return this.queueAddressHalf(queue, which, 1) * 2 ** 32 + this.queueAddressHalf(queue, which, 0);
  }

  queueConfig(queue: number): QueueConfig {
    return {
      size: this.queueSize(queue),
      descriptors: this.#address(queue, 'descriptors'),
      driver: this.#address(queue, 'driver'),
      device: this.#address(queue, 'device'),
    };
  }
}
