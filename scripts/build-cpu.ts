// Writes build/interpreter.wasm: the interpreter, generated from the instruction table.

import { mkdirSync, writeFileSync } from 'node:fs';
import { generateInterpreter } from '../src/cpu/x86_64/interpreter/engine.ts';

const folder = new URL('../build/', import.meta.url);
mkdirSync(folder, { recursive: true });
writeFileSync(new URL('interpreter.wasm', folder), generateInterpreter());
