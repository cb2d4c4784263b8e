import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CMOS_STATE_SIZE, Cmos } from '../../src/devices/cmos.ts';
import { ManualClock } from '../../src/host/clock.ts';
import { read, sharedRange, TestLine, write } from './support.ts';

const [SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY] = [0, 2, 4, 6, 7, 8, 9, 0x32];
const [SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM] = [1, 3, 5];
const [A, B, C, D] = [10, 11, 12, 13];
const HOUR24 = 0x02;
const BINARY = 0x04;
const UIE = 0x10;
const AIE = 0x20;
const PIE = 0x40;
const SET = 0x80;
const IRQF = 0x80;

/** A clock chip at this time of the host. */
function make(time: string) {
  const clock = new ManualClock();
  const start = Date.parse(time);
  const line = new TestLine();
  const state = { wall: start, deadlines: 0 };
  const range = sharedRange(CMOS_STATE_SIZE);
  const device = new Cmos(range, {
    clock,
    wallTime: () => state.wall + clock.now() / 1e6,
    interrupt: line.set,
    onDeadline: () => void state.deadlines++,
  });
  device.reset();
  const get = (register: number): number => {
    write(device, 0, register);
    return read(device, 1);
  };
  const set = (register: number, value: number): void => {
    write(device, 0, register);
    write(device, 1, value);
  };
  const advance = (milliseconds: number): void => {
    clock.advance(milliseconds * 1e6);
    device.advance(clock.now());
  };
  const times = (): number[] => [CENTURY, YEAR, MONTH, DAY, WEEKDAY, HOURS, MINUTES, SECONDS].map(get);
  return { device, clock, line, state, get, set, advance, times };
}

test('time is UTC, in BCD and 24 hours', () => {
  const { times, get, advance } = make('2024-02-29T23:59:58Z');
  assert.deepEqual(times(), [0x20, 0x24, 0x02, 0x29, 5, 0x23, 0x59, 0x58]);
  assert.equal(get(D), 0x80);
  assert.equal(get(B), HOUR24);
  advance(2000);
  assert.deepEqual(times(), [0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x00, 0x00]);
});

test('binary, and 12 hours', () => {
  const { times, get, set, advance } = make('2025-12-31T12:34:56Z');
  set(B, HOUR24 | BINARY);
  assert.deepEqual(times(), [20, 25, 12, 31, 4, 12, 34, 56]);
  set(B, 0);
  assert.equal(get(HOURS), 0x92);
  advance(3600_000);
  assert.equal(get(HOURS), 0x81);
  advance(11 * 3600_000);
  assert.equal(get(HOURS), 0x12);
  advance(3600_000);
  assert.equal(get(HOURS), 0x01);
});

test('the index has 7 bits, and the other bytes are storage', () => {
  const { device, get, set } = make('2024-01-01T00:00:00Z');
  set(0x8e, 0x12);
  assert.equal(read(device, 0), 0x0e);
  set(0x7f, 0xa5);
  assert.equal(get(0x7f), 0xa5);
  assert.equal(get(0xff), 0xa5);
  assert.equal(get(0x0e), 0x12);
  // A word sets index and data.
  write(device, 0, 0x3440, 2);
  assert.equal(get(0x40), 0x34);
});

test('the guest sets the time while SET stops the clock', () => {
  const { times, set, get, advance } = make('2024-01-01T00:00:00Z');
  set(B, SET | HOUR24);
  const values = [
    [CENTURY, 0x19],
    [YEAR, 0x99],
    [MONTH, 0x12],
    [DAY, 0x31],
    [HOURS, 0x23],
    [MINUTES, 0x59],
    [SECONDS, 0x50],
  ];
  for (const [register, value] of values as [number, number][]) set(register, value);
  advance(5000);
  assert.equal(get(SECONDS), 0x50);
  set(B, HOUR24);
  advance(9000);
  assert.deepEqual(times(), [0x19, 0x99, 0x12, 0x31, 6, 0x23, 0x59, 0x59]);
  advance(1000);
  assert.deepEqual(times(), [0x20, 0x00, 0x01, 0x01, 7, 0, 0, 0]);
});

test('times from before 1970, and fields out of range, are times too', () => {
  const { set, get, advance, times, line } = make('2024-01-01T00:00:00Z');
  set(B, SET | HOUR24);
  for (const [register, value] of [
    [CENTURY, 0x19],
    [YEAR, 0x01],
    [MONTH, 0x01],
    [DAY, 0x01],
    [HOURS, 0x10],
  ] as const) {
    set(register, value);
  }
  set(HOURS_ALARM, 0x10);
  set(MINUTES_ALARM, 0x01);
  set(SECONDS_ALARM, 0x00);
  set(B, HOUR24 | AIE);
  advance(61_000);
  assert.equal(line.level, true);
  assert.deepEqual(times().slice(0, 4), [0x19, 0x01, 0x01, 0x01]);
  set(B, SET | HOUR24);
  for (const register of [CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS]) set(register, 0xff);
  set(B, HOUR24);
  advance(1000);
  get(YEAR);
});

