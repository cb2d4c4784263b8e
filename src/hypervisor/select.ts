import type { Hypervisor } from './hypervisor.ts';
import { whyKvmCannotRunLinux } from './kvm/device.ts';
import { kvm } from './kvm/index.ts';
import { soft } from './soft/index.ts';

/** What the user may ask for. */
export const HYPERVISOR_CHOICES = ['auto', 'kvm', 'soft'] as const;
export type HypervisorChoice = (typeof HYPERVISOR_CHOICES)[number];

export interface Selection {
  readonly hypervisor: Hypervisor;
  /** Which one, and why, in one line for a log. */
  readonly reason: string;
}

/** The hypervisor of a name. One that does not work here says so when it is used, in one line for the user. */
export function hypervisorNamed(name: Hypervisor['name']): Hypervisor {
  return name === 'kvm' ? kvm : soft;
}

/** What runs a machine: KVM by itself only where it can run any guest. */
export function selectHypervisor(choice: HypervisorChoice): Selection {
  if (choice !== 'auto') return { hypervisor: hypervisorNamed(choice), reason: `hypervisor: ${choice}, as asked for` };
  const obstacle = whyKvmCannotRunLinux();
  return obstacle === undefined
    ? { hypervisor: kvm, reason: 'hypervisor: kvm, which works here' }
    : { hypervisor: soft, reason: `hypervisor: soft, the built-in processor, as KVM does not do: ${obstacle}` };
}
