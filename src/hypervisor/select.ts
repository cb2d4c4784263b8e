import type { Hypervisor } from './hypervisor.ts';
import { soft } from './soft/index.ts';

/** What the user may ask for. */
export const HYPERVISOR_CHOICES = ['auto', 'kvm', 'soft'] as const;
export type HypervisorChoice = (typeof HYPERVISOR_CHOICES)[number];

/** The hypervisor of a name. Throws with one line for the user. */
export function selectHypervisor(choice: HypervisorChoice): Hypervisor {
  if (choice === 'kvm') throw new Error('KVM is not there yet: use --hypervisor soft, the built-in processor');
  return soft;
}
