// Whether the engine's relaxed multiply-add (WebAssembly 3.0, 4.6.7) rounds once: it does where the host's processor has FMA.

import { constI32, load } from '../../../wasm/expr.ts';
import { ModuleBuilder } from '../../../wasm/module.ts';
import { f64x2 } from '../../../wasm/vector.ts';

let fuses: boolean | undefined;

export function hostFuses(): boolean {
  fuses ??= measure();
  return fuses;
}

/** (1 + 2^-30)^2 - (1 + 2^-29) is 2^-60, or zero if the product is rounded first. */
function measure(): boolean {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const numbers = new Float64Array(memory.buffer);
  numbers.set([1 + 2 ** -30, 0, -(1 + 2 ** -29)]);
  const module = new ModuleBuilder();
  module.importMemory('env', 'memory', 1, 1);
  const index = module.declare('measure', [], ['f64']);
  module.define(index, (f) => {
    const [factor, term] = [0, 16].map((at) => load('v128.load', constI32(at)));
    if (factor && term) f.return(f64x2.extract_lane(0, f64x2.relaxed_madd(factor, factor, term)));
  });
  module.exportFunction('measure', index);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.finish()), { env: { memory } });
  return (exports['measure'] as () => number)() === 2 ** -60;
}
