// The thread of one vCPU (a Worker): loads what it needs, is told what to make, waits for the start, and then takes each exit to where
// it belongs.

import { parentPort, workerData } from 'node:worker_threads';
import {
  bootMpState,
  bootMsrs,
  connectLocalInterrupts,
  type EntryState,
  initializeXsave,
} from '../arch/x86_64/cpu-state.ts';
import { vcpuCpuid } from '../arch/x86_64/cpuid.ts';
import { Platform, type PlatformConfig } from '../devices/platform.ts';
import type { SharedRange } from '../host/shared-state.ts';
import { threadId } from '../host/threads.ts';
import type { Hypervisor, Vcpu, VmShare } from '../hypervisor/hypervisor.ts';
import { type HypervisorChoice, hypervisorNamed, selectHypervisor } from '../hypervisor/select.ts';
import { plugDevices, type VirtioShare } from '../virtio/plug.ts';
import { DebugAgent } from './gdb/agent.ts';
import type { AgentEnd } from './gdb/channel.ts';
import { InsightAgent } from './insight/agent.ts';
import type { InsightEnd } from './insight/channel.ts';
import { openMemory, type SharedMemory } from './memory.ts';
import { openTime, type TimeShare } from './time.ts';
import { VcpuControl } from './vcpu-control.ts';

/** The thread's first message: its vCPU. Without one, it is not needed. */
export interface VcpuThreadData {
  readonly vcpuId: number;
  readonly vcpuCount: number;
  readonly vm: VmShare;
  readonly memory: SharedMemory;
  readonly platform: { readonly range: SharedRange; readonly config: PlatformConfig };
  readonly virtio: VirtioShare;
  readonly time: TimeShare;
  /** A VcpuControl's. */
  readonly control: SharedArrayBuffer;
  readonly debugger: AgentEnd | undefined;
  readonly insight: InsightEnd | undefined;
}

/** The second message, which starts the vCPU: registers for the first instruction, or none for a vCPU that waits for INIT and SIPI. */
export interface VcpuStart {
  readonly entry: EntryState | undefined;
}

/** The thread's last message: why it ended. */
export type VcpuEnd =
  /** The machine ends: a device or the main thread said so. */
  | { readonly kind: 'stopped' }
  | { readonly kind: 'triple-fault' }
  | { readonly kind: 'failure'; readonly message: string };

const port = parentPort as NonNullable<typeof parentPort>;

/** State of a vCPU before the first instruction, but for its registers (the seed's configure_vcpu). */
function configure(hypervisor: Hypervisor, vcpu: Vcpu, { vcpuId, vcpuCount }: VcpuThreadData): void {
  const { tscHz, apicHz } = vcpu;
  const cpuid = vcpuCpuid(hypervisor.supportedCpuid(), { vcpuId, vcpuCount, tscHz, apicHz });
  vcpu.setCpuid(cpuid);
  for (const { index, value } of bootMsrs(cpuid)) vcpu.setMsr(index, value);
  const lapic = vcpu.getLapic();
  connectLocalInterrupts(lapic);
  vcpu.setLapic(lapic);
  const xsave = vcpu.getXsave();
  initializeXsave(xsave);
  vcpu.setXsave(xsave);
  vcpu.setMpState(bootMpState(vcpuId));
}

/** Runs until the machine ends. */
function run(
  vcpu: Vcpu,
  platform: Platform,
  control: VcpuControl,
  debug: DebugAgent | undefined,
  insight: InsightAgent | undefined,
): VcpuEnd {
  debug?.start();
  insight?.start();
  while (control.mayRun(() => vcpu.notePause())) {
    const exit = vcpu.run();
    insight?.left(exit.kind);
    switch (exit.kind) {
      case 'io-in':
        platform.pio.read(exit.port, exit.data);
        break;
      case 'io-out':
        platform.pio.write(exit.port, exit.data);
        break;
      case 'mmio-read':
        platform.mmio.read(exit.address, exit.data);
        break;
      case 'mmio-write':
        platform.mmio.write(exit.address, exit.data);
        break;
      case 'debug':
      case 'interrupted':
        debug?.attend(exit);
        break;
      case 'shutdown':
        return { kind: 'triple-fault' };
      case 'hlt':
      case 'system-event':
        return { kind: 'stopped' };
      case 'internal-error':
        return { kind: 'failure', message: exit.message };
    }
    insight?.done(vcpu);
    // A device may have ended the machine: nothing more is run.
    if (platform.exitReason !== undefined) break;
  }
  return { kind: 'stopped' };
}

/** A failure of the host or of the machine below is one line; a mistake of ours comes with its trace. */
function failure(error: unknown): VcpuEnd {
  if (!(error instanceof Error)) return { kind: 'failure', message: String(error) };
  const ours = error instanceof TypeError || error instanceof ReferenceError;
  return { kind: 'failure', message: ours ? (error.stack ?? error.message) : error.message };
}

/** Makes the vCPU ready; gives back what runs it. */
function prepare(data: VcpuThreadData): (start: VcpuStart) => VcpuEnd {
  const hypervisor = hypervisorNamed(data.vm.hypervisor);
  const insight = data.insight && new InsightAgent(data.insight);
  const vm = hypervisor.attach(data.vm);
  const platform = new Platform(data.platform.range, data.platform.config, {
    ...openTime(data.time),
    setIrqLine: (gsi, level) => vm.setIrqLine(gsi, level),
  });
  plugDevices(platform, vm, data.virtio);
  const control = new VcpuControl(data.vcpuCount, data.control);
  const advance = (now: number): number => {
    platform.advance(now);
    return platform.nextDeadline();
  };
  const vcpu = vm.createVcpu(data.vcpuId, {
    ...insight?.vcpuInsight,
    ...(data.time.kind === 'instructions' && { advance }),
  });
  try {
    configure(hypervisor, vcpu, data);
  } catch (error) {
    vcpu.close();
    throw error;
  }
  const debug = data.debugger && new DebugAgent(vcpu, openMemory(data.memory), data.debugger);
  control.ready(data.vcpuId, threadId());
  return ({ entry }) => {
    let how: VcpuEnd;
    try {
      if (entry) {
        vcpu.setSregs(entry.sregs);
        vcpu.setRegs(entry.regs);
      }
      how = control.waitForOthers() ? run(vcpu, platform, control, debug, insight) : { kind: 'stopped' };
    } catch (error) {
      how = failure(error);
    }
    insight?.end(vcpu, data.time.kind === 'instructions' ? openMemory(data.memory) : undefined);
    vcpu.close();
    return how;
  };
}

/** Loads the built-in machine, if it will be wanted, while the main thread makes the rest. */
function loadAhead(choice: HypervisorChoice): void {
  if (choice !== 'kvm') selectHypervisor(choice).hypervisor.load?.();
}

async function main(): Promise<VcpuEnd | undefined> {
  const first = Promise.withResolvers<VcpuThreadData | undefined>();
  const second = Promise.withResolvers<VcpuStart>();
  port.once('message', (data: VcpuThreadData | undefined) => {
    port.once('message', second.resolve);
    first.resolve(data);
  });
  loadAhead(workerData as HypervisorChoice);
  const data = await first.promise;
  return data && prepare(data)(await second.promise);
}

main()
  .catch(failure)
  .then((how) => {
    if (how) port.postMessage(how);
    port.close();
  });
