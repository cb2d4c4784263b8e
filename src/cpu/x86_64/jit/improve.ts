// Better code for what is hot: V8's TurboFan compiles a region again.

import { setFlagsFromString } from 'node:v8';
import * as L from '../layout.ts';

/** A compiled module of regions. */
export interface RegionModule {
  readonly module: WebAssembly.Module;
  /** Slots of the handlers' table that it fills. */
  readonly slots: readonly number[];
}

/** V8 has no other way to name a function to it. It compiles in the thread that calls this, for all instances of the module. */
const tierUp = withNatives(() => new Function('f', '%WasmTierUpFunction(f)') as (f: unknown) => void);

/** Makes a function that has words with %, which are a syntax error at all other times. */
export function withNatives<T>(make: () => T): T {
  setFlagsFromString('--allow-natives-syntax');
  const made = make();
  setFlagsFromString('--no-allow-natives-syntax');
  return made;
}

/** For instances that nobody runs: a function can be named by an instance only. */
const memory = new WebAssembly.Memory({ initial: L.MEMORY_PAGES, maximum: L.MEMORY_PAGES });
const table = new WebAssembly.Table({ element: 'anyfunc', initial: 0x10000 });

/** Returns when the better code of the region with this slot is in use, some milliseconds later. */
export function improve({ module, slots }: RegionModule, slot: number): void {
  const imports: Record<string, Record<string, unknown>> = { env: { memory, table } };
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    if (from !== 'env') (imports[from] ??= {})[name] = () => 0;
  }
  new WebAssembly.Instance(module, imports as never);
  tierUp(table.get(slot));
  for (const filled of slots) table.set(filled, null);
}
