// The thread of one vCPU (a Worker): makes the vCPU, waits for the start, and then takes each exit to where it belongs.

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
import { hypervisorNamed } from '../hypervisor/select.ts';
import { plugDevices, type VirtioShare } from '../virtio/plug.ts';
import { DebugAgent } from './gdb/agent.ts';
import type { AgentEnd } from './gdb/channel.ts';
import { InsightAgent } from './insight/agent.ts';
import type { InsightEnd } from './insight/channel.ts';
import { openMemory, type SharedMemory } from './memory.ts';
import { openTime, type TimeShare } from './time.ts';
import { VcpuControl } from './vcpu-control.ts';

/** What a vCPU's thread gets. */
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

/** The message that starts the vCPU: registers for the first instruction, or none for a vCPU that waits for INIT and SIPI. */
export interface VcpuStart {
  readonly entry: EntryState | undefined;
}

/** The thread's last message: why it ended. */
export type VcpuEnd =
  /** The machine ends: a device or the main thread said so. */
  | { readonly kind: 'stopped' }
  | { readonly kind: 'triple-fault' }
  | { readonly kind: 'failure'; readonly message: string };

const data = workerData as VcpuThreadData;
const port = parentPort as NonNullable<typeof parentPort>;
const insight = data.insight && new InsightAgent(data.insight);

/** State of a vCPU before the first instruction, but for its registers (the seed's configure_vcpu). */
function configure(hypervisor: Hypervisor, vcpu: Vcpu): void {
  const { vcpuId, vcpuCount } = data;
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
function run(vcpu: Vcpu, platform: Platform, control: VcpuControl, debug: DebugAgent | undefined): VcpuEnd {
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

function end(how: VcpuEnd): void {
  port.postMessage(how);
  port.close();
}

/** Makes the vCPU ready, then waits for the start. */
function main(): void {
  const hypervisor = hypervisorNamed(data.vm.hypervisor);
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
    configure(hypervisor, vcpu);
  } catch (error) {
    vcpu.close();
    throw error;
  }
  const debug = data.debugger && new DebugAgent(vcpu, openMemory(data.memory), data.debugger);
  control.ready(data.vcpuId, threadId());
  port.once('message', ({ entry }: VcpuStart) => {
    let how: VcpuEnd;
    try {
      if (entry) {
        vcpu.setSregs(entry.sregs);
        vcpu.setRegs(entry.regs);
      }
      how = control.waitForOthers() ? run(vcpu, platform, control, debug) : { kind: 'stopped' };
    } catch (error) {
      how = failure(error);
    }
    insight?.end(vcpu, data.time.kind === 'instructions' ? openMemory(data.memory) : undefined);
    vcpu.close();
    end(how);
  });
}

try {
  main();
} catch (error) {
  end(failure(error));
}
