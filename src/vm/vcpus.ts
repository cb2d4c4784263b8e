import type { EntryState } from '../arch/x86_64/cpu-state.ts';
import { type ThreadTime, threadTime } from '../host/threads.ts';
import type { Vm } from '../hypervisor/hypervisor.ts';
import { takeEarlyVcpu } from './early-vcpu.ts';
import type { InsightEnd } from './insight/channel.ts';
import { VcpuControl } from './vcpu-control.ts';
import type { VcpuEnd, VcpuThreadData } from './vcpu-thread.ts';
import { VcpuWorker } from './vcpu-worker.ts';

/** A thread that has not ended after this time hangs, milliseconds. */
const HANG_TIMEOUT = 10_000;

/** The threads of a machine's vCPUs, as the main thread sees them. */
export class VcpuThreads {
  readonly #workers: readonly VcpuWorker[];
  readonly #control: VcpuControl;
  readonly #vm: Vm;

  /** Makes the threads; each prepares its vCPU and waits for start(). `data` has what is the same for all of them. */
  constructor(
    vm: Vm,
    data: Omit<VcpuThreadData, 'vcpuId' | 'debugger' | 'control' | 'insight'>,
    debuggers: readonly VcpuThreadData['debugger'][],
    insights: readonly InsightEnd[] = [],
  ) {
    this.#vm = vm;
    this.#control = new VcpuControl(data.vcpuCount);
    this.#workers = Array.from({ length: data.vcpuCount }, (_, vcpuId) => {
      const worker = (vcpuId === 0 ? takeEarlyVcpu() : undefined) ?? new VcpuWorker(vcpuId, data.vm.hypervisor);
      const control = this.#control.buffer;
      worker.prepare({ ...data, vcpuId, debugger: debuggers[vcpuId], insight: insights[vcpuId], control });
      return worker;
    });
  }

  /** All vCPUs begin: the first with these registers, the others wait for it. */
  start(entry: EntryState): void {
    for (const [vcpuId, worker] of this.#workers.entries()) worker.start({ entry: vcpuId === 0 ? entry : undefined });
  }

  /** Resolves when all run: true; or with false, when the machine ends. */
  running(): Promise<boolean> {
    return this.#control.allReady();
  }

  /** Makes all of them stand still between two instructions. Resolves when they do. */
  async pause(): Promise<void> {
    this.#control.pause();
    this.kickAll();
    await this.#control.allParked();
  }

  /** They go on. */
  resume(): void {
    this.#control.resume();
  }

  /** Processor time that each vCPU's thread has taken. */
  times(): ThreadTime[] {
    return this.#control.threads.map(threadTime).filter((time) => time !== undefined);
  }

  /** Makes all of them leave the guest for a moment. */
  kickAll(): void {
    for (const [vcpuId] of this.#workers.entries()) this.#vm.kick(vcpuId);
  }

  /** Why the first thread to end did so. */
  async firstEnd(): Promise<{ readonly vcpu: number; readonly end: VcpuEnd }> {
    return Promise.race(this.#workers.map(async ({ end }, vcpu) => ({ vcpu, end: await end })));
  }

  /**
   * Makes all of them stop, also before start(). Resolves when no thread is left. They end by themselves: terminate() would
   * stop JavaScript at once, but no system call, and a native call that comes back into a thread that is being terminated ends
   * the whole process. It is for a thread that hangs.
   */
  async stop(): Promise<void> {
    this.#control.end();
    this.kickAll();
    // For those that have not been started: they look at the control first.
    for (const worker of this.#workers) worker.start({ entry: undefined });
    const hang = setTimeout(() => {
      for (const worker of this.#workers) worker.terminate();
    }, HANG_TIMEOUT);
    await Promise.all(this.#workers.map(({ exited }) => exited));
    clearTimeout(hang);
  }
}
