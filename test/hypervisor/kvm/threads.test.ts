// Machines of KVM with all their threads: they stop when they are told to, pause, and leave nothing.

import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { PLATFORM_STATE_SIZE } from '../../../src/devices/platform.ts';
import { HostClock } from '../../../src/host/clock.ts';
import { window } from '../../../src/host/memory.ts';
import { kvm } from '../../../src/hypervisor/kvm/index.ts';
import type { MachineConfig, MachineEnd } from '../../../src/vm/config.ts';
import { Machine } from '../../../src/vm/machine.ts';
import { createMemory, plugMemory } from '../../../src/vm/memory.ts';
import { VcpuThreads } from '../../../src/vm/vcpus.ts';
import { VirtioDevices } from '../../../src/vm/virtio-devices.ts';
import { elfImage } from '../../arch/x86_64/kernel/images.ts';
import { plainConfig } from '../../vm/plain-config.ts';
import { type Resources, resources, withoutKvm } from './guest.ts';

const onKvm = { skip: withoutKvm };
const folder = mkdtempSync(join(tmpdir(), 'vivarium-threads-'));
after(() => rmSync(folder, { recursive: true }));
const MIB = 2 ** 20;

const console = { fd: openSync('/dev/null', 'w') };
/** JMP to itself. */
const loop = [0xeb, 0xfe];
const ignore = (): void => {};
const NO_EVENTS = { log: ignore, failed: ignore, interrupt: ignore, event: ignore };
/** OUT of a newline to COM1, which comes out at once. */
const newline = [0x66, 0xba, 0xf8, 0x03, 0xb0, 0x0a, 0xee];
/** CLI, HLT, and again. */
const haltWithoutInterrupts = [0xfa, 0xf4, 0xeb, 0xfc];
/** Resets by the 8042. */
const reset = [0xb0, 0xfe, 0xe6, 0x64, ...loop];

function config(name: string, code: readonly number[], cpus = 1): MachineConfig {
  const kernel = join(folder, name);
  writeFileSync(kernel, elfImage(Uint8Array.from(code)));
  return plainConfig(kernel, 'kvm', cpus);
}

/** With its kernel in memory. */
function built(of: MachineConfig, output = console): Machine {
  const machine = new Machine(of, output);
  machine.load();
  return machine;
}

async function untilEnd(machine: Machine): Promise<MachineEnd> {
  machine.start();
  return machine.ended();
}

/** Ends a machine that runs, when `until` is over. */
async function endOf(
  machine: Machine,
  until: () => Promise<unknown>,
): Promise<{ readonly kind: string; readonly milliseconds: number }> {
  const running = untilEnd(machine);
  await until();
  const start = performance.now();
  machine.end({ kind: 'asked' });
  const { kind } = await running;
  return { kind, milliseconds: performance.now() - start };
}

test('a guest in a busy loop, or halted for good, ends when it is told to', onKvm, async () => {
  const output = join(folder, 'output');
  for (const [name, code] of [
    ['loop', loop],
    ['halt', haltWithoutInterrupts],
  ] as const) {
    const times: number[] = [];
    for (let i = 0; i < 5; i++) {
      const fd = openSync(output, 'w');
      const machine = built(config(name, [...newline, ...code], 2), { fd });
      const { kind, milliseconds } = await endOf(machine, async () => {
        while (fstatSync(fd).size === 0) await sleep(1);
      });
      closeSync(fd);
      assert.equal(kind, 'asked');
      times.push(milliseconds);
    }
    // A kick that is lost would last until somebody else interrupts. How long one takes: vcpu.test.ts.
    assert.ok(Math.min(...times) < 5000, `${name}: ${times.map(Math.round).join(', ')} ms`);
  }
});

test('a machine that was never started, or just now, ends as well', onKvm, async () => {
  await new Machine(config('loop', loop, 2), console).close();
  assert.equal((await endOf(built(config('loop', loop, 2)), () => sleep(0))).kind, 'asked');
});

test('memory is in huge pages where the host gives such memory any', onKvm, async (t) => {
  if (!existsSync('/sys/kernel/mm/transparent_hugepage')) return t.skip('the host has no huge pages');
  const machine = built(config('loop', loop));
  // proc(5): a mapping's lines, and among them "hg" for who has asked for them.
  const mappings = readFileSync('/proc/self/smaps', 'latin1').split(/^(?=[\da-f]+-[\da-f]+ )/m);
  const ram = mappings.filter((mapping) => /memfd:vivarium-ram/.test(mapping) && /^VmFlags:.* hg\b/m.test(mapping));
  assert.equal(ram.length, 1);
  await machine.close();
});

