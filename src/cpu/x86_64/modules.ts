// What all processors run on: the helpers, and the interpreter made of the instruction table (scripts/build-cpu.ts).

import { readFileSync } from 'node:fs';

export interface ProcessorModules {
  readonly helpers: WebAssembly.Module;
  readonly interpreter: WebAssembly.Module;
}

let modules: ProcessorModules | undefined;

function compile(name: 'helpers' | 'interpreter'): WebAssembly.Module {
  return new WebAssembly.Module(readFileSync(new URL(`../../../build/${name}.wasm`, import.meta.url)));
}

/** Compiles them at the first call. Compiling in V8's own threads would take longer: functions are compiled when they are first called. */
export function processorModules(): ProcessorModules {
  modules ??= { helpers: compile('helpers'), interpreter: compile('interpreter') };
  return modules;
}
