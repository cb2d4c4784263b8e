// Makes run() of a guest that loops come back: a thread of its own, for the test's thread is inside run().

import { isMainThread, Worker, workerData } from 'node:worker_threads';
import type { Vm, VmShare } from '../../../src/hypervisor/hypervisor.ts';

/** Longest run of a guest, milliseconds. */
const LIMIT = 4000;

interface WatchdogData {
  readonly share: VmShare;
  /** Int32: 0 nothing runs, else a number that is new for each run; -1: end. */
  readonly state: SharedArrayBuffer;
  /** Milliseconds from the start of a run to the kick. */
  readonly limit: number;
}

export class Watchdog {
  readonly #state = new Int32Array(new SharedArrayBuffer(4));
  #runs = 0;

  constructor(vm: Vm, limit = LIMIT) {
    const data: WatchdogData = { share: vm.share(), state: this.#state.buffer as SharedArrayBuffer, limit };
    new Worker(new URL(import.meta.url), { workerData: data }).unref();
  }

  start(): void {
    this.#runs++;
    this.#set(this.#runs);
  }

  stop(): void {
    this.#set(0);
  }

  close(): void {
    this.#set(-1);
  }

  #set(value: number): void {
    Atomics.store(this.#state, 0, value);
    Atomics.notify(this.#state, 0);
  }
}

async function watch({ share, state: buffer, limit }: WatchdogData): Promise<void> {
  const state = new Int32Array(buffer);
  for (;;) {
    const run = Atomics.load(state, 0);
    if (run < 0) return;
    const over = Atomics.wait(state, 0, run, run === 0 ? Number.POSITIVE_INFINITY : limit) === 'timed-out';
    if (!over || Atomics.load(state, 0) !== run) continue;
    // Loaded when it is wanted, which is hardly ever: each machine of a test has a thread like this one.
    const { hypervisorNamed } = await import('../../../src/hypervisor/select.ts');
    if (Atomics.load(state, 0) !== run) continue;
    hypervisorNamed(share.hypervisor).attach(share).kick(0);
    Atomics.wait(state, 0, run);
  }
}

if (!isMainThread && (workerData as WatchdogData | null)?.share !== undefined) void watch(workerData as WatchdogData);
