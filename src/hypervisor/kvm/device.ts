/** /dev/kvm: opening it, and what it must be able to do. */
import { closeSync, constants, existsSync, openSync, readFileSync, statSync } from 'node:fs';
import { closeDescriptor } from '../../host/descriptor.ts';
import { EBUSY } from '../../host/errno.ts';
import { call, KvmError } from './call.ts';
import * as K from './constants.ts';
import { KVM_CHECK_EXTENSION, KVM_CREATE_VM, KVM_GET_API_VERSION } from './ioctls.ts';

const DEVICE = '/dev/kvm';
/** There where KVM is the paravirtual, nested kind, which runs small guests only: it cannot emulate all that Linux does. */
const PVM_MODULE = '/sys/module/kvm_pvm';

/** KVM cannot be used here. The message is one line for the user: what is wrong, and what would help. */
export class KvmUnavailable extends Error {
  override readonly name = 'KvmUnavailable';
}

/** What the back end uses of KVM. All of it is in Linux 4.13 and later, on Intel and AMD. */
const NEEDED = {
  KVM_CAP_IRQCHIP: K.KVM_CAP_IRQCHIP,
  KVM_CAP_USER_MEMORY: K.KVM_CAP_USER_MEMORY,
  KVM_CAP_SET_TSS_ADDR: K.KVM_CAP_SET_TSS_ADDR,
  KVM_CAP_EXT_CPUID: K.KVM_CAP_EXT_CPUID,
  KVM_CAP_MP_STATE: K.KVM_CAP_MP_STATE,
  KVM_CAP_SYNC_MMU: K.KVM_CAP_SYNC_MMU,
  KVM_CAP_USER_NMI: K.KVM_CAP_USER_NMI,
  KVM_CAP_SET_GUEST_DEBUG: K.KVM_CAP_SET_GUEST_DEBUG,
  KVM_CAP_IRQ_ROUTING: K.KVM_CAP_IRQ_ROUTING,
  KVM_CAP_IRQFD: K.KVM_CAP_IRQFD,
  KVM_CAP_PIT2: K.KVM_CAP_PIT2,
  KVM_CAP_IOEVENTFD: K.KVM_CAP_IOEVENTFD,
  KVM_CAP_SET_IDENTITY_MAP_ADDR: K.KVM_CAP_SET_IDENTITY_MAP_ADDR,
  KVM_CAP_DEBUGREGS: K.KVM_CAP_DEBUGREGS,
  KVM_CAP_XSAVE: K.KVM_CAP_XSAVE,
  KVM_CAP_XCRS: K.KVM_CAP_XCRS,
  KVM_CAP_GET_TSC_KHZ: K.KVM_CAP_GET_TSC_KHZ,
  KVM_CAP_SIGNAL_MSI: K.KVM_CAP_SIGNAL_MSI,
  KVM_CAP_READONLY_MEM: K.KVM_CAP_READONLY_MEM,
  KVM_CAP_IRQFD_RESAMPLE: K.KVM_CAP_IRQFD_RESAMPLE,
  KVM_CAP_IMMEDIATE_EXIT: K.KVM_CAP_IMMEDIATE_EXIT,
} as const;

/** Value of a capability, 0 where it is absent. `fd` is /dev/kvm, or a machine for what may differ between machines. */
export function capability(fd: number, number: number): number {
  return call('its capabilities cannot be asked for', fd, KVM_CHECK_EXTENSION, number);
}

/** Name of the group that owns the device, for whom may not open it. */
function owningGroup(): string {
  try {
    const { gid } = statSync(DEVICE);
    const line = readFileSync('/etc/group', 'utf8')
      .split('\n')
      .find((entry) => entry.split(':')[2] === String(gid));
    return line?.split(':')[0] ?? String(gid);
  } catch {
    return 'kvm';
  }
}

function openDevice(path: string): number {
  try {
    return openSync(path, constants.O_RDWR);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    switch (code) {
      case 'ENOENT':
        throw new KvmUnavailable(
          `there is no ${path}: load the module kvm_intel or kvm_amd, and turn virtualisation on in the firmware`,
        );
      case 'EACCES':
      case 'EPERM':
        throw new KvmUnavailable(`${path} may not be opened: join the group ${owningGroup()}`);
      case 'ENODEV':
      case 'ENXIO':
        throw new KvmUnavailable(`nothing answers at ${path}: load the module kvm_intel or kvm_amd`);
      case 'EBUSY':
        throw new KvmUnavailable(`${path} is busy: end the other hypervisor that uses the processor`);
      default:
        throw new KvmUnavailable(`${path} cannot be opened: ${message}`);
    }
  }
}

/** Opens /dev/kvm, if it is what the back end needs. Throws KvmUnavailable. */
export function openKvm(path: string = DEVICE): number {
  const fd = openDevice(path);
  try {
    check(fd, path);
  } catch (error) {
    closeSync(fd);
    if (error instanceof KvmError) throw new KvmUnavailable(`${path} is no KVM: ${error.message}`);
    throw error;
  }
  return fd;
}

function check(fd: number, path: string): void {
  const version = call('its version cannot be asked for', fd, KVM_GET_API_VERSION);
  if (version !== K.KVM_API_VERSION) {
    throw new KvmUnavailable(
      `${path} has KVM's interface in version ${version}, and ${K.KVM_API_VERSION} is needed: use another kernel`,
    );
  }
  const missing = Object.entries(NEEDED)
    .filter(([, number]) => capability(fd, number) === 0)
    .map(([name]) => name);
  if (missing.length > 0) {
    throw new KvmUnavailable(`${path} is without ${missing.join(', ')}: use Linux 4.13 or later`);
  }
}

/** Does something with /dev/kvm open. */
export function withKvm<T>(action: (fd: number) => T): T {
  const fd = openKvm();
  try {
    return action(fd);
  } finally {
    closeSync(fd);
  }
}

/** A descriptor for a new machine. Throws KvmUnavailable where another hypervisor has the processor, KvmError. */
export function createVmDescriptor(kvm: number): number {
  try {
    return call('a machine cannot be made', kvm, KVM_CREATE_VM);
  } catch (error) {
    if (error instanceof KvmError && error.errno === EBUSY) {
      throw new KvmUnavailable(`${DEVICE} is busy: end the other hypervisor that uses the processor`);
    }
    throw error;
  }
}

/** Why KVM cannot run an unmodified Linux on this host, in one line; undefined: it can. */
export function whyKvmCannotRunLinux(): string | undefined {
  try {
    const isParavirtual = withKvm((kvm) => {
      if (existsSync(PVM_MODULE)) return true;
      // It may be taken, which only this shows.
      closeDescriptor(createVmDescriptor(kvm));
      return false;
    });
    if (isParavirtual) return `${DEVICE} is a paravirtual KVM (module kvm_pvm), which cannot run an unmodified kernel`;
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
