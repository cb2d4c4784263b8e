import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { REQUEST_KICK } from '../../../src/hypervisor/irqchip/lapic-registers.ts';
import { TestMachine } from './machine.ts';

const ICR_SELF = 1 << 18;
const ICR_ALL = 2 << 18;
const ICR_OTHERS = 3 << 18;
const LOGICAL = 0x800;

function ipi(machine: TestMachine, from: number, low: number, destination = 0): void {
  machine.cpu(from).mmioWrite(0x310, destination << 24);
  machine.cpu(from).mmioWrite(0x300, low);
}

function pending(machine: TestMachine): number[] {
  return machine.cpus.map((cpu) => cpu.pendingVector());
}

test('registers after power-on', () => {
  const machine = new TestMachine(2);
  const cpu = machine.cpu(1);
  assert.equal(cpu.apicPage, 0xfee00000);
  assert.equal(machine.cpu(0).apicBase, 0xfee00900n);
  assert.equal(cpu.apicBase, 0xfee00800n);
  assert.equal(cpu.mmioRead(0x20), 1 << 24);
  assert.equal(cpu.mmioRead(0x30), 0x01050014);
  assert.equal(cpu.mmioRead(0xf0), 0xff);
  assert.equal(cpu.mmioRead(0xe0), 0xffffffff);
  assert.equal(cpu.mmioRead(0x350), 0x10000);
  // Bytes of a register, and the gap after it.
  assert.equal(cpu.mmioRead(0x32), 0x0105);
  assert.equal(cpu.mmioRead(0x34), 0);
});

test('a disabled APIC takes no fixed interrupt, and keeps its local entries masked', () => {
  const machine = new TestMachine();
  ipi(machine, 0, ICR_SELF | 0x40);
  assert.equal(machine.cpu().pendingVector(), -1);
  machine.cpu().mmioWrite(0x320, 0x30);
  assert.equal(machine.cpu().mmioRead(0x320), 0x10030);
  machine.enable();
  machine.cpu().mmioWrite(0x320, 0x30);
  assert.equal(machine.cpu().mmioRead(0x320), 0x30);
  machine.cpu().mmioWrite(0xf0, 0xff);
  assert.equal(machine.cpu().mmioRead(0x320), 0x10030);
});

test('priorities: higher classes nest, the same class waits, TPR and CR8 hold back', () => {
  const machine = new TestMachine();
  machine.enable();
  const cpu = machine.cpu();
  for (const vector of [0x41, 0x45, 0x80]) ipi(machine, 0, ICR_SELF | vector);
  assert.equal(cpu.acknowledge(), 0x80);
  assert.equal(cpu.pendingVector(), -1);
  assert.equal(cpu.mmioRead(0xa0), 0x80);
  ipi(machine, 0, ICR_SELF | 0x91);
  assert.equal(cpu.acknowledge(), 0x91);
  cpu.mmioWrite(0xb0, 0);
  assert.equal(cpu.mmioRead(0x110 + 0x30), 1 << 0);
  cpu.mmioWrite(0xb0, 0);
  cpu.cr8 = 4;
  assert.equal(cpu.mmioRead(0x80), 0x40);
  assert.equal(cpu.pendingVector(), -1);
  cpu.mmioWrite(0x80, 0x3f);
  assert.equal(cpu.cr8, 3);
  assert.equal(cpu.acknowledge(), 0x45);
  assert.equal(cpu.pendingVector(), -1);
  cpu.mmioWrite(0xb0, 0);
  assert.deepEqual(machine.drain(), [0x41]);
  assert.equal(cpu.acknowledge(), -1);
});

test('shorthands reach self, all, and all others', () => {
  const machine = new TestMachine(3);
  machine.enable();
  ipi(machine, 1, ICR_SELF | 0x31);
  assert.deepEqual(pending(machine), [-1, 0x31, -1]);
  ipi(machine, 1, ICR_ALL | 0x42);
  assert.deepEqual(pending(machine), [0x42, 0x42, 0x42]);
  ipi(machine, 0, ICR_OTHERS | 0x53);
  assert.deepEqual(pending(machine), [0x42, 0x53, 0x53]);
});