test('more processors than KVM has, and more memory than can be seen, are refused in words', onKvm, () => {
  const before = resources();
  const building = (change: Partial<MachineConfig>) => () =>
    new Machine({ ...config('loop', loop), ...change }, console);
  assert.throws(
    building({ cpus: kvm.maxVcpus + 1 }),
    /the kvm hypervisor has \d+ processors at most: choose fewer with --cpus/,
  );
  assert.throws(
    building({ memory: 2 ** 20 }),
    /the kvm hypervisor has room for \d+ MiB at most: choose less with --mem/,
  );
  assert.deepEqual(resources().descriptors, before.descriptors);
});

test('fifty rounds leave no descriptor, thread or mapping', { ...onKvm, timeout: 120_000 }, async () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  const round = async (index: number): Promise<void> => {
    const machine = built(config('reset', index % 2 === 0 ? reset : loop, 1 + (index % 3)));
    const end = index % 2 === 0 ? await untilEnd(machine) : await endOf(machine, () => sleep(index % 5));
    assert.equal(end.kind, index % 2 === 0 ? 'reset' : 'asked');
  };
  for (let i = 0; i < 4; i++) await round(i);
  const settled = async (): Promise<Resources> => {
    // Windows on guest memory go with the garbage, some of it later than the rest.
    for (let i = 0; i < 20 && resources().windows > 0; i++) {
      gc();
      await sleep(50);
    }
    return resources();
  };
  const before = await settled();
  for (let i = 0; i < 50; i++) await round(i);
  assert.deepEqual(await settled(), before);
  assert.equal(before.windows, 0);
});

test('paused vCPUs run nothing until they are resumed; threads have names', onKvm, async () => {
  const memory = createMemory(32 * MIB, false);
  const vm = kvm.createVm({ vcpuCount: 2 });
  plugMemory(vm, memory);
  const ram = new Int32Array(window(memory.fd, 0, MIB).buffer, 0, MIB / 4);
  const clock = new HostClock();
  const threads = new VcpuThreads(
    vm,
    {
      vcpuCount: 2,
      vm: vm.share(),
      memory,
      platform: {
        range: { buffer: new SharedArrayBuffer(PLATFORM_STATE_SIZE), offset: 0 },
        config: { consoleFd: console.fd, debugExit: false },
      },
      virtio: new VirtioDevices([], 'pci', memory, undefined, NO_EVENTS).share,
      time: { kind: 'host', origin: clock.origin },
    },
    [],
  );
  try {
    // LOCK INC DWORD [0x2000]; JMP back. In real mode: the state of a processor after reset, at 0x1000.
    new Uint8Array(ram.buffer).set([0xf0, 0x66, 0xff, 0x06, 0x00, 0x20, 0xeb, 0xf8], 0x1000);
    threads.start(await realModeEntry());
    const count = (): number => Atomics.load(ram, 0x2000 / 4);
    const moves = async (): Promise<void> => {
      for (const start = count(); count() === start; ) await sleep(1);
    };
    await moves();
    const names = threadNames();
    for (const id of [0, 1]) assert.ok(names.includes(`vivarium_vcpu${id}`), names.join());
    for (let round = 0; round < 20; round++) {
      await threads.pause();
      const still = count();
      await sleep(5);
      assert.equal(count(), still);
      threads.resume();
      await moves();
    }
    await threads.pause();
  } finally {
    // Also out of a pause.
    await threads.stop();
    vm.close();
  }
});

/** Registers of a vCPU after reset, but at 0x1000. */
async function realModeEntry() {
  const vm = kvm.createVm({ vcpuCount: 1 });
  const vcpu = vm.createVcpu(0);
  const entry = { regs: { ...vcpu.getRegs(), rip: 0x1000n }, sregs: vcpu.getSregs() };
  Object.assign(entry.sregs.cs, { base: 0n, selector: 0 });
  vcpu.close();
  vm.close();
  return entry;
}

function threadNames(): string[] {
  const tasks = '/proc/self/task';
  return readdirSync(tasks).map((tid) => readFileSync(join(tasks, tid, 'comm'), 'utf8').trim());
}
