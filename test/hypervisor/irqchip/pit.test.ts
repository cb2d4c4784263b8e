import assert from 'node:assert/strict';
import { test } from 'node:test';
import { REQUEST_INTERRUPT } from '../../../src/hypervisor/irqchip/lapic-registers.ts';
import { TestMachine } from './machine.ts';

const HZ = 1_193_182;
/** Time of a tick, ns, a little after it. */
const at = (ticks: number): number => Math.ceil((ticks * 1e9) / HZ);

function program(machine: TestMachine, channel: number, mode: number, count: number, bcd = 0): void {
  machine.out(0x43, (channel << 6) | 0x30 | (mode << 1) | bcd);
  machine.out(0x40 + channel, count & 0xff);
  machine.out(0x40 + channel, count >> 8);
}

function count(machine: TestMachine, channel: number): number {
  machine.out(0x43, channel << 6);
  return machine.in(0x40 + channel) | (machine.in(0x40 + channel) << 8);
}

function out2(machine: TestMachine): boolean {
  return (machine.in(0x61) & 0x20) !== 0;
}

/** Timer interrupts arrive at vector 0x30. */
function machineWithTimer(): TestMachine {
  const machine = new TestMachine();
  machine.enable();
  machine.redirect(2, 0x30);
  return machine;
}

test('mode 2 interrupts at its rate and counts down in between', () => {
  const machine = machineWithTimer();
  program(machine, 0, 2, 11932);
  assert.equal(machine.cpu().nextDeadline(), at(11932));
  machine.clock.set(at(100));
  assert.equal(count(machine, 0), 11832);
  for (let i = 1; i <= 5; i++) {
    machine.clock.set(machine.cpu().nextDeadline());
    assert.equal(machine.clock.now(), at(11932 * i));
    machine.advance(0);
    assert.deepEqual(machine.drain(), [0x30]);
    assert.equal(count(machine, 0), 11932);
  }
  // Missed ticks merge.
  machine.advance(at(11932 * 10));
  assert.deepEqual(machine.drain(), [0x30]);
});

test('mode 0 and mode 4 interrupt once', () => {
  for (const [mode, ticks] of [
    [0, 5000],
    [4, 5001],
  ] as const) {
    const machine = machineWithTimer();
    program(machine, 0, mode, 5000);
    assert.equal(machine.cpu().nextDeadline(), at(ticks));
    machine.advance(at(ticks) - 1);
    assert.deepEqual(machine.drain(), []);
    machine.advance(1);
    assert.deepEqual(machine.drain(), [0x30]);
    assert.equal(machine.cpu().nextDeadline(), Infinity);
    // The counter wraps and goes on.
    machine.clock.set(at(5010));
    assert.equal(count(machine, 0), 0x10000 - 10);
  }
});

test('a control word stops the counter until its count is there', () => {
  const machine = machineWithTimer();
  program(machine, 0, 2, 1000);
  machine.out(0x43, 0x34);
  assert.equal(machine.cpu().nextDeadline(), Infinity);
  machine.out(0x40, 0);
  assert.equal(machine.cpu().nextDeadline(), Infinity);
  machine.out(0x40, 0);
  assert.equal(machine.cpu().nextDeadline(), at(65536));
});

test('a tiny count does not flood', () => {
  const machine = machineWithTimer();
  program(machine, 0, 2, 1);
  machine.advance(machine.cpu().nextDeadline());
  assert.ok(machine.cpu().nextDeadline() - machine.clock.now() >= 100_000);
});

test('programming from any vCPU makes vCPU 0 look again', () => {
  const machine = new TestMachine(2);
  machine.cpu(0).takeRequests();
  program(machine, 0, 2, 1000);
  assert.ok((machine.cpu(0).pollRequests() & REQUEST_INTERRUPT) !== 0);
  assert.equal(machine.cpu(1).nextDeadline(), Infinity);
});

