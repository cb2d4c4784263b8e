import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constI32, constI64, i32, type ValType } from '../../src/wasm/expr.ts';
import { CodeWriter, FunctionBuilder } from '../../src/wasm/function.ts';
import { ModuleBuilder } from '../../src/wasm/module.ts';

test('the last tail call of a function takes what its locals were', () => {
  const type: [ValType[], ValType[]] = [['i32', 'i32'], ['i32']];
  const module = new ModuleBuilder();
  const index = module.type(...type);
  module.defineTable(2);
  const difference = module.declare('difference', ...type);
  module.define(difference, (f) => f.return(i32.sub(f.param(0), f.param(1))));
  const caller = module.declare('caller', ...type);
  module.define(caller, (f) => {
    const [a, b, target] = [f.copy(i32.add(f.param(0), constI32(5))), f.copy(f.param(1)), f.copy(constI32(1))];
    for (const value of [5n, 6n]) f.copy(constI64(value));
    f.returnCallIndirectLast(index, [a, b], target);
  });
  module.elements(1, [difference]);
  module.exportFunction('caller', caller);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.finish()));
  assert.equal((exports['caller'] as (a: number, b: number) => number)(30, 3), 32);
});

test('what is set and read next is one instruction, unless that can be taken out', () => {
  const body = (isApart: boolean): readonly number[] => {
    const code = new CodeWriter();
    const f = new FunctionBuilder(['i32'], ['i32'], code);
    const local = f.copy(constI32(5));
    if (isApart) assert.equal(f.begin(), 4);
    f.return(i32.add(local, f.param(0)));
    return [...code.view()];
  };
  const [set, get, tee] = [0x21, 0x20, 0x22];
  const rest = [get, 0, 0x6a, 0x0f];
  assert.deepEqual(body(false), [0x41, 5, tee, 1, ...rest]);
  assert.deepEqual(body(true), [0x41, 5, set, 1, get, 1, ...rest]);
});
