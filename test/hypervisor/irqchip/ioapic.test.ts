import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IOAPIC, TestMachine } from './machine.ts';

const LEVEL = 0x8000;
const MASKED = 0x10000;
const REMOTE_IRR = 0x4000;

function machineWithApics(vcpuCount = 1): TestMachine {
  const machine = new TestMachine(vcpuCount);
  machine.enable();
  return machine;
}

test('registers: version, ID, entries', () => {
  const machine = machineWithApics();
  assert.equal(machine.ioapicIn(1), 0x170020);
  machine.ioapicOut(0, 0xffffffff);
  assert.equal(machine.ioapicIn(0), 0x0f000000);
  assert.equal(machine.ioapicIn(2), 0x0f000000);
  assert.equal(machine.ioapicIn(0x10), MASKED);
  machine.ioapicOut(0x3f, 0xffffffff);
  assert.equal(machine.ioapicIn(0x3f), 0xff000000);
  // Delivery status and remote IRR are read-only.
  machine.ioapicOut(0x3e, 0xffffffff);
  assert.equal(machine.ioapicIn(0x3e), 0x1afff);
  for (const index of [3, 0x0f, 0x40, 0xff]) {
    machine.ioapicOut(index, 0xffffffff);
    assert.equal(machine.ioapicIn(index), 0);
  }
  assert.equal(machine.ioapicRead(0x20), 0);
});

test('registers are 32 bits wide, and the page ends', () => {
  const machine = machineWithApics();
  machine.ioapicOut(0x10, 0x10077);
  const word = new Uint8Array(2);
  assert.ok(machine.chip.ioapicAccess(IOAPIC + 0x10, word, false));
  assert.deepEqual([...word], [0xff, 0xff]);
  assert.ok(machine.chip.ioapicAccess(IOAPIC + 0x10, Uint8Array.of(0, 0), true));
  assert.equal(machine.ioapicIn(0x10), 0x10077);
  for (const address of [IOAPIC - 4, IOAPIC + 0x1000]) {
    assert.ok(!machine.chip.ioapicAccess(address, new Uint8Array(4), false));
  }
});

test('edges deliver once; an edge on a masked pin is lost', () => {
  const machine = machineWithApics();
  machine.redirect(20, 0x55);
  machine.chip.setIrqLine(20, true);
  machine.chip.setIrqLine(20, true);
  assert.deepEqual(machine.drain(), [0x55]);
  machine.chip.setIrqLine(20, false);
  machine.redirect(20, MASKED | 0x55);
  machine.chip.setIrqLine(20, true);
  machine.redirect(20, 0x55);
  assert.deepEqual(machine.drain(), []);
});

test('GSI 0 comes at pin 2, GSI 2 nowhere', () => {
  const machine = machineWithApics();
  machine.redirect(0, 0x40);
  machine.redirect(2, 0x42);
  machine.chip.pulseIrqLine(0);
  assert.deepEqual(machine.drain(), [0x42]);
  machine.chip.pulseIrqLine(2);
  assert.deepEqual(machine.drain(), []);
});

test('level: once until the EOI, and again while the line is up', () => {
  const machine = machineWithApics();
  const cpu = machine.cpu();
  machine.redirect(18, LEVEL | 0x61);
  machine.chip.setIrqLine(18, true);
  assert.equal(machine.ioapicIn(0x10 + 36), LEVEL | REMOTE_IRR | 0x61);
  assert.equal(cpu.acknowledge(), 0x61);
  assert.equal(cpu.mmioRead(0x180 + 0x30), 2);
  machine.chip.setIrqLine(18, false);
  machine.chip.setIrqLine(18, true);
  assert.equal(cpu.pendingVector(), -1);
  cpu.mmioWrite(0xb0, 0);
  assert.equal(cpu.acknowledge(), 0x61);
  machine.chip.setIrqLine(18, false);
  cpu.mmioWrite(0xb0, 0);
  assert.equal(cpu.pendingVector(), -1);
  assert.equal(machine.ioapicIn(0x10 + 36), LEVEL | 0x61);
});

test('level: unmasking while the line is up delivers', () => {
  const machine = machineWithApics();
  machine.redirect(18, MASKED | LEVEL | 0x61);
  machine.chip.setIrqLine(18, true);
  assert.equal(machine.cpu().pendingVector(), -1);
  machine.redirect(18, LEVEL | 0x61);
  assert.equal(machine.cpu().acknowledge(), 0x61);
});

test('the EOI register ends it where the broadcast is suppressed', () => {
  const machine = machineWithApics();
  const cpu = machine.cpu();
  cpu.mmioWrite(0xf0, 0x11ff);
  machine.redirect(18, LEVEL | 0x61);
  machine.chip.setIrqLine(18, true);
  assert.equal(cpu.acknowledge(), 0x61);
  cpu.mmioWrite(0xb0, 0);
  assert.equal(cpu.pendingVector(), -1);
  machine.ioapicWrite(0x40, 0x60);
  assert.equal(cpu.pendingVector(), -1);
  machine.ioapicWrite(0x40, 0x61);
  assert.equal(cpu.pendingVector(), 0x61);
});

test('a turn through edge mode drops remote IRR', () => {
  const machine = machineWithApics();
  machine.redirect(18, LEVEL | 0x61);
  machine.chip.setIrqLine(18, true);
  machine.redirect(18, MASKED | 0x61);
  assert.equal(machine.ioapicIn(0x10 + 36), MASKED | 0x61);
});

test('a level interrupt that nobody takes stays deliverable', () => {
  const machine = machineWithApics();
  machine.redirect(18, LEVEL | 0x61, 9 << 24);
  machine.chip.setIrqLine(18, true);
  assert.equal(machine.ioapicIn(0x10 + 36) & REMOTE_IRR, 0);
  machine.redirect(18, LEVEL | 0x61, 0);
  assert.equal(machine.cpu().pendingVector(), 0x61);
});

test('destinations: physical, logical, lowest priority, NMI', () => {
  const machine = machineWithApics(2);
  machine.cpus.forEach((cpu, id) => cpu.mmioWrite(0xd0, 1 << (24 + id)));
  machine.redirect(18, 0x61, 1 << 24);
  machine.chip.pulseIrqLine(18);
  assert.deepEqual(machine.drain(1), [0x61]);
  machine.redirect(18, 0x861, 3 << 24);
  machine.chip.pulseIrqLine(18);
  assert.deepEqual(machine.drain(0), [0x61]);
  assert.deepEqual(machine.drain(1), [0x61]);
  machine.redirect(18, 0x961, 3 << 24);
  machine.chip.pulseIrqLine(18);
  assert.equal(machine.drain(0).length + machine.drain(1).length, 1);
  machine.cpu(0).takeRequests();
  machine.redirect(18, 0x400, 0);
  machine.chip.pulseIrqLine(18);
  assert.equal(machine.cpu(0).takeRequests().nmi, true);
});
