// Branch hints change no result. V8 says nothing of hints that it cannot use, so their offsets are looked at here.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constI32, i32 } from '../../src/wasm/expr.ts';
import { ModuleBuilder } from '../../src/wasm/module.ts';

function build(hinted: boolean): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder();
  const index = module.declare('sign', ['i32'], ['i32']);
  module.define(index, (f) => {
    const result = f.local('i32');
    const [negative, zero] = [i32.lt_s(f.param(0), constI32(0)), i32.eqz(f.param(0))];
    f.block((done) => {
      f.block((otherwise) => {
        if (hinted) f.brIfUnlikely(otherwise, negative);
        else f.brIf(otherwise, negative);
        const [then, other] = [() => f.set(result, constI32(0)), () => f.set(result, constI32(1))];
        if (hinted) f.ifUnlikely(zero, then, other);
        else f.if(zero, then, other);
        f.br(done);
      });
      f.set(result, constI32(-1));
    });
    f.return(result);
  });
  module.exportFunction('sign', index);
  return module.finish();
}

test('hints stand at their branches, in a section before the code', () => {
  for (const hinted of [false, true]) {
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(build(hinted)));
    const sign = exports['sign'] as (value: number) => number;
    assert.deepEqual([-5, 0, 7].map(sign), [-1, 0, 1]);
  }
  const bytes = Buffer.from(build(true));
  const name = 'metadata.code.branch_hint';
  const hints = bytes.subarray(bytes.indexOf(name) + name.length);
  // One function (0) with two hints, each one byte that says: unlikely.
  const [functions, index, count, first, firstSize, firstHint, second, secondSize, secondHint] = hints;
  assert.deepEqual([functions, index, count, firstSize, firstHint, secondSize, secondHint], [1, 0, 2, 1, 0, 1, 0]);
  // The code section follows: number, size, one function, its size, its body.
  assert.equal(hints[9], 10);
  const body = hints.subarray(13);
  assert.equal(body[first as number], 0x0d);
  assert.equal(body[second as number], 0x04);
});
