// Small real-mode guests on this host's /dev/kvm, of whatever kind it is, and what this process has open.

import { readdirSync, readFileSync } from 'node:fs';
import { SharedRegion } from '../../../src/host/memory.ts';
import type { Exit, Vcpu, Vm, VmOptions } from '../../../src/hypervisor/hypervisor.ts';
import { whyKvmCannotRunLinux, withKvm } from '../../../src/hypervisor/kvm/device.ts';
import { KvmVm } from '../../../src/hypervisor/kvm/vm.ts';
import { type Assembler, assemble } from '../../asm/assembler.ts';
import { Watchdog } from '../bare/watchdog.ts';

export const CODE = 0x1000;
export const STACK = 0x8000;
export const RAM_SIZE = 0x100000;
/** Where no memory is. */
export const DEVICE = 0x200000;

/** For a test's `skip`: why there is no KVM, or false. */
export const withoutKvm: string | false = reason();

/** For a test's `skip`: why there is no KVM that can do all that a processor can, or false. */
export const withoutFullKvm: string | false = whyKvmCannotRunLinux() ?? false;

function reason(): string | false {
  try {
    withKvm(() => {});
    return false;
  } catch (error) {
    return (error as Error).message;
  }
}

/** A machine of one vCPU with 1 MiB of RAM. */
export class Guest {
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly ram: Uint8Array;
  readonly #region: SharedRegion;
  readonly #watchdog: Watchdog;

  constructor(options: Omit<VmOptions, 'vcpuCount'> = {}) {
    this.#region = SharedRegion.create(RAM_SIZE);
    this.ram = this.#region.window();
    this.vm = KvmVm.create({ vcpuCount: 1, ...options });
    this.vm.setMemorySlot({ slot: 0, guestAddress: 0, size: RAM_SIZE, fd: this.#region.fd, fdOffset: 0 });
    this.vcpu = this.vm.createVcpu(0);
    this.#watchdog = new Watchdog(this.vm);
  }

  /** Puts code at CODE, and the processor before it, in real mode. Returns the labels' addresses. */
  load(program: (a: Assembler) => void): ReadonlyMap<string, number> {
    const { bytes, labels } = assemble(CODE, 16, program);
    this.ram.set(bytes, CODE);
    this.start(CODE);
    return labels;
  }

  start(at: number): void {
    const sregs = this.vcpu.getSregs();
    for (const name of ['cs', 'ds', 'es', 'ss'] as const) Object.assign(sregs[name], { base: 0n, selector: 0 });
    this.vcpu.setSregs(sregs);
    this.vcpu.setRegs({ ...this.vcpu.getRegs(), rip: BigInt(at), rsp: BigInt(STACK), rflags: 2n });
  }

  /** Runs to the next exit, whose data are copied; after some seconds, that is `interrupted`. */
  run(): Exit {
    this.#watchdog.start();
    const exit = this.vcpu.run();
    this.#watchdog.stop();
    return 'data' in exit ? { ...exit, data: Uint8Array.from(exit.data) } : { ...exit };
  }

  close(): void {
    this.#watchdog.close();
    this.vcpu.close();
    this.vm.close();
    this.#region.close();
  }
}

/** Runs a test's body on a guest. */
export function onGuest(body: (guest: Guest) => void, options: Omit<VmOptions, 'vcpuCount'> = {}): () => void {
  return () => {
    const guest = new Guest(options);
    try {
      body(guest);
    } finally {
      guest.close();
    }
  };
}

/** What the process has: descriptors, threads, vCPUs that are mapped, and mappings of guest memory. */
export interface Resources {
  readonly descriptors: readonly string[];
  readonly threads: number;
  readonly vcpus: number;
  /** Windows on guest memory go when the garbage is collected: this is for a test to look at by itself. */
  readonly windows: number;
}

export function resources(): Resources {
  const maps = readFileSync('/proc/self/maps', 'utf8');
  const count = (what: RegExp): number => [...maps.matchAll(what)].length;
  return {
    descriptors: readdirSync('/proc/self/fd').sort(),
    threads: readdirSync('/proc/self/task').length,
    vcpus: count(/anon_inode:kvm-vcpu/g),
    windows: count(/memfd:vivarium/g),
  };
}
