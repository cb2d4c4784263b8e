import { createRequire } from 'node:module';
import type { Hypervisor } from './hypervisor.ts';
import { whyKvmCannotRunLinux } from './kvm/device.ts';
import { kvm } from './kvm/index.ts';

/** What the user may ask for. */
export const HYPERVISOR_CHOICES = ['auto', 'kvm', 'soft'] as const;
export type HypervisorChoice = (typeof HYPERVISOR_CHOICES)[number];

export interface Selection {
  readonly hypervisor: Hypervisor;
  /** Which one, and why, in one line for a log. */
  readonly reason: string;
}

const require = createRequire(import.meta.url);

/** The built-in machine, loaded when it is needed: that takes longer than all else at the start of a machine on KVM. */
function loadSoft(): Hypervisor {
  return (require('./soft/index.ts') as typeof import('./soft/index.ts')).soft;
}

/** The hypervisor of a name. One that does not work here says so when it is used, in one line for the user. */
export function hypervisorNamed(name: Hypervisor['name']): Hypervisor {
  return name === 'kvm' ? kvm : loadSoft();
}

/** What runs a machine: KVM by itself only where it can run any guest. */
export function selectHypervisor(choice: HypervisorChoice): Selection {
  if (choice !== 'auto') return { hypervisor: hypervisorNamed(choice), reason: `hypervisor: ${choice}, as asked for` };
  const obstacle = whyKvmCannotRunLinux();
  return obstacle === undefined
    ? { hypervisor: kvm, reason: 'hypervisor: kvm, which works here' }
    : { hypervisor: loadSoft(), reason: `hypervisor: soft, the built-in processor, as KVM does not do: ${obstacle}` };
}
