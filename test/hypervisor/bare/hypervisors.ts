import type { Hypervisor } from '../../../src/hypervisor/hypervisor.ts';
import { kvm } from '../../../src/hypervisor/kvm/index.ts';
import { soft } from '../../../src/hypervisor/soft/index.ts';

/** Any kind of KVM will do: bare guests are small. */
function opens(hypervisor: Hypervisor): boolean {
  try {
    hypervisor.createVm({ vcpuCount: 1 }).close();
    return true;
  } catch {
    return false;
  }
}

/** The processors on which every bare guest runs: those that work on this host. */
export const hypervisors: readonly Hypervisor[] = [soft, kvm].filter(opens);
