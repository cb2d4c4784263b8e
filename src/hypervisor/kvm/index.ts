import type { Hypervisor } from '../hypervisor.ts';
import { KVM_CAP_MAX_VCPUS } from './constants.ts';
import { readSupportedCpuid } from './cpuid.ts';
import { capability, withKvm } from './device.ts';
import { KvmVm } from './vm.ts';

const GIB = 2 ** 30;

/** Linux's KVM. Every use of it throws KvmUnavailable where /dev/kvm is not what is needed. */
export const kvm: Hypervisor = {
  name: 'kvm',
  supportedCpuid: () => withKvm(readSupportedCpuid),
  maxMemory: 1024 * GIB,
  get maxVcpus() {
    return withKvm((fd) => capability(fd, KVM_CAP_MAX_VCPUS));
  },
  createVm: (options) => KvmVm.create(options),
  attach: (share) => KvmVm.attach(share),
};
