import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestMachine } from './machine.ts';

function machineWithPics(icw4 = 1): TestMachine {
  const machine = new TestMachine();
  machine.openLint0();
  machine.initPics(icw4);
  // Only the 8259's side of each line.
  for (let pin = 0; pin < 24; pin++) machine.redirect(pin, 0x10000);
  return machine;
}

function pulse(machine: TestMachine, ...gsis: number[]): void {
  for (const gsi of gsis) machine.chip.pulseIrqLine(gsi);
}

const EOI = 0x20;

test('an edge interrupts once, through LINT0, with the programmed vector', () => {
  const machine = machineWithPics();
  const cpu = machine.cpu();
  machine.chip.setIrqLine(4, true);
  assert.equal(cpu.pendingVector(), 0x24);
  assert.equal(cpu.acknowledge(), 0x24);
  machine.out(0x20, EOI);
  assert.equal(cpu.pendingVector(), -1);
  machine.chip.setIrqLine(4, false);
  machine.chip.setIrqLine(4, true);
  assert.equal(cpu.acknowledge(), 0x24);
});

test('a masked LINT0 stops it, a disabled APIC is a wire, TPR does not matter', () => {
  const machine = machineWithPics();
  const cpu = machine.cpu();
  machine.chip.setIrqLine(3, true);
  cpu.cr8 = 15;
  assert.equal(cpu.pendingVector(), 0x23);
  cpu.mmioWrite(0x350, 0x10700);
  assert.equal(cpu.pendingVector(), -1);
  cpu.writeBase(0xfee00100n);
  assert.equal(cpu.acknowledge(), 0x23);
});

test('LINT0 in fixed mode turns the rise of the output into a vector', () => {
  const machine = machineWithPics();
  machine.cpu().mmioWrite(0x350, 0x66);
  machine.chip.setIrqLine(3, true);
  assert.equal(machine.cpu().acknowledge(), 0x66);
  assert.equal(machine.cpu().pendingVector(), -1);
});

test('fixed priorities nest; the slave comes through input 2', () => {
  const machine = machineWithPics();
  const cpu = machine.cpu();
  pulse(machine, 5, 3, 8);
  assert.equal(cpu.acknowledge(), 0x28);
  assert.equal(cpu.pendingVector(), -1);
  pulse(machine, 1);
  assert.equal(cpu.acknowledge(), 0x21);
  machine.out(0x20, EOI);
  machine.out(0xa0, EOI);
  machine.out(0x20, EOI);
  assert.equal(cpu.acknowledge(), 0x23);
  machine.out(0x20, EOI);
  assert.equal(cpu.acknowledge(), 0x25);
});

test('the slave shows IRR, ISR and IMR; its later requests wait for the EOI', () => {
  const machine = machineWithPics();
  const cpu = machine.cpu();
  pulse(machine, 12, 14);
  machine.out(0xa0, 0x0a);
  assert.equal(machine.in(0xa0), 0x50);
  assert.equal(cpu.acknowledge(), 0x2c);
  machine.out(0xa0, 0x0b);
  assert.equal(machine.in(0xa0), 0x10);
  machine.out(0x20, 0x0b);
  assert.equal(machine.in(0x20), 0x04);
  machine.out(0xa0, EOI);
  machine.out(0x20, EOI);
  assert.equal(cpu.acknowledge(), 0x2e);
  machine.out(0xa1, 0xa5);
  assert.equal(machine.in(0xa1), 0xa5);
});

test('masking a request away before the acknowledge leaves nothing, or a spurious input 7', () => {
  const machine = machineWithPics();
  const cpu = machine.cpu();
  pulse(machine, 4);
  machine.out(0x21, 0x10);
  assert.equal(cpu.acknowledge(), -1);
  machine.out(0x21, 0);
  assert.equal(cpu.acknowledge(), 0x24);
});

