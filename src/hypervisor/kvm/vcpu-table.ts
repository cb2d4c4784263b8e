import { kickThread } from '../../host/kick-signal.ts';

const FD = 0;
const TID = 1;
const KICK = 2;
const WORDS = 3;

/** What threads know of each other's vCPUs: descriptors, kernel threads, kicks. Shared memory, words that are 0 at first. */
export class VcpuTable {
  readonly buffer: SharedArrayBuffer;
  readonly count: number;
  readonly #words: Int32Array;

  constructor(count: number, buffer = new SharedArrayBuffer(count * WORDS * 4)) {
    this.count = count;
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
  }

  /** Throws RangeError for a vCPU that the machine was not made for. */
  #at(id: number, word: number): number {
    if (!Number.isInteger(id) || id < 0 || id >= this.count) {
      throw new RangeError(`there is no vCPU ${id}: the machine has ${this.count}`);
    }
    return id * WORDS + word;
  }

  /** The vCPU's descriptor, and the kernel thread that runs it. */
  opened(id: number, fd: number, tid: number): void {
    Atomics.store(this.#words, this.#at(id, TID), tid);
    Atomics.store(this.#words, this.#at(id, FD), fd + 1);
  }

  /** The descriptor, for the one who closes it; undefined: closed, or never opened. */
  takeDescriptor(id: number): number | undefined {
    Atomics.store(this.#words, this.#at(id, TID), 0);
    const fd = Atomics.exchange(this.#words, this.#at(id, FD), 0) - 1;
    return fd < 0 ? undefined : fd;
  }

  kick(id: number): void {
    // The word first: a thread that the signal gets out of the kernel finds it.
    Atomics.store(this.#words, this.#at(id, KICK), 1);
    this.wake(id);
  }

  /** Gets the vCPU out of the kernel, now or at its next KVM_RUN, without a kick: it goes on by itself. */
  wake(id: number): void {
    const tid = Atomics.load(this.#words, this.#at(id, TID));
    if (tid !== 0) kickThread(tid);
  }

  isKicked(id: number): boolean {
    return Atomics.load(this.#words, this.#at(id, KICK)) !== 0;
  }

  /** Takes a kick; false: there was none. */
  takeKick(id: number): boolean {
    return Atomics.exchange(this.#words, this.#at(id, KICK), 0) !== 0;
  }
}
