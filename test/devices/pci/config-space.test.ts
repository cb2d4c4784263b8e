import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BarDescription } from '../../../src/devices/pci/bar.ts';
import { CONFIG_SPACE_STATE_SIZE, type ConfigDescription, ConfigSpace } from '../../../src/devices/pci/config-space.ts';
import { littleEndian, read, sharedRange, TestLine, write } from '../support.ts';

const COMMAND = 0x04;
const STATUS = 0x06;
const BAR0 = 0x10;
const CAPABILITIES = 0x34;
const ALL = 0xffff_ffff;
const IDS = { vendorId: 0x1af4, deviceId: 0x1042, classCode: 0x01_80_02 };

function make(description: Partial<ConfigDescription> = {}) {
  const config = new ConfigSpace(sharedRange(CONFIG_SPACE_STATE_SIZE), { ...IDS, ...description });
  config.reset();
  return config;
}

test('the header says what the function is, and cannot be written', () => {
  const config = make({ revisionId: 3, subsystemVendorId: 0xabcd, subsystemId: 0x1234 });
  const expected = [
    [0x00, 0x1042_1af4],
    [COMMAND, 0],
    [0x08, 0x0180_0203],
    [0x0c, 0],
    [0x2c, 0x1234_abcd],
    [0x30, 0],
    [CAPABILITIES, 0],
    [0x3c, 0],
  ] as const;
  for (const [offset, value] of expected) assert.equal(read(config, offset, 4), value);
  for (let offset = 0; offset < 4096; offset += 4) write(config, offset, ALL, 4);
  for (const [offset, value] of expected) {
    // Command, cache line size and interrupt line have bits that can be written.
    const writable = offset === COMMAND ? 0x0144 : offset === 0x0c || offset === 0x3c ? 0xff : 0;
    assert.equal(read(config, offset, 4), value | writable, `at ${offset}`);
  }
  for (let offset = 0x40; offset < 4096; offset += 4) assert.equal(read(config, offset, 4), 0);
});

test('accesses of any size at any place', () => {
  const config = make();
  assert.equal(read(config, 1, 2), 0x421a);
  assert.equal(read(config, 3, 1), 0x10);
  assert.equal(read(config, 0, 8), 0x1042_1af4);
  write(config, 0x3b, 0x77_11, 2);
  assert.equal(read(config, 0x3c, 1), 0x77);
  assert.equal(read(config, 4094, 4), 0xffff_0000);
  write(config, 4094, ALL, 4);
  assert.equal(read(config, 4096, 1), 0xff);
});

test('sizing: ones written to a BAR come back as its size and flags', () => {
  const bars: BarDescription[] = [
    { index: 0, kind: 'memory32', size: 0x1000 },
    { index: 1, kind: 'io', size: 32 },
    { index: 2, kind: 'memory64', size: 0x4000, prefetchable: true },
    { index: 5, kind: 'memory32', size: 2 ** 31 },
  ];
  const config = make({ bars });
  const sizes = [0xffff_f000, 0xffff_ffe1, 0xffff_c00c, ALL, 0, 0x8000_0000];
  const flags = [0, 1, 0xc, 0, 0, 0];
  for (const [i, expected] of sizes.entries()) {
    write(config, BAR0 + 4 * i, ALL, 4);
    assert.equal(read(config, BAR0 + 4 * i, 4), expected, `BAR ${i}`);
    write(config, BAR0 + 4 * i, 0, 4);
    assert.equal(read(config, BAR0 + 4 * i, 4), flags[i]);
  }
});

