import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ACPI_PM_STATE_SIZE, AcpiPm, PM_TIMER_HZ } from '../../src/devices/acpi-pm.ts';
import { MACHINE_EXIT_SIZE, MachineExit } from '../../src/devices/machine-exit.ts';
import { ManualClock } from '../../src/host/clock.ts';
import { read, sharedRange, TestLine, write } from './support.ts';

const STATUS = 0x00;
const ENABLE = 0x02;
const CONTROL = 0x04;
const TIMER = 0x08;
const GPE_STATUS = 0x20;
const GPE_ENABLE = 0x22;
const TMR = 0x0001;
const POWER_BUTTON = 0x0100;
/** Time until the timer's top bit changes, ns. */
const TOGGLE = (2 ** 31 / PM_TIMER_HZ) * 1e9;

function make() {
  const clock = new ManualClock();
  const line = new TestLine();
  const exit = new MachineExit(sharedRange(MACHINE_EXIT_SIZE), () => {});
  let deadlines = 0;
  const around = { clock, sci: line.set, exit, onDeadline: () => void deadlines++ };
  const range = sharedRange(ACPI_PM_STATE_SIZE);
  const device = new AcpiPm(range, around);
  device.reset();
  return { device, clock, line, exit, other: new AcpiPm(range, around), deadlines: () => deadlines };
}

test('the timer runs at 3.579545 MHz, 32 bits wide', () => {
  const { device, clock } = make();
  assert.equal(read(device, TIMER, 4), 0);
  clock.advance(1e9);
  assert.equal(read(device, TIMER, 4), PM_TIMER_HZ);
  assert.equal(read(device, TIMER + 1, 2), (PM_TIMER_HZ >> 8) & 0xffff);
  clock.set(Math.ceil(2 * TOGGLE));
  assert.ok(read(device, TIMER, 4) < 10);
});

test('the top bit that changes sets TMR_STS, and interrupts where the guest wants it', () => {
  const { device, clock, line, deadlines } = make();
  assert.equal(device.nextDeadline(), Infinity);
  write(device, ENABLE, TMR, 2);
  assert.equal(deadlines(), 1);
  const deadline = device.nextDeadline();
  assert.ok(Math.abs(deadline - TOGGLE) < 2);
  clock.set(deadline - 1000);
  device.advance(clock.now());
  assert.equal(line.level, false);
  clock.set(deadline);
  device.advance(clock.now());
  assert.equal(line.level, true);
  assert.equal(read(device, STATUS, 2), TMR);
  assert.equal(device.nextDeadline(), Infinity);
  // Cleared by writing 1; other bits stay.
  write(device, STATUS, POWER_BUTTON, 2);
  assert.equal(line.level, true);
  write(device, STATUS, TMR, 2);
  assert.equal(line.level, false);
  assert.ok(Math.abs(device.nextDeadline() - 2 * TOGGLE) < 2);
  clock.set(Math.ceil(5.5 * TOGGLE));
  assert.equal(read(device, STATUS, 2), TMR);
  assert.equal(line.rises, 2);
  assert.equal(line.repeats, 0);
});

test('a thread whose look at the clock is older changes nothing', () => {
  const { device, clock } = make();
  clock.set(Math.ceil(1.5 * TOGGLE));
  device.advance(clock.now());
  write(device, STATUS, TMR, 2);
  device.advance(Math.ceil(0.5 * TOGGLE));
  assert.equal(read(device, STATUS, 2), 0);
});

test('the power button raises the SCI once enabled', () => {
  const { device, line, other } = make();
  device.pressPowerButton();
  assert.equal(line.level, false);
  assert.equal(read(device, STATUS, 2), POWER_BUTTON);
  write(device, ENABLE, POWER_BUTTON, 2);
  assert.equal(line.level, true);
  write(device, STATUS + 1, POWER_BUTTON >> 8, 1);
  assert.equal(line.level, false);
  other.pressPowerButton();
  assert.equal(line.level, true);
  write(device, ENABLE, 0, 2);
  assert.equal(line.level, false);
  assert.equal(line.repeats, 0);
});

test('ACPI mode is on; S5 powers off, other sleep types do not', () => {
  const { device, exit } = make();
  assert.equal(read(device, CONTROL, 2), 1);
  write(device, CONTROL, 5 << 10, 2);
  write(device, CONTROL, (1 << 10) | 0x2000, 2);
  assert.equal(exit.reason, undefined);
  assert.equal(read(device, CONTROL, 2), (1 << 10) | 1);
  write(device, CONTROL, (5 << 10) | 0x2000, 2);
  assert.deepEqual(exit.reason, { kind: 'power-off' });
});

test('general-purpose event registers: enable is storage, status clears', () => {
  const { device } = make();
  write(device, GPE_ENABLE, 0xabcd, 2);
  assert.equal(read(device, GPE_ENABLE, 2), 0xabcd);
  write(device, GPE_STATUS, 0xffff, 2);
  assert.equal(read(device, GPE_STATUS, 2), 0);
  assert.equal(read(device, 0x10, 4), 0);
});
