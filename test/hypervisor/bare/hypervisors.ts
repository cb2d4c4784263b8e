import { test } from 'node:test';
import type { Hypervisor } from '../../../src/hypervisor/hypervisor.ts';
import { whyKvmCannotRunLinux } from '../../../src/hypervisor/kvm/device.ts';
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

/** What a test may say beside its name. */
interface Options {
  readonly todo?: string | false;
  readonly skip?: string | boolean;
}

/**
 * node:test's test(), for a test on one of the processors. On a KVM that cannot run any guest a test tells what it finds, and does not
 * fail: such a KVM emulates privileged code, and is no processor in many corners.
 */
export function testOn(hypervisor: Hypervisor): (name: string, ...rest: [() => void] | [Options, () => void]) => void {
  const limited = hypervisor.name === 'kvm' ? whyKvmCannotRunLinux() : undefined;
  return (name, ...rest) => {
    const [options, body] = rest.length === 1 ? [{}, rest[0]] : rest;
    void test(name, limited === undefined ? options : { ...options, todo: limited }, body);
  };
}