test('level-triggered inputs follow the line (ELCR), and only some can be', () => {
  const machine = machineWithPics();
  const cpu = machine.cpu();
  machine.out(0x4d0, 0xff);
  machine.out(0x4d1, 0xff);
  assert.equal(machine.in(0x4d0), 0xf8);
  assert.equal(machine.in(0x4d1), 0xde);
  machine.chip.setIrqLine(5, true);
  assert.equal(cpu.acknowledge(), 0x25);
  machine.out(0x20, EOI);
  assert.equal(cpu.acknowledge(), 0x25);
  machine.chip.setIrqLine(5, false);
  machine.out(0x20, EOI);
  assert.equal(cpu.pendingVector(), -1);
});

test('auto-EOI needs no EOI, and rotates if told', () => {
  const machine = machineWithPics(3);
  const cpu = machine.cpu();
  pulse(machine, 3, 4);
  assert.equal(cpu.acknowledge(), 0x23);
  assert.equal(cpu.acknowledge(), 0x24);
  machine.out(0x20, 0x80);
  pulse(machine, 3);
  assert.equal(cpu.acknowledge(), 0x23);
  pulse(machine, 3, 5);
  assert.equal(cpu.acknowledge(), 0x25);
  machine.out(0x20, 0x00);
});

test('specific EOI, rotation, set priority', () => {
  const machine = machineWithPics();
  const cpu = machine.cpu();
  // Input 3 becomes the lowest: 4 is the highest.
  machine.out(0x20, 0xc3);
  pulse(machine, 0, 4);
  assert.equal(cpu.acknowledge(), 0x24);
  assert.equal(cpu.pendingVector(), -1);
  machine.out(0x20, 0x64);
  assert.equal(cpu.acknowledge(), 0x20);
  // Rotate on non-specific EOI: 0 becomes the lowest.
  machine.out(0x20, 0xa0);
  pulse(machine, 0, 1);
  assert.equal(cpu.acknowledge(), 0x21);
  machine.out(0x20, 0xe1);
  pulse(machine, 1);
  assert.equal(cpu.acknowledge(), 0x20);
});

test('special mask mode lets lower levels through a masked one in service', () => {
  const machine = machineWithPics();
  const cpu = machine.cpu();
  pulse(machine, 1);
  assert.equal(cpu.acknowledge(), 0x21);
  pulse(machine, 6);
  assert.equal(cpu.pendingVector(), -1);
  machine.out(0x21, 0x02);
  machine.out(0x20, 0x68);
  assert.equal(cpu.acknowledge(), 0x26);
  // A non-specific EOI ends 6, not the masked 1.
  machine.out(0x20, EOI);
  machine.out(0x20, 0x0b);
  assert.equal(machine.in(0x20), 0x02);
  machine.out(0x20, 0x48);
});

test('special fully nested mode: the slave interrupts its own service', () => {
  const nested = machineWithPics(0x11);
  pulse(nested, 12);
  assert.equal(nested.cpu().acknowledge(), 0x2c);
  pulse(nested, 9);
  assert.equal(nested.cpu().acknowledge(), 0x29);
  const plain = machineWithPics();
  pulse(plain, 12);
  assert.equal(plain.cpu().acknowledge(), 0x2c);
  pulse(plain, 9);
  assert.equal(plain.cpu().pendingVector(), -1);
});

test('poll mode acknowledges by a read', () => {
  const machine = machineWithPics();
  pulse(machine, 6);
  machine.out(0x20, 0x0c);
  assert.equal(machine.in(0x20), 0x86);
  machine.out(0x20, 0x0b);
  assert.equal(machine.in(0x20), 0x40);
  assert.equal(machine.cpu().pendingVector(), -1);
  machine.out(0x20, EOI);
  machine.out(0x20, 0x0c);
  assert.equal(machine.in(0x20), 0);
});

test('ICW1 clears masks and services; without ICW4 its modes are off', () => {
  const machine = machineWithPics(3);
  machine.out(0x21, 0xff);
  machine.out(0x20, 0x10);
  machine.out(0x21, 0x40);
  machine.out(0x21, 0x04);
  assert.equal(machine.in(0x21), 0);
  pulse(machine, 7);
  assert.equal(machine.cpu().acknowledge(), 0x47);
  // No auto-EOI any more: 7 is in service.
  machine.out(0x20, 0x0b);
  assert.equal(machine.in(0x20), 0x80);
});