test('update in progress shows just before each second, and time does not change in between', () => {
  const { get, advance } = make('2024-01-01T00:00:00Z');
  assert.equal(get(A), 0x26);
  advance(997);
  assert.equal(get(A), 0x26);
  advance(2);
  assert.equal(get(A), 0xa6);
  assert.equal(get(SECONDS), 0);
  advance(1);
  assert.equal(get(A), 0x26);
  assert.equal(get(SECONDS), 1);
});

test('update-ended interrupts come each second; register C acknowledges', () => {
  const { device, clock, set, get, line, advance, state } = make('2024-01-01T00:00:00.250Z');
  assert.equal(device.nextDeadline(), Infinity);
  set(B, HOUR24 | UIE);
  assert.equal(state.deadlines, 1);
  assert.equal(device.nextDeadline(), 750e6);
  advance(749);
  assert.equal(line.level, false);
  advance(1);
  assert.equal(line.level, true);
  assert.equal(device.nextDeadline(), Infinity);
  // The periodic flag is there too, as its rate is set; only what is enabled interrupts.
  assert.equal(get(C), IRQF | UIE | PIE);
  assert.equal(line.level, false);
  assert.equal(get(C), 0);
  assert.equal(device.nextDeadline() - clock.now(), 1e9);
  advance(1000);
  assert.equal(line.rises, 2);
  assert.equal(line.repeats, 0);
});

test('flags are set without an interrupt too', () => {
  const { get, advance, line } = make('2024-01-01T00:00:00Z');
  get(C);
  advance(1500);
  assert.equal(get(C) & (IRQF | UIE), UIE);
  assert.equal(line.rises, 0);
});

test('an alarm at a time of day, also on the next day', () => {
  const { set, get, line, advance, device } = make('2024-01-01T12:00:00Z');
  set(HOURS_ALARM, 0x11);
  set(MINUTES_ALARM, 0x30);
  set(SECONDS_ALARM, 0x05);
  set(B, HOUR24 | AIE);
  const wait = (23.5 * 3600 + 5) * 1000;
  // The host's clock may be set: deadlines come at least each minute.
  assert.ok(device.nextDeadline() <= 60e9);
  advance(wait - 1);
  assert.equal(line.level, false);
  advance(1);
  assert.equal(line.level, true);
  assert.equal(get(C) & (IRQF | AIE), IRQF | AIE);
  assert.equal(line.level, false);
});

test('alarm registers that match everything, and ones that match nothing', () => {
  const { set, get, line, advance, device, clock } = make('2024-01-01T00:00:00Z');
  set(HOURS_ALARM, 0xff);
  set(MINUTES_ALARM, 0xc0);
  set(SECONDS_ALARM, 0x30);
  set(B, HOUR24 | AIE);
  advance(30_000);
  assert.equal(line.rises, 1);
  get(C);
  advance(60_000);
  assert.equal(line.rises, 2);
  get(C);
  for (const register of [SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM]) {
    set(register, 0x99);
    assert.equal(device.nextDeadline(), Infinity);
    set(register, 0xff);
  }
  assert.equal(device.nextDeadline() - clock.now(), 1e9);
});

test('periodic interrupts at the rate of register A', () => {
  const { device, set, get, line, advance, clock } = make('2024-01-01T00:00:00Z');
  for (const [select, hertz] of [
    [1, 256],
    [2, 128],
    [3, 8192],
    [6, 1024],
    [15, 2],
  ] as const) {
    set(A, 0x20 | select);
    set(B, HOUR24 | PIE);
    get(C);
    const next = device.nextDeadline();
    assert.ok(next > clock.now() && next <= clock.now() + 1e9 / hertz + 1, `rate ${select}`);
    const rises = line.rises;
    clock.set(next);
    device.advance(next);
    assert.equal(line.rises, rises + 1);
    assert.equal(get(C) & (IRQF | PIE), IRQF | PIE);
    assert.ok(Math.abs(device.nextDeadline() - next - 1e9 / hertz) <= 1);
  }
  set(A, 0x20);
  assert.equal(device.nextDeadline(), Infinity);
  advance(1000);
  assert.equal(get(C) & PIE, 0);
});

test('a host clock that is set moves the guest with it', () => {
  const { state, times, advance } = make('2024-01-01T00:00:00Z');
  state.wall += 3600_000;
  advance(0);
  assert.deepEqual(times().slice(5), [0x01, 0, 0]);
  state.wall -= 7200_000;
  assert.deepEqual(times(), [0x20, 0x23, 0x12, 0x31, 1, 0x23, 0, 0]);
});
