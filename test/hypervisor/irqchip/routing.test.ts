import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultRouting } from '../../../src/hypervisor/irqchip/routing.ts';
import { TestMachine } from './machine.ts';

test('a line may go to several targets, an MSI route fires at the rise', () => {
  const machine = new TestMachine();
  machine.openLint0();
  machine.initPics();
  machine.redirect(4, 0x54);
  machine.chip.setIrqLine(4, true);
  assert.equal(machine.cpu().acknowledge(), 0x24);
  assert.deepEqual(machine.drain(), [0x54]);
  machine.chip.setGsiRouting([
    ...defaultRouting(),
    { gsi: 100, kind: 'msi', msi: { address: 0xfee00000n, data: 0x77 } },
    { gsi: 1023, kind: 'irqchip', chip: 'ioapic', pin: 4 },
  ]);
  machine.chip.setIrqLine(100, true);
  machine.chip.setIrqLine(100, false);
  assert.deepEqual(machine.drain(), [0x77]);
  machine.chip.setIrqLine(1023, false);
  machine.chip.setIrqLine(1023, true);
  assert.deepEqual(machine.drain(), [0x54]);
});

test('a bad table is refused whole, unknown lines are not connected', () => {
  const machine = new TestMachine();
  machine.enable();
  machine.redirect(17, 0x61);
  for (const [gsi, pin] of [
    [1024, 0],
    [-1, 0],
    [1.5, 0],
    [3, 24],
    [3, -1],
    [3, Number.NaN],
  ] as const) {
    assert.throws(() => machine.chip.setGsiRouting([{ gsi, kind: 'irqchip', chip: 'ioapic', pin }]), RangeError);
  }
  assert.throws(() => machine.chip.setGsiRouting([{ gsi: 3, kind: 'irqchip', chip: 'pic-slave', pin: 8 }]), RangeError);
  const route = { gsi: 5, kind: 'irqchip', chip: 'ioapic', pin: 5 } as const;
  assert.throws(() => machine.chip.setGsiRouting(new Array(2049).fill(route)), RangeError);
  for (const gsi of [-1, 24, 1024, 1e9, Number.NaN]) machine.chip.setIrqLine(gsi, true);
  machine.chip.setIrqLine(17, true);
  assert.deepEqual(machine.drain(), [0x61]);
});

test('ports: which are claimed, and wide accesses byte by byte', () => {
  const machine = new TestMachine();
  const claimed = Array.from({ length: 0x10000 }, (_, port) => port).filter((port) => machine.chip.claimsPort(port));
  assert.deepEqual(claimed, [0x20, 0x21, 0x40, 0x41, 0x42, 0x43, 0x61, 0xa0, 0xa1, 0x4d0, 0x4d1]);
  machine.out(0x21, 0x5a);
  const data = Uint8Array.of(1, 2, 3, 4);
  machine.chip.portRead(0x20, data);
  assert.deepEqual([...data], [0, 0x5a, 3, 4]);
});
