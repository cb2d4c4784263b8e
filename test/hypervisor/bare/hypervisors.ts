import { test } from 'node:test';
import type { Hypervisor } from '../../../src/hypervisor/hypervisor.ts';
import { whyKvmCannotRunLinux } from '../../../src/hypervisor/kvm/device.ts';
import { kvm } from '../../../src/hypervisor/kvm/index.ts';
import { soft } from '../../../src/hypervisor/soft/index.ts';

/** In the lab QEMU emulates the processor that KVM uses. */
export const isLab = process.env['VIVARIUM_IN_LAB'] !== undefined;

/** Any kind of KVM will do: bare guests are small. */
function opens(hypervisor: Hypervisor): boolean {
  try {
    hypervisor.createVm({ vcpuCount: 1 }).close();
    return true;
  } catch {
    return false;
  }
}

/** The processors on which every bare guest runs: those that work on this host. In the lab that is its KVM: the built-in one is the same everywhere. */
export const hypervisors: readonly Hypervisor[] = (isLab ? [kvm] : [soft, kvm]).filter(opens);

/** What a test may say beside its name. */
interface Options {
  readonly todo?: string | false;
  readonly skip?: string | boolean;
}

/**
 * node:test's test(), for a test on one of the processors. On a KVM that cannot run any guest a test tells what it finds, and does not
 * fail: such a KVM emulates privileged code, and is no processor in many corners. Nor is what QEMU emulates in the lab.
 */
export function testOn(hypervisor: Hypervisor): (name: string, ...rest: [() => void] | [Options, () => void]) => void {
  const limited =
    hypervisor.name === 'kvm' ? (isLab ? 'QEMU emulates this processor' : whyKvmCannotRunLinux()) : undefined;
  return (name, ...rest) => {
    const [options, body] = rest.length === 1 ? [{}, rest[0]] : rest;
    void test(name, limited === undefined ? options : { ...options, todo: limited }, body);
  };
}
