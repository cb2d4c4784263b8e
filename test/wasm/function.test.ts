import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constI32, i32, type ValType } from '../../src/wasm/expr.ts';
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
    f.returnCallIndirectLast(index, [a, b], target);
  });
  module.elements(1, [difference]);
  module.exportFunction('caller', caller);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.finish()));
  assert.equal((exports['caller'] as (a: number, b: number) => number)(30, 3), 32);
});
