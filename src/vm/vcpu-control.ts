/** What the main thread and the threads of the vCPUs tell each other while the guest runs, in shared memory. */

/** What the vCPUs shall do. */
const STATE = 0;
/** vCPUs that are set up. */
const READY = 1;
/** vCPUs that stand still, since they have been asked to. */
const PARKED = 2;
/** From here on: the number of each vCPU's kernel thread, 0 until it is set up. */
const THREADS = 3;

const RUN = 0;
const PAUSE = 1;
const END = 2;

export class VcpuControl {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #count: number;

  constructor(vcpuCount: number, buffer = new SharedArrayBuffer((THREADS + vcpuCount) * 4)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.#count = vcpuCount;
  }

  // ---- In the thread of a vCPU -------------------------------------------------------------------------------------------

  /** This vCPU is set up; `tid` is its kernel thread. */
  ready(vcpuId: number, tid: number): void {
    Atomics.store(this.#words, THREADS + vcpuId, tid);
    Atomics.add(this.#words, READY, 1);
    Atomics.notify(this.#words, READY);
  }

  /** Waits until all are set up: the first one's INIT must find the others. False: the machine ends. */
  waitForOthers(): boolean {
    for (;;) {
      if (Atomics.load(this.#words, STATE) === END) return false;
      const ready = Atomics.load(this.#words, READY);
      if (ready >= this.#count) return true;
      Atomics.wait(this.#words, READY, ready);
    }
  }

  /**
   * To be asked before each entry into the guest; stands still while the machine is paused, and then calls `afterwards`. False:
   * the machine ends.
   */
  mayRun(afterwards: () => void): boolean {
    const words = this.#words;
    for (let paused = false; ; paused = true) {
      const state = Atomics.load(words, STATE);
      if (state !== PAUSE) {
        if (paused && state === RUN) afterwards();
        return state === RUN;
      }
      Atomics.add(words, PARKED, 1);
      Atomics.notify(words, PARKED);
      Atomics.wait(words, STATE, PAUSE);
      Atomics.sub(words, PARKED, 1);
    }
  }

  // ---- In the main thread ------------------------------------------------------------------------------------------------

  /** Kernel threads of the vCPUs that are set up. */
  get threads(): number[] {
    return Array.from({ length: this.#count }, (_, vcpuId) => Atomics.load(this.#words, THREADS + vcpuId)).filter(
      Boolean,
    );
  }

  /** The vCPUs shall stand still; they have to be kicked. */
  pause(): void {
    Atomics.compareExchange(this.#words, STATE, RUN, PAUSE);
  }

  resume(): void {
    Atomics.compareExchange(this.#words, STATE, PAUSE, RUN);
    Atomics.notify(this.#words, STATE);
  }

  /** Resolves when all vCPUs are set up: true; or with false, when the machine ends. */
  async allReady(): Promise<boolean> {
    for (;;) {
      if (Atomics.load(this.#words, STATE) === END) return false;
      const ready = Atomics.load(this.#words, READY);
      if (ready >= this.#count) return true;
      await Atomics.waitAsync(this.#words, READY, ready).value;
    }
  }

  /** Resolves when all vCPUs stand still, or the machine ends. */
  async allParked(): Promise<void> {
    for (;;) {
      const parked = Atomics.load(this.#words, PARKED);
      if (parked >= this.#count || Atomics.load(this.#words, STATE) !== PAUSE) return;
      await Atomics.waitAsync(this.#words, PARKED, parked).value;
    }
  }

  /** The vCPUs shall end; they have to be kicked. */
  end(): void {
    Atomics.store(this.#words, STATE, END);
    for (const word of [STATE, READY, PARKED]) Atomics.notify(this.#words, word);
  }
}
