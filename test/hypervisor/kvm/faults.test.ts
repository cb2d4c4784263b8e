// Every call that making and using a machine of KVM needs fails, one after the other: one clear line, and nothing stays open.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EBUSY, EFAULT, EINTR, EIO, ENOMEM } from '../../../src/host/errno.ts';
import { setFaultHook } from '../../../src/host/ffi.ts';
import { kickSignal } from '../../../src/host/kick-signal.ts';
import { SharedRegion } from '../../../src/host/memory.ts';
import type { Exit } from '../../../src/hypervisor/hypervisor.ts';
import { whyKvmCannotRunLinux } from '../../../src/hypervisor/kvm/device.ts';
import { kvm } from '../../../src/hypervisor/kvm/index.ts';
import * as ioctls from '../../../src/hypervisor/kvm/ioctls.ts';
import { type Resources, resources, withoutKvm } from './guest.ts';

const onKvm = { skip: withoutKvm };
const requestNames = new Map(Object.values(ioctls).map(({ name, number }) => [number, name]));

/** What closes things again (mmap too, over what was mapped), and what never fails. */
const EXCLUDED = new Set(['close', 'munmap', 'mmap', 'gettid', '__libc_current_sigrtmin']);

/** The life of a machine, from its making to an exit of its guest (OUT 0x80, AL), with every call of the interface. */
function life(region: SharedRegion): Exit | undefined {
  const cpuid = kvm.supportedCpuid();
  const vm = kvm.createVm({ vcpuCount: Math.min(kvm.maxVcpus, 1) });
  try {
    vm.setMemorySlot({ slot: 0, guestAddress: 0, size: region.size, fd: region.fd, fdOffset: 0 });
    vm.setIrqLine(5, false);
    const vcpu = vm.createVcpu(0);
    try {
      vcpu.setCpuid(cpuid);
      vcpu.setMsr(0x10, vcpu.getMsr(0x10));
      vcpu.setLapic(vcpu.getLapic());
      vcpu.setXsave(vcpu.getXsave());
      vcpu.setXcr0(vcpu.getXcr0());
      vcpu.setDebugRegs(vcpu.getDebugRegs());
      vcpu.setGuestDebug({ singleStep: false, breakpoints: [], watchpoints: [] });
      vcpu.setMpState(vcpu.getMpState());
      vcpu.translate(0n);
      const sregs = vcpu.getSregs();
      Object.assign(sregs.cs, { base: 0n, selector: 0 });
      vcpu.setSregs(sregs);
      vcpu.setRegs({ ...vcpu.getRegs(), rip: 0n, rflags: 2n });
      const exit = vcpu.run();
      vcpu.getRegs();
      return { ...exit };
    } finally {
      vcpu.close();
    }
  } finally {
    vm.close();
  }
}

/** Numbers the calls of `body` by the hook, which may make them fail. */
function withHook<T>(hook: (index: number, name: string) => number | undefined, body: () => T): T {
  let index = 0;
  setFaultHook((name, args) => {
    if (EXCLUDED.has(name)) return undefined;
    return hook(index++, name === 'ioctl' ? (requestNames.get(Number(args[1])) ?? 'ioctl') : name);
  });
  try {
    return body();
  } finally {
    setFaultHook(undefined);
  }
}

/** A window of a test may have gone with the garbage; none has come. */
function expectNothingLeft(before: Resources): void {
  const after = resources();
  assert.deepEqual({ ...after, windows: 0 }, { ...before, windows: 0 });
  assert.ok(after.windows <= before.windows, `${after.windows} windows, ${before.windows} before`);
}

function guestRegion(): SharedRegion {
  const region = SharedRegion.create(0x10000);
  region.window().set([0xe6, 0x80]);
  return region;
}

