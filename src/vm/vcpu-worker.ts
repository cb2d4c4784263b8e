import { Worker } from 'node:worker_threads';
import { threadFile } from '../host/bundle.ts';
import type { VcpuEnd, VcpuStart, VcpuThreadData } from './vcpu-thread.ts';

/** Of what decoding makes hardly anything lives on: more room for it, in MiB, made nothing faster, but stays resident. */
const YOUNG_GENERATION = 8;

/** The thread of one vCPU, as the main thread sees it. It loads what it needs, and waits for its data. */
export class VcpuWorker {
  readonly #worker: Worker;
  /** Why the vCPU ended. */
  readonly end: Promise<VcpuEnd>;
  /** The thread is no more. */
  readonly exited: Promise<unknown>;

  /** `hypervisor`: what the user asks for, to be loaded before the data come. */
  constructor(vcpuId: number, hypervisor: string) {
    const worker = new Worker(threadFile(new URL('./vcpu-thread.ts', import.meta.url)), {
      name: `vivarium_vcpu${vcpuId}`,
      workerData: hypervisor,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION },
    });
    this.#worker = worker;
    this.exited = new Promise((resolve) => worker.once('exit', resolve));
    this.end = new Promise((resolve) => {
      worker.once('message', resolve);
      worker.once('error', (error) => resolve({ kind: 'failure', message: describe(error) }));
      worker.once('exit', () => resolve({ kind: 'failure', message: 'its thread ended' }));
    });
  }

  /** Makes the vCPU ready. */
  prepare(data: VcpuThreadData): void {
    const ports = [data.debugger, data.insight].flatMap((each) => each?.port ?? []);
    this.#worker.postMessage(data, ports);
  }

  start(start: VcpuStart): void {
    this.#worker.postMessage(start);
  }

  /** Ends a thread that has not been given its data. */
  async dismiss(): Promise<void> {
    this.#worker.postMessage(undefined);
    await this.exited;
  }

  /** For a thread that hangs: see VcpuThreads.stop(). */
  terminate(): void {
    void this.#worker.terminate();
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