test('physical destinations, and broadcast', () => {
  const machine = new TestMachine(3);
  machine.enable();
  ipi(machine, 0, 0x31, 2);
  ipi(machine, 0, 0x32, 7);
  assert.deepEqual(pending(machine), [-1, -1, 0x31]);
  ipi(machine, 0, 0x41, 0xff);
  assert.deepEqual(pending(machine), [0x41, 0x41, 0x41]);
});

test('logical destinations: flat and cluster model', () => {
  const machine = new TestMachine(3);
  machine.enable();
  machine.cpus.forEach((cpu, id) => cpu.mmioWrite(0xd0, 1 << (24 + id)));
  ipi(machine, 0, LOGICAL | 0x31, 0b101);
  assert.deepEqual(pending(machine), [0x31, -1, 0x31]);
  machine.cpus.forEach((_, id) => machine.drain(id));
  machine.cpus.forEach((cpu, id) => {
    cpu.mmioWrite(0xe0, 0);
    cpu.mmioWrite(0xd0, ([0x01, 0x02, 0x11][id] as number) << 24);
  });
  ipi(machine, 0, LOGICAL | 0x41, 0x03);
  assert.deepEqual(pending(machine), [0x41, 0x41, -1]);
  ipi(machine, 0, LOGICAL | 0x42, 0x11);
  assert.deepEqual(pending(machine), [0x41, 0x41, 0x42]);
});

test('lowest priority goes to one: the least busy, and in turns among equals', () => {
  const machine = new TestMachine(3);
  machine.enable();
  machine.cpus.forEach((cpu, id) => cpu.mmioWrite(0xd0, 1 << (24 + id)));
  machine.cpu(0).mmioWrite(0x80, 0x50);
  for (let i = 0; i < 4; i++) ipi(machine, 0, LOGICAL | 0x100 | (0x61 + i * 0x10), 7);
  const taken = machine.cpus.map((_, id) => machine.drain(id).length);
  assert.deepEqual(taken, [0, 2, 2]);
});

test('INIT, start-up IPI and NMI become requests; the de-assert of INIT does not', () => {
  const machine = new TestMachine(2);
  machine.enable();
  machine.cpu(1).takeRequests();
  ipi(machine, 0, 0xc500, 1);
  const init = { ...machine.cpu(1).takeRequests() };
  assert.deepEqual(init, { init: true, sipi: undefined, nmi: false, changed: false, kick: false });
  ipi(machine, 0, 0x8500, 1);
  assert.equal(machine.cpu(1).pollRequests(), 0);
  ipi(machine, 0, 0x069a, 1);
  assert.equal(machine.cpu(1).takeRequests().sipi, 0x9a);
  ipi(machine, 0, 0x0400, 1);
  assert.equal(machine.cpu(1).takeRequests().nmi, true);
  machine.chip.request(1, REQUEST_KICK);
  assert.equal(machine.cpu(1).takeRequests().kick, true);
  assert.equal(machine.cpu(1).takeRequests().kick, false);
});

test('INIT resets all but base and ID', () => {
  const machine = new TestMachine();
  machine.enable();
  const cpu = machine.cpu();
  cpu.mmioWrite(0x20, 5 << 24);
  cpu.mmioWrite(0x80, 0x20);
  ipi(machine, 0, ICR_SELF | 0x99);
  cpu.reset();
  assert.equal(cpu.mmioRead(0x80), 0);
  assert.equal(cpu.mmioRead(0xf0), 0xff);
  assert.equal(cpu.mmioRead(0x20), 5 << 24);
  assert.equal(cpu.pendingVector(), -1);
});

test('errors are latched by a write of ESR, and interrupt', () => {
  const machine = new TestMachine();
  machine.enable();
  const cpu = machine.cpu();
  cpu.mmioWrite(0x370, 0xfe);
  ipi(machine, 0, ICR_SELF | 0x0f);
  assert.equal(cpu.acknowledge(), 0xfe);
  assert.equal(cpu.mmioRead(0x280), 0);
  cpu.mmioWrite(0x280, 0);
  assert.equal(cpu.mmioRead(0x280), 0x20);
  cpu.mmioRead(0x3a0);
  cpu.mmioWrite(0x280, 0);
  assert.equal(cpu.mmioRead(0x280), 0x80);
  cpu.mmioWrite(0x280, 0);
  assert.equal(cpu.mmioRead(0x280), 0);
});

