import type { Hypervisor } from '../../../src/hypervisor/hypervisor.ts';
import { whyKvmCannotRunLinux } from '../../../src/hypervisor/kvm/device.ts';
import { kvm } from '../../../src/hypervisor/kvm/index.ts';
import { soft } from '../../../src/hypervisor/soft/index.ts';

/** Whether it is a whole x86-64 processor: a paravirtual KVM leaves some exceptions to the host's kernel. */
function works(hypervisor: Hypervisor): boolean {
  if (hypervisor === kvm && whyKvmCannotRunLinux() !== undefined) return false;
  try {
    hypervisor.createVm({ vcpuCount: 1 }).close();
    return true;
  } catch {
    return false;
  }
}

/** The processors on which every bare guest runs: those that work on this host. */
export const hypervisors: readonly Hypervisor[] = [soft, kvm].filter(works);
