import { MAX_WINDOW_SIZE } from '../../host/memory.ts';
import type { Hypervisor } from '../hypervisor.ts';
import { KVM_CAP_MAX_VCPUS } from './constants.ts';
import { readSupportedCpuid } from './cpuid.ts';
import { capability, withKvm } from './device.ts';
import { KvmVm } from './vm.ts';

/** Linux's KVM. Every use of it throws KvmUnavailable where /dev/kvm is not what is needed. */
export const kvm: Hypervisor = {
  name: 'kvm',
  supportedCpuid: () => withKvm(readSupportedCpuid),
  /** What other threads can see of it: RAM below the hole for devices, and a window on what is above. */
  maxMemory: 0xd000_0000 + MAX_WINDOW_SIZE,
  get maxVcpus() {
    return withKvm((fd) => capability(fd, KVM_CAP_MAX_VCPUS));
  },
  keepsDecoded: false,
  createVm: (options) => KvmVm.create(options),
  attach: (share) => KvmVm.attach(share),
};
