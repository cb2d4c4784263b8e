import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Expr, i32, i64 } from '../../src/wasm/expr.ts';
import { ModuleBuilder } from '../../src/wasm/module.ts';

type Compare = (a: Expr, b: Expr) => Expr;
const NAMES = ['eq', 'ne', 'lt_s', 'lt_u', 'gt_s', 'gt_u', 'le_s', 'le_u', 'ge_s', 'ge_u'] as const;

/** Runs an i32 expression of two parameters. */
function compile(type: 'i32' | 'i64', build: Compare): (a: number | bigint, b: number | bigint) => number {
  const module = new ModuleBuilder();
  const index = module.declare('f', [type, type], ['i32']);
  module.define(index, (f) => f.return(build(f.param(0), f.param(1))));
  module.exportFunction('f', index);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.finish()), {});
  return exports['f'] as ReturnType<typeof compile>;
}

test('eqz of a comparison is true where the comparison is not', () => {
  for (const [type, operations, values] of [
    ['i32', i32, [0, 1, -1, 0x7fffffff, -0x80000000]],
    ['i64', i64, [0n, 1n, -1n, 2n ** 63n - 1n, -(2n ** 63n)]],
  ] as const) {
    for (const name of NAMES) {
      const compare = operations[name] as Compare;
      const [plain, negated] = [compile(type, compare), compile(type, (a, b) => i32.eqz(compare(a, b)))];
      for (const a of values) for (const b of values) assert.equal(negated(a, b), 1 - plain(a, b), `${type}.${name}`);
    }
  }
});

test('eqz of numbers', () => {
  const one = compile('i32', (a) => i32.eqz(a));
  const twice = compile('i64', (a) => i32.eqz(i64.eqz(a)));
  assert.deepEqual([one(0, 0), one(5, 0), twice(0n, 0n), twice(2n ** 40n, 0n)], [1, 0, 0, 1]);
});
