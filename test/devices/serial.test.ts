import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SERIAL_STATE_SIZE, Serial } from '../../src/devices/serial.ts';
import { read, sharedRange, TestLine, write } from './support.ts';

const [RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 3, 4, 5, 6, 7];
const [THR, FCR] = [RBR, IIR];
const NONE = 0x01;
const THRE = 0x02;
const RDA = 0x04;
const LINE_STATUS = 0x06;
const TIMEOUT = 0x0c;

function make() {
  const range = sharedRange(SERIAL_STATE_SIZE);
  const line = new TestLine();
  const sent: number[] = [];
  const callbacks = { output: (bytes: Uint8Array) => void sent.push(...bytes), interrupt: line.set };
  const port = new Serial(range, callbacks);
  port.reset();
  return { port, line, sent, other: new Serial(range, callbacks) };
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

test('registers after reset', () => {
  const { port, line } = make();
  assert.equal(read(port, LSR), 0x60);
  assert.equal(read(port, LCR), 0x03);
  assert.equal(read(port, MCR), 0x08);
  assert.equal(read(port, MSR), 0xb0);
  assert.equal(read(port, IER), 0);
  assert.equal(read(port, IIR), NONE);
  assert.equal(read(port, RBR), 0);
  write(port, LCR, 0x80);
  assert.equal(read(port, RBR, 2), 12);
  assert.equal(line.rises, 0);
});

test('with DLAB, 0 and 1 are the divisor', () => {
  const { port, sent } = make();
  write(port, IER, 0x05);
  write(port, LCR, 0x83);
  write(port, RBR, 0x34);
  write(port, IER, 0x12);
  assert.equal(read(port, RBR), 0x34);
  assert.equal(read(port, IER), 0x12);
  write(port, LCR, 0x03);
  assert.equal(read(port, IER), 0x05);
  assert.deepEqual(sent, []);
  write(port, LCR, 0x83);
  assert.equal(read(port, RBR, 2), 0x1234);
});

test('scratch is storage, LSR and MSR cannot be written, IER has four bits', () => {
  const { port } = make();
  write(port, SCR, 0xa5);
  write(port, LSR, 0);
  write(port, MSR, 0);
  write(port, IER, 0xf0);
  assert.deepEqual(
    [SCR, LSR, MSR, IER].map((register) => read(port, register)),
    [0xa5, 0x60, 0xb0, 0],
  );
});

test('bytes written go out at once, in order, from any thread', () => {
  const { port, other, sent } = make();
  write(port, THR, 0x41);
  write(other, THR, 0x42);
  // A wide access is as many narrow ones: the byte goes out, and IER is set.
  write(port, THR, 0x0043, 2);
  assert.deepEqual(sent, [0x41, 0x42, 0x43]);
});

test('the transmitter interrupt: at being enabled, and after each byte; IIR acknowledges it', () => {
  const { port, line } = make();
  write(port, IER, 0x02);
  assert.equal(line.level, true);
  assert.equal(read(port, IIR), THRE);
  assert.equal(line.level, false);
  assert.equal(read(port, IIR), NONE);
  write(port, THR, 0x41);
  assert.equal(line.level, true);
  assert.equal(read(port, IIR), THRE);
  assert.equal(line.level, false);
  // Turned off and on again: once more.
  write(port, IER, 0);
  write(port, IER, 0x02);
  assert.equal(line.level, true);
  assert.equal(line.repeats, 0);
});

test('received bytes interrupt and come in order', () => {
  const { port, other, line } = make();
  write(port, IER, 0x01);
  assert.equal(other.queueInput(text('abc')), 3);
  assert.equal(line.level, true);
  assert.equal(read(port, IIR), RDA);
  assert.equal(read(port, LSR), 0x61);
  assert.equal(read(port, RBR), 0x61);
  assert.equal(line.level, true);
  assert.equal(read(other, RBR), 0x62);
  assert.equal(read(port, RBR), 0x63);
  assert.equal(line.level, false);
  assert.equal(read(port, LSR), 0x60);
  assert.equal(line.repeats, 0);
});

test('with FIFOs, IIR says so, and tells a full trigger level from a timeout', () => {
  const { port } = make();
  write(port, FCR, 0x81);
  write(port, IER, 0x01);
  assert.equal(read(port, IIR), 0xc0 | NONE);
  port.queueInput(text('1234567'));
  assert.equal(read(port, IIR), 0xc0 | TIMEOUT);
  port.queueInput(text('8'));
  assert.equal(read(port, IIR), 0xc0 | RDA);
  read(port, RBR);
  assert.equal(read(port, IIR), 0xc0 | TIMEOUT);
  // FIFO reset of the receiver.
  write(port, FCR, 0x83);
  assert.equal(read(port, LSR), 0x60);
  write(port, FCR, 0);
  assert.equal(read(port, IIR), NONE);
});

test('received data is more urgent than the transmitter', () => {
  const { port, line } = make();
  write(port, IER, 0x03);
  port.queueInput(text('x'));
  assert.equal(read(port, IIR), RDA);
  assert.equal(read(port, RBR), 0x78);
  assert.equal(line.level, true);
  assert.equal(read(port, IIR), THRE);
  assert.equal(line.level, false);
});

test('the line waits until the guest takes input, and nothing is lost when the driver empties the FIFO', () => {
  const { port } = make();
  assert.equal(port.queueInput(text('hello')), 5);
  assert.equal(read(port, LSR), 0x60);
  write(port, FCR, 0x07);
  assert.equal(read(port, LSR), 0x60);
  write(port, MCR, 0x0b);
  let got = '';
  while ((read(port, LSR) & 1) !== 0) got += String.fromCharCode(read(port, RBR));
  assert.equal(got, 'hello');
});

test('a full line takes no more, and says when it does', async () => {
  const { port } = make();
  const input = Uint8Array.from({ length: 5000 }, (_, i) => i % 251);
  write(port, IER, 0x01);
  write(port, FCR, 0x01);
  let offered = port.queueInput(input);
  assert.ok(offered > 100 && offered < input.length);
  // What went on to the FIFO made room.
  offered += port.queueInput(input.subarray(offered));
  assert.equal(port.queueInput(input.subarray(offered)), 0);
  const got: number[] = [];
  while (got.length < input.length) {
    const space = port.waitForSpace();
    for (let i = 0; i < 700 && (read(port, LSR) & 1) !== 0; i++) got.push(read(port, RBR));
    await space;
    offered += port.queueInput(input.subarray(offered));
  }
  assert.deepEqual(got, [...input]);
});

test('loopback: bytes come back, overrun is told once, no interrupt leaves the chip', () => {
  const { port, line, sent } = make();
  port.queueInput(text('later'));
  write(port, IER, 0x05);
  while ((read(port, LSR) & 1) !== 0) read(port, RBR);
  write(port, MCR, 0x10);
  const rises = line.rises;
  write(port, THR, 0x41);
  assert.equal(line.rises, rises);
  assert.equal(line.level, false);
  assert.equal(read(port, IIR), RDA);
  write(port, THR, 0x42);
  assert.equal(read(port, IIR), LINE_STATUS);
  assert.equal(read(port, LSR), 0x63);
  assert.equal(read(port, LSR), 0x61);
  assert.equal(read(port, RBR), 0x41);
  assert.equal(read(port, LSR), 0x60);
  assert.deepEqual(sent, []);
});

test('loopback with FIFOs holds 16 bytes', () => {
  const { port } = make();
  write(port, FCR, 0x01);
  write(port, MCR, 0x10);
  for (let i = 0; i < 16; i++) write(port, THR, i);
  assert.equal(read(port, LSR) & 0x02, 0);
  write(port, THR, 99);
  assert.equal(read(port, LSR) & 0x02, 0x02);
  assert.deepEqual(
    Array.from({ length: 16 }, () => read(port, RBR)),
    Array.from({ length: 16 }, (_, i) => i),
  );
  // A looped break.
  write(port, LCR, 0x43);
  assert.equal(read(port, LSR), 0x71);
  assert.equal(read(port, RBR), 0);
});

test('loopback: modem outputs are its inputs, changes show as deltas', () => {
  const { port } = make();
  write(port, MCR, 0x10);
  read(port, MSR);
  for (const [outputs, inputs] of [
    [0x1, 0x20],
    [0x2, 0x10],
    [0x4, 0x40],
    [0x8, 0x80],
    [0xa, 0x90],
  ] as const) {
    write(port, MCR, 0x10 | outputs);
    assert.equal(read(port, MSR) & 0xf0, inputs);
  }
  write(port, MCR, 0x10);
  read(port, MSR);
  write(port, MCR, 0x1f);
  // All but the ring indicator, which tells its trailing edge.
  assert.equal(read(port, MSR), 0xfb);
  assert.equal(read(port, MSR), 0xf0);
  write(port, MCR, 0x1b);
  assert.equal(read(port, MSR), 0xb4);
});

test('modem changes interrupt where enabled', () => {
  const { port, line } = make();
  write(port, IER, 0x08);
  write(port, MCR, 0x10);
  write(port, MCR, 0x08);
  assert.equal(line.level, true);
  assert.equal(read(port, IIR), 0);
  read(port, MSR);
  assert.equal(line.level, false);
  assert.equal(read(port, IIR), NONE);
});
