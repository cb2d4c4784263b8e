// What flushes of the TLB drop, and what they leave.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as L from '../../../../src/cpu/x86_64/layout.ts';
import { DATA, Guest, TABLES, UPPER } from '../jit/guest.ts';

const GLOBAL = 0x103;
const LOCAL = 3;
const READ = 0;
/** Bit 63 of an entry, in its upper half. */
const NO_EXECUTE = 0x8000_0000;

/** A guest, and its TLB entry of DATA's page, which is also that of the same page in the upper half. */
function tlb() {
  const { cpu } = new Guest('none', (a) => a.hlt());
  const { helpers, view } = cpu;
  const entry = L.TLB + ((DATA >> 12) % L.TLB_ENTRIES) * L.TLB_ENTRY;
  return {
    /** Maps the page, and looks it up. */
    fill(linear: bigint, flags: number, isCode = true): void {
      const entry = L.RAM_BASE + TABLES + (DATA >> 12) * 8;
      view.setUint32(entry, DATA | flags, true);
      view.setUint32(entry + 4, isCode ? 0 : NO_EXECUTE, true);
      assert.equal(helpers.tlb_fill(linear, READ, L.MMU_KERNEL) >>> 0, L.RAM_BASE + DATA);
    },
    flush: (all: boolean): void => helpers.tlb_flush(all ? 1 : 0),
    /** INVLPG. True: user mode's jumps that were found before do not count any more. */
    invalidate(linear: bigint): boolean {
      const epoch = view.getBigUint64(L.EPOCH_USER, true);
      (helpers as unknown as { invlpg_op(linear: bigint): number }).invlpg_op(linear);
      return view.getBigUint64(L.EPOCH_USER, true) !== epoch;
    },
    /** The page that the entry is of. */
    get page(): bigint | undefined {
      const tag = view.getBigInt64(entry + L.TLB_O_READ, true);
      return tag === BigInt(L.TLB_INVALID) ? undefined : BigInt.asUintN(64, tag);
    },
  };
}

const LOW = BigInt(DATA);
const HIGH = UPPER + BigInt(DATA);

test('a flush keeps global pages, over and over, and one of all does not', () => {
  const t = tlb();
  t.fill(LOW, GLOBAL);
  for (let i = 0; i < 3; i++) t.flush(false);
  assert.equal(t.page, LOW);
  t.flush(true);
  assert.equal(t.page, undefined);
  t.fill(LOW, LOCAL);
  t.flush(false);
  assert.equal(t.page, undefined);
});

test('an entry is flushed as what it was filled with last', () => {
  const t = tlb();
  t.fill(LOW, GLOBAL);
  t.fill(HIGH, LOCAL);
  t.flush(false);
  assert.equal(t.page, undefined);
  t.fill(LOW, LOCAL);
  t.fill(HIGH, GLOBAL);
  t.flush(false);
  assert.equal(t.page, HIGH);
  t.flush(true);
  assert.equal(t.page, undefined);
});

test('more pages than are kept account of are flushed as well', () => {
  const t = tlb();
  // Entries that change their kind are noted each time.
  for (let i = 0; i < 5000; i++) t.fill(i % 2 ? LOW : HIGH, i % 2 ? GLOBAL : LOCAL);
  t.flush(false);
  assert.equal(t.page, LOW);
  t.fill(HIGH, LOCAL);
  t.flush(false);
  assert.equal(t.page, undefined);
  t.fill(LOW, GLOBAL);
  t.flush(true);
  assert.equal(t.page, undefined);
});

test('INVLPG forgets the jumps of user mode where the page may be code', () => {
  const t = tlb();
  t.fill(LOW, LOCAL, false);
  assert.equal(t.invalidate(LOW), false);
  assert.equal(t.page, undefined);
  t.fill(LOW, LOCAL);
  assert.equal(t.invalidate(LOW + 0x7000n), false);
  assert.equal(t.invalidate(LOW), true);
  t.fill(LOW, LOCAL);
  t.flush(false);
  assert.equal(t.invalidate(LOW), false);
  // What a flush leaves is code still.
  t.fill(LOW, GLOBAL);
  t.flush(false);
  assert.equal(t.page, LOW);
  assert.equal(t.invalidate(LOW), true);
  t.flush(true);
  assert.equal(t.invalidate(LOW), false);
});
