import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HostClock } from '../../../src/host/clock.ts';
import { EventFd } from '../../../src/host/eventfd.ts';
import { Irqchip } from '../../../src/hypervisor/irqchip/irqchip.ts';
import { REQUEST_KICK } from '../../../src/hypervisor/irqchip/lapic-registers.ts';
import { IrqfdSet } from '../../../src/hypervisor/soft/irqfd-set.ts';

const LINE = 24;
const OTHER_LINE = 25;
const VECTOR = 0x51;
/** A sleep that nothing ends, milliseconds: far longer than a test may take. */
const FOR_EVER = 1_000_000;

/** A chip whose lines 24 and 25 are messages to vCPU 0, in x2APIC mode with the local APIC switched on. */
function machine() {
  const clock = new HostClock();
  const chip = Irqchip.create({ vcpuCount: 1, tscHz: 1e9, physicalAddressBits: 46 }, clock);
  chip.setGsiRouting(
    [LINE, OTHER_LINE].map((gsi, i) => ({ gsi, kind: 'msi', msi: { address: 0xfee00000n, data: VECTOR + i } })),
  );
  const cpu = chip.cpu(0);
  cpu.writeBase(0xfee00d00n);
  cpu.msrWrite(0x80f, 0x1ffn);
  const set = new IrqfdSet();
  /** The interrupts that have come, acknowledged and ended. */
  const taken = (): number[] => {
    set.take((gsi) => chip.pulseIrqLine(gsi));
    cpu.takeRequests();
    const vectors: number[] = [];
    while (cpu.pendingVector() >= 0) {
      vectors.push(cpu.acknowledge());
      cpu.msrWrite(0x80b, 0n);
    }
    return vectors;
  };
  return { chip, cpu, set, taken };
}

test('a signal is an interrupt, once, also when it came before', () => {
  const { set, taken } = machine();
  const [a, b] = [new EventFd(), new EventFd()];
  assert.equal(set.used, false);
  a.signal();
  a.signal();
  set.add(a.fd, LINE);
  set.add(b.fd, OTHER_LINE);
  assert.equal(set.used, true);
  assert.deepEqual(taken(), [VECTOR]);
  assert.deepEqual(taken(), []);
  a.signal();
  b.signal();
  assert.deepEqual(taken(), [VECTOR + 1, VECTOR]);
  set.close();
  for (const event of [a, b]) event.close();
});

test('a thread that attaches has the same events', () => {
  const { set, taken } = machine();
  const event = new EventFd();
  new IrqfdSet(set.share).add(event.fd, LINE);
  event.signal();
  assert.deepEqual(taken(), [VECTOR]);
  set.close();
  event.close();
});

test('a signal, or a request of another thread, ends the sleep, also when it comes just before', () => {
  const { chip, cpu, set, taken } = machine();
  const event = new EventFd();
  set.add(event.fd, LINE);
  cpu.waitIn(set.wakeFd, () => {
    event.signal();
    set.sleep(FOR_EVER);
  });
  assert.deepEqual(taken(), [VECTOR]);
  cpu.waitIn(set.wakeFd, () => {
    chip.request(0, REQUEST_KICK);
    set.sleep(FOR_EVER);
  });
  // There before the sleep: it does not begin.
  cpu.waitIn(set.wakeFd, () => assert.fail());
  assert.equal(cpu.takeRequests().kick, true);
  assert.deepEqual(taken(), []);
  // Nobody wakes a vCPU that does not sleep: the next sleep lasts.
  chip.request(0, 0);
  const begun = performance.now();
  cpu.waitIn(set.wakeFd, () => set.sleep(1.5));
  assert.ok(performance.now() - begun >= 1.5);
  set.close();
  event.close();
});

test('an event that was removed is left alone, and can come back with another line', () => {
  const { set, taken } = machine();
  const event = new EventFd();
  set.add(event.fd, LINE);
  assert.throws(() => set.add(event.fd, OTHER_LINE), /already/);
  assert.throws(() => set.remove(event.fd, OTHER_LINE), /not bound/);
  set.remove(event.fd, LINE);
  assert.throws(() => set.remove(event.fd, LINE), /not bound/);
  event.signal();
  assert.deepEqual(taken(), []);
  set.add(event.fd, OTHER_LINE);
  assert.deepEqual(taken(), [VECTOR + 1]);
  set.close();
  event.close();
});

test('lines and descriptors out of range are refused', () => {
  const { set } = machine();
  const event = new EventFd();
  for (const gsi of [-1, 1024, 0.5]) assert.throws(() => set.add(event.fd, gsi), RangeError);
  for (const fd of [-1, 0, 2 ** 31]) assert.throws(() => set.add(fd, LINE), RangeError);
  set.close();
  event.close();
});