test('IA32_APIC_BASE: reserved bits and changes of mode', () => {
  const machine = new TestMachine();
  const cpu = machine.cpu();
  const base = cpu.apicBase;
  assert.equal(cpu.writeBase(base | 1n), false);
  assert.equal(cpu.writeBase(base | (1n << 40n)), false);
  assert.equal(cpu.writeBase(0xfee00500n), false);
  assert.equal(cpu.apicBase, base);
  // Elsewhere in memory.
  assert.equal(cpu.writeBase(0x12_3456_7900n), true);
  assert.equal(cpu.apicPage, 0x12_3456_7000);
  // x2APIC mode is left only by disabling.
  assert.equal(cpu.writeBase(0xfee00d00n), true);
  assert.equal(cpu.apicPage, Infinity);
  assert.equal(cpu.writeBase(0xfee00900n), false);
  assert.equal(cpu.writeBase(0xfee00100n), true);
  assert.equal(cpu.writeBase(0xfee00d00n), false);
  assert.equal(cpu.writeBase(0xfee00900n), true);
  assert.equal(cpu.mmioRead(0xf0), 0xff);
});

test('x2APIC: which MSRs exist and what they refuse', () => {
  const machine = new TestMachine(2);
  const cpu = machine.cpu(1);
  assert.equal(cpu.msrRead(0x802), undefined);
  assert.equal(cpu.msrWrite(0x808, 0n), false);
  machine.enableX2();
  assert.equal(cpu.msrRead(0x802), 1n);
  assert.equal(cpu.msrRead(0x803), 0x01050014n);
  assert.equal(cpu.msrRead(0x80d), 2n);
  for (const index of [0x80e, 0x809, 0x80b, 0x831, 0x83f, 0x840, 0x8ff, 0x804]) {
    assert.equal(cpu.msrRead(index), undefined, index.toString(16));
  }
  assert.equal(cpu.msrWrite(0x802, 3n), false);
  assert.equal(cpu.msrWrite(0x80d, 3n), false);
  assert.equal(cpu.msrWrite(0x808, 0x100n), false);
  assert.equal(cpu.msrWrite(0x808, 1n << 32n), false);
  assert.equal(cpu.msrWrite(0x80b, 1n), false);
  assert.equal(cpu.msrWrite(0x828, 1n), false);
  assert.equal(cpu.msrWrite(0x83f, 0x100n), false);
  assert.equal(cpu.msrWrite(0x830, 1n << 20n), false);
  assert.equal(cpu.msrWrite(0x808, 0x20n), true);
  assert.equal(cpu.msrRead(0x808), 0x20n);
});

test('x2APIC: interprocessor interrupts', () => {
  const machine = new TestMachine(18);
  machine.enableX2();
  const pendingAt = (): number[] => machine.cpus.flatMap((cpu, id) => (cpu.pendingVector() >= 0 ? [id] : []));
  const drain = (): void => {
    for (const cpu of machine.cpus) {
      while (cpu.acknowledge() >= 0) cpu.msrWrite(0x80b, 0n);
    }
  };
  machine.cpu(0).msrWrite(0x830, (17n << 32n) | 0x41n);
  assert.deepEqual(pendingAt(), [17]);
  assert.equal(machine.cpu(0).msrRead(0x830), (17n << 32n) | 0x41n);
  drain();
  // Logical: cluster 1, members 0 and 1.
  machine.cpu(3).msrWrite(0x830, (0x10003n << 32n) | 0x841n);
  assert.deepEqual(pendingAt(), [16, 17]);
  drain();
  machine.cpu(3).msrWrite(0x83f, 0x77n);
  assert.deepEqual(pendingAt(), [3]);
  drain();
  machine.cpu(3).msrWrite(0x830, (0xffffffffn << 32n) | 0x41n);
  assert.equal(pendingAt().length, 18);
  // 0xff is just an ID here.
  drain();
  machine.cpu(3).msrWrite(0x830, (0xffn << 32n) | 0x41n);
  assert.deepEqual(pendingAt(), []);
  // A message with an 8-bit destination still broadcasts by 0xff.
  machine.chip.signalMsi({ address: 0xfeeff000n, data: 0x41 });
  assert.equal(pendingAt().length, 18);
});

