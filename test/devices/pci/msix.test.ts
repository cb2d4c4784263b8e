import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CONFIG_SPACE_STATE_SIZE, ConfigSpace } from '../../../src/devices/pci/config-space.ts';
import { Msix, msixPbaSize, msixStateSize, msixTableSize } from '../../../src/devices/pci/msix.ts';
import { littleEndian, read, sharedRange, TestLine, write } from '../support.ts';

const VECTORS = 70;
const CONTROL = 2;
const ENABLE = 0x8000;
const MASK_ALL = 0x4000;

function make() {
  const line = new TestLine();
  const bars = [{ index: 4, kind: 'memory32', size: 0x2000 }] as const;
  const config = new ConfigSpace(sharedRange(CONFIG_SPACE_STATE_SIZE), {
    vendorId: 1,
    deviceId: 2,
    classCode: 0xff0000,
    bars,
    intx: { pin: 0, line: line.set },
  });
  const sent: string[] = [];
  const place = { vectors: VECTORS, bar: 4, tableOffset: 0, pbaOffset: 0x1000 };
  const msix = new Msix(sharedRange(msixStateSize(VECTORS)), config, place, (msi) =>
    sent.push(`${msi.address.toString(16)}:${msi.data.toString(16)}`),
  );
  config.reset();
  msix.reset();
  const capability = read(config, 0x34);
  const control = (value: number) => write(config, capability + CONTROL, value, 2);
  const vector = (n: number, masked: boolean) => {
    const words = [0xfee0_1000 + n, 1, 0x40 + n, masked ? 1 : 0];
    for (const [i, word] of words.entries()) msix.writeTable(n * 16 + i * 4, littleEndian(word, 4));
  };
  const pending = () => {
    const data = new Uint8Array(msixPbaSize(VECTORS));
    msix.readPba(0, data);
    return [...data.entries()].flatMap(([i, byte]) =>
      [0, 1, 2, 3, 4, 5, 6, 7].filter((b) => byte & (1 << b)).map((b) => i * 8 + b),
    );
  };
  return { msix, config, line, sent, capability, control, vector, pending };
}

test('the capability tells size and places', () => {
  const { config, capability, msix } = make();
  assert.equal(read(config, capability), 0x11);
  assert.equal(read(config, capability + CONTROL, 2), VECTORS - 1);
  assert.equal(read(config, capability + 4, 4), 4);
  assert.equal(read(config, capability + 8, 4), 0x1004);
  write(config, capability + CONTROL, 0xffff, 2);
  assert.equal(read(config, capability + CONTROL, 2), ENABLE | MASK_ALL | (VECTORS - 1));
  assert.equal(msix.enabled, true);
  assert.equal(msixTableSize(VECTORS), 1120);
  assert.equal(msixPbaSize(VECTORS), 16);
});

test('messages go out when enabled and unmasked', () => {
  const { msix, control, vector, sent } = make();
  vector(3, false);
  msix.signal(3);
  assert.deepEqual(sent, []);
  control(ENABLE);
  msix.signal(3);
  assert.deepEqual(sent, ['1fee01003:43']);
  for (const bad of [-1, VECTORS, 1.5, Number.NaN]) msix.signal(bad);
  assert.equal(sent.length, 1);
});

test('masked vectors wait, and go out once when unmasked', () => {
  const { msix, control, vector, sent, pending } = make();
  control(ENABLE);
  vector(1, true);
  vector(69, false);
  msix.signal(1);
  msix.signal(1);
  msix.signal(0);
  assert.deepEqual(pending(), [0, 1]);
  msix.writeTable(1 * 16 + 12, littleEndian(0, 4));
  assert.deepEqual(sent, ['1fee01001:41']);
  assert.deepEqual(pending(), [0]);
  control(ENABLE | MASK_ALL);
  msix.signal(69);
  assert.deepEqual(pending(), [0, 69]);
  control(ENABLE);
  assert.deepEqual(sent, ['1fee01001:41', '1fee01045:85']);
  assert.deepEqual(pending(), [0]);
});

test('of vector control only the mask bit exists; out of range accesses are nothing', () => {
  const { msix } = make();
  const data = new Uint8Array(8);
  msix.readTable(12, data.subarray(0, 4));
  assert.deepEqual([...data.subarray(0, 4)], [1, 0, 0, 0]);
  msix.writeTable(0, new Uint8Array(32).fill(0xff));
  msix.readTable(8, data);
  assert.deepEqual([...data], [255, 255, 255, 255, 1, 0, 0, 0]);
  msix.writeTable(VECTORS * 16 - 2, new Uint8Array(8).fill(0xff));
  msix.readTable(VECTORS * 16 - 4, data);
  assert.deepEqual([...data], [1, 0, 0, 0, 0, 0, 0, 0]);
  msix.readPba(1e6, data);
  assert.deepEqual([...data], new Array(8).fill(0));
});

test('INTx is silent while MSI-X is enabled', () => {
  const { config, line, control } = make();
  config.setIntx(true);
  assert.equal(line.level, true);
  control(ENABLE);
  assert.equal(line.level, false);
  control(0);
  assert.equal(line.level, true);
});