test('a BAR answers where it is put, while its decoding is on', () => {
  const [memory, io, wide] = [
    { index: 0, kind: 'memory32', size: 0x1000 },
    { index: 1, kind: 'io', size: 32 },
    { index: 2, kind: 'memory64', size: 0x4000 },
  ] as const satisfies BarDescription[];
  const config = make({ bars: [memory, io, wide] });
  const set = (register: number, value: number) => config.write(BAR0 + 4 * register, littleEndian(value, 4));
  assert.equal(set(0, 0xd000_0fff), true);
  set(1, 0xc03f);
  set(2, 0x1_0000);
  set(3, 0x12);
  const where = () => [memory, io, wide].map((bar) => config.barAddress(bar));
  assert.deepEqual(where(), [undefined, undefined, undefined]);
  assert.equal(config.write(COMMAND, Uint8Array.of(1)), true);
  assert.deepEqual(where(), [undefined, 0xc020, undefined]);
  config.write(COMMAND, Uint8Array.of(2));
  assert.deepEqual(where(), [0xd000_0000, undefined, 0x12_0001_0000]);
  config.write(COMMAND, Uint8Array.of(3));
  // Zero is nowhere, and so is what no processor or port instruction reaches.
  set(0, 0);
  set(1, 0x1_0000);
  set(3, 0x10_0000);
  assert.deepEqual(where(), [undefined, undefined, undefined]);
  config.placeBar(wide, 0x1f_ffff_c000);
  assert.equal(config.barAddress(wide), 0x1f_ffff_c000);
  assert.equal(config.write(0x3c, Uint8Array.of(1)), false);
});

test('BARs that cannot be are refused', () => {
  const bad: BarDescription[][] = [
    [{ index: 0, kind: 'memory32', size: 24 }],
    [{ index: 0, kind: 'memory32', size: 8 }],
    [{ index: 0, kind: 'io', size: 512 }],
    [{ index: 6, kind: 'io', size: 8 }],
    [{ index: 5, kind: 'memory64', size: 16 }],
    [
      { index: 0, kind: 'memory64', size: 16 },
      { index: 1, kind: 'io', size: 8 },
    ],
  ];
  for (const bars of bad) assert.throws(() => make({ bars }), RangeError);
});

test('capabilities are a list, with their own writable bits and hooks', () => {
  const log: string[] = [];
  const config = make();
  const first = config.addCapability({ id: 0x09, body: Uint8Array.of(5, 1, 2) });
  const second = config.addCapability({
    id: 0x05,
    body: new Uint8Array(6),
    writable: Uint8Array.of(0xf0, 0, 0xff, 0, 0, 0),
    beforeRead: (offset, length) => log.push(`r${offset}+${length}`),
    afterWrite: (offset, length) => log.push(`w${offset}+${length}`),
  });
  config.reset();
  assert.equal(read(config, STATUS, 2), 0x10);
  assert.equal(read(config, CAPABILITIES), first);
  assert.equal(read(config, first, 4), 0x0105_0009 | (second << 8));
  assert.equal(read(config, first + 4), 2);
  assert.equal(second & 3, 0);
  assert.deepEqual(log, []);
  assert.equal(read(config, second, 2), 0x0005);
  write(config, second, ALL, 4);
  assert.equal(read(config, second, 4), 0x00f0_0005);
  write(config, second + 7, ALL, 2);
  read(config, second - 1, 2);
  assert.deepEqual(log, ['r0+2', 'w0+4', 'r0+4', 'w7+1', 'r0+1']);
  config.poke(second + 6, Uint8Array.of(9));
  assert.equal(read(config, second + 6), 9);
  assert.throws(() => config.addCapability({ id: 1, body: new Uint8Array(200) }), RangeError);
});

test('INTx follows its status bit unless it is turned off', () => {
  const line = new TestLine();
  const config = make({ intx: { pin: 2, line: line.set } });
  assert.equal(read(config, 0x3d), 3);
  config.setIntx(true);
  assert.equal(line.level, true);
  assert.equal(read(config, STATUS, 2), 0x08);
  write(config, COMMAND, 0x400, 2);
  assert.equal(line.level, false);
  assert.equal(read(config, STATUS, 2), 0x08);
  write(config, COMMAND, 0, 2);
  assert.equal(line.level, true);
  config.setIntx(false);
  config.setIntx(false);
  assert.equal(line.level, false);
  assert.equal(line.repeats, 0);
});
