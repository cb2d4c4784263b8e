import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Bus } from '../../../src/devices/bus.ts';
import { MACHINE_EXIT_SIZE, MachineExit } from '../../../src/devices/machine-exit.ts';
import { NullDevice } from '../../../src/devices/null-device.ts';
import { PCI_ECAM_START, PCI_IO_START, PCI_MMIO_START } from '../../../src/devices/pc-map.ts';
import type { BarDescription } from '../../../src/devices/pci/bar.ts';
import { CONFIG_SPACE_STATE_SIZE, ConfigSpace } from '../../../src/devices/pci/config-space.ts';
import { HostBridge } from '../../../src/devices/pci/host-bridge.ts';
import type { PciDevice } from '../../../src/devices/pci/pci-device.ts';
import { PCI_ROOT_BUS_STATE_SIZE, PciRootBus } from '../../../src/devices/pci/root-bus.ts';
import { StateAllocator } from '../../../src/host/shared-state.ts';
import { newSeed, Random, read, write } from '../support.ts';

const ADDRESS = 0xcf8;
const DATA = 0xcfc;
const RESET = 0xcf9;
const COMMAND = 0x04;
const BAR0 = 0x10;

const BARS: BarDescription[] = [
  { index: 0, kind: 'memory32', size: 0x1000 },
  { index: 1, kind: 'io', size: 64 },
  { index: 2, kind: 'memory64', size: 0x2000 },
];

/** Its registers read as bar * 64 + slot, in every byte. */
class TestDevice implements PciDevice {
  readonly config: ConfigSpace;
  readonly moves: string[] = [];
  readonly writes: string[] = [];
  readonly #slot: number;

  constructor(state: StateAllocator, slot: number) {
    this.#slot = slot;
    const ids = { vendorId: 0x1234, deviceId: slot, classCode: 0xff0000 };
    this.config = new ConfigSpace(state.allocate(CONFIG_SPACE_STATE_SIZE), { ...ids, bars: BARS });
  }