test('latch holds, access modes give one byte, live reads alternate', () => {
  const machine = new TestMachine();
  program(machine, 0, 2, 0x1234);
  machine.out(0x43, 0);
  machine.advance(at(0x100));
  // A second latch before the first is read changes nothing.
  machine.out(0x43, 0);
  assert.equal(machine.in(0x40), 0x34);
  assert.equal(machine.in(0x40), 0x12);
  assert.equal(machine.in(0x40), 0x34);
  assert.equal(machine.in(0x40), 0x11);
  machine.out(0x43, 0x14);
  machine.out(0x40, 0x80);
  assert.equal(machine.in(0x40), 0x80);
  assert.equal(machine.in(0x40), 0x80);
  machine.out(0x43, 0x24);
  machine.out(0x40, 0x20);
  assert.equal(machine.in(0x40), 0x20);
  assert.equal(count(machine, 0) & 0xff, 0x20);
});

test('read-back gives status before count', () => {
  const machine = new TestMachine();
  machine.out(0x43, 0xb0);
  machine.out(0x43, 0xe8);
  // Null count, output low in mode 0.
  assert.equal(machine.in(0x42), 0x70);
  machine.out(0x61, 1);
  program(machine, 2, 2, 0x3000);
  machine.out(0x43, 0xc8);
  assert.equal(machine.in(0x42), 0xb4);
  assert.equal(machine.in(0x42), 0x00);
  assert.equal(machine.in(0x42), 0x30);
});

test('BCD counts', () => {
  const machine = new TestMachine();
  program(machine, 0, 2, 0x0000, 1);
  machine.clock.set(at(1));
  assert.equal(count(machine, 0), 0x9999);
  machine.clock.set(at(1234));
  assert.equal(count(machine, 0), 0x8766);
});

test('mode 3: square wave', () => {
  const machine = new TestMachine();
  machine.out(0x61, 1);
  program(machine, 2, 3, 1000);
  const levels: boolean[] = [];
  for (const ticks of [0, 499, 500, 999, 1000]) {
    machine.clock.set(at(ticks));
    levels.push(out2(machine));
  }
  assert.deepEqual(levels, [true, true, false, false, true]);
  machine.clock.set(at(1010));
  assert.equal(count(machine, 2), 980);
});

test('channel 2, mode 0: its gate pauses it, port 0x61 shows its output', () => {
  const machine = new TestMachine();
  machine.out(0x61, 1);
  program(machine, 2, 0, 1000);
  assert.equal(out2(machine), false);
  machine.clock.set(at(400));
  machine.out(0x61, 0);
  machine.clock.set(at(5000));
  assert.equal(count(machine, 2), 600);
  machine.out(0x61, 1);
  machine.clock.set(at(5599));
  assert.equal(out2(machine), false);
  machine.clock.set(at(5601));
  assert.equal(out2(machine), true);
  assert.equal(machine.in(0x61) & 3, 1);
});

test('modes 1 and 5 wait for the rise of the gate, and start again at each', () => {
  const machine = new TestMachine();
  program(machine, 2, 1, 100);
  machine.clock.set(at(500));
  assert.equal(out2(machine), true);
  machine.out(0x61, 1);
  assert.equal(out2(machine), false);
  machine.clock.set(at(550));
  machine.out(0x61, 0);
  machine.out(0x61, 1);
  machine.clock.set(at(610));
  assert.equal(out2(machine), false);
  machine.clock.set(at(651));
  assert.equal(out2(machine), true);
  program(machine, 2, 5, 100);
  machine.out(0x61, 0);
  machine.out(0x61, 1);
  const start = machine.clock.now();
  machine.clock.set(start + at(50));
  assert.equal(out2(machine), true);
  machine.clock.set(start + at(100));
  assert.equal(out2(machine), false);
  machine.clock.set(start + at(102));
  assert.equal(out2(machine), true);
});

test('mode 2 with its gate low: output high; the rise of the gate reloads', () => {
  const machine = new TestMachine();
  machine.out(0x61, 1);
  program(machine, 2, 2, 1000);
  machine.clock.set(at(300));
  machine.out(0x61, 0);
  assert.equal(out2(machine), true);
  machine.clock.set(at(999));
  assert.equal(out2(machine), true);
  machine.out(0x61, 1);
  assert.equal(count(machine, 2), 1000);
});

test('port 0x61 toggles the refresh bit', () => {
  const machine = new TestMachine();
  const first = machine.in(0x61) & 0x10;
  machine.clock.advance(15_085);
  assert.notEqual(machine.in(0x61) & 0x10, first);
  machine.out(0x61, 0xff);
  assert.equal(machine.in(0x61) & 0x0f, 3);
});
