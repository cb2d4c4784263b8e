import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { improve, withNatives } from '../../../../src/cpu/x86_64/jit/improve.ts';
import * as L from '../../../../src/cpu/x86_64/layout.ts';
import { constI32 } from '../../../../src/wasm/expr.ts';
import { ModuleBuilder } from '../../../../src/wasm/module.ts';
import { Guest } from './guest.ts';

const SLOTS = [5, 6];

/** As translate() makes them: two functions that go into the table. */
function module(): WebAssembly.Module {
  const builder = new ModuleBuilder();
  builder.importMemory('env', 'memory', L.MEMORY_PAGES, L.MEMORY_PAGES);
  builder.importTable('env', 'table', 0);
  const helper = builder.importFunction('helpers', 'help', ['i32', 'i32'], ['i32']);
  for (const slot of SLOTS) {
    const index = builder.declare(`region${slot}`, ['i32', 'i32'], ['i32']);
    builder.define(index, (f) => f.returnCall(helper, [constI32(slot), f.param(1)]));
    builder.elements(slot, [index]);
  }
  return new WebAssembly.Module(builder.finish(true));
}

test('V8 compiles the one region anew, for instances that are there already', () => {
  setFlagsFromString('--no-wasm-lazy-compilation');
  const isTurboFan = withNatives(() => new Function('f', 'return %IsTurboFanFunction(f)') as (f: unknown) => boolean);
  const table = new WebAssembly.Table({ element: 'anyfunc', initial: 16 });
  const memory = new WebAssembly.Memory({ initial: L.MEMORY_PAGES, maximum: L.MEMORY_PAGES });
  const made = module();
  new WebAssembly.Instance(made, {
    env: { memory, table },
    helpers: { help: (a: number, b: number) => a + b },
  } as never);
  const [first, second] = SLOTS.map((slot) => table.get(slot) as (a: number, b: number) => number);
  assert.ok(!isTurboFan(first) && !isTurboFan(second));
  improve({ module: made, slots: SLOTS }, 6);
  assert.ok(!isTurboFan(first) && isTurboFan(second));
  assert.equal(second?.(0, 10), 16);
});

test('what samples find often is compiled anew', () => {
  const guest = new Guest('beside', (a) => {
    a.mov('eax', 0);
    a.label('head');
    a.add('rax', 1);
    a.jmp('other');
    a.align(4096);
    a.label('other');
    a.jmp('head');
  });
  const end = Date.now() + 120_000;
  while (guest.cpu.counts().regions?.improved === 0 && Date.now() < end) guest.cpu.run(10_000);
  assert.ok((guest.cpu.counts().regions?.improved ?? 0) > 0);
});

test('code of a guest that leaves the processor every few thousand instructions is sampled as often as that of others', () => {
  const guest = new Guest('at-once', (a) => {
    a.label('head');
    a.mov('ecx', 1000);
    a.label('loop');
    a.add('rax', 1);
    a.dec('ecx');
    a.jcc('ne', 'loop');
    a.hlt();
    a.jmp('head');
  });
  for (let i = 0; i < 100; i++) {
    assert.equal(guest.cpu.run(20_000), L.EXIT_HLT);
    guest.cpu.view.setUint32(L.ACTIVITY, 0, true);
  }
  const { instructions, translated } = guest.cpu.counts();
  assert.ok(instructions > 300_000 && translated > instructions / 2);
});
