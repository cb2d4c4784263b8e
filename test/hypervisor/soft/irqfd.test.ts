import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { HostClock } from '../../../src/host/clock.ts';
import { EventFd } from '../../../src/host/eventfd.ts';
import { Irqchip } from '../../../src/hypervisor/irqchip/irqchip.ts';
import { IrqfdWatcher } from '../../../src/hypervisor/soft/irqfd-watcher.ts';

const LINE = 24;
const OTHER_LINE = 25;
const VECTOR = 0x51;

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
  const watcher = new IrqfdWatcher({ irqchip: chip.share, origin: clock.origin });
  /** The next interrupt, acknowledged and ended; -1 when none comes. */
  const next = async (milliseconds = 5000): Promise<number> => {
    for (let waited = 0; waited < milliseconds; waited += 2) {
      cpu.takeRequests();
      if (cpu.pendingVector() >= 0) {
        const vector = cpu.acknowledge();
        cpu.msrWrite(0x80b, 0n);
        return vector;
      }
      await delay(2);
    }
    return -1;
  };
  return { watcher, next };
}

test('a signal is an interrupt, once, also when it came before the thread', async () => {
  const { watcher, next } = machine();
  const [a, b] = [new EventFd(), new EventFd()];
  a.signal();
  a.signal();
  watcher.add(a.fd, LINE);
  watcher.add(b.fd, OTHER_LINE);
  assert.equal(await next(), VECTOR);
  assert.equal(await next(40), -1);
  b.signal();
  assert.equal(await next(), VECTOR + 1);
  for (let i = 0; i < 20; i++) {
    a.signal();
    assert.equal(await next(), VECTOR, `signal ${i}`);
  }
  watcher.close();
  for (const event of [a, b]) event.close();
});

test('an event that was removed is left alone, and can come back with another line', async () => {
  const { watcher, next } = machine();
  const event = new EventFd();
  watcher.add(event.fd, LINE);
  assert.throws(() => watcher.add(event.fd, OTHER_LINE), /already/);
  assert.throws(() => watcher.remove(event.fd, OTHER_LINE), /not bound/);
  watcher.remove(event.fd, LINE);
  assert.throws(() => watcher.remove(event.fd, LINE), /not bound/);
  event.signal();
  assert.equal(await next(60), -1);
  assert.equal(event.take(), 1);
  watcher.add(event.fd, OTHER_LINE);
  event.signal();
  assert.equal(await next(), VECTOR + 1);
  watcher.close();
  assert.throws(() => watcher.add(event.fd, LINE), /closed/);
  event.close();
});

test('lines and descriptors out of range are refused', () => {
  const { watcher } = machine();
  const event = new EventFd();
  for (const gsi of [-1, 1024, 0.5]) assert.throws(() => watcher.add(event.fd, gsi), RangeError);
  for (const fd of [-1, 0, 2 ** 31]) assert.throws(() => watcher.add(fd, LINE), RangeError);
  watcher.close();
  event.close();
});

test('descriptors removed, closed and used anew under load are never read by the thread', async () => {
  const { watcher, next } = machine();
  for (let i = 0; i < 300; i++) {
    const event = new EventFd();
    watcher.add(event.fd, LINE);
    event.signal();
    watcher.remove(event.fd, LINE);
    event.close();
    const other = new EventFd();
    other.signal();
    assert.equal(other.take(), 1, `round ${i}`);
    other.close();
    if (i % 50 === 0) await next(4);
  }
  watcher.close();
});

test('the thread does not keep the process from ending', () => {
  const url = (path: string): string => JSON.stringify(new URL(`../../../src/${path}`, import.meta.url).href);
  const make = `import { soft } from ${url('hypervisor/soft/index.ts')}; import { EventFd } from ${url('host/eventfd.ts')};
    const vm = soft.createVm({ vcpuCount: 1 }); vm.registerIrqfd(new EventFd(), 5);`;
  for (const end of [
    '',
    'vm.close()',
    'setTimeout(() => process.exit(0), 100)',
    'setTimeout(() => { throw 1 }, 100)',
  ]) {
    const result = spawnSync(process.execPath, ['-e', make + end], { timeout: 10_000 });
    assert.equal(result.signal, null, `${end}: ${result.stderr}`);
    assert.equal(result.status, end.includes('throw') ? 1 : 0, `${end}: ${result.stderr}`);
  }
});
