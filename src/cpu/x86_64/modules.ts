// What all processors run on: the helpers, and the interpreter made of the instruction table (scripts/build-cpu.ts).

import { readFileSync } from 'node:fs';

export interface ProcessorModules {
  readonly helpers: WebAssembly.Module;
  readonly interpreter: WebAssembly.Module;
}

let modules: ProcessorModules | undefined;

function read(name: 'helpers' | 'interpreter'): Buffer<ArrayBuffer> {
  return readFileSync(new URL(`../../../build/${name}.wasm`, import.meta.url));
}

/** Compiles them ahead, in V8's own threads. */
export async function compileModules(): Promise<void> {
  const compiled = [WebAssembly.compile(read('interpreter')), WebAssembly.compile(read('helpers'))] as const;
  const [interpreter, helpers] = await Promise.all(compiled);
  modules = { helpers, interpreter };
}

/** Compiles them now, unless that has been done. */
export function processorModules(): ProcessorModules {
  modules ??= {
    helpers: new WebAssembly.Module(read('helpers')),
    interpreter: new WebAssembly.Module(read('interpreter')),
  };
  return modules;
}
