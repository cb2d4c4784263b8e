import assert from 'node:assert/strict';
import { test } from 'node:test';
import { I8042, I8042_STATE_SIZE } from '../../src/devices/i8042.ts';
import { MACHINE_EXIT_SIZE, MachineExit } from '../../src/devices/machine-exit.ts';
import { read, sharedRange, write } from './support.ts';

const DATA = 0;
const COMMAND = 4;
const FULL = 0x01;
const COMMAND_LAST = 0x08;
const AUX = 0x20;

function make() {
  const exit = new MachineExit(sharedRange(MACHINE_EXIT_SIZE), () => {});
  const device = new I8042(sharedRange(I8042_STATE_SIZE), exit);
  device.reset();
  /** Sends a command and takes its answer. */
  const ask = (command: number): number => {
    write(device, COMMAND, command);
    assert.equal(read(device, COMMAND) & FULL, FULL);
    const answer = read(device, DATA);
    assert.equal(read(device, COMMAND) & FULL, 0);
    return answer;
  };
  return { device, exit, ask };
}

test('it tests itself and its ports', () => {
  const { device, ask } = make();
  assert.equal(read(device, COMMAND) & 0x04, 0);
  assert.equal(ask(0xaa), 0x55);
  assert.equal(read(device, COMMAND) & 0x04, 0x04);
  assert.equal(ask(0xab), 0);
  assert.equal(ask(0xa9), 0);
});

test('the command byte is kept, and the ports turned on and off show in it', () => {
  const { device, ask } = make();
  assert.equal(ask(0x20), 0x30);
  write(device, COMMAND, 0x60);
  assert.equal(read(device, COMMAND) & COMMAND_LAST, COMMAND_LAST);
  write(device, DATA, 0xff);
  assert.equal(read(device, COMMAND) & COMMAND_LAST, 0);
  assert.equal(ask(0x20), 0x7f);
  write(device, COMMAND, 0xae);
  write(device, COMMAND, 0xa8);
  assert.equal(ask(0x20), 0x4f);
  write(device, COMMAND, 0xad);
  write(device, COMMAND, 0xa7);
  assert.equal(ask(0x20), 0x7f);
});

test('looped bytes come back, the auxiliary port marked', () => {
  const { device } = make();
  write(device, COMMAND, 0xd3);
  write(device, DATA, 0x5a);
  assert.equal(read(device, COMMAND) & (FULL | AUX), FULL | AUX);
  assert.equal(read(device, DATA), 0x5a);
  write(device, COMMAND, 0xd2);
  write(device, DATA, 0xa5);
  assert.equal(read(device, COMMAND) & (FULL | AUX), FULL);
  assert.equal(read(device, DATA), 0xa5);
});

test('nothing is plugged in: a byte for the keyboard has no answer', () => {
  const { device } = make();
  write(device, DATA, 0xff);
  write(device, COMMAND, 0xd4);
  write(device, DATA, 0xf2);
  assert.equal(read(device, COMMAND) & FULL, 0);
});

test('it resets the machine: pulse command, output port', () => {
  for (const pulse of [0xfe, 0xf0]) {
    const { device, exit } = make();
    write(device, COMMAND, 0xff);
    write(device, DATA, 0xfe);
    assert.equal(exit.reason, undefined);
    write(device, COMMAND, pulse);
    assert.deepEqual(exit.reason, { kind: 'reset' });
  }
  const { device, exit, ask } = make();
  assert.equal(ask(0xd0), 3);
  write(device, COMMAND, 0xd1);
  write(device, DATA, 0x01);
  assert.equal(exit.reason, undefined);
  write(device, COMMAND, 0xd1);
  write(device, DATA, 0x02);
  assert.deepEqual(exit.reason, { kind: 'reset' });
});
