import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestMachine } from './machine.ts';

function machineWithTimer(lvt: number, divide = 0xb): TestMachine {
  const machine = new TestMachine();
  machine.enable();
  machine.cpu().mmioWrite(0x3e0, divide);
  machine.cpu().mmioWrite(0x320, lvt);
  return machine;
}

test('one-shot: counts down from the clock and fires once', () => {
  const machine = machineWithTimer(0x40);
  const cpu = machine.cpu();
  cpu.mmioWrite(0x380, 1000);
  assert.equal(cpu.nextDeadline(), 1000);
  machine.advance(999);
  assert.equal(cpu.mmioRead(0x390), 1);
  assert.equal(cpu.pendingVector(), -1);
  machine.advance(1);
  assert.deepEqual(machine.drain(), [0x40]);
  assert.equal(cpu.mmioRead(0x390), 0);
  assert.equal(cpu.mmioRead(0x380), 1000);
  assert.equal(cpu.nextDeadline(), Infinity);
});

test('every divide configuration', () => {
  for (const [value, divisor] of [
    [0, 2],
    [1, 4],
    [2, 8],
    [3, 16],
    [8, 32],
    [9, 64],
    [0xa, 128],
    [0xb, 1],
  ] as const) {
    const machine = machineWithTimer(0x40, value);
    machine.cpu().mmioWrite(0x380, 100);
    assert.equal(machine.cpu().nextDeadline(), 100 * divisor);
    assert.equal(machine.cpu().mmioRead(0x390), 100);
    machine.advance(divisor * 10);
    assert.equal(machine.cpu().mmioRead(0x390), 90);
  }
});

test('a change of the divide configuration keeps the count', () => {
  const machine = machineWithTimer(0x40);
  machine.cpu().mmioWrite(0x380, 1000);
  machine.advance(400);
  machine.cpu().mmioWrite(0x3e0, 0);
  assert.equal(machine.cpu().mmioRead(0x390), 600);
  assert.equal(machine.cpu().nextDeadline(), 400 + 1200);
});

test('periodic: keeps its phase, and merges what was missed', () => {
  const machine = machineWithTimer(0x20041);
  const cpu = machine.cpu();
  cpu.mmioWrite(0x380, 1_000_000);
  machine.advance(1_000_000);
  assert.deepEqual(machine.drain(), [0x41]);
  assert.equal(cpu.nextDeadline(), 2_000_000);
  machine.advance(4_300_000);
  assert.deepEqual(machine.drain(), [0x41]);
  assert.equal(cpu.nextDeadline(), 6_000_000);
  assert.equal(cpu.mmioRead(0x390), 700_000);
  cpu.mmioWrite(0x380, 0);
  assert.equal(cpu.nextDeadline(), Infinity);
});

test('masked: runs on without interrupting, and needs nobody awake', () => {
  const machine = machineWithTimer(0x30041);
  const cpu = machine.cpu();
  cpu.mmioWrite(0x380, 1_000_000);
  assert.equal(cpu.nextDeadline(), Infinity);
  machine.advance(1_500_000);
  assert.equal(cpu.mmioRead(0x390), 500_000);
  assert.equal(cpu.pendingVector(), -1);
  cpu.mmioWrite(0x320, 0x20041);
  assert.equal(cpu.nextDeadline(), 2_000_000);
});

test('an absurd period does not flood', () => {
  const machine = machineWithTimer(0x20041);
  machine.cpu().mmioWrite(0x380, 1);
  machine.advance(1);
  assert.ok(machine.cpu().nextDeadline() >= 100_000);
});

test('TSC deadline: fires at the guest TSC, whatever its offset; 0 disarms', () => {
  // 2 GHz: two ticks a nanosecond.
  const machine = machineWithTimer(0x40042);
  const cpu = machine.cpu();
  machine.advance(500);
  cpu.msrWrite(0x6e0, 3000n);
  assert.equal(cpu.msrRead(0x6e0), 3000n);
  assert.equal(cpu.nextDeadline(), 1500);
  cpu.msrWrite(0x6e0, 0n);
  assert.equal(cpu.nextDeadline(), Infinity);
  for (const offset of [0x1234_5678_9abcn, -1000n, (1n << 63n) + 5n, -1n]) {
    const guest = BigInt.asUintN(64, BigInt(machine.chip.tsc(machine.clock.now())) + offset);
    cpu.setTscOffset(offset);
    if (guest + 2000n >= 1n << 64n) continue;
    cpu.msrWrite(0x6e0, guest + 2000n);
    assert.equal(cpu.nextDeadline(), machine.clock.now() + 1000, offset.toString());
    machine.advance(1000);
    assert.deepEqual(machine.drain(), [0x42]);
    assert.equal(cpu.msrRead(0x6e0), 0n);
  }
});

test('TSC deadline: the past fires at once, the initial count is dead, a change of mode disarms', () => {
  const machine = machineWithTimer(0x40042);
  const cpu = machine.cpu();
  machine.advance(5000);
  cpu.mmioWrite(0x380, 100);
  assert.equal(cpu.mmioRead(0x380), 0);
  assert.equal(cpu.nextDeadline(), Infinity);
  cpu.msrWrite(0x6e0, 1n);
  assert.equal(cpu.nextDeadline(), 5000);
  machine.advance(0);
  assert.deepEqual(machine.drain(), [0x42]);
  cpu.msrWrite(0x6e0, 0xffff_ffff_ffff_ffffn);
  assert.ok(cpu.nextDeadline() > 1e18);
  cpu.mmioWrite(0x320, 0x42);
  assert.equal(cpu.nextDeadline(), Infinity);
  assert.equal(cpu.msrRead(0x6e0), 0n);
  cpu.msrWrite(0x6e0, 99_999n);
  assert.equal(cpu.msrRead(0x6e0), 0n);
});

test('a TSC write that moves the guest TSC moves the deadline', () => {
  const machine = machineWithTimer(0x40042);
  machine.cpu().msrWrite(0x6e0, 4000n);
  assert.equal(machine.cpu().nextDeadline(), 2000);
  machine.cpu().setTscOffset(2000n);
  assert.equal(machine.cpu().nextDeadline(), 1000);
});
