// Ways from region to region: they stand in the module where the other region is in it, and are taken out elsewhere.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HANDLER, STATUS } from '../../../../src/cpu/x86_64/interpreter/handler-emitter.ts';
import type { Collected } from '../../../../src/cpu/x86_64/jit/collect.ts';
import { type PlacedTemplate, place } from '../../../../src/cpu/x86_64/jit/place.ts';
import { HANDLER_TYPE, PLACED, type Template } from '../../../../src/cpu/x86_64/jit/template.ts';
import * as L from '../../../../src/cpu/x86_64/layout.ts';
import { constI32, i32 } from '../../../../src/wasm/expr.ts';
import { CodeWriter, FunctionBuilder } from '../../../../src/wasm/function.ts';

/** A function with a way to the region its branch is linked to, between two hinted conditions. */
function template(): Template {
  const f = new FunctionBuilder(HANDLER, STATUS, new CodeWriter());
  const budget = f.param(1);
  f.ifUnlikely(i32.eqz(budget), () => f.return(constI32(1)));
  const start = f.begin();
  f.ifLikely(i32.ge_s(budget, constI32(0)), () => f.returnCall({ kind: PLACED.sibling, value: 0 }, [budget, budget]));
  const end = f.length;
  f.ifUnlikely(i32.lt_s(budget, constI32(-5)), () => f.return(constI32(2)));
  f.returnCallIndirect(HANDLER_TYPE, [budget, budget], constI32(0));
  const body = f.finish();
  const before = body.bytes.length - f.length - 1;
  return { ...body, ways: [{ start: start + before, end: end + before, record: 0, isFar: false }] };
}

/** A region whose first record is at `first`, with a branch linked to `target`. */
function region(slot: number, first: number, target: number): PlacedTemplate {
  const records = new Uint8Array(2 * L.RECORD);
  new DataView(records.buffer).setUint32(L.R_DISP, target, true);
  const block = { first, page: 0, targets: new Map(), next: undefined, returns: undefined, records };
  const collected: Collected = { blocks: [block], ranges: [], mode: 0 };
  return { template: template(), collected, slot };
}

/** The functions' hints: in a function's body, and the instruction there. */
function hintsOf(bytes: Uint8Array<ArrayBuffer>): { offset: number; opcode: number }[][] {
  const buffer = Buffer.from(bytes);
  const name = 'metadata.code.branch_hint';
  let at = buffer.indexOf(name) + name.length;
  const next = (): number => buffer[at++] as number;
  const hints = Array.from({ length: next() }, () => {
    next();
    return Array.from({ length: next() }, () => {
      const offset = next();
      at += 2;
      return offset;
    });
  });
  assert.equal(next(), 10, 'the code section follows');
  next();
  assert.equal(next(), hints.length);
  return hints.map((offsets) => {
    const length = next();
    const body = buffer.subarray(at, at + length);
    at += length;
    return offsets.map((offset) => ({ offset, opcode: body[offset] as number }));
  });
}

const IF = 0x04;

test('a way is there where the other region is, and taken out elsewhere; hints stay at their branches', () => {
  const bytes = place([region(20, 0x1000, 0x2000), region(21, 0x2000, 0x3000)]);
  assert.ok(WebAssembly.validate(bytes));
  const [to, from] = hintsOf(bytes);
  assert.deepEqual(
    to?.map(({ opcode }) => opcode),
    [IF, IF, IF],
  );
  assert.deepEqual(
    from?.map(({ opcode }) => opcode),
    [IF, IF],
  );
  assert.ok((from?.[1]?.offset as number) < (to?.[2]?.offset as number));
});