test('messages: address and data decide', () => {
  const machine = new TestMachine(2);
  machine.enable();
  assert.equal(machine.chip.signalMsi({ address: 0xfee01000n, data: 0x55 }), true);
  assert.deepEqual(pending(machine), [-1, 0x55]);
  assert.equal(machine.chip.signalMsi({ address: 0xfed01000n, data: 0x66 }), false);
  assert.equal(machine.chip.signalMsi({ address: 0x1fee01000n, data: 0x66 }), false);
  assert.equal(machine.chip.signalMsi({ address: 0xfee05000n, data: 0x66 }), false);
  assert.equal(machine.chip.signalMsi({ address: 0xfee01000n, data: 0x0f }), false);
  assert.deepEqual(pending(machine), [-1, 0x55]);
});

test('KVM_GET_LAPIC and KVM_SET_LAPIC carry the state over', () => {
  const machine = new TestMachine();
  machine.enable();
  const cpu = machine.cpu();
  cpu.mmioWrite(0x3e0, 0xb);
  cpu.mmioWrite(0x320, 0x20030);
  cpu.mmioWrite(0x380, 1_000_000);
  ipi(machine, 0, ICR_SELF | 0x61);
  ipi(machine, 0, ICR_SELF | 0x52);
  assert.equal(cpu.acknowledge(), 0x61);
  machine.clock.advance(400_000);
  const saved = cpu.save();
  assert.equal(saved.length, 1024);
  assert.equal(new DataView(saved.buffer).getUint32(0x390, true), 600_000);
  const other = new TestMachine();
  other.cpu().restore(saved);
  assert.equal(other.cpu().pendingVector(), -1);
  assert.equal(other.cpu().nextDeadline(), 600_000);
  other.cpu().mmioWrite(0xb0, 0);
  assert.equal(other.cpu().pendingVector(), 0x52);
  assert.throws(() => cpu.restore(new Uint8Array(1023)), RangeError);
});

test('an interrupt posted by another thread wakes a sleeping vCPU', async () => {
  const machine = new TestMachine();
  machine.enable();
  machine.cpu().takeRequests();
  const url = new URL('../../../src/hypervisor/irqchip/irqchip.ts', import.meta.url).href;
  const source = `
    const { workerData } = require('node:worker_threads');
    import(${JSON.stringify(url)}).then(({ Irqchip }) => {
      const chip = new Irqchip(workerData, { now: () => 0 });
      chip.signalMsi({ address: 0xfee00000n, data: 0x71 });
    });`;
  const worker = new Worker(source, { eval: true, workerData: machine.chip.share });
  const before = performance.now();
  machine.cpu().wait(20_000);
  assert.ok(performance.now() - before < 15_000);
  assert.equal(machine.cpu().acknowledge(), 0x71);
  await new Promise((resolve) => worker.once('exit', resolve));
});

test('hostile register numbers and values leave every access with an answer', () => {
  const machine = new TestMachine(2);
  const seed = Date.now() % 1e6;
  let state = seed;
  const random = (): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return state;
  };
  for (let i = 0; i < 20_000; i++) {
    const cpu = machine.cpu(i & 1);
    cpu.mmioWrite(random() % 4096, random());
    assert.ok(cpu.mmioRead(random() % 4096) >= 0, `seed ${seed}`);
    cpu.msrWrite(0x800 + (random() % 256), BigInt(random()));
    cpu.msrRead(0x800 + (random() % 256));
    machine.advance(random() % 1000);
    assert.ok(cpu.acknowledge() < 256, `seed ${seed}`);
    if (i % 1000 === 0) cpu.apicBase = i % 2000 === 0 ? 0xfee00c00n : 0xfee00000n;
  }
});
