import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DebugExit } from '../../src/devices/debug-exit.ts';
import { type ExitReason, MACHINE_EXIT_SIZE, MachineExit } from '../../src/devices/machine-exit.ts';
import { read, sharedRange, write } from './support.ts';

test('the first reason stays, and all threads see it', () => {
  const range = sharedRange(MACHINE_EXIT_SIZE);
  const told: ExitReason[] = [];
  const [a, b] = [new MachineExit(range, (r) => told.push(r)), new MachineExit(range, (r) => told.push(r))];
  assert.equal(b.reason, undefined);
  a.report({ kind: 'power-off' });
  b.report({ kind: 'reset' });
  assert.deepEqual(told, [{ kind: 'power-off' }]);
  assert.deepEqual(b.reason, { kind: 'power-off' });
  a.reset();
  assert.equal(b.reason, undefined);
});

test('the debug exit port gives its value', () => {
  const exit = new MachineExit(sharedRange(MACHINE_EXIT_SIZE), () => {});
  const port = new DebugExit(exit);
  assert.equal(read(port, 0, 4), 0);
  write(port, 0, 0xfedc_ba98, 4);
  assert.deepEqual(exit.reason, { kind: 'debug-exit', value: 0xfedc_ba98 });
});
