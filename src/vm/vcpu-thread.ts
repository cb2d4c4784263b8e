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
import { type ClockOrigin, HostClock } from '../host/clock.ts';
import type { SharedRange } from '../host/shared-state.ts';
import type { Hypervisor, Vcpu, VmShare } from '../hypervisor/hypervisor.ts';
import { selectHypervisor } from '../hypervisor/select.ts';
import { DebugAgent } from './gdb/agent.ts';
import type { AgentEnd } from './gdb/channel.ts';
import { openMemory, type SharedMemory } from './memory.ts';

/** What a vCPU's thread gets. */
export interface VcpuThreadData {
  readonly vcpuId: number;
  readonly vcpuCount: number;
  readonly vm: VmShare;
  readonly memory: SharedMemory;
  readonly platform: { readonly range: SharedRange; readonly config: PlatformConfig };
  readonly clockOrigin: ClockOrigin;
  /** Int32 word 0: non-zero when the machine ends. */
  readonly control: SharedArrayBuffer;
  readonly debugger: AgentEnd | undefined;
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
function run(vcpu: Vcpu, platform: Platform, debug: DebugAgent | undefined): VcpuEnd {
  const control = new Int32Array(data.control);
  debug?.start();
  while (Atomics.load(control, 0) === 0) {
    const exit = vcpu.run();
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
    // A device may have ended the machine: nothing more is run.
    if (platform.exitReason !== undefined) break;
  }
  return { kind: 'stopped' };
}

const hypervisor = selectHypervisor(data.vm.hypervisor);
const vm = hypervisor.attach(data.vm);
const platform = new Platform(data.platform.range, data.platform.config, {
  clock: new HostClock(data.clockOrigin),
  wallTime: Date.now,
  setIrqLine: (gsi, level) => vm.setIrqLine(gsi, level),
});
const vcpu = vm.createVcpu(data.vcpuId);
configure(hypervisor, vcpu);
const debug = data.debugger && new DebugAgent(vcpu, openMemory(data.memory), data.debugger);

port.once('message', ({ entry }: VcpuStart) => {
  if (entry) {
    vcpu.setSregs(entry.sregs);
    vcpu.setRegs(entry.regs);
  }
  const end = run(vcpu, platform, debug);
  vcpu.close();
  port.postMessage(end);
  port.close();
});
