import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as L from '../../../../src/cpu/x86_64/layout.ts';
import { Machine } from '../helpers/machine.ts';

/** FSW.ES with IE. */
const PENDING = 0x81;
const NE = 0x20n;
/** A record that is never run: any free place. */
const RECORD = L.ARENA;

function machine(cr0: bigint, fsw: number): Machine {
  const m = new Machine().protected();
  m.set64(L.CR0, 0x11n | cr0);
  m.set32(L.FCW, 0x37e);
  m.set32(L.FSW, fsw);
  m.set64(L.FIP, 1n);
  m.set32(RECORD + L.R_IMM, 0x1c1);
  return m;
}

test('#NM comes before #MF, and neither changes the instruction pointer', () => {
  for (const bit of [4n, 8n]) {
    const m = machine(bit | NE, PENDING);
    assert.equal(m.outcome('fpu_begin', RECORD), 'fault #7');
    assert.equal(m.outcome('fpu_enter'), 'fault #7');
    assert.equal(m.get64(L.FIP), 1n);
  }
  const m = machine(NE, PENDING);
  assert.equal(m.outcome('fpu_begin', RECORD), 'fault #16');
  assert.equal(m.get64(L.FIP), 1n);
});

test('without CR0.NE a pending exception stays pending', () => {
  assert.equal(machine(0n, PENDING).outcome('fpu_begin', RECORD), 'ok');
});

test('an instruction leaves its pointer, selector and opcode', () => {
  const m = machine(NE, 0);
  assert.equal(m.outcome('fpu_begin', RECORD), 'ok');
  assert.equal(m.get64(L.FIP), m.get64(L.RIP));
  assert.equal(m.get32(L.FCS), m.selector(L.SEG_CS));
  assert.equal(m.get32(L.FOP), 0x1c1);
});

test('an unmasked exception stores nothing and becomes pending', () => {
  const m = machine(NE, 0);
  m.set32(L.FTW, 0xffff);
  m.call('fpu_begin', RECORD);
  m.call('fpu_arith', 0, 0, 1, 1);
  // IE, SF, ES, B; the stack has not moved.
  assert.equal(m.get32(L.FSW), 0x80c1);
  assert.equal(m.get32(L.FTW), 0xffff);
  assert.equal(m.outcome('fpu_begin', RECORD), 'fault #16');
});

test('environments in the four formats come back', () => {
  for (const real of [false, true]) {
    for (const size of [2, 4]) {
      const m = machine(NE, 0x3800);
      if (real) {
        m.set64(L.CR0, 0x10n);
        m.call('update_mode');
      }
      m.set32(L.FTW, 0x3fff);
      m.set64(L.FPR + 7 * 16, 1n << 63n);
      m.set64(L.FPR + 7 * 16 + 8, 0x3fffn);
      m.set64(L.FIP, 0x1234n);
      m.set32(L.FCS, real ? 0x2000 : 8);
      m.set64(L.FDP, 0x5678n);
      m.set32(L.FDS, real ? 0x3000 : 0x10);
      m.set32(L.FOP, 0x123);
      assert.equal(m.outcome('fpu_save', 0x6000n, size), 'ok');
      assert.equal(m.get32(L.FTW), 0xffff);
      assert.equal(m.outcome('fpu_restore', 0x6000n, size), 'ok');
      assert.equal(m.get32(L.FCW), 0x37e);
      assert.equal(m.get32(L.FSW), 0x3800);
      assert.equal(m.get32(L.FTW), 0x3fff);
      assert.equal(m.get64(L.FIP), real ? 0x21234n : 0x1234n);
      assert.equal(m.get64(L.FDP), real ? 0x35678n : 0x5678n);
      assert.equal(m.get32(L.FCS), real ? 0 : 8);
      assert.equal(m.get32(L.FOP), size === 2 && !real ? 0 : 0x123);
      assert.equal(m.get64(L.FPR + 7 * 16), 1n << 63n);
    }
  }
});