test('each call in the life of a machine may fail: one line, nothing left', onKvm, () => {
  const region = guestRegion();
  // Its two calls are made once for the process: all lives have the same calls then.
  kickSignal();
  const calls: string[] = [];
  const whole = withHook(
    (_, name) => void calls.push(name),
    () => life(region),
  );
  assert.equal(whole?.kind, 'io-out');
  assert.ok(calls.filter((name) => name.startsWith('KVM_')).length > 40, calls.join());
  const before = resources();
  for (const [index, name] of calls.entries()) {
    for (const errno of [EIO, ENOMEM]) {
      const what = `${name}, call ${index}`;
      let exit: Exit | undefined;
      try {
        exit = withHook(
          (i) => (i === index ? errno : undefined),
          () => life(region),
        );
      } catch (error) {
        assert.ok(error instanceof Error && !(error instanceof TypeError), what);
        assert.match(error.message, /^[^\n]{10,200}$/, what);
        if (name.startsWith('KVM_')) assert.ok(error.message.includes(name), `${what}: ${error.message}`);
        continue;
      }
      // Those that may fail: a run that says so in its exit, and the wish for huge pages.
      if (name === 'madvise') assert.equal(exit?.kind, 'io-out', what);
      else if (name === 'KVM_RUN') assert.ok(exit?.kind === 'internal-error' || exit?.kind === 'io-out', what);
      else assert.fail(`${what}: nothing noticed`);
      if (exit?.kind === 'internal-error') assert.match(exit.message, /^[^\n]*; rip 0x[^\n]*$/);
    }
  }
  expectNothingLeft(before);
  region.close();
});

test('a mapping that cannot be had leaves nothing behind', onKvm, () => {
  const region = guestRegion();
  const before = resources();
  let maps = 0;
  const failing = (nth: number) => (name: string) => (name === 'mmap' && maps++ === nth ? ENOMEM : undefined);
  for (const nth of [0, 1]) {
    maps = 0;
    setFaultHook(failing(nth));
    assert.throws(() => life(region), /mmap: cannot allocate memory/);
    setFaultHook(undefined);
  }
  expectNothingLeft(before);
  region.close();
});

test('interrupted calls are repeated', onKvm, () => {
  const region = guestRegion();
  let interrupt = true;
  const exit = withHook(
    (_, name) => {
      if (!name.startsWith('KVM_')) return undefined;
      interrupt = !interrupt;
      return interrupt ? undefined : EINTR;
    },
    () => life(region),
  );
  assert.equal(exit?.kind, 'io-out');
  region.close();
});

/** Makes one request give a result that is not the kernel's. */
function lying<T>(request: string, result: number, body: () => T, argument?: number): T {
  setFaultHook((name, args) => {
    const asked = name === 'ioctl' && requestNames.get(Number(args[1])) === request;
    return asked && (argument === undefined || Number(args[2]) === argument) ? -result : undefined;
  });
  try {
    return body();
  } finally {
    setFaultHook(undefined);
  }
}

test('a KVM that is none of ours is told by what it lacks', onKvm, () => {
  const before = resources();
  const create = (): unknown => kvm.createVm({ vcpuCount: 1 });
  assert.throws(() => lying('KVM_GET_API_VERSION', 11, create), /in version 11, and 12 is needed/);
  assert.throws(() => lying('KVM_CHECK_EXTENSION', 0, create, 136), /without KVM_CAP_IMMEDIATE_EXIT: use Linux 4\.13/);
  assert.throws(() => lying('KVM_CHECK_EXTENSION', 0, create), /without KVM_CAP_IRQCHIP, KVM_CAP_USER_MEMORY, /);
  assert.throws(() => lying('KVM_GET_VCPU_MMAP_SIZE', 0, create), /a vCPU of 0 bytes is too small/);
  assert.throws(() => lying('KVM_CREATE_VM', -EBUSY, create), /busy: end the other hypervisor/);
  const busy = lying('KVM_CREATE_VM', -EBUSY, whyKvmCannotRunLinux);
  assert.match(busy ?? '', /busy: end the other hypervisor|is a paravirtual KVM/);
  assert.match(lying('KVM_GET_API_VERSION', 11, whyKvmCannotRunLinux) ?? '', /version 11/);
  expectNothingLeft(before);
});

test('memory that the host does not have while the guest runs is told in words', onKvm, () => {
  const region = guestRegion();
  const exit = lying('KVM_RUN', -EFAULT, () => life(region));
  assert.ok(exit?.kind === 'internal-error');
  assert.match(exit.message, /^guest memory cannot be had: the host is out of memory.*\(EFAULT\); rip 0x0, /);
  region.close();
});
