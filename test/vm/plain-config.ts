import type { MachineConfig } from '../../src/vm/config.ts';

/** A machine of a kernel and nothing else, in 32 MiB; what the command line gives by default is off here. */
export function plainConfig(kernel: string, hypervisor: 'kvm' | 'soft', cpus = 1): MachineConfig {
  return {
    kernel,
    params: [],
    cpus,
    memory: 32,
    hypervisor,
    splitIrqchip: false,
    disks: [],
    networks: [],
    console: 'serial',
    consolePorts: [],
    virtioTransport: 'pci',
    sharedDirectories: [],
    sandbox: undefined,
    stats: false,
    checkTranslation: false,
    icount: false,
    debugExit: false,
  };
}
