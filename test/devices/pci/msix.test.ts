import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CONFIG_SPACE_STATE_SIZE, ConfigSpace } from '../../../src/devices/pci/config-space.ts';
import { Msix, msixPbaSize, msixStateSize, msixTableSize, type VectorEvents } from '../../../src/devices/pci/msix.ts';
import type { Msi } from '../../../src/hypervisor/hypervisor.ts';
import { littleEndian, read, sharedRange, TestLine, write } from '../support.ts';

const VECTORS = 70;
const CONTROL = 2;
const ENABLE = 0x8000;
const MASK_ALL = 0x4000;

/** Events as the hypervisor has them: a signal waits where its vector is not connected. */
class TestEvents implements VectorEvents {
  readonly #sent: string[];
  readonly #messages = new Map<number, string>();
  readonly #waiting = new Set<number>();
  /** Calls of connect(). */
  connects = 0;

  constructor(sent: string[]) {
    this.#sent = sent;
  }

  signal(vector: number): void {
    const message = this.#messages.get(vector);
    if (message === undefined) this.#waiting.add(vector);
    else this.#sent.push(message);
  }

  connect(vector: number, { address, data }: Msi): void {
    this.connects++;
    this.#messages.set(vector, `${address.toString(16)}:${data.toString(16)}`);
    if (this.#waiting.delete(vector)) this.signal(vector);
  }

  disconnect(vector: number): void {
    assert.ok(this.#messages.delete(vector), 'it was connected');
  }

  pending(vector: number): boolean {
    return this.#waiting.has(vector);
  }
}

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
  const events = new TestEvents(sent);
  let controls = 0;
  const msix = new Msix(sharedRange(msixStateSize(VECTORS)), config, place, events, () => controls++);
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
  const signal = (n: number) => events.signal(n);
  return { msix, config, events, line, sent, capability, control, vector, pending, signal, controls: () => controls };
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
  const { signal, control, controls, vector, sent, events } = make();
  vector(3, false);
  assert.equal(events.connects, 0);
  control(ENABLE);
  assert.equal(controls(), 1);
  signal(3);
  assert.deepEqual(sent, ['1fee01003:43']);
  vector(3, false);
  assert.equal(events.connects, 1, 'the same message');
});

test('a message can change while its vector is not masked', () => {
  const { msix, signal, control, vector, sent } = make();
  control(ENABLE);
  vector(3, false);
  msix.writeTable(3 * 16 + 8, littleEndian(0x99, 4));
  signal(3);
  assert.deepEqual(sent, ['1fee01003:99']);
});

test('masked vectors wait, and go out once when unmasked', () => {
  const { msix, signal, control, vector, sent, pending } = make();
  control(ENABLE);
  vector(1, true);
  vector(69, false);
  signal(1);
  signal(1);
  signal(0);
  assert.deepEqual(pending(), [0, 1]);
  msix.writeTable(1 * 16 + 12, littleEndian(0, 4));
  assert.deepEqual(sent, ['1fee01001:41']);
  assert.deepEqual(pending(), [0]);
  control(ENABLE | MASK_ALL);
  signal(69);
  assert.deepEqual(pending(), [0, 69]);
  control(ENABLE);
  assert.deepEqual(sent, ['1fee01001:41', '1fee01045:85']);
  assert.deepEqual(pending(), [0]);
  control(0);
  signal(69);
  assert.equal(sent.length, 2);
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
