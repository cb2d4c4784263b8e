import { RAM_BASE } from '../../cpu/x86_64/layout.ts';
import { processorModules } from '../../cpu/x86_64/modules.ts';
import type { Hypervisor } from '../hypervisor.ts';
import { supportedCpuid } from './cpuid.ts';
import { loadVcpu, SoftVm } from './vm.ts';

/** The built-in machine: Vivarium's own x86-64 processor. */
export const soft: Hypervisor = {
  name: 'soft',
  load: () => {
    loadVcpu();
    processorModules();
  },
  supportedCpuid,
  /** A vCPU's memory has 32-bit addresses; what is below RAM_BASE is its own. */
  maxMemory: 2 ** 32 - RAM_BASE,
  maxVcpus: 1,
  keepsDecoded: true,
  createVm: (options) => SoftVm.create(options),
  attach: (share) => SoftVm.attach(share),
};
