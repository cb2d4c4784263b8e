import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IRQ_LINES_STATE_SIZE, IrqLines } from '../../src/devices/irq-lines.ts';
import { sharedRange } from './support.ts';

test('a shared line is up while any device holds it', () => {
  const log: string[] = [];
  const lines = new IrqLines(sharedRange(IRQ_LINES_STATE_SIZE), (gsi, level) => log.push(`${gsi}${level ? '+' : '-'}`));
  const [a, b, other] = [lines.connect(4), lines.connect(4), lines.connect(3)];
  a(true);
  b(true);
  other(true);
  a(false);
  b(false);
  b(false);
  assert.deepEqual(log, ['4+', '3+', '4-']);
});

test('threads that build the same devices share levels', () => {
  const range = sharedRange(IRQ_LINES_STATE_SIZE);
  const log: string[] = [];
  const build = (name: string) => {
    const lines = new IrqLines(range, (gsi, level) => log.push(`${name}${gsi}${level ? '+' : '-'}`));
    return [lines.connect(9), lines.connect(9)] as const;
  };
  const [first, second] = [build('x'), build('y')];
  first[0](true);
  second[1](true);
  second[0](false);
  first[1](false);
  assert.deepEqual(log, ['x9+', 'x9-']);
});

test('a line takes 32 devices, and there are 24 lines', () => {
  const lines = new IrqLines(sharedRange(IRQ_LINES_STATE_SIZE), () => {});
  let last = (_level: boolean): void => {};
  for (let i = 0; i < 32; i++) last = lines.connect(23);
  last(true);
  assert.throws(() => lines.connect(23), RangeError);
  assert.throws(() => lines.connect(24), RangeError);
});