  readBar(bar: number, _offset: number, data: Uint8Array): void {
    data.fill(bar * 64 + this.#slot);
  }

  writeBar(bar: number, offset: number, data: Uint8Array): void {
    this.writes.push(`${bar}.${offset}=${data.join()}`);
  }

  barMoved(bar: number, address: number | undefined): void {
    this.moves.push(`${bar}@${address?.toString(16)}`);
  }
}

/** A bus with devices 1 and 2, as one thread builds it. */
function build(buffer: SharedArrayBuffer) {
  const state = new StateAllocator(buffer);
  const [pio, mmio] = [new Bus(), new Bus()];
  const exit = new MachineExit(state.allocate(MACHINE_EXIT_SIZE), () => {});
  mmio.insert(0xfec0_0000, 0x1000, new NullDevice());
  const bus = new PciRootBus(state.allocate(PCI_ROOT_BUS_STATE_SIZE), pio, mmio, exit);
  const devices = [1, 2].map((slot) => new TestDevice(state, slot));
  bus.add(0, new HostBridge(state.allocate(CONFIG_SPACE_STATE_SIZE)));
  for (const [i, device] of devices.entries()) bus.add(i + 1, device);
  const port = { read: pio.read.bind(pio), write: pio.write.bind(pio) };
  const memory = { read: mmio.read.bind(mmio), write: mmio.write.bind(mmio) };
  const select = (slot: number, register: number, bus = 0, fn = 0) =>
    write(port, ADDRESS, 0x8000_0000 + bus * 0x10000 + slot * 0x800 + fn * 0x100 + register, 4);
  const setConfig = (slot: number, register: number, value: number, size = 4) =>
    write(memory, PCI_ECAM_START + slot * 0x8000 + register, value, size);
  return { bus, port, memory, exit, devices: devices as [TestDevice, TestDevice], select, setConfig };
}

function make() {
  const buffer = new SharedArrayBuffer(65536);
  const machine = build(buffer);
  machine.bus.reset();
  return { ...machine, other: build(buffer) };
}

/** Has a device answered at `address`? Its byte, or 0xee. */
const NOBODY = 0xee;

test('mechanism #1: every size at every place of the data port', () => {
  const { port, select } = make();
  assert.equal(read(port, DATA, 4), 0xeeee_eeee);
  select(2, 0);
  assert.equal(read(port, ADDRESS, 4), 0x8000_1000);
  assert.equal(read(port, DATA, 4), 0x0002_1234);
  assert.deepEqual(
    [0, 1, 2, 3].map((i) => read(port, DATA + i)),
    [0x34, 0x12, 0x02, 0x00],
  );
  assert.deepEqual(
    [0, 1, 2].map((i) => read(port, DATA + i, 2)),
    [0x1234, 0x0212, 0x0002],
  );
  // Past the port's end is nobody.
  assert.equal(read(port, DATA + 3, 2), 0xee00);
  assert.equal(read(port, DATA + 2, 4), 0xeeee_0002);
  // A read that begins in the address port.
  assert.equal(read(port, ADDRESS + 2, 4), 0x1234_8000);
  assert.equal(read(port, ADDRESS + 3, 2), 0x3480);
  select(2, 0x3c);
  write(port, DATA, 0x55);
  write(port, ADDRESS + 3, 0x6600, 2);
  assert.equal(read(port, DATA, 2), 0x66);
});

test('the address port takes double words only, and keeps the bits that exist', () => {
  const { port } = make();
  write(port, ADDRESS, 0xffff_ffff, 4);
  assert.equal(read(port, ADDRESS, 4), 0x80ff_fffc);
  write(port, ADDRESS, 0, 4);
  for (const [offset, size] of [
    [0, 1],
    [3, 1],
    [0, 2],
    [2, 2],
  ] as const)
    write(port, ADDRESS + offset, 0xffff, size);
  assert.equal(read(port, ADDRESS, 4), 0);
  // Without the enable bit the data port is nobody's.
  write(port, ADDRESS, 0x1000, 4);
  assert.equal(read(port, DATA, 4), 0xeeee_eeee);
});

test('ECAM: every size at every place, 4 KiB a function', () => {
  const { memory } = make();
  const at = PCI_ECAM_START + 2 * 0x8000;
  assert.equal(read(memory, at, 4), 0x0002_1234);
  assert.equal(read(memory, at, 8), 0x0003_0002_1234);
  assert.equal(read(memory, at + 1, 2), 0x0212);
  assert.equal(read(memory, at + 0xffe, 4), 0xffff_0000);
  assert.equal(read(memory, PCI_ECAM_START, 4), 0x0d57_8086);
  assert.equal(read(memory, PCI_ECAM_START + 0xa, 2), 0x0600);
  write(memory, at + 0x3c, 0x77);
  assert.equal(read(memory, at + 0x3c), 0x77);
});

test('both mechanisms show the same', () => {
  const { port, memory, select } = make();
  for (let slot = 0; slot < 32; slot++) {
    for (let register = 0; register < 256; register += 4) {
      select(slot, register);
      assert.equal(read(port, DATA, 4), read(memory, PCI_ECAM_START + slot * 0x8000 + register, 4));
    }
  }
});

test('other functions, devices and buses read as ones', () => {
  const { port, memory, select } = make();
  for (const [slot, bus, fn] of [
    [3, 0, 0],
    [31, 0, 0],
    [1, 0, 1],
    [0, 1, 0],
    [2, 255, 7],
  ] as const) {
    select(slot, 0, bus, fn);
    assert.equal(read(port, DATA, 4), 0xffff_ffff);
    write(port, DATA, 0, 4);
    const at = PCI_ECAM_START + bus * 0x10_0000 + slot * 0x8000 + fn * 0x1000;
    if (bus < 16) assert.equal(read(memory, at, 2), 0xffff);
  }
});

test('slots take one device', () => {
  const { bus, devices } = make();
  for (const slot of [1, 32, -1, 1.5]) assert.throws(() => bus.add(slot, devices[0]), RangeError);
});

test('the reset control register: a rising RST_CPU resets', () => {
  const { port, exit, select } = make();
  select(1, 8);
  write(port, RESET, 0x02);
  assert.equal(read(port, RESET), 0x02);
  assert.equal(exit.reason, undefined);
  assert.equal(read(port, ADDRESS, 4), 0x8000_0808);
  write(port, ADDRESS, 0x8000_0604, 4);
  assert.equal(exit.reason, undefined);
  write(port, RESET, 0x06);
  assert.deepEqual(exit.reason, { kind: 'reset' });
});

test('at power-on BARs are placed and answer', () => {
  const { port, memory, devices } = make();
  assert.deepEqual(devices[0].moves, ['0@d0004000', '1@c000', '2@d0000000']);
  assert.deepEqual(devices[1].moves, ['0@d0005000', '1@c040', '2@d0002000']);
  assert.equal(read(memory, PCI_MMIO_START + 0x3fff), 2 * 64 + 2);
  assert.equal(read(memory, PCI_MMIO_START + 0x4000), 1);
  assert.equal(read(memory, PCI_MMIO_START + 0x6000), NOBODY);
  assert.equal(read(port, PCI_IO_START + 0x7f), 64 + 2);
  write(port, PCI_IO_START + 0x41, 0x99);
  assert.deepEqual(devices[1].writes, ['1.1=153']);
});

test('a BAR answers where the guest moves it, in every thread', () => {
  const { memory, setConfig, other, devices } = make();
  assert.equal(read(other.memory, 0xd000_4000), 1);
  setConfig(1, BAR0, 0xd800_0000);
  assert.equal(read(memory, 0xd800_0fff), 1);
  assert.equal(read(other.memory, 0xd800_0000), 1);
  assert.equal(read(other.memory, 0xd000_4000), NOBODY);
  assert.deepEqual(devices[0].moves.slice(3), ['0@undefined', '0@d8000000']);
  // Above 4 GiB, the halves written one after the other.
  other.setConfig(1, BAR0 + 8, 0x0010_0000);
  other.setConfig(1, BAR0 + 12, 0x21);
  assert.equal(read(memory, 0x21_0010_1fff), 2 * 64 + 1);
  assert.equal(read(memory, 0xd000_0000), NOBODY);
  assert.deepEqual(other.devices[0].moves.slice(-1), ['2@2100100000']);
});

test('decoding turned off, nobody answers', () => {
  const { port, memory, select, devices } = make();
  select(1, COMMAND);
  write(port, DATA, 0x0001, 2);
  assert.equal(read(memory, 0xd000_4000), NOBODY);
  assert.equal(read(port, PCI_IO_START), 64 + 1);
  write(port, DATA, 0x0002, 2);
  assert.equal(read(memory, 0xd000_4000), 1);
  assert.equal(read(port, PCI_IO_START), NOBODY);
  assert.equal(devices[1].moves.length, 3);
});

test('a BAR put onto another breaks only itself, until there is room', () => {
  const { memory, setConfig, devices } = make();
  setConfig(2, BAR0, 0xd000_4000);
  assert.equal(read(memory, 0xd000_4000), 1);
  assert.equal(read(memory, 0xd000_5000), NOBODY);
  // Partly over it, too.
  setConfig(2, BAR0 + 8, 0xd000_4000);
  assert.equal(read(memory, 0xd000_4000), 1);
  assert.equal(read(memory, 0xd000_5000), NOBODY);
  assert.deepEqual(devices[0].moves.length, 3);
  // The first one leaves: of those that wait, the first in order gets the place.
  setConfig(1, BAR0, 0xdf00_0000);
  assert.equal(read(memory, 0xd000_4000), 2);
  assert.equal(read(memory, 0xd000_5000), NOBODY);
  setConfig(2, BAR0, 0xdf00_2000);
  assert.equal(read(memory, 0xd000_5000), 2 * 64 + 2);
});

test('devices that cannot move stay reachable', () => {
  const { port, memory, setConfig } = make();
  for (const address of [PCI_ECAM_START, 0xfec0_0000, PCI_ECAM_START + 0xff_f000]) {
    setConfig(1, BAR0, address);
    assert.equal(read(memory, 0xd000_4000), NOBODY);
    assert.notEqual(read(memory, address, 2), 0x0101);
  }
  setConfig(1, BAR0 + 4, ADDRESS & ~63);
  write(port, ADDRESS, 0x8000_0000, 4);
  assert.equal(read(port, DATA, 2), 0x8086);
});

test('any writes to configuration space leave a bus that answers', () => {
  const seed = newSeed();
  const random = new Random(seed);
  const { memory, other, setConfig, bus } = make();
  const offsets = [COMMAND, COMMAND, BAR0, BAR0 + 4, BAR0 + 8, BAR0 + 12, BAR0 + 16];
  const values = [0, 1, 2, 3, 7, 0xffff_ffff, 0xd000_0000, 0xd000_1000, 0xe800_0000, 0xfffff000, 0xc000, 0x10];
  for (let i = 0; i < 20_000; i++) {
    const which = random.pick([setConfig, other.setConfig]);
    which(
      1 + random.below(2),
      random.pick(offsets),
      random.pick([...values, random.below(2 ** 32)]),
      1 + random.below(8),
    );
    const address = random.pick([...values, random.below(2 ** 32), random.below(2 ** 20) * 2 ** 32]);
    assert.equal(read(memory, address), read(other.memory, address), `seed ${seed}, step ${i}`);
  }
  bus.reset();
  assert.equal(read(memory, 0xd000_4000), 1, `seed ${seed}`);
});
